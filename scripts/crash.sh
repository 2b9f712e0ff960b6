#!/usr/bin/env bash
# Kills the broker with SIGKILL under load, again and again, on the same store, and checks each time that what it had
# acknowledged is there, nothing is there twice, and the audit chain verifies. First it shows that the check can fail:
# each of several losses made on copies of a store must be found.
#   crash.sh [ROUNDS]    default 20
# CRASH_BROKER=        a broker program to kill instead of building one (debug build: the code is the same)
# AGENTWRIT_STORE=     sqlite, the default, or postgres: a server of its own, with fsync on
# CRASH_SEED=          repeats the choices of an earlier run, though not its timing
set -euo pipefail
SCRIPT_NAME=crash
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"

[[ ${1:-} == --help ]] && { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0; }
rounds=${1:-20}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || die -2 "ROUNDS must be a positive number, not \"$rounds\""
target=${CARGO_TARGET_DIR:-$REPO/target}
cargo build --quiet --locked -p agentwrit-crash --bin crash-broker
broker=${CRASH_BROKER:-}
if [[ -z $broker ]]; then
  cargo build --quiet --locked -p agentwrit-broker
  broker=$target/debug/agentwrit-broker
fi
folder=$REPO/target/crash
rm -rf "$folder"
store=${AGENTWRIT_STORE:-sqlite}
[[ $store == sqlite || $store == postgres ]] || die -2 "AGENTWRIT_STORE must be sqlite or postgres, not \"$store\""
options=(--store "$store" --broker "$broker" --folder "$folder/rounds" --rounds "$rounds")
[[ -z ${CRASH_SEED:-} ]] || options+=(--seed "$CRASH_SEED")
status=0
"$target/debug/crash-broker" --self-test --store "$store" --broker "$broker" --folder "$folder/self-test" || status=$?
"$target/debug/crash-broker" "${options[@]}" || status=$?
# After a failure the stores are left to be looked at.
((status)) || rm -rf "$folder"
exit "$status"
