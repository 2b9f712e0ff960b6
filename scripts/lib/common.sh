# shellcheck shell=bash
# What every script shares: where things are, how progress is told, how a step fails.
# Source it; it has no effect of its own beyond these variables and functions.
# shellcheck disable=SC2034 # the scripts that source this file read the variables

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
AGENTWRIT_CACHE=${AGENTWRIT_CACHE:-${HOME:-/root}/.cache/agentwrit}
# Programs we build from source live outside the checkout, so that a second clone finds them made.
TOOLS_BIN=$AGENTWRIT_CACHE/bin
IMAGE_TARGET=x86_64-unknown-linux-gnu

# Where rustup puts cargo, and setup.sh what it brings. Before the machine's own: setup.sh brings nothing that the machine
# has in a version that will do.
TOOLCHAINS=$AGENTWRIT_CACHE/toolchains
for folder in "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" "$TOOLCHAINS/bin"; do
  [[ ! -d $folder || :$PATH: == *:$folder:* ]] || PATH=$folder:$PATH
done
unset folder

# One line on stdout: "setup: text". The word before the colon is the script's own name.
say() { printf '%s: %s\n' "${SCRIPT_NAME:-$(basename "$0" .sh)}" "$*"; }

# One sentence on stderr and the exit status (default 1) of a script that can't go on.
die() {
  local status=1
  if [[ ${1:-} =~ ^-[0-9]+$ ]]; then status=${1#-}; shift; fi
  printf '%s: %s\n' "${SCRIPT_NAME:-$(basename "$0" .sh)}" "$*" >&2
  exit "$status"
}

# What another program prints, indented, each line as soon as it is there.
show() { sed -u 's/^/     /'; }

# run_step TITLE LOG COMMAND...: runs with its output in LOG. One line when it begins and one with its seconds when it ends,
# and the end of the log if it failed. ROUGH="2 of 12, about 3 min" stands in the first line.
run_step() {
  local title=$1 log=$2 start=$SECONDS status=0
  shift 2
  say "$title${ROUGH:+ ($ROUGH)} ..."
  # A command that calls die ends here, and its log is shown.
  (timed "$title" "$@") >"$log" 2>&1 || status=$?
  if ((status)); then
    say "$title failed after $((SECONDS - start)) s (exit $status); the end of $log:" >&2
    tail -n 30 "$log" | sed 's/^/    /' >&2
    return "$status"
  fi
  say "$title: $((SECONDS - start)) s"
}

# timed TITLE COMMAND...: notes what it took in the file that AGENTWRIT_LEDGER names, if any:
# KIND|title|seconds by the clock|seconds of CPU. KIND is build unless a caller sets it; the demo adds them up at its end.
timed() {
  local title=$1 times status=0 TIMEFORMAT='%R %U %S'
  shift
  if [[ -z ${AGENTWRIT_LEDGER:-} ]]; then
    "$@"
    return
  fi
  times=$(mktemp)
  { time "$@" 2>&3 3>&-; } 3>&2 2>"$times" || status=$?
  awk -v what="${KIND:-build}|$title" '{printf "%s|%.0f|%.0f\n", what, $1, $2 + $3}' "$times" >>"$AGENTWRIT_LEDGER"
  rm -f "$times"
  return "$status"
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
