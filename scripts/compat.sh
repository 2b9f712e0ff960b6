#!/usr/bin/env bash
# Runs the sidecar of an earlier version (f4273ee, the last without a proof of possession) against this broker, over
# three renewals under a reader of its token file; then this version's own.
#   COMPAT_COMMIT=f4273ee   which version to build
#   COMPAT_SIDECAR=/path    a program that is there, instead of building one
set -euo pipefail
SCRIPT_NAME=compat
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"
export PYTHONPATH=$REPO/tests PYTHONDONTWRITEBYTECODE=1

[[ $(uname -s) == Linux ]] || die -2 "this needs Linux: the sidecar runs in a mount namespace of its own"
command -v python3 >/dev/null 2>&1 || die -2 "no python3 found; run make setup, or install Python 3.11 or later"
commit=${COMPAT_COMMIT:-f4273ee}
work=target/compat
mkdir -p "$work"

former=${COMPAT_SIDECAR:-}
if [[ -z $former ]]; then
  git cat-file -e "$commit^{commit}" 2>/dev/null ||
    die -2 "this clone doesn't have commit $commit: git fetch --unshallow, or name another in COMPAT_COMMIT"
  tree=$work/$commit
  if [[ ! -d $tree ]]; then
    mkdir -p "$tree.new"
    git archive "$commit" | tar -x -C "$tree.new"
    mv "$tree.new" "$tree"
  fi
  run_step "sidecar of $commit built" "$work/build-$commit.log" \
    env CARGO_TARGET_DIR="$REPO/$work/build" cargo build --locked --manifest-path "$tree/Cargo.toml" -p agentwrit-sidecar
  former=$work/build/debug/agentwrit-sidecar
fi
run_step "this version built" "$work/build.log" cargo build --locked -p agentwrit-broker -p agentwrit-sidecar

for sidecar in "$former" target/debug/agentwrit-sidecar; do
  say "$sidecar against this broker"
  python3 -m compat --sidecar "$sidecar" --bin target/debug
done
