#!/usr/bin/env bash
# Everything that can be checked without running the product. All checks run; the exit status is 1 if any failed.
#   lint.sh [--full]   --full also builds each library alone, which is four minutes more (make test-full)
set -euo pipefail
SCRIPT_NAME=lint
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"
[[ -z ${1:-} || $1 == --full ]] || die -2 "unknown argument \"$1\"; use --full or none"
PATH=$TOOLS_BIN:$PATH
LOG=$REPO/target/log
passed=0
failed=0

check() {
  local title=$1 name=$2
  shift 2
  if run_step "$title" "$LOG/lint-$name.log" "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }

# Features that another crate asks for must not be what makes a library compile. The binaries are built
# one by one for their images. Each combination of features builds other crates anew, so every run checks only the two
# that all others stand on.
libraries_alone() {
  local package
  for package in "$@"; do cargo check --locked -p "$package"; done
}
ALONE=(agentwrit-protocol agentwrit-limits)
ALONE_IN_FULL=(agentwrit-server agentwrit-client agentwrit-crds agentwrit-tokens agentwrit-attest agentwrit-store agentwrit-trail agentwrit-store-sqlite agentwrit-store-postgres agentwrit-retention agentwrit-json agentwrit-logging)

shell_scripts() {
  local files=()
  mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.sh' '.ci/*')
  shellcheck -x "${files[@]}"
}

# A step that holds its lines back would make them wait for ever.
scripts_tests() {
  local test status=0
  for test in setup progress rollout kind; do timeout 60 bash "tests/scripts/$test.sh" || status=$?; done
  return "$status"
}

# One place for the tests of a module (CONTRIBUTING.md), and names of tests that can be read at once.
tests_in_order() {
  local wrong=0 file
  if git grep -nE '^ *#\[path\b' -- '*.rs'; then echo "no #[path]: a module is where its name says"; wrong=1; fi
  if git ls-files '*_tests.rs' | grep .; then echo "tests of foo.rs are in foo.rs or in foo/tests.rs"; wrong=1; fi
  while read -r file; do
    if (($(wc -l <"$file") > 450)); then echo "$file: over 450 lines with its tests; move them into ${file%.rs}/tests.rs"; wrong=1; fi
  done < <(git grep -lE '^mod tests \{' -- '*.rs')
  if git grep -nE '^ *((async )?fn|def) [a-z0-9_]{61,}' -- '*.rs' 'tests/*.py'; then echo "names have at most 60 characters"; wrong=1; fi
  return "$wrong"
}

documented_commands() { cargo build --quiet --locked -p agentwrit-cli && python3 scripts/docs-commands.py; }

generated_crds() { cargo run --quiet --locked -p agentwrit-crds --bin generate-crds -- --check; }

licences_bans_sources() { cargo-deny --offline check bans licenses sources; }

advisories() {
  if GIT_TERMINAL_PROMPT=0 timeout 8 git ls-remote --heads https://github.com/RustSec/advisory-db >/dev/null 2>&1; then
    check "advisories" advisories cargo-deny check advisories
  else
    say "advisories: skipped, the advisory database is out of reach from here"
  fi
}

mkdir -p "$LOG"
"$REPO/scripts/setup.sh" deny
check "dependencies fetched" fetch cargo fetch --locked --target "$IMAGE_TARGET"
check "formatting" fmt cargo fmt --all --check
check "shell scripts (shellcheck)" shell shell_scripts
check "tests of the scripts" scripts scripts_tests
check "where tests are, and their names" tests tests_in_order
check "dependency arrows" arrows scripts/check-arrows.sh
check "licences, bans, sources (cargo-deny)" deny licences_bans_sources
advisories
check "clippy, all targets" clippy cargo clippy --locked --workspace --all-targets -- -D warnings
check "libraries build alone" alone libraries_alone "${ALONE[@]}"
if [[ ${1:-} == --full ]]; then check "further libraries build alone" alone-full libraries_alone "${ALONE_IN_FULL[@]}"; fi
check "documentation" doc documentation
check "generated CRDs are current" crds generated_crds
check "chart and examples (helm lint, kubeconform)" chart scripts/chart-check.sh offline
check "files named in the documents" files python3 scripts/docs-files.py
check "commands in the documents" commands documented_commands
say "$passed passed, $failed failed"
((failed == 0))
