# shellcheck shell=bash
# Images FROM scratch that hold one static binary, written as docker-archive files.

# buildah with its store in the cache folder; vfs needs no kernel support and our images have one layer.
buildah_here() {
  buildah --root "$AGENTWRIT_CACHE/buildah/storage" --runroot "$AGENTWRIT_CACHE/buildah/run" --storage-driver vfs "$@"
}

# image_from_binary BINARY IMAGE TAR TITLE DESCRIPTION: the binary is the entrypoint /NAME; the user is
# $IMAGE_USER; version and revision come from IMAGE_VERSION and IMAGE_REVISION. The tar appears at once or not.
image_from_binary() {
  local binary=$1 image=$2 tar=$3 title=$4 description=$5 labels
  labels=(
    "org.opencontainers.image.title=$title"
    "org.opencontainers.image.description=$description"
    "org.opencontainers.image.licenses=Apache-2.0"
    "org.opencontainers.image.version=${IMAGE_VERSION:-0.0.0}"
    "org.opencontainers.image.revision=${IMAGE_REVISION:-unknown}"
  )
  mkdir -p "$(dirname "$tar")"
  if docker_answers; then
    image_by_docker "$binary" "$image" "$tar.new"
  else
    image_by_buildah "$binary" "$image" "$tar.new"
  fi
  mv -f "$tar.new" "$tar"
}

image_by_buildah() {
  local binary=$1 image=$2 tar=$3 name container id label flags=() had_containers=
  name=$(basename "$binary")
  [[ ! -e /var/lib/containers ]] || had_containers=1
  rm -f "$tar"
  for label in "${labels[@]}"; do flags+=(--label "$label"); done
  container=$(buildah_here from scratch)
  buildah_here copy --quiet --chmod 0755 "$container" "$binary" "/$name" >/dev/null
  buildah_here config --entrypoint "[\"/$name\"]" --user "$IMAGE_USER:$IMAGE_USER" "${flags[@]}" "$container"
  id=$(buildah_here commit --quiet --timestamp 0 "$container")
  buildah_here push --quiet "$id" "docker-archive:$tar:$image"
  buildah_here rm "$container" >/dev/null
  buildah_here rmi --force "$id" >/dev/null
  # buildah keeps a small cache of blob locations there whatever its --root is.
  [[ -n $had_containers || $(id -u) != 0 ]] || rm -rf /var/lib/containers
}

# By import, not by build: it needs no builder plugin, and adds no attestations. kind loads archives by "ctr images import
# --all-platforms", and what has an attestation among its platforms can't be unpacked (containerd issue 8243).
# Nothing is left in the engine: the archive is what gets loaded.
image_by_docker() {
  local binary=$1 image=$2 tar=$3 name label changes
  name=$(basename "$binary")
  changes=(--change "ENTRYPOINT [\"/$name\"]" --change "USER $IMAGE_USER:$IMAGE_USER")
  for label in "${labels[@]}"; do changes+=(--change "LABEL ${label%%=*}=\"${label#*=}\""); done
  tar -C "$(dirname "$binary")" --owner=0 --group=0 --numeric-owner --mode=0755 --mtime=@0 -cf - "$name" |
    docker import "${changes[@]}" - "$image" >/dev/null
  docker save --output "$tar" "$image"
  docker rmi "$image" >/dev/null
}
