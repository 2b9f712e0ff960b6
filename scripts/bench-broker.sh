#!/usr/bin/env bash
# Measures the release broker on one core, under load from another, beside what this machine could do at best:
# raw Ed25519 rates, an empty route, fsyncs. See docs/performance.md.
#   bench-broker.sh [--json] [--only OPERATION,...]
# BENCH_SECONDS=5       length of each measurement
# BENCH_CLIENTS=1,8,64  keep-alive connections side by side
# BENCH_BROKER=         a broker program to measure instead of building one
# The exit status tells whether it could be measured, not whether the goals are met.
set -euo pipefail
SCRIPT_NAME=bench-broker
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/build.sh
source "$REPO/scripts/lib/build.sh"

[[ ${1:-} == --help ]] && { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0; }
mkdir -p "$REPO/target/log"
# Progress goes to stderr, so that --json can be piped.
PROFILE=release
run_step "bench program" "$REPO/target/log/build-bench-broker.log" build_binary agentwrit-bench bench-broker >&2
broker=${BENCH_BROKER:-}
if [[ -z $broker ]]; then
  "$REPO/scripts/images.sh" --release build agentwrit-broker >&2
  broker=$REPO/target/release/agentwrit-broker
fi
folder=$REPO/target/bench-broker
rm -rf "$folder"
status=0
"$(built_binary bench-broker)" run --broker "$broker" --folder "$folder" "$@" || status=$?
# Stores of hundreds of MiB; after a failure they are left to be looked at.
((status)) || rm -rf "$folder"
exit "$status"
