#!/usr/bin/env bash
# Clients that others wrote, in other languages, against the broker.
#   interop.sh [PART...]   of: the folders of tests/interop (default: all)
# AGENTWRIT_STORE=postgres gives each broker a database on a PostgreSQL server of the run's own, in place of a file;
# AGENTWRIT_BROKER=/path (and AGENTWRIT_AWRIT=/path) take a program that is there instead of building it;
# PYTEST_ARGS adds arguments of pytest, such as PYTEST_ARGS='-k renew -x'.
set -euo pipefail
SCRIPT_NAME=interop
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/python.sh
source "$REPO/scripts/lib/python.sh"
# shellcheck source=scripts/lib/node.sh
source "$REPO/scripts/lib/node.sh"
TESTS=$REPO/tests/interop

# The folders that hold tests.
parts() { find "$TESTS" -mindepth 2 -maxdepth 2 -name 'test_*.py' -printf '%h\n' | sort -u | xargs -n 1 basename; }

mapfile -t ALL < <(parts)
SELECTED=("$@")
(($#)) || SELECTED=("${ALL[@]}")
for part in "${SELECTED[@]}"; do
  [[ " ${ALL[*]} " == *" $part "* ]] || die -2 "unknown part \"$part\"; use ${ALL[*]}"
done

# A broker of cargo build has its awrit beside it.
if [[ -n ${AGENTWRIT_BROKER:-} && -z ${AGENTWRIT_AWRIT:-} && -x $(dirname "$AGENTWRIT_BROKER")/awrit ]]; then
  AGENTWRIT_AWRIT=$(dirname "$AGENTWRIT_BROKER")/awrit
fi
wanted=()
[[ -n ${AGENTWRIT_BROKER:-} ]] || wanted+=(agentwrit-broker)
[[ -n ${AGENTWRIT_AWRIT:-} ]] || wanted+=(awrit)
((${#wanted[@]} == 0)) || "$REPO/scripts/images.sh" build "${wanted[@]}"
AGENTWRIT_BROKER=$(realpath "${AGENTWRIT_BROKER:-$REPO/target/lean/agentwrit-broker}")
AGENTWRIT_AWRIT=$(realpath "${AGENTWRIT_AWRIT:-$REPO/target/lean/awrit}")
export AGENTWRIT_BROKER AGENTWRIT_AWRIT
[[ -x $AGENTWRIT_BROKER ]] || die -2 "AGENTWRIT_BROKER=$AGENTWRIT_BROKER is no program"
[[ -x $AGENTWRIT_AWRIT ]] || die -2 "AGENTWRIT_AWRIT=$AGENTWRIT_AWRIT is no program"

python_env
for part in "${SELECTED[@]}"; do
  [[ ! -f $TESTS/$part/package-lock.json ]] || node_packages "$TESTS/$part"
done

# conftest.py prints the last line, "interop: N passed, M failed".
read -r -a extra <<<"${PYTEST_ARGS:-}"
cd "$TESTS"
PYTHONDONTWRITEBYTECODE=1 exec "$PYTHON" -m pytest "${extra[@]}" "${SELECTED[@]}"
