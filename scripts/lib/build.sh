# shellcheck shell=bash
# Static programs for the images, in one of two profiles of Cargo.toml:
#   lean     for the demo and the tests: quick to build. All programs by one call of cargo, so that each dependency is built
#            once, whichever of them a stage asks for.
#   release  what is published and what is measured: small and fast, slow to link. One package at a time, so that features
#            that another package asks for don't fatten a program; the sidecar with a profile of its own.
PROFILE=${AGENTWRIT_PROFILE:-lean}

# Shared by all checkouts of this machine, so that the dependencies are built once, not once a clone.
BUILD_DIR=${AGENTWRIT_BUILD_DIR:-$AGENTWRIT_CACHE/target}

# The linker flag needs --target, or proc-macros would be built static as well.
STATIC="-C target-feature=+crt-static"
# cargo_static PROFILE ARGUMENTS...
cargo_static() {
  local profile=$1
  shift
  (cd "$REPO" && RUSTFLAGS=$STATIC cargo build --profile "$profile" --locked --target "$IMAGE_TARGET" --target-dir "$BUILD_DIR" "$@")
}

build_binary() { cargo_static "$(profile_of "$2")" -p "$1" --bin "$2"; }

# build_together PACKAGE|BINARY...
build_together() {
  local entry arguments=()
  for entry in "$@"; do arguments+=(-p "${entry%|*}" --bin "${entry#*|}"); done
  cargo_static "$PROFILE" "${arguments[@]}"
}

profile_of() {
  if [[ $PROFILE == release && $1 == agentwrit-sidecar ]]; then echo sidecar; else echo "$PROFILE"; fi
}

# Where they are then.
built_binary() { echo "$BUILD_DIR/$IMAGE_TARGET/$(profile_of "$1")/$1"; }
