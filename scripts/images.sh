#!/usr/bin/env bash
# Builds the static programs agentwrit-{broker,controller,sidecar,demo} and awrit and, from them, the images.
#   images.sh [--release] build [BINARY...]   programs only: target/lean/NAME, or target/release/NAME
#   images.sh [--release]                     programs and target/images/NAME.tar; loads them into the cluster if one is up
#   images.sh load                            load the images that exist into the cluster
# Without --release they are built the quick way, for the demo and the tests; scripts/lib/build.sh tells the difference.
set -euo pipefail
SCRIPT_NAME=images
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/image.sh
source "$REPO/scripts/lib/image.sh"
# shellcheck source=scripts/lib/build.sh
source "$REPO/scripts/lib/build.sh"

IMAGE_DIR=$REPO/target/images
# Only this machine's own: in any other registry, and none means Docker Hub, somebody else could hold the name.
IMAGE_REGISTRY=localhost

LEAN_ROUGH="about 4 min on two cores"

# package|binary|image (- for none)|user|title|description
PRODUCTS=(
  "agentwrit-broker|agentwrit-broker|agentwrit-broker|65532|AgentWrit broker|Issues, renews and revokes the tokens of agents"
  "agentwrit-controller|agentwrit-controller|agentwrit-controller|65532|AgentWrit controller|Reconciles AgentApps and LaunchTokens, injects sidecars"
  "agentwrit-sidecar|agentwrit-sidecar|agentwrit-sidecar|64512|AgentWrit sidecar|Gets, renews and releases the token of its pod"
  "agentwrit-demo|agentwrit-demo|agentwrit-demo|65532|AgentWrit demo|A protected service and a client of it"
  "agentwrit-cli|awrit|-|-|-|-"
)

# build [BINARY...]: all of them, or these.
build() {
  local entry package binary known=" " wanted
  for entry in "${PRODUCTS[@]}"; do known+="$(cut -d'|' -f2 <<<"$entry") "; done
  for wanted in "$@"; do
    [[ $known == *" $wanted "* ]] || die -2 "unknown binary \"$wanted\"; use one of:$known"
  done
  mkdir -p "$REPO/target/$PROFILE" "$REPO/target/log"
  if [[ $PROFILE == release ]]; then build_one_by_one "$@"; else build_all; fi
}

build_all() {
  local entry package binary both=()
  for entry in "${PRODUCTS[@]}"; do
    IFS='|' read -r package binary _ <<<"$entry"
    both+=("$package|$binary")
  done
  ROUGH=$([[ -d $BUILD_DIR/$IMAGE_TARGET/$PROFILE ]] || echo "$LEAN_ROUGH") \
    run_step "Rust programs" "$REPO/target/log/build-$PROFILE.log" build_together "${both[@]}"
  for entry in "${PRODUCTS[@]}"; do
    IFS='|' read -r _ binary _ <<<"$entry"
    place "$binary"
  done
}

build_one_by_one() {
  local entry package binary
  for entry in "${PRODUCTS[@]}"; do
    IFS='|' read -r package binary _ <<<"$entry"
    (($# == 0)) || [[ " $* " == *" $binary "* ]] || continue
    run_step "$binary" "$REPO/target/log/build-$binary.log" build_binary "$package" "$binary"
    place "$binary"
  done
}

place() { cp --remove-destination --reflink=auto "$(built_binary "$1")" "$REPO/target/$PROFILE/$1"; }

# image_of BINARY-FILE NAME USER TITLE DESCRIPTION: target/images/NAME.tar, unless its binary is the same as then.
image_of() {
  local file=$1 image=$IMAGE_REGISTRY/$2:dev user=$3 title=$4 description=$5 tar=$IMAGE_DIR/$2.tar hash begin=$SECONDS
  hash=$({ sha256sum <"$file"; echo "$image $user $title $description $IMAGE_VERSION"; } | sha256sum | cut -d' ' -f1)
  if [[ -f $tar && $(cat "$tar.hash" 2>/dev/null) == "$hash" ]]; then
    say "$image: unchanged"
    return 0
  fi
  IMAGE_USER=$user image_from_binary "$file" "$image" "$tar" "$title" "$description"
  printf '%s\n' "$hash" >"$tar.hash"
  say "$image: $(($(stat -c %s "$tar") / 1024)) KiB ($((SECONDS - begin)) s)"
}

make_images() {
  local entry package binary name user title description
  IMAGE_VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$REPO/Cargo.toml")
  IMAGE_REVISION=$(git -C "$REPO" rev-parse HEAD 2>/dev/null || echo unknown)
  # So that nobody takes a quick build for a release.
  [[ $PROFILE == release ]] || IMAGE_VERSION+=+$PROFILE
  export IMAGE_VERSION IMAGE_REVISION
  mkdir -p "$IMAGE_DIR"
  for entry in "${PRODUCTS[@]}"; do
    IFS='|' read -r package binary name user title description <<<"$entry"
    [[ $name != - ]] || continue
    image_of "$REPO/target/$PROFILE/$binary" "$name" "$user" "$title" "$description"
  done
}

# The node keeps the hash of what was loaded last in its state folder: loading twice costs nothing.
load() {
  local tar loaded tars=()
  eval "$("$REPO/scripts/cluster.sh" env)"
  loaded=$(dirname "$KUBECONFIG")/images
  mkdir -p "$loaded"
  for tar in "$IMAGE_DIR"/*.tar; do
    [[ -f $tar ]] || die -2 "there are no images in $IMAGE_DIR; run make images"
    cmp -s "$tar.hash" "$loaded/$(basename "$tar").hash" || tars+=("$tar")
  done
  ((${#tars[@]})) || { say "the node has these images already"; return 0; }
  "$REPO/scripts/cluster.sh" load-image "${tars[@]}"
  for tar in "${tars[@]}"; do cp "$tar.hash" "$loaded/"; done
}

if [[ ${1:-} == --release ]]; then
  PROFILE=release
  shift
fi
case ${1:-all} in
  build) build "${@:2}" ;;
  load) load ;;
  all)
    build
    make_images
    if "$REPO/scripts/cluster.sh" status >/dev/null 2>&1; then load; fi
    ;;
  *) die -2 "unknown part \"$1\"; use build, load, or nothing for everything" ;;
esac
