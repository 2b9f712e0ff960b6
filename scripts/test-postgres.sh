#!/usr/bin/env bash
# Runs on PostgreSQL what make test runs on the embedded store: the broker's API tests, the crash suite, 10,000 pods after a restore, and
# the clients that others wrote; and compares two replicas with the model more often than make test does (AGENTWRIT_MODEL_CASES, 100 by
# default). Each starts a server of its own on a temporary folder. What is about a file: tests/embedded-only.txt.
#   test-postgres.sh [PART...]   of: api crash restore interop model (default: all)
set -euo pipefail
SCRIPT_NAME=test-postgres
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"
export AGENTWRIT_STORE=postgres

PARTS=(api crash restore interop model)
SELECTED=("$@")
(($#)) || SELECTED=("${PARTS[@]}")
for name in "${SELECTED[@]}"; do
  [[ " ${PARTS[*]} " == *" $name "* ]] || die -2 "unknown part \"$name\"; use ${PARTS[*]}"
done
status=0
for name in "${SELECTED[@]}"; do
  say "$name on PostgreSQL"
  case $name in
    api) cargo test --locked -p agentwrit-broker --test api --test k8s_api --no-fail-fast || status=$? ;;
    crash) scripts/crash.sh || status=$? ;;
    restore) scripts/restore.sh || status=$? ;;
    interop) scripts/interop.sh || status=$? ;;
    model) AGENTWRIT_MODEL_CASES=${AGENTWRIT_MODEL_CASES:-100} cargo test --locked -p agentwrit-model --test store || status=$? ;;
  esac
done
exit "$status"
