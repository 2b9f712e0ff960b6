#!/usr/bin/env bash
# Makes this machine able to build, test and demonstrate AgentWrit. Safe to repeat: what is there is skipped, and what is
# missing is named with its source before anything is installed.
#   setup.sh [--yes] [--dry-run] [PART...]   default: packages rust go node cluster checks
# packages  of Debian or Ubuntu (apt-get) or Fedora (dnf)
# rust      the toolchain of rust-toolchain.toml, by rustup
# go        what builds the Kubernetes programs
# node      for the tests with other people's clients
# cluster   the Kubernetes programs that a cluster needs, and helm
# checks    the programs that check manifests
# tools     cluster and checks
# deny      cargo-deny (three minutes; make lint asks for it)
# registry  skopeo and an image registry (the end-to-end tests ask for them)
# fuzz      cargo-fuzz, and a look for a nightly toolchain (make fuzz asks for it)
# mutants   cargo-mutants (three minutes; make mutants asks for it)
# fetch     the sources that the builds need, so that the builds themselves need no network
# --yes (or YES=1) doesn't ask. Without a terminal nothing is asked either. --dry-run only tells what is missing.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$REPO/scripts/lib/packages.sh"
# shellcheck source=scripts/lib/toolchains.sh
source "$REPO/scripts/lib/toolchains.sh"
# shellcheck source=scripts/lib/tools.sh
source "$REPO/scripts/lib/tools.sh"

PARTS=(packages rust go node cluster checks tools deny registry fuzz mutants fetch)
SELECTED=()
dry_run=
yes=${YES:-}

main() {
  local part plan next=
  while (($#)); do
    case $1 in
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" && exit 0 ;;
      *)
        [[ " ${PARTS[*]} " == *" $1 "* ]] || die -2 "unknown part \"$1\"; use ${PARTS[*]}, or nothing for all that the tests need"
        SELECTED+=("$1")
        ;;
    esac
    shift
  done
  if ((${#SELECTED[@]} == 0)); then
    SELECTED=(packages rust go node cluster checks)
    next="ready; next: make demo, or make help"
  fi
  plan=$(for part in "${SELECTED[@]}"; do plan_of "$part"; done)
  tell "$plan"
  [[ -z $dry_run ]] || return 0
  [[ -z $plan ]] || agreed || die -2 "nothing was installed"
  for part in "${SELECTED[@]}"; do install_part "$part"; done
  [[ -z $next ]] || say "$next"
}

plan_of() {
  case $1 in
    packages | rust | go | node) "plan_$1" ;;
    cluster) plan_tools "$(cluster_tools)" ;;
    checks) plan_tools "$(check_tools)" ;;
    tools) plan_of cluster && plan_of checks ;;
  esac
}

tell() {
  local what source size
  if [[ -z $1 ]]; then
    [[ -z $dry_run ]] || say "nothing is missing"
    return 0
  fi
  while IFS='|' read -r what source size; do say "missing: $what; from $source; $size"; done <<<"$1"
}

# Only a person at a terminal is asked.
agreed() {
  local answer
  [[ -z $yes && -t 0 && -t 2 ]] || return 0
  read -r -p "Install these? [Y/n] " answer || return 1
  [[ -z $answer || $answer == [Yy]* ]]
}

install_part() {
  case $1 in
    packages) packages ;;
    rust) rust ;;
    go) go_toolchain && say "Go: $(GOTOOLCHAIN=$GO_TOOLCHAIN go env GOVERSION)" ;;
    node) node_toolchain && say "Node: $(node --version)" ;;
    cluster) tools "$(cluster_tools)" ;;
    checks) tools "$(check_tools)" ;;
    tools) install_part cluster && install_part checks ;;
    deny) rust && cargo_deny ;;
    registry) unpacked_packages ;;
    fuzz) rust && cargo_fuzz ;;
    mutants) rust && cargo_mutants ;;
    fetch) fetch_sources ;;
  esac
}

main "$@"
