#!/usr/bin/env bash
# Removes what was built in this checkout. A running cluster and the cache of programs and packages stay.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

rm -rf "$REPO/target" "$REPO"/tests/interop/*/node_modules
say "removed target/; Kubernetes programs and Python packages stay in $AGENTWRIT_CACHE, a cluster goes by make cluster-down"
