# shellcheck shell=bash
# What every script shares: where things are, how progress is told, how a step fails.
# Source it; it has no effect of its own beyond these variables and functions.
# shellcheck disable=SC2034 # the scripts that source this file read the variables

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
AGENTWRIT_CACHE=${AGENTWRIT_CACHE:-${HOME:-/root}/.cache/agentwrit}
# Programs we build from source live outside the checkout, so that a second clone finds them made.
TOOLS_BIN=$AGENTWRIT_CACHE/bin
IMAGE_TARGET=x86_64-unknown-linux-gnu

# One line on stdout: "setup: text". The word before the colon is the script's own name.
say() { printf '%s: %s\n' "${SCRIPT_NAME:-$(basename "$0" .sh)}" "$*"; }

# One sentence on stderr and the exit status (default 1) of a script that can't go on.
die() {
  local status=1
  if [[ ${1:-} =~ ^-[0-9]+$ ]]; then status=${1#-}; shift; fi
  printf '%s: %s\n' "${SCRIPT_NAME:-$(basename "$0" .sh)}" "$*" >&2
  exit "$status"
}

# run_step TITLE LOG COMMAND...: runs with its output in LOG; one line with seconds when it ends,
# and the end of the log if it failed.
run_step() {
  local title=$1 log=$2 start=$SECONDS status=0
  shift 2
  "$@" >"$log" 2>&1 || status=$?
  if ((status)); then
    say "$title failed after $((SECONDS - start)) s (exit $status); the end of $log:" >&2
    tail -n 30 "$log" | sed 's/^/    /' >&2
    return "$status"
  fi
  say "$title: $((SECONDS - start)) s"
}

# True when a container engine (Docker's API) answers within two seconds.
docker_answers() {
  command -v docker >/dev/null 2>&1 && timeout 2 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# How this machine can run a cluster: "kind", "node", or nothing.
cluster_mode() {
  if docker_answers; then
    echo kind
  elif [[ $(uname -s) == Linux && $(id -u) == 0 ]]; then
    echo node
  fi
}
