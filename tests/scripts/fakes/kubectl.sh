# shellcheck shell=bash
# kubectl, for exactly the commands that the scripts give.

is() { [[ -e $MACHINE/is/$1 ]]; }
[[ $1 != --kubeconfig ]] || { KUBECONFIG=$2; shift 2; }
if ! [[ -f $KUBECONFIG ]] || ! is cluster || ! is running; then
  echo "The connection to the server was refused" >&2
  exit 1
fi
case "$*" in
  "get --raw /readyz") is ready ;;
  "wait --for=condition=Ready node --all --timeout 180s") is ready || { echo "error: timed out waiting for the condition on nodes/agentwrit-test-control-plane" >&2; exit 1; } ;;
  "--namespace kube-system rollout status deployment/coredns --timeout 180s") is dns ;;
  "--namespace local-path-storage rollout status deployment/local-path-provisioner --timeout 180s") is storage ;;
  "apply --server-side -f -") cat >/dev/null ;;
  "--namespace agentwrit-system get secret agentwrit-admin") is secret ;;
  "--namespace agentwrit-system create secret generic agentwrit-admin --from-file admin-secret=/dev/stdin") cat >"$MACHINE/is/secret" ;;
  "--namespace agentwrit-system get statefulsets,deployments --selector app.kubernetes.io/component=broker --output name") echo statefulset.apps/agentwrit-broker ;;
  *"rollout status "*) ;;
  *) echo "error: unknown command $*" >&2; exit 1 ;;
esac
