# shellcheck shell=bash
# The same cluster by kind, on machines where a Docker engine answers.

kind_up() {
  mkdir -p "$STATE"
  if ! "$(tool kind)" get clusters 2>/dev/null | grep -qx "$CLUSTER"; then
    "$(tool kind)" create cluster --name "$CLUSTER" --config "$REPO/kind-config.yaml" --kubeconfig "$KUBECONFIG_FILE" --wait 180s
  fi
  "$(tool kind)" export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG_FILE" >/dev/null 2>&1
}

kind_down() {
  "$(tool kind)" delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG_FILE"
}

kind_load_image() { "$(tool kind)" load image-archive "$1" --name "$CLUSTER"; }
