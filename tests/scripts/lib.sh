# shellcheck shell=bash
# What the tests of the scripts share: a machine made of a folder of programs, and comparisons that count.
# shellcheck disable=SC2034 # the tests read the variables

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
passed=0
failed=0
case_name=

# What any Linux has. Nothing else of this machine is on the PATH of a test.
BASICS=(bash sh sed sort tail head grep awk cut sha256sum uname id dirname basename cat wc tr env mktemp mkdir rm mv ln cp chmod touch ls
  find flock timeout printf gzip tar date sleep jq mkfifo)

# machine: an empty one; sets MACHINE. What stands in $MACHINE/log are the commands that its programs were called with.
machine() {
  local name
  MACHINE=$(mktemp -d -p "$WORK")
  mkdir -p "$MACHINE/bin" "$MACHINE/home"
  for name in "${BASICS[@]}"; do ln -s "$(type -P "$name")" "$MACHINE/bin/$name"; done
  : >"$MACHINE/log"
  has id 'echo 0'
}

# has PROGRAM [BODY]: a program that notes how it was called, then runs BODY, or what stands on stdin.
has() {
  rm -f "$MACHINE/bin/$1"
  {
    printf '#!%s\necho "%s $*" >>%q\n' "$(type -P bash)" "$1" "$MACHINE/log"
    if (($# > 1)); then printf '%s\n' "$2"; else cat; fi
  } >"$MACHINE/bin/$1"
  chmod +x "$MACHINE/bin/$1"
}

# on COMMAND...: runs it on the machine, without a terminal; sets OUTPUT (both streams) and STATUS.
on() {
  STATUS=0
  OUTPUT=$(inside "$@" </dev/null 2>&1) || STATUS=$?
}

# at_terminal COMMAND: the same at a terminal, where somebody types what stands on stdin.
at_terminal() {
  STATUS=0
  ln -sf "$(type -P script)" "$MACHINE/bin/script"
  OUTPUT=$(inside script -qec "$*" /dev/null 2>&1) || STATUS=$?
}

inside() {
  env -i MACHINE="$MACHINE" HOME="$MACHINE/home" PATH="$MACHINE/bin" SHELL="$(type -P bash)" \
    AGENTWRIT_CACHE="$MACHINE/cache" AGENTWRIT_GO_HOME="$MACHINE/none" "$@"
}

it() { case_name=$1; }

# says TEXT: the output has it. says_not TEXT. called TEXT: a program was called so. ended STATUS.
says() { check "says \"$1\"" "$OUTPUT" contains "$1"; }
says_not() { check "doesn't say \"$1\"" "$OUTPUT" lacks "$1"; }
called() { check "calls \"$1\"" "$(cat "$MACHINE/log")" contains "$1"; }
called_not() { check "doesn't call \"$1\"" "$(cat "$MACHINE/log")" lacks "$1"; }
ended() { check "ends with $1" "$STATUS" equals "$1"; }

contains() { [[ $1 == *"$2"* ]]; }
lacks() { [[ $1 != *"$2"* ]]; }
equals() { [[ $1 == "$2" ]]; }

check() {
  local what=$1 got=$2
  if "$3" "$got" "$4"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s: %s; it was:\n' "$case_name" "$what"
    printf '%s\n' "$got" | sed 's/^/    /'
  fi
}

summary() {
  printf 'scripts: %d passed, %d failed\n' "$passed" "$failed"
  ((failed == 0))
}
