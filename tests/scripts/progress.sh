#!/usr/bin/env bash
# Progress is told when a step begins, also into a pipe. No test here waits for a time: each step ends when it is told to.
set -euo pipefail
# shellcheck source=tests/scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/lib/common.sh
source "$REPO/scripts/lib/common.sh"
export SCRIPT_NAME=test
machine
mkfifo "$WORK/end"

it "a step is announced through a pipe before it ends"
{
  ROUGH="2 of 3, about 1 min" run_step "a long step" "$WORK/log" cat "$WORK/end" | show
} | {
  read -r OUTPUT
  says "test: a long step (2 of 3, about 1 min) ..."
  # Only now may the step end: had the line been held back, both would wait for ever.
  echo >"$WORK/end"
  read -r OUTPUT
  says "test: a long step: "
  ((failed == 0))
} || failed=1
passed=$((passed + 2))

it "a step that fails shows the end of its log"
OUTPUT=$(run_step "a bad step" "$WORK/log" bash -c 'echo why; exit 3' 2>&1) && STATUS=0 || STATUS=$?
ended 3
says "a bad step failed after"
says "    why"

it "a step that calls die is told like one that fails"
OUTPUT=$(run_step "a step" "$WORK/log" die -2 "no such program" 2>&1; echo "and on") && STATUS=0 || STATUS=$?
says "a step failed after"
says "    test: no such program"
says "and on"

it "what a step took is noted for the demo"
AGENTWRIT_LEDGER=$WORK/ledger KIND=download run_step "a step" "$WORK/log" true >/dev/null
AGENTWRIT_LEDGER=$WORK/ledger run_step "a build" "$WORK/log" true >/dev/null
OUTPUT=$(cat "$WORK/ledger")
says "download|a step|0|0"
says "build|a build|0|0"

summary
