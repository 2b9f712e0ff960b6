#!/usr/bin/env bash
# Breaks what three replicas of the broker on one PostgreSQL stand on, while clients register, renew, delegate, revoke and
# release, and checks after each fault that every acknowledged operation is there once, that the audit chain verifies, and
# that the replicas came back without a restart; meanwhile only 503 with a problem body and Retry-After may be heard.
#   faults.sh NAME... [OPTION...]   NAME: all, or of
#     proof          nothing breaks; losses made by hand must be found by the check
#     kill-broker    kill -9 of a replica            kill-postgres  kill -9 of the server, and its start again
#     cut            connections stall and are cut   disk-full      no room for the data, then for the log (root only)
#     races          64 users of one launch token, one nonce, one renewal: one gets it
#     revoke-delay   from the 200 of a revocation to the refusal at the other replicas
#     rolling        SIGTERM to each replica in turn; no client notices
#     rotation       the signing key changes, at each replica at another moment
#     clock          one replica's clock jumps an hour, ahead and back
#     restore        a backup is put back under the running replicas
# Options: --rounds N; --seconds N, how long connections are cut (default 10); --short, what make test has time for;
#   --json, one object a fault on standard output; --seed N, the choices of an earlier run, though not its timing
# FAULTS_BROKER=   a broker program instead of building one (debug build: the code is the same)
# Exit code: 0 when all is as it must be, 1 when anything is wrong (what the brokers and the server have left is then kept).
set -euo pipefail
SCRIPT_NAME=faults
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"

[[ ${1:-} == --help || $# == 0 ]] && { sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 0; }
target=${CARGO_TARGET_DIR:-$REPO/target}
cargo build --quiet --locked -p agentwrit-faults --bin faults
broker=${FAULTS_BROKER:-}
if [[ -z $broker ]]; then
  cargo build --quiet --locked -p agentwrit-broker
  broker=$target/debug/agentwrit-broker
fi
folder=$REPO/target/faults
rm -rf "$folder"
mkdir -p "$folder"
# A wall clock of its own for one process.
cc -shared -fPIC -O2 -Wall -o "$folder/clock.so" tests/faults/src/clock.c
program=("$target/debug/faults")
# What is mounted for disk-full goes with the last process that sees it.
if [[ $(id -u) == 0 ]] && unshare --mount true 2>/dev/null; then program=(unshare --mount "${program[@]}"); fi
status=0
"${program[@]}" --broker "$broker" --folder "$folder/brokers" --clock "$folder/clock.so" "$@" || status=$?
((status)) || rm -rf "$folder"
exit "$status"
