# shellcheck shell=bash
# helm, for exactly the command that scripts/install.sh gives.

[[ -f $KUBECONFIG ]] || exit 1
case "$*" in
  "upgrade --install agentwrit "*"/helm/agentwrit --namespace agentwrit-system --values "*"/tests/cluster/values.yaml --set-string podAnnotations"*) ;;
  *) echo "Error: unknown command $*" >&2; exit 1 ;;
esac
