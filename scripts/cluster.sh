#!/usr/bin/env bash
# A real Kubernetes cluster for tests and the demo: kind where a Docker engine answers, else a node made of
# processes on this machine (Linux, root). docs: ../tests/cluster/README.md
#   cluster.sh up [--api-only]      start it, or verify that it is healthy; ends with an export line
#   cluster.sh down [--api-only]    stop it and leave nothing behind
#   cluster.sh status [--api-only]  what runs; exit 1 when it is not up
#   cluster.sh env [--api-only]     shell lines for KUBECONFIG and PATH
#   cluster.sh mode                 kind or node: what the cluster was made as, or would be
#   cluster.sh load-image TAR...    put docker-archive files into the node's image store
#   cluster.sh reclaim-volumes      offer released volumes again, emptied
# --api-only: etcd, API server and controller manager alone, beside the whole node, and without root.
set -euo pipefail
# shellcheck disable=SC2034
SCRIPT_NAME=cluster
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/image.sh
source "$REPO/scripts/lib/image.sh"
for part in settings process pki control_plane before network runtime node addons teardown kind status; do
  # shellcheck source=/dev/null
  source "$REPO/tests/cluster/lib/$part.sh"
done

main() {
  local command=${1:-} scope=node arguments=()
  shift || true
  while (($#)); do
    case $1 in
      --api-only) scope=api-only ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
  choose_mode "$scope"
  case $command in
    up) locked cluster_up ;;
    down) locked cluster_down ;;
    status) cluster_status ;;
    env) cluster_env ;;
    mode) printf '%s\n' "$MODE" ;;
    load-image) load_images "${arguments[@]}" ;;
    reclaim-volumes) [[ $MODE != node ]] || reclaim_volumes ;;
    *) die -2 "unknown command \"$command\"; use up, down, status, env, mode, load-image or reclaim-volumes" ;;
  esac
}

choose_mode() {
  if [[ $1 == api-only ]]; then
    MODE=api-only
    settings_api_only
    return
  fi
  settings_node
  # A cluster that is there stays of its kind, whether or not a Docker engine came or went meanwhile.
  MODE=$(cat "$STATE/mode" 2>/dev/null || cluster_mode)
  [[ -n $MODE ]] || die -2 "a cluster needs either a Docker engine that answers, or root on Linux; this is neither (as root: make cluster-up)"
  [[ $MODE != kind ]] || docker_answers || die -2 "the cluster was made by kind, and no Docker engine answers now"
}

# One up or down at a time; the lock is the state folder itself, so it leaves no file.
locked() {
  mkdir -p "$STATE"
  chmod 711 "$STATE"
  exec 8<"$STATE"
  flock 8
  "$@"
}

cluster_up() {
  local begin=$SECONDS again=
  if is_up; then again=1; fi
  printf '%s\n' "$MODE" >"$STATE/mode"
  case $MODE in
    kind) kind_up ;;
    api-only)
      if [[ -z $again ]]; then
        control_plane_up
        wait_for_controller_manager
      fi
      ;;
    node)
      if [[ -n $again ]]; then
        addons_apply
        reclaim_volumes
      else
        remember_machine
        host_network_up
        write_cni_config
        control_plane_up
        node_pki
        node_up
      fi
      ;;
  esac
  if [[ -n $again ]]; then say "already up and healthy ($MODE)"; else say "up ($MODE): $((SECONDS - begin)) s"; fi
  printf 'export KUBECONFIG=%s\n' "$KUBECONFIG_FILE"
}

cluster_down() {
  local begin=$SECONDS
  case $MODE in
    kind) kind_down ;;
    api-only) api_only_down ;;
    node) node_down ;;
  esac
  rm -rf --one-file-system "$STATE"
  say "down ($MODE): $((SECONDS - begin)) s"
}

cluster_env() {
  printf 'export KUBECONFIG=%s\n' "$KUBECONFIG_FILE"
  # shellcheck disable=SC2016 # PATH is for the shell that evaluates this
  printf 'export PATH=%s:$PATH\n' "$TOOLS_BIN"
}

load_images() {
  local tar
  (($#)) || die -2 "load-image needs the path of a docker-archive file"
  for tar in "$@"; do
    [[ -f $tar ]] || die -2 "there is no image file $tar; run make images"
    if [[ $MODE == kind ]]; then kind_load_image "$tar"; else load_image "$tar"; fi
    say "loaded $(basename "$tar")"
  done
}

main "$@"
