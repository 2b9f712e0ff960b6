#!/usr/bin/env bash
# Shows the whole story on a real cluster, from nothing: make demo. Safe to repeat; every step is checked.
set -euo pipefail
SCRIPT_NAME=demo
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/rollout.sh
source "$REPO/scripts/lib/rollout.sh"

SYSTEM=agentwrit-system
SHOP=shop
TTL=15          # seconds; the annotation in examples/shop/40-order-reader.yaml
PROMISE_MS=2000 # a deleted pod's token is refused within this time
SIDE_BY_SIDE_MB=6000   # two compilers and two linkers at once
BUILD_SECONDS=0
AWRIT=$REPO/target/lean/awrit
WORK=$(mktemp -d)
# Where the scripts that this one calls note what their steps took.
export AGENTWRIT_LEDGER=$WORK/ledger
CHILDREN=()
BEGIN=$SECONDS
STEP=""
STEPS=0

main() {
  trap finish EXIT
  prepare
  apply_objects
  start_workloads
  show_identity
  show_calls
  show_renewal
  show_audit_trail
  show_pod_end
  what_next
}

# ---- telling ----

BOLD="" GREEN="" RED="" PLAIN=""
if [[ -t 1 ]]; then BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'; fi

step() {
  STEPS=$((STEPS + 1))
  STEP=$1
  printf '\n%s%d. %s%s\n' "$BOLD" "$STEPS" "$STEP" "$PLAIN"
  shift
  (($# == 0)) || printf '   %s\n' "$@"
}
ok() { printf '   %sok%s  %s\n' "$GREEN" "$PLAIN" "$*"; }
fail() { printf '   %sNOT ok%s  %s\n' "$RED" "$PLAIN" "$*" >&2; exit 1; }

finish() {
  local status=$? pid
  if ((status)); then
    printf '\n%s: failed in step %d, "%s"\n' "$SCRIPT_NAME" "$STEPS" "${STEP:-start}" >&2
    ((STEPS < 2)) || tell_state >&2
  fi
  for pid in "${CHILDREN[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$WORK"
  exit "$status"
}

tell_state() {
  local pod
  set +e
  echo "--- objects in $SHOP"
  kubectl -n $SHOP get agentapps,launchtokens,pods -o wide
  kubectl -n $SHOP get events --sort-by=.lastTimestamp | tail -n 15
  for pod in $(kubectl -n $SHOP get pods -o name); do
    echo "--- logs of $pod"
    kubectl -n $SHOP logs "$pod" --all-containers --prefix --tail 15
  done
  echo "--- pods in $SYSTEM"
  kubectl -n $SYSTEM get pods
  echo "--- logs of the controller"
  kubectl -n $SYSTEM logs deployment/agentwrit-controller --tail 20
  echo "--- logs of the broker"
  kubectl -n $SYSTEM logs statefulset/agentwrit-broker --tail 20
}

# until_true SECONDS COMMAND...: looks five times a second.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

now_ms() { date +%s%3N; }

# ---- steps ----

prepare() {
  step "A real Kubernetes cluster with AgentWrit in it"
  "$REPO/scripts/setup.sh" packages rust go
  build
  "$REPO/scripts/cluster.sh" up | show
  "$REPO/scripts/images.sh" | show
  eval "$("$REPO/scripts/cluster.sh" env)"
  "$REPO/scripts/install.sh" | show
  # What an earlier demo left would run on with older images.
  kubectl -n $SHOP delete deployments,jobs --all --wait --ignore-not-found >/dev/null 2>&1 || true
  kubectl -n $SYSTEM get pods | show
  ok "broker and controller are ready"
}

# Go and Rust side by side where there is memory for both linkers: one fills the core that the other leaves idle.
build() {
  local begin pid
  "$REPO/scripts/setup.sh" --yes fetch
  begin=$SECONDS
  if (($(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo) >= SIDE_BY_SIDE_MB)); then
    "$REPO/scripts/setup.sh" --yes cluster &
    pid=$!
    CHILDREN+=("$pid")
    "$REPO/scripts/images.sh" build || fail "the Rust programs don't build"
    wait "$pid" || fail "the Kubernetes programs don't build"
  else
    "$REPO/scripts/setup.sh" --yes cluster
    "$REPO/scripts/images.sh" build
  fi
  BUILD_SECONDS=$((SECONDS - begin))
}

apply_objects() {
  step "A platform team's ceiling (AgentApp) and a team's standing policy (LaunchToken)" \
    "Neither holds a secret, and there is none in the namespace:"
  kubectl apply -f "$REPO/examples/shop/10-namespace.yaml" -f "$REPO/examples/shop/20-policy.yaml" | show
  kubectl -n $SHOP wait --for=condition=Ready --timeout=60s agentapp/orders launchtoken/order-reader >/dev/null ||
    fail "the objects are not Ready"
  kubectl -n $SHOP get agentapps,launchtokens | show
  [[ -z $(kubectl -n $SHOP get secrets -o name) ]] || fail "there are Secrets in namespace $SHOP"
  ok "both are Ready: the broker enforces them"
}

start_workloads() {
  step "A protected service, and an ordinary Deployment with one label and one annotation" \
    "The namespace enforces Pod Security \"restricted\". The webhook puts the sidecar in front:"
  kubectl apply -f "$REPO/examples/shop/30-orders-service.yaml" -f "$REPO/examples/shop/40-order-reader.yaml" | show
  rolled_out $SHOP deployment/orders 90 || fail "the service doesn't start"
  rolled_out $SHOP deployment/order-reader 90 || fail "the client doesn't start"
  POD=$(kubectl -n $SHOP get pods -l app=order-reader --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')
  POD_UID=$(kubectl -n $SHOP get pod "$POD" -o jsonpath='{.metadata.uid}')
  [[ $(kubectl -n $SHOP get pod "$POD" -o jsonpath='{.spec.initContainers[0].name}') == agentwrit-sidecar ]] ||
    fail "the sidecar is not the first init container"
  kubectl -n $SHOP get pods | show
  ok "pod $POD runs with its sidecar (UID $POD_UID)"
}

reader_log() { kubectl -n $SHOP logs "$POD" -c reader; }
# The last line of the client's log that matches.
reader_says() { reader_log | grep -E "$1" | tail -n 1 >"$WORK/line" && [[ -s $WORK/line ]]; }

show_identity() {
  step "Whose token it is" "The client knows nothing but a file. It prints what the token in it says:"
  until_true 20 reader_says '^I am ' || fail "the client has no token"
  show <"$WORK/line"
  grep -q "I am spiffe://agentwrit.local/agent/k8s.$SHOP.orders/$POD_UID/" "$WORK/line" || fail "that is not this pod's SPIFFE id"
  grep -q 'scopes read:orders:\*,' "$WORK/line" || fail "those are not the LaunchToken's scopes"
  ok "the SPIFFE id names namespace, app and this pod's UID; the scopes are the LaunchToken's"
}

show_calls() {
  step "What it is good for" "The service checks each token offline, with the broker's public keys:"
  until_true 20 reader_says '^GET /orders -> 200' || fail "no 200 from the service"
  show <"$WORK/line"
  ok "200: read:orders:* was granted"
  until_true 20 reader_says '^POST /orders -> 403' || fail "no 403 from the service"
  show <"$WORK/line"
  ok "403: write:orders:* was not"
}

show_renewal() {
  step "A short life, renewed" "This pod asked for $TTL s (annotation agentwrit.io/ttl-seconds); the sidecar renews at 80 % of it:"
  until_true $((TTL + 15)) reader_says '^the token was renewed' || fail "no renewal seen"
  show <"$WORK/line"
  ok "another token in the same file; the client did nothing"
}

# forward NAMESPACE TARGET PORT: sets PORT_HERE.
forward() {
  local log=$WORK/forward-${#CHILDREN[@]}
  kubectl -n "$1" port-forward "$2" ":$3" >"$log" 2>&1 &
  CHILDREN+=($!)
  until_true 10 grep -q '^Forwarding from 127' "$log" || { cat "$log" >&2; fail "no way to $2"; }
  PORT_HERE=$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$log")
}

show_audit_trail() {
  step "What was recorded" "awrit audit events, by the one correlation id that all events of this pod's session carry:"
  forward $SYSTEM svc/agentwrit-broker 8443
  BROKER=https://localhost:$PORT_HERE
  kubectl -n $SYSTEM get secret agentwrit-ca -o jsonpath='{.data.tls\.crt}' | base64 -d >"$WORK/ca.crt"
  AACTL_ADMIN_SECRET=$(kubectl -n $SYSTEM get secret agentwrit-admin -o jsonpath='{.data.admin-secret}' | base64 -d)
  export AACTL_ADMIN_SECRET AACTL_BROKER_URL=$BROKER AACTL_CA_CERT=$WORK/ca.crt
  local correlation types wanted
  correlation=$("$AWRIT" --json audit events --pod-uid "$POD_UID" --event-type agent_registered 2>/dev/null | jq -r '.events[-1].correlation_id')
  [[ -n $correlation && $correlation != null ]] || fail "the registration of the pod is not on record"
  "$AWRIT" --json audit events --correlation-id "$correlation" 2>/dev/null >"$WORK/trail"
  {
    printf 'correlation id %s\n' "$correlation"
    jq -r '.events[] | "\(.timestamp[11:23])  \(.event_type)  \(.detail | sub(" ext_hash=.*"; ""))"' "$WORK/trail" | cut -c1-150
  } | show
  types=$(jq -r '.events[].event_type' "$WORK/trail" | tr '\n' ' ')
  for wanted in launch_token_issued agent_registered token_renewed; do
    [[ $types == *"$wanted"* ]] || fail "there is no $wanted under that id"
    types=${types#*"$wanted"}
  done
  ok "launched, registered, renewed: in that order, in a hash chain"
}

# Whether the broker says that the token stands. The token goes by stdin: a command line is for all to see.
stands() {
  jq -Rc '{token: .}' <"$WORK/token" |
    curl --silent --fail --max-time 3 --cacert "$WORK/ca.crt" --header 'Content-Type: application/json' --data @- "$BROKER/v1/token/validate" |
    jq -r '.valid'
}

# Whether an event of this type is in the pod's trail.
on_record() {
  "$AWRIT" --json audit events --pod-uid "$POD_UID" 2>/dev/null | jq -r '.events[].event_type' | grep -qx "$1"
}

show_pod_end() {
  step "When the pod ends, its authority ends" "A copy of the token is taken from the sidecar's endpoint (as someone with port-forward rights can), then the pod is deleted:"
  local deleted refused="" gone="" state
  forward $SHOP "pod/$POD" 15080
  (umask 077 && curl --silent --fail --header 'Agentwrit-Request: 1' "http://127.0.0.1:$PORT_HERE/token" >"$WORK/token") || fail "no token at the endpoint"
  [[ $(stands) == true ]] || fail "/v1/token/validate doesn't know the token"
  ok "before: /v1/token/validate says that the copy is valid"
  deleted=$(now_ms)
  kubectl -n $SHOP delete pod "$POD" --wait=false | show
  until [[ -n $refused && -n $gone ]]; do
    (($(now_ms) - deleted < 60000)) || fail "after a minute: refused \"$refused\", gone \"$gone\""
    if [[ -z $refused ]]; then
      state=$(stands)
      [[ $state != false ]] || refused=$(($(now_ms) - deleted))
    fi
    if [[ -z $gone ]]; then
      [[ -n $(kubectl -n $SHOP get pod "$POD" --ignore-not-found -o name) ]] || gone=$(($(now_ms) - deleted))
    fi
    sleep 0.05
  done
  printf 'after kubectl delete pod: the copy is refused at %s ms, the pod is gone at %s ms\n' "$refused" "$gone" | show
  ((refused - gone <= PROMISE_MS)) || fail "the token outlived its pod by $((refused - gone)) ms"
  ok "the old token was refused within two seconds of the pod's end"
  until_true 15 on_record pod_ended || fail "the controller's pod_ended is not on record"
  on_record token_released || fail "the sidecar's token_released is not on record"
  ok "its end is on record: token_released by the sidecar, pod_ended by the controller"
  rolled_out $SHOP deployment/order-reader 90 || fail "the Deployment's next pod doesn't start"
  ok "the Deployment's next pod has an identity of its own: $(kubectl -n $SHOP get pods -l app=order-reader -o name | head -n1)"
}

# Of the steps that took longer than a second: a demo that finds everything made has nothing to tell.
what_it_took() {
  [[ ! -s $AGENTWRIT_LEDGER ]] || awk -F'|' -v clock="$BUILD_SECONDS" '
    $1 == "download" {downloads += $3}
    $1 == "build" {cpu += $4}
    END {
      if (downloads > 1) printf ": downloads and toolchains %d s", downloads
      if (cpu > 1) printf "%s builds %d s by the clock, %.1f minutes of CPU", (downloads > 1 ? "," : ":"), clock, cpu / 60
    }' "$AGENTWRIT_LEDGER"
}

what_next() {
  cat <<TEXT

All $STEPS steps held. $((SECONDS - BEGIN)) s in all$(what_it_took).

Look around:
   export KUBECONFIG=$KUBECONFIG PATH=$TOOLS_BIN:\$PATH
   kubectl get agentapps,launchtokens -A;  kubectl explain launchtoken.spec
   kubectl -n $SHOP logs -f deploy/order-reader -c reader
   kubectl -n $SHOP get pod -l app=order-reader -o yaml
   kubectl apply -f examples/report-job && kubectl -n $SHOP wait --for=condition=complete job/order-report
Your own: docs/install.md, examples/README.md

Clean up:
   kubectl delete namespace $SHOP      the example only
   make cluster-down                   everything
TEXT
}

main "$@"
