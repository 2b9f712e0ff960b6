#!/usr/bin/env bash
# Runs the suites in order, one after the other, and ends with one line for each and the totals.
#   test.sh [STAGE...]   of: lint unit crash soak attack apiserver interop e2e (default: all)
# KEEP_CLUSTER=1 leaves the clusters up. A cluster that was up before is always left as it was.
set -euo pipefail
SCRIPT_NAME="test"
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"
LOG=$REPO/target/log
STAGES=(lint unit crash soak attack apiserver interop e2e)
SUMMARY=()
FAILURES=()
total_passed=0
total_failed=0

# stage NAME COMMAND...: its output on the screen and in a log; its counts into the summary.
stage() {
  local name=$1 begin=$SECONDS status=0 counts passed failed
  shift
  say "$name: started"
  "$@" 2>&1 | tee "$LOG/test-$name.log" || status=$?
  counts=$(count "$LOG/test-$name.log")
  passed=${counts% *}
  failed=${counts#* }
  # A suite that could not even be built or started has failed once.
  if ((status && failed == 0)); then failed=1; fi
  # A suite in which nothing ran has proved nothing.
  if ((passed + failed == 0)); then failed=1; fi
  total_passed=$((total_passed + passed))
  total_failed=$((total_failed + failed))
  if ((failed)); then
    mapfile -t -O "${#FAILURES[@]}" FAILURES < <(failures "$name")
    (($(free_gib))) || FAILURES+=("$name: the disk of the checkout has less than 1 GiB free")
  fi
  SUMMARY+=("$(printf '%-10s %4d passed, %d failed (%d s)' "$name" "$passed" "$failed" "$((SECONDS - begin))")")
  say "$name: $passed passed, $failed failed, $((SECONDS - begin)) s; $(free_gib) GiB of the disk free"
}

# Of the disk that the checkout is on.
free_gib() { df --output=avail --block-size=1G "$REPO" | tail -n 1 | tr -d ' '; }

# Sums the lines "test result: ok. 3 passed; 0 failed; ..." of cargo and "lint: 9 passed, 1 failed" of ours.
count() {
  awk '/^test result: / {for (i = 2; i <= NF; i++) {if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1)}}
    /^(lint|generate|mutants|crash|restore|faults|bench|attack|interop|demo): [0-9]+ passed, / {p += $2; f += $4}
    END {printf "%d %d\n", p, f}' "$1"
}

# What the log of a stage says of its failures, in a few short lines: often only the end of an output is kept.
failures() {
  grep -aE '^test .* FAILED$|: FAILED|^FAILED |^[a-z-]+: .* failed (after|for)|^error|panicked at ' "$LOG/test-$1.log" |
    awk -v stage="$1" '!seen[$0]++ && n++ < 6 {print stage ": " substr($0, 1, 200)}'
}

unit() {
  local status=0
  cargo test --locked --workspace --exclude agentwrit-tests --no-fail-fast || status=$?
  counted generate make generate || status=$?
  counted mutants mutants_tests || status=$?
  return "$status"
}

# What a mutation score rests on; the score itself takes hours (make mutants).
mutants_tests() { PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover --start-directory tests/mutants --top-level-directory tests; }

crash() {
  local status=0
  scripts/crash.sh || status=$?
  # The rest of it there: scripts/test-postgres.sh.
  AGENTWRIT_STORE=postgres scripts/crash.sh 2 || status=$?
  scripts/restore.sh --short || status=$?
  scripts/faults.sh all --short || status=$?
  scripts/bench-broker.sh --smoke || status=$?
  return "$status"
}

# One build of the programs serves all stages from here on: the profile lean. make soak and make attack take the release.
soak() { SOAK_PROFILE=lean scripts/soak.sh year; }

attack() { scripts/images.sh build && AGENTWRIT_BIN=$REPO/target/lean scripts/attack.sh --short; }

apiserver() { with_cluster --api-only chart_and_apiserver; }

# The wire contract on both stores, beside each other, since both wait more than they work; all clients on the file.
interop() {
  local status=0 other log=$LOG/interop-postgres.log
  scripts/images.sh build agentwrit-broker awrit || return
  export AGENTWRIT_BROKER=$REPO/target/lean/agentwrit-broker AGENTWRIT_AWRIT=$REPO/target/lean/awrit
  AGENTWRIT_STORE=postgres scripts/interop.sh blackbox >"$log" 2>&1 &
  other=$!
  scripts/interop.sh || status=$?
  wait "$other" || status=$?
  cat "$log"
  return "$status"
}

# Both, whatever the first says.
chart_and_apiserver() {
  local status=0
  scripts/chart-check.sh || status=$?
  cargo test --locked -p agentwrit-tests --lib --test apiserver --no-fail-fast -- --test-threads=8 --skip replicas:: || status=$?
  # By themselves: their controllers would work on the objects of all others.
  cargo test --locked -p agentwrit-tests --test apiserver -- replicas:: || status=$?
  # On an API server of its own: it counts all that is asked of it.
  scripts/bench-scale.sh --smoke || status=$?
  # After the tests, which install the CRDs.
  cargo build --quiet --locked -p agentwrit-cli && python3 scripts/docs-commands.py --server || status=$?
  return "$status"
}

e2e() { with_cluster "" install_and_run; }

install_and_run() {
  local status=0
  # The last image first: images.sh loads all that are there.
  scripts/setup.sh registry && scripts/postgres-image.sh && scripts/images.sh && scripts/install.sh || return
  cargo test --locked -p agentwrit-tests --test e2e --no-fail-fast -- --test-threads 8 || status=$?
  counted demo make demo || status=$?
  return "$status"
}

# counted NAME COMMAND...: a command that passes or fails as a whole, for the counts of its stage.
counted() {
  local name=$1
  shift
  if "$@"; then echo "$name: 1 passed, 0 failed"; else echo "$name: 0 passed, 1 failed" && return 1; fi
}

# with_cluster SCOPE COMMAND...: starts the cluster unless it is up, and leaves things as they were, also
# when it is interrupted. In a subshell, whose end is the moment to clean up.
with_cluster() (
  scope=$1
  shift
  if ! scripts/cluster.sh status ${scope:+"$scope"} >/dev/null 2>&1 && [[ ${KEEP_CLUSTER:-} != 1 ]]; then
    trap 'scripts/cluster.sh down ${scope:+"$scope"}' EXIT
  fi
  scripts/cluster.sh up ${scope:+"$scope"} || exit
  eval "$(scripts/cluster.sh env ${scope:+"$scope"})"
  "$@"
)

wanted() { [[ " ${SELECTED[*]} " == *" $1 "* ]]; }

SELECTED=("$@")
(($#)) || SELECTED=("${STAGES[@]}")
for name in "${SELECTED[@]}"; do
  [[ " ${STAGES[*]} " == *" $name "* ]] || die -2 "unknown stage \"$name\"; use ${STAGES[*]}"
done

mkdir -p "$LOG"
# All at once, so that what can't be had is said now rather than after half an hour.
parts=(packages rust go cluster checks)
if wanted interop; then parts+=(node); fi
scripts/setup.sh "${parts[@]}"
for name in "${STAGES[@]}"; do
  if wanted "$name"; then
    case $name in
      lint) stage lint scripts/lint.sh ;;
      *) stage "$name" "$name" ;;
    esac
  fi
done

say "summary of ${#SUMMARY[@]} suites, $SECONDS s"
printf '  %s\n' "${SUMMARY[@]}"
if ((${#FAILURES[@]})); then printf '  %s\n' "${FAILURES[@]}"; fi
printf '%d passed, %d failed\n' "$total_passed" "$total_failed"
((total_failed == 0))
