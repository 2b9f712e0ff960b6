#!/usr/bin/env bash
# Runs every fuzz target for a while under libFuzzer and prints a table; the exit code is 1 if one found something.
#   fuzz.sh [TARGET...]         of: the files of tests/fuzz/cargo-fuzz/fuzz_targets (default: all)
#   fuzz.sh merge [TARGET...]   no fuzzing: takes what was found into tests/fuzz/corpus: the 50 of each that reach most
# FUZZ_SECONDS=60            for each target
# FUZZ_SANITIZER=address     or none, which is faster
# FUZZ_TOOLCHAIN=nightly     a toolchain that knows -Zsanitizer
# New inputs are kept in target/fuzz; findings in tests/fuzz/cargo-fuzz/artifacts, with the command that shows them again.
set -euo pipefail
SCRIPT_NAME=fuzz
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
cd "$REPO"
SECONDS_EACH=${FUZZ_SECONDS:-60}
SANITIZER=${FUZZ_SANITIZER:-address}
TOOLCHAIN=${FUZZ_TOOLCHAIN:-nightly}
WORK=$REPO/target/fuzz
FUZZ=$REPO/tests/fuzz
LOG=$REPO/target/log
# Longest input, bytes: what is longer is refused by its length alone, which tests look at.
MAX_LENGTH=4096
PATH=$AGENTWRIT_CACHE/bin:$PATH

main() {
  local merge='' target failed=0
  [[ ${1:-} != --help ]] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; return 0; }
  [[ $SECONDS_EACH =~ ^[1-9][0-9]*$ ]] || die -2 "FUZZ_SECONDS=$SECONDS_EACH must be a whole number of seconds from 1"
  if [[ ${1:-} == merge ]]; then merge=1; shift; fi
  mapfile -t all < <(find "$FUZZ/cargo-fuzz/fuzz_targets" -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort)
  local selected=("$@")
  (($#)) || selected=("${all[@]}")
  for target in "${selected[@]}"; do
    [[ " ${all[*]} " == *" $target "* ]] || die -2 "unknown target \"$target\"; use ${all[*]}"
  done
  "$REPO/scripts/setup.sh" fuzz
  mkdir -p "$WORK" "$LOG"
  build
  if [[ $merge ]]; then
    for target in "${selected[@]}"; do merge "$target"; done
    return 0
  fi
  printf '%-12s %10s %8s %8s %8s  %s\n' target execs execs/s edges inputs found
  for target in "${selected[@]}"; do
    fuzz "$target" || failed=$((failed + 1))
  done
  ((failed == 0)) || die "$failed targets found something"
}

# cargo-fuzz with our places; the versions are those of the product.
run_cargo_fuzz() {
  local command=$1
  shift
  CARGO_TARGET_DIR=$AGENTWRIT_CACHE/fuzz-target cargo "+$TOOLCHAIN" fuzz "$command" --fuzz-dir "$FUZZ/cargo-fuzz" \
    --sanitizer "$SANITIZER" "$@"
}

build() {
  cp Cargo.lock "$FUZZ/cargo-fuzz/Cargo.lock"
  run_step "targets built" "$LOG/fuzz-build.log" run_cargo_fuzz build
}

# The folders of a target's inputs: what this machine found, and what is committed.
folders() {
  mkdir -p "$WORK/$1" "$FUZZ/corpus/$1" "$FUZZ/seeds/$1"
  printf '%s\n' "$WORK/$1" "$FUZZ/corpus/$1" "$FUZZ/seeds/$1"
}

fuzz() {
  local target=$1 log=$LOG/fuzz-$1.log inputs options status=0 last found=nothing
  mapfile -t inputs < <(folders "$target")
  mapfile -t options < <(options_of "$target")
  run_cargo_fuzz run "$target" "${inputs[@]}" -- -max_total_time="$SECONDS_EACH" -max_len="$MAX_LENGTH" \
    -dict="$FUZZ/dictionary.txt" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 "${options[@]}" >"$log" 2>&1 || status=$?
  last=$(grep -E '^#[0-9]+.*cov: ' "$log" | tail -n 1)
  if ((status)); then found="see $log"; fi
  printf '%-12s %10s %8s %8s %8s  %s\n' "$target" "$(stat_of "$log" number_of_executed_units)" \
    "$(stat_of "$log" average_exec_per_sec)" "$(field "$last" cov)" "$(field "$last" corp | cut -d/ -f1)" "$found"
  if ((status)); then
    grep -E 'panicked at|SUMMARY|ERROR: libFuzzer|Test unit written|cargo fuzz run' -A 1 "$log" | sed 's/^/    /' >&2
  fi
  return "$status"
}

# What keeps libFuzzer itself from taking the time.
options_of() {
  # Names of new functions: the symbolizer reads 200 MB for each.
  echo -print_funcs=0
  case $1 in
    audit_query | bodies | requests)
      # A broker lives from input to input and grows, which looks like a leak: each input would run twice, and all
      # memory be searched. Rare features are looked for again at each of the many new inputs.
      printf '%s\n' -detect_leaks=0 -entropic=0
      ;;
  esac
}

stat_of() { sed -n "s/^stat::$2: *//p" "$1"; }
field() { sed -n "s/.* $2: \([^ ]*\).*/\1/p" <<<"$1"; }

# The inputs, of all that are known, that reach most beside the seeds, as many as tests/fuzz/pick.py keeps.
merge() {
  local target=$1 work=$WORK/merge-$1 inputs
  mapfile -t inputs < <(folders "$target")
  rm -rf "$work"
  mkdir -p "$work/merged"
  run_step "$target merged" "$LOG/fuzz-merge-$target.log" \
    run_cargo_fuzz run "$target" "$work/merged" "${inputs[@]}" -- -set_cover_merge=1 -merge_control_file="$work/control" \
    -max_len="$MAX_LENGTH" -timeout=10 -rss_limit_mb=4096
  say "$("$FUZZ/pick.py" "$work/control" "$FUZZ/seeds/$target" "$FUZZ/corpus/$target")"
  rm -rf "$work"
}

main "$@"
