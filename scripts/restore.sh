#!/usr/bin/env bash
# Copies a broker's store under load by "agentwrit-broker backup", kills the broker with SIGKILL, puts the copy back, and
# checks that nothing of before counts any more, that the audit chain verifies and tells of it, and that 10,000 simulated
# pods, with sidecars' pauses, have tokens again within 60 s of the start; their arrivals are shown.
#   restore.sh [--short]   --short: 300 pods whose time goes ten times as fast, and a debug build; part of make test
# AGENTWRIT_STORE=postgres: a database on a server of its own, by pg_dump; the pods alone, since three replicas and both ways
# of copying are scripts/faults.sh restore
# RESTORE_AGENTS= and RESTORE_PACE= give other numbers; CRASH_BROKER= a broker program that is there instead of building one
set -euo pipefail
SCRIPT_NAME=restore
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"

[[ ${1:-} == --help ]] && { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0; }
[[ -z ${1:-} || $1 == --short ]] || die -2 "unknown option \"$1\"; use --short or none"
store=${AGENTWRIT_STORE:-sqlite}
[[ $store == sqlite || $store == postgres ]] || die -2 "AGENTWRIT_STORE must be sqlite or postgres, not \"$store\""
target=${CARGO_TARGET_DIR:-$REPO/target}
cargo build --quiet --locked -p agentwrit-crash --bin restore-broker
broker=${CRASH_BROKER:-}
if [[ ${1:-} == --short ]]; then
  agents=300 pace=10
  if [[ -z $broker ]]; then
    cargo build --quiet --locked -p agentwrit-broker
    broker=$target/debug/agentwrit-broker
  fi
else
  agents=10000 pace=1
  if [[ -z $broker ]]; then
    scripts/images.sh --release build agentwrit-broker
    broker=$REPO/target/release/agentwrit-broker
  fi
fi
folder=$REPO/target/restore
rm -rf "$folder"
status=0
"$target/debug/restore-broker" --broker "$broker" --folder "$folder" --store "$store" \
  --agents "${RESTORE_AGENTS:-$agents}" --pace "${RESTORE_PACE:-$pace}" || status=$?
# After a failure the stores are left to be looked at.
((status)) || rm -rf "$folder"
exit "$status"
