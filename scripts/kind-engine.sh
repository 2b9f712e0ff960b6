#!/usr/bin/env bash
# A Docker engine for trying kind on a machine that has none (Debian 12, root): Debian's dockerd, taken out of its
# packages and not installed, in a network namespace of its own, so that the machine's firewall stays as it is.
#   kind-engine.sh up            start it; says that it is up if it is
#   kind-engine.sh env           shell line for DOCKER_HOST: enough for docker, but not for kind and kubectl
#   kind-engine.sh run CMD...    run a command in that namespace: it sees the cluster's ports on 127.0.0.1, no other network
#   kind-engine.sh down          stop it and remove it with its containers, images and network namespace
#   kind-engine.sh status        whether it answers; exit 1 when it doesn't
# Everything is under AGENTWRIT_KIND_ENGINE (/var/lib/agentwrit-kind). The way from here to a cluster:
#   scripts/kind-engine.sh up; (eval "$(scripts/kind-engine.sh env)"; scripts/kind-node-image.sh)
#   AGENTWRIT_KIND_IMAGE=... scripts/kind-engine.sh run scripts/cluster.sh up
# docs: ../tests/cluster/README.md
set -euo pipefail
SCRIPT_NAME=kind-engine
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=tests/cluster/lib/before.sh
source "$REPO/tests/cluster/lib/before.sh"
# shellcheck source=tests/cluster/lib/teardown.sh
source "$REPO/tests/cluster/lib/teardown.sh"

STATE=${AGENTWRIT_KIND_ENGINE:-/var/lib/agentwrit-kind}
NETWORK=aw-kind
PROGRAMS=$STATE/programs
SOCKET=$STATE/docker.sock
PACKAGES=(docker.io containerd tini)
# What the kubelet in a container sets for the whole machine; what belongs to a network goes with the namespace.
# shellcheck disable=SC2034 # for before.sh and teardown.sh
SYSCTLS=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)
BEFORE=$STATE/before

main() {
  case ${1:-} in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" ;;
    up) for_root && engine_up ;;
    run) for_root && engine_run "${@:2}" ;;
    env) printf 'export DOCKER_HOST=unix://%s\n' "$SOCKET" ;;
    down) for_root && engine_down ;;
    status) if answers; then say "up, $SOCKET"; else say "not up"; return 1; fi ;;
    *) die -2 "unknown command \"${1:-}\"; use up, env, run, down or status (--help says more)" ;;
  esac
}

for_root() { [[ $(id -u) == 0 ]] || die -2 "this needs root"; }

inside() { nsenter --net="/run/netns/$NETWORK" "$@"; }

answers() { [[ -S $SOCKET ]] && timeout 5 "$(client)" --host "unix://$SOCKET" version >/dev/null 2>&1; }

# The machine's own client, else the package's.
client() { command -v docker || echo "$PROGRAMS/usr/bin/docker"; }

unpack_packages() {
  local folder name
  [[ ! -x $PROGRAMS/usr/sbin/dockerd ]] || return 0
  for name in runc iptables jq; do
    command -v "$name" >/dev/null 2>&1 || die -2 "$name is not there; run make setup"
  done
  command -v apt-get >/dev/null 2>&1 || die -2 "this needs apt-get (Debian or Ubuntu)"
  say "taking ${PACKAGES[*]} out of Debian's packages"
  folder=$(mktemp -d "$STATE/packages.XXXXXX")
  (cd "$folder" && apt-get download -q "${PACKAGES[@]}") >"$STATE/download.log" 2>&1 ||
    (apt-get update -q && cd "$folder" && apt-get download -q "${PACKAGES[@]}") >>"$STATE/download.log" 2>&1 ||
    die "no packages ${PACKAGES[*]}: see $STATE/download.log"
  rm -rf "$PROGRAMS.new"
  for name in "$folder"/*.deb; do dpkg-deb --extract "$name" "$PROGRAMS.new"; done
  mv -T "$PROGRAMS.new" "$PROGRAMS"
  rm -rf "$folder"
}

engine_up() {
  local begin=$SECONDS
  if answers; then say "already up, $SOCKET"; return 0; fi
  mkdir -p "$STATE"
  unpack_packages
  remember_machine
  [[ -e /run/netns/$NETWORK ]] || ip netns add "$NETWORK"
  inside ip link set lo up
  # The score of the out-of-memory killer can't be lowered without CAP_SYS_RESOURCE. kind brings its own bridge.
  PATH=$PROGRAMS/usr/bin:$PROGRAMS/usr/sbin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    setsid nsenter --net="/run/netns/$NETWORK" dockerd \
    --host "unix://$SOCKET" --data-root "$STATE/data" --exec-root "$STATE/run" --pidfile "$STATE/pid" \
    --bridge none --oom-score-adjust 0 --add-runtime "limited=$REPO/tests/cluster/kind/runc-limited" --default-runtime limited \
    >"$STATE/dockerd.log" 2>&1 </dev/null &
  for _ in {1..150}; do
    if answers; then say "up, $SOCKET: $((SECONDS - begin)) s"; return 0; fi
    sleep 0.2
  done
  die "dockerd doesn't answer after 30 s: see $STATE/dockerd.log"
}

engine_run() {
  answers || die "the engine is not up; start it by: scripts/kind-engine.sh up"
  (($#)) || die -2 "run needs a command"
  exec env DOCKER_HOST="unix://$SOCKET" PATH="$PATH:$PROGRAMS/usr/bin" nsenter --net="/run/netns/$NETWORK" "$@"
}

engine_down() {
  local pid begin=$SECONDS
  if answers; then
    "$(client)" --host "unix://$SOCKET" ps --all --quiet |
      xargs --no-run-if-empty "$(client)" --host "unix://$SOCKET" rm --force --volumes >/dev/null
  fi
  if [[ -s $STATE/pid ]]; then
    pid=$(<"$STATE/pid")
    # Only if the number is still this engine's.
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "--pidfile $STATE/pid"; then
      kill "$pid"
      for _ in {1..150}; do
        [[ -d /proc/$pid ]] || break
        sleep 0.2
      done
      [[ ! -d /proc/$pid ]] || die "dockerd (pid $pid) doesn't end; see $STATE/dockerd.log"
    fi
  fi
  unmount_below "$STATE"
  remove_namespace
  restore_sysctls
  remove_docker_cgroups
  rm -rf --one-file-system "$STATE"
  say "down, nothing left in $STATE: $((SECONDS - begin)) s"
}

remove_namespace() {
  [[ ! -e /run/netns/$NETWORK ]] || ip netns delete "$NETWORK"
  # "ip" mounts the folder upon itself; nobody else's namespace is in it if this works.
  if [[ -f $BEFORE/paths ]] && ! grep -qx /run/netns "$BEFORE/paths"; then
    umount /run/netns 2>/dev/null || return 0
    rmdir /run/netns
  fi
}

# Empty ones that dockerd leaves; one with processes can't be removed anyway.
remove_docker_cgroups() {
  local path
  [[ -f $BEFORE/cgroups ]] || return 0
  (cd /sys/fs/cgroup && find . -mindepth 2 -depth -type d -path './*/docker*') | while read -r path; do
    grep -qx -- "$path" "$BEFORE/cgroups" || rmdir "/sys/fs/cgroup/$path" 2>/dev/null || true
  done
}

main "$@"
