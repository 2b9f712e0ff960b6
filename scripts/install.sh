#!/usr/bin/env bash
# Installs or upgrades the chart in the cluster that is up, with the images of this checkout. What the chart is not told
# this time is as tests/cluster/values.yaml has it.
# For tests and the demo it makes the Secret agentwrit-admin (key admin-secret, random) if there is none.
# Further arguments go to helm, for example: scripts/install.sh --set broker.logLevel=verbose
set -euo pipefail
SCRIPT_NAME=install
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/rollout.sh
source "$REPO/scripts/lib/rollout.sh"

NAMESPACE=agentwrit-system
RELEASE=agentwrit
VALUES=$REPO/tests/cluster/values.yaml
TIMEOUT=180   # seconds for the roll-out

main() {
  local begin=$SECONDS workload
  "$REPO/scripts/cluster.sh" status >/dev/null || die "no cluster is up; start one by: make cluster-up"
  eval "$("$REPO/scripts/cluster.sh" env)"
  say "the chart, until its pods are ready (about 30 s) ..."
  "$REPO/scripts/images.sh" load
  "$REPO/scripts/cluster.sh" reclaim-volumes
  namespace
  admin_secret
  # Images keep their tag :dev, so the pods must be told when the content behind it is another.
  helm upgrade --install "$RELEASE" "$REPO/helm/agentwrit" --namespace "$NAMESPACE" --values "$VALUES" \
    --set-string "podAnnotations.agentwrit\.io/image-hash=$(image_hash)" "$@" >/dev/null ||
    die "helm could not install the chart"
  workload=$(broker)
  wait_for_rollout "$workload"
  wait_for_rollout deployment/agentwrit-controller
  say "release $RELEASE is ready in namespace $NAMESPACE: $((SECONDS - begin)) s"
}

namespace() {
  kubectl apply --server-side -f - >/dev/null <<EOF
apiVersion: v1
kind: Namespace
metadata:
  name: $NAMESPACE
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
EOF
}

# The broker's workload: of the two kinds that it may be, helm leaves the one that is wanted.
broker() {
  local found
  found=$(kubectl --namespace "$NAMESPACE" get statefulsets,deployments --selector app.kubernetes.io/component=broker --output name)
  [[ $found =~ ^[a-z]+\.apps/agentwrit-broker$ ]] || die "there must be one workload of the broker; there is: ${found:-none}"
  printf '%s\n' "$found"
}

# The value comes from a pipe: not on a command line, where ps would show it.
admin_secret() {
  kubectl --namespace "$NAMESPACE" get secret agentwrit-admin >/dev/null 2>&1 && return 0
  openssl rand -hex 24 | tr -d '\n' |
    kubectl --namespace "$NAMESPACE" create secret generic agentwrit-admin --from-file admin-secret=/dev/stdin >/dev/null
}

image_hash() {
  cat "$REPO"/target/images/agentwrit-{broker,controller,sidecar}.tar.hash 2>/dev/null | sha256sum | cut -c1-16
}

wait_for_rollout() {
  local what=$1 begin=$SECONDS
  rolled_out "$NAMESPACE" "$what" "$TIMEOUT" && return 0
  {
    say "$what is not ready after $((SECONDS - begin)) s"
    kubectl --namespace "$NAMESPACE" describe "$what" | tail -n 15
    kubectl --namespace "$NAMESPACE" describe pods | grep -A20 '^Events:'
    kubectl --namespace "$NAMESPACE" logs "$what" --all-containers --tail 40
    kubectl --namespace "$NAMESPACE" get events --sort-by .lastTimestamp | tail -n 15
  } >&2 || true
  exit 1
}

main "$@"
