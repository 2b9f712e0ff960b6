# shellcheck shell=bash
# Waiting for a roll-out, and telling when it can't happen because no node has room.

# Pods of namespace $namespace that no node has CPU or memory for: what each requests, and what the nodes have. The sum
# is the scheduler's: containers and sidecars, or the largest of the other init containers with the sidecars before it.
# shellcheck disable=SC2016 # jq's variables, not the shell's
NO_ROOM='
def cpu: tostring | if endswith("m") then rtrimstr("m") | tonumber else tonumber * 1000 end;
def bytes:
  tostring | capture("^(?<number>[0-9.]+)(?<unit>[A-Za-z]*)$") |
  (.number | tonumber) * ({"": 1, k: 1000, M: 1e6, G: 1e9, Ki: 1024, Mi: 1048576, Gi: 1073741824, Ti: 1099511627776}[.unit] // 1);
def of($what): .resources.requests[$what] // "0" | if $what == "cpu" then cpu else bytes end;
def requested($what):
  (reduce (.spec.initContainers // [])[] as $init ({sidecars: 0, peak: 0};
    ($init | of($what)) as $one |
    if $init.restartPolicy == "Always" then .sidecars += $one | .peak = ([.peak, .sidecars] | max)
    else .peak = ([.peak, .sidecars + $one] | max) end)) as $inits |
  [$inits.peak, $inits.sidecars + ([.spec.containers[] | of($what)] | add)] | max;
def told($milli; $bytes): "\($milli | floor)m CPU and \($bytes / 1048576 | floor) MiB of memory";
.pods[0].items as $pods |
$pods[] | select(.metadata.namespace == $namespace and .status.phase == "Pending") |
(.status.conditions // [] | map(select(.type == "PodScheduled" and .status == "False" and .reason == "Unschedulable"))[0].message) as $message |
select($message != null and ($message | test("Insufficient (cpu|memory)"))) |
"pod \(.metadata.name) doesn\u0027t fit: it requests \(told(requested("cpu"); requested("memory")))",
($nodes[0].items[] | . as $node |
  [$pods[] | select(.spec.nodeName == $node.metadata.name and (.status.phase | IN("Succeeded", "Failed") | not))] as $here |
  "  node \($node.metadata.name) has \(told($node.status.allocatable.cpu | cpu; $node.status.allocatable.memory | bytes)) for pods, of which \(
    told([$here[] | requested("cpu")] | add // 0; [$here[] | requested("memory")] | add // 0)) are taken"),
"  the scheduler: \($message)"
'

# no_room NAMESPACE: prints them; false when there are none.
no_room() {
  local found
  found=$(jq -nr --arg namespace "$1" --slurpfile pods <(kubectl get pods --all-namespaces -o json) \
    --slurpfile nodes <(kubectl get nodes -o json) "{pods: \$pods} | $NO_ROOM") || return 1
  [[ -n $found ]] && printf '%s\n' "$found"
}

# rolled_out NAMESPACE WHAT SECONDS: waits. Ends early, with the reason on stderr, when a pod has found no room three times
# in a row: less may be that an older one is on its way out.
rolled_out() {
  local namespace=$1 what=$2 end=$((SECONDS + $3)) times=0 told
  until kubectl --namespace "$namespace" rollout status "$what" --timeout 5s >/dev/null 2>&1; do
    if told=$(no_room "$namespace"); then times=$((times + 1)); else times=0; fi
    if ((times == 3)); then
      printf '%s\n' "$told" "  more CPU or memory for this machine, or fewer pods on it, would help" >&2
      return 1
    fi
    ((SECONDS < end)) || return 1
  done
}
