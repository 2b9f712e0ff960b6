# shellcheck shell=bash
# Takes down what up made and puts back what it changed. Each part tolerates that it never existed.

# Order: clients of the API server, the API server, etcd; containerd only after its containers.
node_down() {
  local name
  for name in kube-proxy kubelet coredns kube-scheduler kube-controller-manager; do stop "$name" 5; done
  stop kube-apiserver 3   # open watches would hold it for a minute
  stop etcd 3
  remove_containers
  stop containerd 10
  end_shims
  unmount_below "$STATE"
  remove_iptables_rules
  remove_links
  remove_strays
  remove_cgroups
  restore_sysctls
  wait_until_collected
}

api_only_down() {
  local name
  for name in kube-controller-manager kube-apiserver etcd; do stop "$name" 3; done
  wait_until_collected
}

remove_containers() {
  local id
  is_running containerd || return 0
  for id in $(ctr tasks list --quiet 2>/dev/null); do ctr tasks kill --signal SIGKILL "$id" 2>/dev/null || true; done
  for id in $(ctr tasks list --quiet 2>/dev/null); do ctr tasks delete --force "$id" >/dev/null 2>&1 || true; done
  for id in $(ctr containers list --quiet 2>/dev/null); do ctr containers delete "$id" >/dev/null 2>&1 || true; done
}

# Shims of our containerd, known by the socket address in their command line, and what runs under them.
our_shims() {
  local pid arguments
  # The kernel keeps 15 letters of a program's name.
  for pid in $(pgrep -x containerd-shim || true); do
    arguments=$({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null) || continue
    [[ $arguments != *"$CONTAINERD_SOCKET"* ]] || printf '%s\n' "$pid"
  done
}

end_shims() {
  local pid child
  for pid in $(our_shims); do
    for child in $(pgrep -P "$pid" || true); do kill -KILL "$child" 2>/dev/null || true; done
    kill -KILL "$pid" 2>/dev/null || true
  done
  local deadline=$((SECONDS + 5))
  while [[ -n $(our_shims) ]] && ((SECONDS < deadline)); do sleep 0.05; done
}

# Deepest first. mountinfo writes a space in a path as \040; our paths have none.
unmount_below() {
  local point
  awk -v base="$1/" 'index($5, base) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r point; do
    umount "$point" 2>/dev/null || umount -l "$point" || true
  done
}

# Drops our rules and chains from the ruleset as it is now, so that what others added meanwhile stays;
# then empties tables that were not in use before (an empty nft table is visible in iptables-save).
remove_iptables_rules() {
  local command table rules
  for command in iptables ip6tables; do
    rules=$("$command-save" -c 2>/dev/null) || continue
    if [[ $rules == *KUBE-* || $rules == *CNI-* ]]; then
      grep -vE 'KUBE-|CNI-' <<<"$rules" | "$command-restore" -w 5 -c
    fi
    [[ -f $BEFORE/$command ]] || continue
    for table in $(tables_in_use <<<"$rules"); do
      grep -qx "$table" "$BEFORE/$command" && continue
      # Somebody else may have started to use it since.
      rules=$("$command-save" -t "$table")
      [[ $rules == *$'\n-A '* ]] || delete_table "$command" "$table"
    done
  done
}

# iptables itself can empty a table but not delete it. (The older kernel interface, which nft does not
# show, keeps a table for as long as its module is loaded.)
delete_table() {
  local family=ip
  [[ $1 == ip6tables ]] && family=ip6
  nft delete table "$family" "$2" 2>/dev/null || true
}

remove_links() {
  local link
  # Deleting the bridge leaves the host's ends of pod interfaces; those go with their namespaces.
  for link in "$POD_BRIDGE" "$HOST_BRIDGE"; do
    ip link show "$link" >/dev/null 2>&1 && ip link delete "$link"
  done
  return 0
}

# Folders at fixed places: gone if they were not there before; else only what points into our state.
remove_strays() {
  local path
  [[ -f $BEFORE/paths ]] || return 0
  for path in "${STRAY_PATHS[@]}"; do
    [[ -e $path ]] || continue
    unmount_strays "$path"
    if ! grep -qx "$path" "$BEFORE/paths"; then
      rm -rf --one-file-system "$path"
    elif [[ $path == /var/log/containers ]]; then
      find "$path" -type l -lname "$STATE/*" -delete
    elif [[ $path == /var/lib/cni ]]; then
      rm -f "$path/results/$CLUSTER-"*
    fi
  done
}

unmount_strays() {
  grep -qx "$1" "$BEFORE/paths" || unmount_below "$1"
}

# Empty cgroups that runc or kubelet left: a cgroup folder with processes can't be removed anyway.
remove_cgroups() {
  [[ -f $BEFORE/cgroups ]] || return 0
  local path
  (cd /sys/fs/cgroup && find . -mindepth 2 -depth -type d \( -path '*/k8s.io*' -o -path '*/kubepods*' -o -path '*/kubelet*' \) 2>/dev/null) |
    while read -r path; do
      grep -qx -- "$path" "$BEFORE/cgroups" || rmdir "/sys/fs/cgroup/$path" 2>/dev/null || true
    done
}

restore_sysctls() {
  local line
  [[ -f $BEFORE/sysctl ]] || return 0
  while IFS= read -r line; do
    sysctl -q -w "${line%% = *}=${line#* = }" 2>/dev/null || true
  done <"$BEFORE/sysctl"
}
