# shellcheck shell=bash
# What the machine looked like before the node came up, so that teardown can put it back:
# kernel settings, which iptables tables were in use, and folders that programs make at fixed places.
# shellcheck disable=SC2034 # teardown.sh reads these lists

# kubelet, kube-proxy and the bridge plugin set these.
SYSCTLS=(
  net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables net.ipv4.conf.all.route_localnet
  net.netfilter.nf_conntrack_max net.netfilter.nf_conntrack_tcp_be_liberal
  net.netfilter.nf_conntrack_tcp_timeout_established net.netfilter.nf_conntrack_tcp_timeout_close_wait
  vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops
  kernel.keys.root_maxkeys kernel.keys.root_maxbytes
)

# Paths that kubelet, containerd, runc, the CNI library or iptables use whatever they are told.
STRAY_PATHS=(
  /var/lib/kubelet /var/lib/cni /var/lib/containerd /var/log/containers /var/log/pods
  /run/containerd /run/runc /run/netns /run/nri /var/run/nri /run/xtables.lock /run/flannel
  /opt/containerd /opt/cni /usr/libexec/kubernetes /etc/cni
)

# Which tables the ruleset of `iptables-save` (on stdin) has.
tables_in_use() { sed -n 's/^\*//p'; }

remember_machine() {
  [[ -f $BEFORE/done ]] && return 0
  local key path command
  mkdir -p "$BEFORE"
  for key in "${SYSCTLS[@]}"; do
    sysctl -e "$key" 2>/dev/null || true
  done >"$BEFORE/sysctl"
  for path in "${STRAY_PATHS[@]}"; do
    [[ ! -e $path ]] || printf '%s\n' "$path"
  done >"$BEFORE/paths"
  for command in iptables ip6tables; do
    "$command-save" 2>/dev/null | tables_in_use >"$BEFORE/$command" || true
  done
  (cd /sys/fs/cgroup && find . -mindepth 1 -maxdepth 3 -type d 2>/dev/null | sort) >"$BEFORE/cgroups" || true
  : >"$BEFORE/done"
}
