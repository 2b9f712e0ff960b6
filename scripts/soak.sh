#!/usr/bin/env bash
# Lets a broker work for a long time on a clock that the test moves, as fast as the machine goes, and checks all the time
# that the audit trail stays within its bound, verifies after each drop, and that memory doesn't grow.
#   soak.sh [NAME...]    of: year week day (default: week day)
# SOAK_PROFILE=lean      the profile of the build (default: release); CI takes that of its images
# year: 1,000 agents that come and go in bursts, a million events, a bound of 64 MiB; CI runs it
# week: 1,000 agents at the default lifetime of tokens; day: 10,000 agents
set -euo pipefail
SCRIPT_NAME=soak
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/build.sh
source "$REPO/scripts/lib/build.sh"
cd "$REPO"

[[ ${1:-} == --help ]] && { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0; }
names=("$@")
(($#)) || names=(week day)
for name in "${names[@]}"; do
  [[ $name =~ ^(year|week|day)$ ]] || die -2 "unknown name \"$name\"; use year, week or day"
done
# In memory where there is room: what is tested is what is written, not how fast a disk is.
if [[ -z ${TMPDIR:-} && $(df --output=avail -m /dev/shm 2>/dev/null | tail -n1) -ge 1024 ]]; then export TMPDIR=/dev/shm; fi
# No debug build, which takes ten times as long; with the dependencies of the images.
for name in "${names[@]}"; do
  say "$name: started"
  SOAK=$name RUSTFLAGS=$STATIC cargo test --locked --profile "${SOAK_PROFILE:-release}" --target "$IMAGE_TARGET" --target-dir "$BUILD_DIR" \
    -p agentwrit-broker --test year -- --nocapture
done
