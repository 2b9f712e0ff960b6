#!/usr/bin/env bash
# What scripts/fresh-machine.sh runs on the fresh machine, as a person would.
set -euo pipefail
cd "$(dirname "$0")/../.."
SCRIPT_NAME=fresh-machine
export AGENTWRIT_LEDGER=/root/ledger DEBIAN_FRONTEND=noninteractive
# shellcheck source=scripts/lib/common.sh
source scripts/lib/common.sh
begin=$SECONDS
trap tell_why EXIT
mkdir -p /root/log

# The machine is removed afterwards, and its logs with it.
tell_why() {
  local status=$?
  ((status == 0)) || tail -n 20 /root/log/*.log "$AGENTWRIT_CACHE"/log/*.log 2>/dev/null | show
  exit "$status"
}

there() { local name; for name in "$@"; do ! command -v "$name" >/dev/null 2>&1 || printf '%s ' "$name"; done; }

# first_program LANGUAGE WHAT COMMAND...: its last line of output is shown.
first_program() {
  local language=$1 what=$2
  shift 2
  run_step "first program of $language: $what" "/root/log/$language.log" "$@"
  tail -n 1 "/root/log/$language.log" | show
  echo "$language" >>/root/languages
}

rust_program() { cargo build --locked -p agentwrit-sidecar && target/debug/agentwrit-sidecar --version; }
go_program() { scripts/setup.sh checks && echo "kubeconform $("$TOOLS_BIN/kubeconform" -v)"; }
node_program() {
  # shellcheck source=scripts/lib/node.sh
  source scripts/lib/node.sh
  node_packages "$REPO/tests/interop/jose"
  cd tests/interop/jose
  # shellcheck disable=SC2016 # for Node to expand
  node --input-type=module --eval 'import * as jose from "jose"; console.log(`Node ${process.version}, jose: ${Object.keys(jose).length} names`)'
}

say "a machine with $(. /etc/os-release && echo "$PRETTY_NAME"), $(dpkg-query -W | wc -l) packages; of make git gcc cmake python3 curl cargo go node it has: $(there make git gcc cmake python3 curl cargo go node)"
say "by hand, for a clone: apt-get install git make"
KIND=download run_step "git and make" /root/log/by-hand.log \
  bash -c 'apt-get update -q && apt-get install -y -q --no-install-recommends git make ca-certificates'

say "then as make demo and make test do:"
scripts/setup.sh packages rust go node </dev/null | show

# As a new script of the same machine would find them.
# shellcheck source=scripts/lib/common.sh
source scripts/lib/common.sh
if [[ -n $PROGRAMS ]]; then
  first_program Rust "the sidecar, debug build" rust_program
  first_program Go "kubeconform" go_program
  first_program Node "the packages of tests/interop/jose" node_program
fi

say "what it took:"
awk -F'|' '{printf "%-9s %-66s %4d s by the clock, %4d s of CPU\n", $1, substr($2, 1, 66), $3, $4}' "$AGENTWRIT_LEDGER" | show
say "${PROGRAMS:+first programs of $(paste -sd' ' /root/languages) built and run; }$((SECONDS - begin)) s in all"
