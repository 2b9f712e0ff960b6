#!/usr/bin/env bash
# Removes what was built in this checkout. A running cluster and the cache of Kubernetes programs stay.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

rm -rf "$REPO/target"
say "removed target/; the Kubernetes programs stay in $AGENTWRIT_CACHE, a cluster goes by make cluster-down"
