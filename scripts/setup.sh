#!/usr/bin/env bash
# Makes this machine able to build, test and demonstrate AgentWrit. Safe to repeat: what is there is skipped.
#   setup.sh           Debian packages, toolchains, the Kubernetes programs
#   setup.sh packages  only the Debian packages
#   setup.sh tools     only the Kubernetes programs
#   setup.sh deny      only cargo-deny (three minutes; `make lint` asks for it)
#   setup.sh registry  only skopeo and an image registry (the end-to-end tests ask for them)
#   setup.sh fuzz      only cargo-fuzz and a look for a nightly toolchain (`make fuzz` asks for it)
#   setup.sh mutants   only cargo-mutants (three minutes; `make mutants` asks for it)
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$REPO/scripts/lib/packages.sh"
# shellcheck source=scripts/lib/tools.sh
source "$REPO/scripts/lib/tools.sh"

case ${1:-all} in
  all) packages && rust_toolchain && tools && say "ready; next: make demo, or make help" ;;
  packages) packages ;;
  tools) tools ;;
  deny) rust_toolchain && cargo_deny ;;
  registry) unpacked_packages ;;
  fuzz) rust_toolchain && cargo_fuzz ;;
  mutants) rust_toolchain && cargo_mutants ;;
  *) die -2 "unknown part \"$1\"; use packages, tools, deny, registry, fuzz, mutants, or nothing for packages and tools" ;;
esac
