#!/usr/bin/env bash
# Attacks the released programs under the chart's memory limits, by real sockets, with honest clients beside each
# attack, and ends with a table: what the attacker reached, what everybody else saw, peak memory, held or failed.
#   attack.sh [--short|--full] [NAME...]    see --help and --list
# AGENTWRIT_BIN=/path (or --bin) takes programs that are there instead of building them.
set -euo pipefail
SCRIPT_NAME=attack
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"
export PYTHONPATH=$REPO/tests PYTHONDONTWRITEBYTECODE=1

[[ $(uname -s) == Linux ]] || die -2 "the attacks need Linux: they connect from many addresses of 127.0.0.0/8"
command -v python3 >/dev/null 2>&1 || die -2 "no python3 found; run make setup, or install Python 3.11 or later"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die -2 "$(python3 --version) is too old; the attacks need Python 3.11 or later"

given=${AGENTWRIT_BIN:-}
for argument in "$@"; do
  case $argument in
    -h | --help | --list) exec python3 -m attack "$@" ;;
    --bin | --bin=*) given=given ;;
  esac
done

# What the verdicts rest on comes first, and is counted like an attack.
tests=$(python3 -m unittest discover --start-directory tests/attack --top-level-directory tests 2>&1) ||
  { printf '%s\n' "$tests" >&2; die "the attacks' own tests fail, so no verdict would count"; }
[[ $tests =~ Ran\ ([0-9]+)\ tests ]] || die "the attacks' own tests did not run"
say "${BASH_REMATCH[1]} passed, 0 failed"

# What earlier runs left of attacks that failed.
if [[ -d target/attack ]]; then find target/attack -mindepth 1 -maxdepth 1 -mmin +60 -exec rm -rf {} +; fi
[[ -n $given ]] || scripts/images.sh --release build agentwrit-broker agentwrit-controller agentwrit-sidecar
exec python3 -m attack "$@"
