#!/usr/bin/env bash
# Compares two broker programs by alternating runs of bench-broker.sh on the same machine: medians, and a loss or a gain
# where the intervals of the two don't overlap. See docs/performance.md.
#   bench-compare.sh OLD NEW [ROUNDS]    default 5; each round runs OLD and NEW once
# BENCH_ONLY=register,renew   the operations (default: all)
# BENCH_SECONDS=2  BENCH_CLIENTS=64  as for bench-broker.sh
# Ends with status 1 when something got worse by more than BENCH_GRANTED percent (default 0).
set -euo pipefail
SCRIPT_NAME=bench-compare
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

[[ ${1:-} == --help ]] && { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0; }
(($# >= 2)) || die -2 "two broker programs are needed: bench-compare.sh OLD NEW [ROUNDS]"
old=$(realpath "$1") new=$(realpath "$2") rounds=${3:-5}
[[ -x $old && -x $new ]] || die -2 "OLD and NEW must be programs"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || die -2 "ROUNDS must be a positive number, not \"$rounds\""
export BENCH_SECONDS=${BENCH_SECONDS:-2} BENCH_CLIENTS=${BENCH_CLIENTS:-64}
results=$REPO/target/bench-compare
rm -rf "$results"
mkdir -p "$results"
# Both written anew: how much of a program the kernel maps depends on how it came into the page cache (docs/performance.md).
cp "$old" "$results/old"
cp "$new" "$results/new"
old=$results/old new=$results/new
only=()
[[ -z ${BENCH_ONLY:-} ]] || only=(--only "$BENCH_ONLY")
for ((round = 1; round <= rounds; round++)); do
  for which in old new; do
    say "round $round of $rounds: $which" >&2
    BENCH_BROKER=${!which} "$REPO/scripts/bench-broker.sh" --json "${only[@]}" >"$results/$which-$round.json" 2>"$results/$which-$round.log" ||
      { tail -n 20 "$results/$which-$round.log" >&2; die "bench-broker.sh failed"; }
  done
done
exec python3 "$REPO/tests/bench/compare.py" "$results" "${BENCH_GRANTED:-0}"
