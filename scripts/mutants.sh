#!/usr/bin/env bash
# Changes the rules (protocol, the broker's services) in small ways, one at a time, and says which changes no test notices.
#   mutants.sh [--seed N] [--count N] [--minutes M]    see --help; what was judged is kept, so that a stopped run goes on
set -euo pipefail
SCRIPT_NAME=mutants
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"
PATH=$TOOLS_BIN:$PATH
export PYTHONPATH=$REPO/tests PYTHONDONTWRITEBYTECODE=1

command -v python3 >/dev/null 2>&1 || die -2 "no python3 found; run make setup, or install Python 3.11 or later"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die -2 "$(python3 --version) is too old; this needs Python 3.11 or later"
for argument in "$@"; do
  case $argument in -h | --help) exec python3 -m mutants "$@" ;; esac
done
"$REPO/scripts/setup.sh" mutants
exec python3 -m mutants "$@"
