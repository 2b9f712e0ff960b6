#!/usr/bin/env bash
# Writes every generated file: the CRDs' YAML and reference pages, docs/openapi.json, and the tables of docs/{metrics,refusals,cli}.md.
#   generate.sh          writes them
#   generate.sh --check  writes them, and fails with their names if one was not current
set -euo pipefail
SCRIPT_NAME=generate
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"

FILES=(crds/agentapps.yaml crds/launchtokens.yaml docs/reference/agentapp.md docs/reference/launchtoken.md helm/agentwrit/templates/crds docs/openapi.json docs/metrics.md docs/refusals.md docs/cli.md)
# The tests that compare a page with its source, and write it when UPDATE_DOCS is set. With the flags of `make test`, so
# that nothing is built twice.
TESTS=(the_committed_document_is_current the_page_of_refusals_lists_every_kind
  every_request_moves_its_metrics_and_every_metric_is_moved the_page_of_commands_is_what_they_say)

hashes() { find "${FILES[@]}" -type f -exec sha256sum {} + | sort -k2; }

case ${1:-} in
  "" | --check) ;;
  -h | --help) sed -n '2,4s/^# //p' "$0" && exit 0 ;;
  *) die -2 "unknown argument \"$1\"; use --check or nothing" ;;
esac

before=$(hashes)
say "the CRDs' YAML"
cargo run --quiet --locked -p agentwrit-crds --bin generate-crds
say "pages of docs/ (builds the tests first)"
UPDATE_DOCS=1 cargo test --quiet --locked --workspace --exclude agentwrit-tests \
  --test openapi --test docs --test api --test cli -- "${TESTS[@]}" >/dev/null
mapfile -t changed < <(diff <(echo "$before") <(hashes) | awk '/^>/ {print $3}')
((${#changed[@]})) || { say "all were current"; exit 0; }
say "written: ${changed[*]}"
[[ ${1:-} != --check ]] || die "these files were not current; commit what was written"
