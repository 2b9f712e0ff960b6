# shellcheck shell=bash
# The same cluster by kind, on machines where a Docker engine answers. kind tells the steps of its own on stderr.
#   AGENTWRIT_KIND_IMAGE   a node image other than the one that kind pins, such as that of scripts/kind-node-image.sh

KIND_WAIT=180   # seconds until the node is Ready, and as many until its DNS and its storage are

kind() { "$(tool kind)" "$@"; }

# kind_silent ARGUMENTS...: what kind says only matters if it fails. (Its own --quiet would hide errors, too.)
kind_silent() {
  local output
  output=$(kind "$@" 2>&1) || { printf '    %s\n' "${output//$'\n'/$'\n    '}" >&2; return 1; }
}

kind_exists() {
  local clusters
  clusters=$(kind get clusters 2>&1) || die "kind can't list its clusters: $clusters"
  grep -qxF "$CLUSTER" <<<"$clusters"
}

kind_up() {
  if ! kind_exists; then
    kind_create
  elif ! is_up; then
    kind_again
  fi
  # kind itself only warns when the node isn't Ready in time, and doesn't wait for what runs on it.
  admin_kubectl wait --for=condition=Ready node --all --timeout "${KIND_WAIT}s" >/dev/null ||
    die "the node of kind is not Ready; its log: docker exec $CLUSTER-control-plane journalctl --no-pager -u kubelet"
  admin_kubectl --namespace kube-system rollout status deployment/coredns --timeout "${KIND_WAIT}s" >/dev/null ||
    die "the cluster's DNS doesn't start; look by: kubectl --kubeconfig $KUBECONFIG_FILE -n kube-system describe pods"
  admin_kubectl --namespace local-path-storage rollout status deployment/local-path-provisioner --timeout "${KIND_WAIT}s" >/dev/null ||
    die "the cluster's storage doesn't start; look by: kubectl --kubeconfig $KUBECONFIG_FILE -n local-path-storage describe pods"
}

kind_create() {
  local arguments=(--name "$CLUSTER" --config "$REPO/kind-config.yaml" --kubeconfig "$KUBECONFIG_FILE" --wait "${KIND_WAIT}s")
  [[ -z ${AGENTWRIT_KIND_IMAGE:-} ]] || arguments+=(--image "$AGENTWRIT_KIND_IMAGE")
  # The new cluster has none of the images that an earlier one was given.
  rm -rf "$STATE/images" "$KUBECONFIG_FILE"
  kind create cluster "${arguments[@]}" || die "kind could not create the cluster"
}

# The cluster exists and doesn't answer. After a restart of the machine it is stopped; an interrupted "up" leaves it half
# made, without a kubeconfig to export: then it is made anew, since nothing can have run on it.
kind_again() {
  local deadline=$((SECONDS + KIND_WAIT))
  docker start "$CLUSTER-control-plane" >/dev/null || die "the node of kind doesn't start; take it down by: make cluster-down"
  if ! kind_silent export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG_FILE"; then
    say "the cluster of kind is half made: making it anew"
    kind_down
    kind_create
    return
  fi
  until is_up; do
    ((SECONDS < deadline)) || die "the cluster of kind doesn't answer after $KIND_WAIT s; take it down by: make cluster-down"
    sleep 1
  done
}

kind_down() { kind_silent delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG_FILE" || die "kind could not delete the cluster"; }

kind_load_image() { kind_silent load image-archive "$1" --name "$CLUSTER" || die "kind could not load $1"; }
