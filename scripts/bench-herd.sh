#!/usr/bin/env bash
# Simulates 10,000 sidecars around an outage of their broker, and shows what arrives at it, second by second: the
# sidecar's own decisions in simulated time (tests/herd), no cluster, no network. See docs/performance.md.
#   bench-herd.sh [--json] [--pods 10000] [--seed 1] [SCENARIO...]
#     of: outage ttl-60 ttl-900 ttl-3600 store busy rollout node-pool cold cold-60 (default: all, five minutes)
set -euo pipefail
SCRIPT_NAME="bench-herd"
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

[[ ${1:-} == --help ]] && { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0; }
cd "$REPO"
# Optimised in the profile dev: nothing else is built for it.
${BENCH_CARGO:-cargo} build --quiet --locked -p agentwrit-herd
exec "${CARGO_TARGET_DIR:-target}/debug/bench-herd" "$@"
