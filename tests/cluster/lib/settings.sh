# shellcheck shell=bash
# Where a cluster keeps its state and which addresses and ports it uses. Two can run side by side:
# the whole node, and a control plane alone (api-only) for quick tests of the API server.

STATE_BASE=/var/lib
[[ $(id -u) == 0 ]] || STATE_BASE=$AGENTWRIT_CACHE

# shellcheck disable=SC2034 # read by the other files of this folder
settings_node() {
  STATE=${AGENTWRIT_TEST_STATE:-$STATE_BASE/agentwrit-test}
  CLUSTER=agentwrit-test
  HOST_ADDRESS=10.98.0.1      # on a bridge of ours; pods, kubelet and control plane meet here
  HOST_BRIDGE=aw-host0
  POD_BRIDGE=aw-pods0
  POD_CIDR=10.97.0.0/24
  SERVICE_CIDR=10.96.0.0/16
  SERVICE_ADDRESS=10.96.0.1   # of the Service kubernetes.default
  NODE_NAME=agentwrit-test
  API_PORT=6443
  ETCD_PORT=23790
  ETCD_PEER_PORT=23800
  settings_paths
}

# shellcheck disable=SC2034
settings_api_only() {
  STATE=${AGENTWRIT_TEST_API_STATE:-$STATE_BASE/agentwrit-test-api}
  CLUSTER=agentwrit-test-api
  HOST_ADDRESS=127.0.0.1
  SERVICE_CIDR=10.95.0.0/24
  SERVICE_ADDRESS=10.95.0.1
  NODE_NAME=none
  # Several can run side by side when each has a state folder and a port of its own: etcd's follow from it.
  API_PORT=${AGENTWRIT_TEST_API_PORT:-16443}
  ETCD_PORT=$((API_PORT + 7348))
  ETCD_PEER_PORT=$((API_PORT + 7358))
  settings_paths
}

# shellcheck disable=SC2034
settings_paths() {
  KUBECONFIG_FILE=$STATE/kubeconfig
  PKI=$STATE/pki
  LOG_DIR=$STATE/log
  PID_DIR=$STATE/pid
  BEFORE=$STATE/before        # what the machine looked like, for teardown
  CONTAINERD_SOCKET=$STATE/run/containerd.sock
  API_SERVER=https://$HOST_ADDRESS:$API_PORT
}

tool() {
  [[ -x $TOOLS_BIN/$1 ]] || die "$TOOLS_BIN/$1 is not there; run make setup"
  printf '%s' "$TOOLS_BIN/$1"
}

admin_kubectl() { "$(tool kubectl)" --kubeconfig "$KUBECONFIG_FILE" "$@"; }
