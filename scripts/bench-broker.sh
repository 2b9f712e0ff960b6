#!/usr/bin/env bash
# Measures the release broker on one core, under load from another, beside what this machine could do at best:
# raw Ed25519 rates, an empty route, fsyncs; with --store postgres also replicas on a PostgreSQL server of its own, and what
# that server does by itself. See docs/performance.md.
#   bench-broker.sh [--json] [--only OPERATION,...]
#   bench-broker.sh --store postgres [--replicas 1,2,3] [--json] [--only OPERATION,...]
#   bench-broker.sh --flat [--many 1000000] [--json]   pages of an operation with few and with many events and revocations
#   bench-broker.sh --smoke                            whether all of it still runs; its figures say nothing
# BENCH_SECONDS=5       length of each measurement
# BENCH_CLIENTS=1,8,64  keep-alive connections side by side
# BENCH_BROKER=         a broker program to measure instead of building one
# The exit status tells whether it could be measured, not whether the goals are met.
set -euo pipefail
SCRIPT_NAME="bench-broker"
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/build.sh
source "$REPO/scripts/lib/build.sh"

[[ ${1:-} == --help ]] && { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0; }
mkdir -p "$REPO/target/log"
folder=$REPO/target/bench-broker
rm -rf "$folder"

# Each mode once, with the programs of the tests, so that none of them rots.
smoke() {
  local target=${CARGO_TARGET_DIR:-$REPO/target}
  local bench=$target/debug/bench-broker broker=$target/debug/agentwrit-broker
  (cd "$REPO" && cargo build --quiet --locked -p agentwrit-broker --bin agentwrit-broker && cargo build --quiet --locked -p agentwrit-bench --bin bench-broker)
  "$bench" run --broker "$broker" --folder "$folder" --seconds 1 --clients 4 --store postgres --replicas 2 --only register,renew |
    grep '^renew: a transaction each' >/dev/null || die "no figures of PostgreSQL alone"
  "$bench" run --broker "$broker" --folder "$folder" --flat --many 10000 |
    grep '^revoke .* times ' >/dev/null || die "no costs of a revocation"
  rm -rf "$folder"
  printf 'bench: 2 passed, 0 failed\n'
}

[[ ${1:-} == --smoke ]] && { smoke; exit 0; }
# Progress goes to stderr, so that --json can be piped.
PROFILE=release
run_step "bench program" "$REPO/target/log/build-bench-broker.log" build_binary agentwrit-bench bench-broker >&2
broker=${BENCH_BROKER:-}
if [[ -z $broker ]]; then
  "$REPO/scripts/images.sh" --release build agentwrit-broker >&2
  broker=$REPO/target/release/agentwrit-broker
fi
status=0
"$(built_binary bench-broker)" run --broker "$broker" --folder "$folder" "$@" || status=$?
# Stores of hundreds of MiB; after a failure they are left to be looked at.
((status)) || rm -rf "$folder"
exit "$status"
