# shellcheck shell=bash
# containerd with everything it owns under the state folder, and images for it.

PAUSE_IMAGE=local/pause:1

write_containerd_config() {
  mkdir -p "$STATE/run" "$STATE/shim"
  cat >"$STATE/containerd.toml" <<EOF
version = 3
root = "$STATE/containerd"
state = "$STATE/run/containerd"

[grpc]
address = "$CONTAINERD_SOCKET"

[ttrpc]
address = "$CONTAINERD_SOCKET.ttrpc"

[plugins.'io.containerd.internal.v1.opt']
path = "$STATE/opt"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.shim.v1.manager']
socket_dir = "$STATE/shim"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "$PAUSE_IMAGE"

[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE runc cannot lower the score and dies.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni", "/usr/libexec/cni"]   # Debian, Fedora
conf_dir = "$STATE/cni/net.d"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "$STATE/run/runc"
EOF
}

# containerd 2.2 and later warn of cgroup v1 at every call; that is not news.
ctr() {
  "$(tool ctr)" --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@" 2> >(grep -v 'cgroup v1 is deprecated' >&2)
}

# The shims share containerd's log, and containerd finds its shim program by PATH.
start_containerd() {
  write_containerd_config
  tool containerd-shim-runc-v2 >/dev/null
  start containerd env PATH="$TOOLS_BIN:/usr/sbin:/usr/bin:/sbin:/bin" \
    "$(tool containerd)" --config "$STATE/containerd.toml" --log-level warn
  wait_for "containerd answering" containerd 30 ctr version
}

# load_image TAR: a docker-archive into the image store that kubelet sees.
load_image() { ctr images import "$1" >/dev/null; }

# The sandbox container of every pod: it holds the namespaces and reaps what is left.
pause_image() {
  local tar=$AGENTWRIT_CACHE/images/pause.tar source=$REPO/tests/cluster/pause.c work
  if [[ ! -f $tar || $source -nt $tar ]]; then
    work=$(mktemp -d "$STATE/pause.XXXXXX")
    gcc -static -Os -s -o "$work/pause" "$source"
    IMAGE_USER=65535 image_from_binary "$work/pause" "$PAUSE_IMAGE" "$tar" "pause" "Holds a pod's namespaces"
    rm -rf "$work"
  fi
  load_image "$tar"
}
