#!/usr/bin/env bash
# Measures the release controller and broker with many objects on a real API server of its own (etcd, kube-apiserver and
# kube-controller-manager, no node): cold start to all Ready beside what the API server takes of a plain client, writes at
# rest, what a change causes, drift, a lost store, and many pods that end at once. See docs/performance.md.
#   bench-scale.sh [--json] [--tokens 10000] [--apps 1000] [--pods 1000] [--namespaces 100] [--changes 200] [--rest 6]
#   bench-scale.sh --smoke   few objects and the programs of the tests: what is counted must be so; its times say nothing
# BENCH_BROKER= BENCH_CONTROLLER=   programs to measure instead of building them
# BENCH_SCALE_PORT=16463            of the API server; etcd's ports follow from it
# The exit status tells whether it could be measured, and whether what is counted (requests, writes) is as it must be; not
# whether the goals of time and memory are met.
set -euo pipefail
SCRIPT_NAME="bench-scale"
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/build.sh
source "$REPO/scripts/lib/build.sh"

[[ ${1:-} == --help ]] && { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0; }
mkdir -p "$REPO/target/log"
cd "$REPO"
broker=${BENCH_BROKER:-} controller=${BENCH_CONTROLLER:-}
options=("$@")
if [[ ${1:-} == --smoke ]]; then
  target=${CARGO_TARGET_DIR:-$REPO/target}/debug
  ${BENCH_CARGO:-cargo} build --quiet --locked -p agentwrit-broker --bin agentwrit-broker
  ${BENCH_CARGO:-cargo} build --quiet --locked -p agentwrit-controller --bin agentwrit-controller
  ${BENCH_CARGO:-cargo} build --quiet --locked -p agentwrit-scale --bin bench-scale
  bench=$target/bench-scale
  broker=${broker:-$target/agentwrit-broker} controller=${controller:-$target/agentwrit-controller}
  options=(--tokens 200 --apps 20 --namespaces 5 --pods 60 --changes 20 --rest 1 "${@:2}")
else
  PROFILE=release
  # Progress goes to stderr, so that --json can be piped.
  run_step "bench program" "$REPO/target/log/build-bench-scale.log" build_binary agentwrit-scale bench-scale >&2
  bench=$(built_binary bench-scale)
  if [[ -z $broker || -z $controller ]]; then
    "$REPO/scripts/images.sh" --release build agentwrit-broker agentwrit-controller >&2
    broker=${broker:-$REPO/target/release/agentwrit-broker} controller=${controller:-$REPO/target/release/agentwrit-controller}
  fi
fi

# New each time, and beside any other: what is counted is all that it was asked.
folder=$REPO/target/bench-scale
export AGENTWRIT_TEST_API_STATE=$folder/api AGENTWRIT_TEST_API_PORT=${BENCH_SCALE_PORT:-16463}
scripts/cluster.sh down --api-only >/dev/null 2>&1 || true
rm -rf "$folder"
trap 'scripts/cluster.sh down --api-only >&2' EXIT
scripts/cluster.sh up --api-only >&2
eval "$(scripts/cluster.sh env --api-only)"
status=0
"$bench" --broker "$broker" --controller "$controller" --folder "$folder/run" "${options[@]}" || status=$?
# After a failure the logs are left to be looked at.
((status)) || rm -rf "$folder/run"
exit "$status"
