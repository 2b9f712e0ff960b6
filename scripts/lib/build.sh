# shellcheck shell=bash
# Static release binaries, one package at a time.

# Shared by all checkouts of this machine, so that the dependencies are built for release once, not once a clone.
BUILD_DIR=${AGENTWRIT_BUILD_DIR:-$AGENTWRIT_CACHE/target}

# One package at a time: features that another package asks for must not fatten this binary. The linker
# flag needs --target, or proc-macros would be built static as well.
STATIC="-C target-feature=+crt-static"
build_binary() {
  local package=$1 binary=$2
  (cd "$REPO" && RUSTFLAGS=$STATIC cargo build --profile "$(profile_of "$binary")" --locked --target "$IMAGE_TARGET" \
    --target-dir "$BUILD_DIR" -p "$package" --bin "$binary")
}

# Cargo.toml tells why the sidecar has a profile of its own.
profile_of() {
  if [[ $1 == agentwrit-sidecar ]]; then echo sidecar; else echo release; fi
}

# Where build_binary has put it.
built_binary() { echo "$BUILD_DIR/$IMAGE_TARGET/$(profile_of "$1")/$1"; }
