# shellcheck shell=bash
# Images FROM scratch that hold one static binary, or a folder, written as docker-archive files.

# buildah with its store in the cache folder; vfs needs no kernel support and our images have one layer.
buildah_here() {
  buildah --root "$AGENTWRIT_CACHE/buildah/storage" --runroot "$AGENTWRIT_CACHE/buildah/run" --storage-driver vfs "$@"
}

# image_from_binary BINARY IMAGE TAR TITLE DESCRIPTION: the binary is the entrypoint /NAME; the user is
# $IMAGE_USER; version and revision come from IMAGE_VERSION and IMAGE_REVISION. The tar appears at once or not.
image_from_binary() { image_of_files "$(dirname "$1")" "$(basename "$1")" "$(basename "$1")" "${@:2}"; }

# image_from_folder FOLDER ENTRYPOINT IMAGE TAR TITLE DESCRIPTION: likewise, of all that is in the folder, with its modes.
image_from_folder() { image_of_files "$1" . "${@:2}"; }

# image_of_files FOLDER WHAT ENTRYPOINT IMAGE TAR TITLE DESCRIPTION
image_of_files() {
  local folder=$1 what=$2 entrypoint=$3 image=$4 tar=$5 title=$6 description=$7 labels mode=()
  # A binary has the mode of its build, which isn't everybody's.
  [[ $what == . ]] || mode=(--mode=0755)
  labels=(
    "org.opencontainers.image.title=$title"
    "org.opencontainers.image.description=$description"
    "org.opencontainers.image.licenses=${IMAGE_LICENSES:-Apache-2.0}"
    "org.opencontainers.image.version=${IMAGE_VERSION:-0.0.0}"
    "org.opencontainers.image.revision=${IMAGE_REVISION:-unknown}"
  )
  mkdir -p "$(dirname "$tar")"
  if docker_answers; then
    image_by_docker "$image" "$tar.new"
  else
    image_by_buildah "$image" "$tar.new"
  fi
  mv -f "$tar.new" "$tar"
}

# The layer, as a tar on stdout.
layer() { tar -C "$folder" --owner=0 --group=0 --numeric-owner "${mode[@]}" --sort=name --mtime=@0 -cf - "$what"; }

image_by_buildah() {
  local image=$1 tar=$2 container id label flags=() had_containers='' layer_tar=$2.layer
  [[ ! -e /var/lib/containers ]] || had_containers=1
  rm -f "$tar"
  for label in "${labels[@]}"; do flags+=(--label "$label"); done
  layer >"$layer_tar"
  container=$(buildah_here from scratch)
  # An archive is unpacked where it is added.
  buildah_here add --quiet "$container" "$layer_tar" / >/dev/null
  rm -f "$layer_tar"
  buildah_here config --entrypoint "[\"/$entrypoint\"]" --user "$IMAGE_USER:$IMAGE_USER" "${flags[@]}" "$container"
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
  local image=$1 tar=$2 label changes
  changes=(--change "ENTRYPOINT [\"/$entrypoint\"]" --change "USER $IMAGE_USER:$IMAGE_USER")
  for label in "${labels[@]}"; do changes+=(--change "LABEL ${label%%=*}=\"${label#*=}\""); done
  layer | docker import "${changes[@]}" - "$image" >/dev/null
  docker save --output "$tar" "$image"
  docker rmi "$image" >/dev/null
}
