# shellcheck shell=bash
# Whether the cluster is up, and what runs.

node_programs() {
  printf '%s\n' etcd kube-apiserver kube-controller-manager
  [[ $MODE == api-only ]] || printf '%s\n' kube-scheduler containerd kubelet kube-proxy coredns
}

# Everything runs and answers. Cheap enough to ask before every command.
is_up() {
  local name
  if [[ $MODE == kind ]]; then
    [[ -f $KUBECONFIG_FILE ]] && admin_kubectl get --raw /readyz >/dev/null 2>&1
    return
  fi
  [[ -f $KUBECONFIG_FILE ]] || return 1
  for name in $(node_programs); do is_running "$name" || return 1; done
  api_ready >/dev/null 2>&1 || return 1
  [[ $MODE == api-only ]] || node_ready 2>/dev/null
}

resident_mib() { awk '/^VmRSS:/ {printf "%d", $2 / 1024}' "/proc/$1/status" 2>/dev/null || echo 0; }

cluster_status() {
  local name pid total=0 mib
  if [[ $MODE == kind ]]; then
    if is_up; then
      say "up (kind); export KUBECONFIG=$KUBECONFIG_FILE"
      return 0
    fi
    say "not up (kind); start it by: make cluster-up"
    return 1
  fi
  for name in $(node_programs); do
    if is_running "$name"; then
      read -r pid _ <"$PID_DIR/$name"
      mib=$(resident_mib "$pid")
      total=$((total + mib))
      printf '  %-26s pid %-8s %5s MiB\n' "$name" "$pid" "$mib"
    else
      printf '  %-26s not running\n' "$name"
    fi
  done
  if is_up; then
    say "up ($MODE), $total MiB in all; export KUBECONFIG=$KUBECONFIG_FILE"
  else
    say "not up ($MODE); start it by: make cluster-up"
    return 1
  fi
}
