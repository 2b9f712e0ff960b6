#!/usr/bin/env bash
# A node without room is told at once, with what is requested and what is there: kubectl's answers are recorded ones.
set -euo pipefail
# shellcheck source=tests/scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# kubectl with these pods on a node of 2 CPUs and 1 GiB; roll-outs end with STATUS.
answers() {
  machine
  cat >"$MACHINE/pods"
  echo '{"items": [{"metadata": {"name": "small"}, "status": {"allocatable": {"cpu": "2", "memory": "1048576Ki"}}}]}' >"$MACHINE/nodes"
  has kubectl "case \"\$*\" in *'rollout status'*) exit $1 ;; 'get pods'*) cat $MACHINE/pods ;; 'get nodes'*) cat $MACHINE/nodes ;; *) exit 9 ;; esac"
}
wait_for() { on bash -euo pipefail -c "source $REPO/scripts/lib/rollout.sh; rolled_out shop deployment/orders ${1:-90}"; }

pending() {
  cat <<JSON
{"metadata": {"namespace": "shop", "name": "orders-1"},
 "spec": {
   "initContainers": [
     {"name": "sidecar", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}}},
     {"name": "once", "resources": {"requests": {"cpu": "1", "memory": "32Mi"}}}],
   "containers": [
     {"name": "orders", "resources": {"requests": {"cpu": "1500m", "memory": "0.5Gi"}}},
     {"name": "other", "resources": {}}]},
 "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "$1"}]}}
JSON
}
running='{"metadata": {"namespace": "kube-system", "name": "big"}, "spec": {"nodeName": "small", "containers": [{"resources": {"requests": {"cpu": "1.5", "memory": "600M"}}}]}, "status": {"phase": "Running"}}'
ended='{"metadata": {"namespace": "shop", "name": "job"}, "spec": {"nodeName": "small", "containers": [{"resources": {"requests": {"cpu": "9"}}}]}, "status": {"phase": "Succeeded"}}'

it "says what a pod requests and what the node has"
answers 1 <<<"{\"items\": [$running, $ended, $(pending '0/1 nodes are available: 1 Insufficient cpu.')]}"
wait_for
ended 1
says "pod orders-1 doesn't fit: it requests 1550m CPU and 528 MiB of memory"
says "node small has 2000m CPU and 1024 MiB of memory for pods, of which 1500m CPU and 572 MiB of memory are taken"
says "0/1 nodes are available: 1 Insufficient cpu."
check "asks three times" "$(grep -c 'rollout status' "$MACHINE/log")" equals 3

it "waits on when a pod is pending for another reason"
answers 1 <<<"{\"items\": [$running, $(pending '0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.')]}"
wait_for 0
ended 1
says_not "doesn't fit"

it "says nothing when the roll-out is complete"
answers 0 <<<'{"items": []}'
wait_for
ended 0
check "says nothing" "$OUTPUT" equals ""

summary
