#!/usr/bin/env bash
# The direction of dependency, as the architecture has it: which crate may use which of ours, where
# kube may be used at all, and what must be in nobody's tree.
set -euo pipefail
SCRIPT_NAME=arrows
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

failures=0
wrong() { printf 'arrows: %s\n' "$*" >&2; failures=$((failures + 1)); }

# package: the crates of ours that it may use outside its tests. protocol may be used by all.
declare -A ALLOWED=(
  [agentwrit-protocol]=""
  [agentwrit-server]="agentwrit-protocol"
  [agentwrit-client]="agentwrit-protocol"
  [agentwrit-crds]="agentwrit-protocol"
  [agentwrit-attest]="agentwrit-protocol agentwrit-server"
  [agentwrit-json]="agentwrit-protocol"
  [agentwrit-limits]="agentwrit-protocol agentwrit-server agentwrit-store"
  [agentwrit-logging]="agentwrit-protocol"
  [agentwrit-tokens]="agentwrit-protocol"
  [agentwrit-store]="agentwrit-protocol"
  [agentwrit-retention]="agentwrit-protocol agentwrit-store"
  [agentwrit-trail]="agentwrit-protocol agentwrit-store"
  [agentwrit-store-sqlite]="agentwrit-protocol agentwrit-store agentwrit-trail"
  [agentwrit-store-postgres]="agentwrit-protocol agentwrit-store agentwrit-trail"
  [agentwrit-broker]="agentwrit-protocol agentwrit-server agentwrit-attest agentwrit-json agentwrit-limits agentwrit-logging agentwrit-retention agentwrit-store agentwrit-store-postgres agentwrit-store-sqlite agentwrit-tokens"
  [agentwrit-controller]="agentwrit-protocol agentwrit-server agentwrit-client agentwrit-crds"
  [agentwrit-sidecar]="agentwrit-protocol agentwrit-server agentwrit-client"
  [agentwrit-cli]="agentwrit-protocol agentwrit-client"
  [agentwrit-demo]="agentwrit-protocol agentwrit-client"
  [agentwrit-testkit]="agentwrit-protocol agentwrit-server agentwrit-attest agentwrit-store agentwrit-store-postgres agentwrit-broker"
  [agentwrit-bench]="agentwrit-protocol agentwrit-testkit"
  [agentwrit-crash]="agentwrit-protocol agentwrit-store-postgres agentwrit-testkit"
  [agentwrit-model]=""
  [agentwrit-faults]="agentwrit-protocol agentwrit-crash agentwrit-store-postgres agentwrit-testkit"
  [agentwrit-fuzz-targets]="agentwrit-protocol agentwrit-json agentwrit-store agentwrit-tokens agentwrit-broker agentwrit-testkit"
  [agentwrit-herd]="agentwrit-protocol agentwrit-client agentwrit-sidecar"
  [agentwrit-scale]="agentwrit-protocol agentwrit-crds agentwrit-testkit"
  [agentwrit-tests]="agentwrit-protocol agentwrit-client agentwrit-crds agentwrit-broker agentwrit-controller agentwrit-sidecar agentwrit-cli"
)
KUBE_USERS="agentwrit-crds agentwrit-controller agentwrit-attest agentwrit-scale agentwrit-tests"
# Programs that are tests themselves: nothing else may have the test kit, or the clock that a test moves.
TEST_PROGRAMS="agentwrit-testkit agentwrit-fuzz-targets"
# Programs: they alone ask the operating system for the time and for randomness (feature system of protocol).
PROGRAMS="agentwrit-broker agentwrit-controller agentwrit-sidecar agentwrit-cli agentwrit-demo agentwrit-testkit agentwrit-tests"
# protocol is the domain, and json reads it; neither does I/O.
PURE_FORBIDDEN="tokio kube k8s-openapi hyper reqwest axum rusqlite sqlx rustls socket2 mio"
SIDECAR_FORBIDDEN="kube kube-client kube-core k8s-openapi rusqlite sqlx sqlx-core libsqlite3-sys tokio-postgres opentelemetry opentelemetry-otlp axum"
# The store's traits know no database; its implementations stand beside them.
DATABASES="rusqlite libsqlite3-sys sqlx sqlx-core tokio-postgres deadpool-postgres"
NOBODY="ring rsa openssl openssl-sys native-tls"
# The programs that ship; what only makes documents is in none of them.
SHIPPED="agentwrit-broker agentwrit-controller agentwrit-sidecar agentwrit-cli"
DOCUMENTS="utoipa utoipa-gen"

listed() { [[ " $2 " == *" $1 "* ]]; }

# Direct dependencies, one "package dependency" a line, without those for tests only.
direct() {
  cargo metadata --format-version 1 --no-deps --manifest-path "$REPO/Cargo.toml" |
    jq -r '.packages[] | .name as $name | .dependencies[] | select(.kind != "dev") | "\($name) \(.name)"'
}

# Packages that have this feature of one of our crates outside their tests, one "package crate" a line.
with_feature() {
  cargo metadata --format-version 1 --no-deps --manifest-path "$REPO/Cargo.toml" |
    jq -r --arg feature "$1" '.packages[] | .name as $name | .dependencies[]
      | select(.kind != "dev" and (.name | startswith("agentwrit-")) and (.features | index($feature))) | "\($name) \(.name)"'
}

# Every crate that is built into a package on this platform, one name a line.
tree() { cargo tree --manifest-path "$REPO/Cargo.toml" -e "$1" --prefix none --format '{p}' "${@:2}" | awk '{print $1}' | sort -u; }

check_direct() {
  local package dependency
  while read -r package dependency; do
    [[ -v ALLOWED[$package] ]] || { wrong "package $package is not in the table of scripts/check-arrows.sh"; continue; }
    if [[ $dependency == agentwrit-* ]] && ! listed "$dependency" "${ALLOWED[$package]}"; then
      wrong "$package may not depend on $dependency"
    fi
    case $dependency in
      kube | kube-* | k8s-openapi) listed "$package" "$KUBE_USERS" || wrong "$package may not depend on $dependency" ;;
    esac
  done < <(direct)
}

check_test_features() {
  local package dependency
  while read -r package dependency; do
    listed "$package" "$TEST_PROGRAMS" || wrong "$package may have the feature test-util of $dependency only under dev-dependencies"
  done < <(with_feature test-util)
}

check_system_feature() {
  local package dependency
  while read -r package dependency; do
    listed "$package" "$PROGRAMS" || wrong "$package may have the feature system of $dependency only under dev-dependencies: it takes a Clock"
  done < <(with_feature system)
}

check_tree() {
  local package=$1 forbidden=$2 name
  while read -r name; do
    if listed "$name" "$forbidden"; then wrong "$package must not have $name in its tree (cargo tree -p $package -i $name)"; fi
  done < <(tree normal -p "$package")
}

check_nobody() {
  local name
  while read -r name; do
    if listed "$name" "$NOBODY"; then wrong "$name is banned: aws-lc-rs is the one crypto provider (cargo tree --workspace -i $name)"; fi
  done < <(tree normal,build,dev --workspace)
}

check_direct
check_test_features
check_system_feature
check_tree agentwrit-protocol "$PURE_FORBIDDEN"
check_tree agentwrit-json "$PURE_FORBIDDEN"
check_tree agentwrit-store "$DATABASES"
check_tree agentwrit-trail "$DATABASES"
check_tree agentwrit-retention "$DATABASES"
check_tree agentwrit-sidecar "$SIDECAR_FORBIDDEN"
for program in $SHIPPED; do check_tree "$program" "$DOCUMENTS"; done
check_nobody
((failures == 0)) || die "$failures wrong dependencies"
say "every dependency points the right way"
