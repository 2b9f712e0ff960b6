#!/usr/bin/env bash
# Measures speed and size of a running installation: sidecar start to token, memory, image sizes.
#   bench.sh [--help]
# BENCH_PODS=20        pods whose start is timed, one after the other
# BENCH_STARTS=10      pods of each start gate, one after the other; 0: none   BENCH_AT_ONCE=50  pods at once
# BENCH_RENEWALS=100   renewals before the sidecar's memory is read (a 10 s token: 8 s each)
# Every time stands beside one of the same run and machine: a fresh TLS connection with GET /v1/challenge, and an fsync.
set -euo pipefail
SCRIPT_NAME=bench
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
PODS=${BENCH_PODS:-20}
RENEWALS=${BENCH_RENEWALS:-100}
NS=agentwrit-bench
SYSTEM=agentwrit-system
WORK=$(mktemp -d)

main() {
  [[ ${1:-} == --help ]] && { sed -n '2,8s/^# \{0,1\}//p' "$0"; return 0; }
  [[ $(id -u) == 0 ]] || die -2 "root is needed: sizes and times are read from /proc of the containers' processes"
  "$REPO/scripts/setup.sh"
  "$REPO/scripts/cluster.sh" status >/dev/null 2>&1 || "$REPO/scripts/cluster.sh" up
  eval "$("$REPO/scripts/cluster.sh" env)"
  # The image that does nothing: our own on the node, the one that every kind node carries otherwise.
  IDLE_IMAGE=local/pause:1
  [[ $("$REPO/scripts/cluster.sh" mode) != kind ]] || IDLE_IMAGE=registry.k8s.io/pause:3.10
  "$REPO/scripts/images.sh" --release
  "$REPO/scripts/install.sh"
  trap 'kubectl delete namespace "$NS" --wait=true >/dev/null 2>&1 || true; rm -rf "$WORK"' EXIT
  namespace
  idle_memory
  pod renewing 10 >/dev/null
  start_times
  start_gates
  baselines
  report_starts
  report_memory
  report_sizes
  trap - EXIT
  kubectl delete namespace "$NS" --wait=true >/dev/null
  rm -rf "$WORK"
}

namespace() {
  kubectl delete namespace "$NS" --ignore-not-found --wait=true >/dev/null
  kubectl create namespace "$NS" >/dev/null
  kubectl label namespace "$NS" pod-security.kubernetes.io/enforce=restricted >/dev/null
  kubectl apply -f - >/dev/null <<YAML
apiVersion: agentwrit.io/v1alpha1
kind: AgentApp
metadata: {name: bench, namespace: $NS}
spec: {scopes: ["read:bench:*"]}
---
apiVersion: agentwrit.io/v1alpha1
kind: LaunchToken
metadata: {name: bench, namespace: $NS}
spec: {appRef: {name: bench}, agentName: bench, allowedScopes: ["read:bench:*"], maxTTLSeconds: 600, serviceAccountNames: [default]}
YAML
  kubectl -n "$NS" wait --for=condition=Ready launchtoken/bench --timeout=60s >/dev/null
}

# pod NAME TTL: creates a pod with one idle container and waits until it is ready; prints its sidecar's pid.
pod() {
  local name=$1 ttl=$2 uid
  kubectl -n "$NS" apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: $name
  namespace: $NS
  labels: {agentwrit.io/inject: "true"}
  annotations: {agentwrit.io/launch-token: bench, agentwrit.io/ttl-seconds: "$ttl"}
spec:
  terminationGracePeriodSeconds: 2
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: app
      image: $IDLE_IMAGE
      imagePullPolicy: IfNotPresent
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  restartPolicy: Never
YAML
  uid=$(kubectl -n "$NS" get pod "$name" -o jsonpath='{.metadata.uid}')
  sidecar_pid "$uid"
}

# sidecar_pid UID: waits for the token of the pod's sidecar; prints the process id.
sidecar_pid() {
  local uid=$1 pid tries=0
  while ((tries++ < 600)); do
    for pid in $(pgrep -x agentwrit-sidec || true); do
      if grep -q "$uid" "/proc/$pid/mountinfo" 2>/dev/null && [[ -s /proc/$pid/root/var/run/secrets/agentwrit.io/token/token ]]; then
        echo "$pid"
        return 0
      fi
    done
    sleep 0.05
  done
  die "the sidecar of pod $uid wrote no token within 30 s"
}

# Milliseconds from the start of a process (kernel ticks since boot) to the last change of its token file.
start_to_token() {
  local pid=$1 ticks boot hertz
  ticks=$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)
  boot=$(awk -v now="$(date +%s.%N)" '{printf "%.3f", now - $1}' /proc/uptime)
  hertz=$(getconf CLK_TCK)
  awk -v t="$(stat -c %.9Y "/proc/$pid/root/var/run/secrets/agentwrit.io/token/token")" -v b="$boot" -v k="$ticks" -v h="$hertz" \
    'BEGIN {printf "%d\n", (t - b - k / h) * 1000}'
}

start_times() {
  local n pid
  for ((n = 1; n <= PODS; n++)); do
    pid=$(pod "start-$n" 600)
    start_to_token "$pid" >>"$WORK/starts"
    kubectl -n "$NS" delete pod "start-$n" --wait=true >/dev/null
    say "pod $n of $PODS: $(tail -n1 "$WORK/starts") ms from sidecar start to token"
  done
}

start_gates() {
  ((${BENCH_STARTS:-10})) || return 0
  python3 "$REPO/scripts/bench_starts.py" "$NS" "$IDLE_IMAGE" --pods "${BENCH_STARTS:-10}" --at-once "${BENCH_AT_ONCE:-50}"
}

baselines() {
  local ip n
  ip=$(kubectl -n "$SYSTEM" get service agentwrit-broker -o jsonpath='{.spec.clusterIP}')
  for ((n = 0; n < 20; n++)); do
    curl -sk -o /dev/null -w '%{time_total}\n' "https://$ip:8443/v1/challenge" | awk '{printf "%d\n", $1 * 1000000}' >>"$WORK/challenge"
  done
  python3 - >"$WORK/fsync" <<'PY'
import os, time
with open("/var/tmp/agentwrit-bench-fsync", "wb") as f:
    for _ in range(50):
        f.write(b"x" * 4096); f.flush()
        begin = time.perf_counter_ns(); os.fsync(f.fileno()); print((time.perf_counter_ns() - begin) // 1000)
os.unlink("/var/tmp/agentwrit-bench-fsync")
PY
}

# percentile FILE P
percentile() { sort -n "$1" | awk -v p="$2" '{v[NR] = $1} END {i = int((NR - 1) * p / 100 + 0.5) + 1; print v[i]}'; }

rss_kib() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }

idle_memory() {
  IDLE_BROKER=$(rss_kib "$(pgrep -x agentwrit-broke | head -n1)")
  IDLE_CONTROLLER=$(rss_kib "$(pgrep -x agentwrit-contr | head -n1)")
}

report_starts() {
  local p50 p95 challenge fsync
  p50=$(percentile "$WORK/starts" 50)
  p95=$(percentile "$WORK/starts" 95)
  challenge=$(percentile "$WORK/challenge" 50)
  fsync=$(percentile "$WORK/fsync" 50)
  say "sidecar start to token file, $PODS pods: p50 $p50 ms, p95 $p95 ms"
  say "same run: fresh TLS connection and GET /v1/challenge p50 $challenge us; fsync p50 $fsync us"
  say "ratio: token p50 = $(awk -v a="$p50" -v b="$challenge" 'BEGIN {printf "%.1f", a * 1000 / b}') such connections"
}

report_memory() {
  local pid renewals=0 shown=-1
  pid=$(sidecar_pid "$(kubectl -n "$NS" get pod renewing -o jsonpath='{.metadata.uid}')")
  while ((renewals < RENEWALS)); do
    renewals=$(kubectl -n "$NS" logs renewing -c agentwrit-sidecar | grep -c ' renewed: ' || true)
    if ((renewals / 10 != shown)); then
      shown=$((renewals / 10))
      say "$renewals of $RENEWALS renewals"
    fi
    sleep 4
  done
  say "sidecar resident memory after $renewals renewals: $(rss_kib "$pid") KiB (goal 6144)"
  say "idle resident memory: broker $IDLE_BROKER KiB, controller $IDLE_CONTROLLER KiB"
}

report_sizes() {
  local name
  for name in sidecar broker controller; do
    say "image agentwrit-$name: $(($(stat -c %s "$REPO/target/images/agentwrit-$name.tar") / 1024)) KiB, binary $(($(stat -c %s "$REPO/target/release/agentwrit-$name") / 1024)) KiB"
  done
}

main "$@"
