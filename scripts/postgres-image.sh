#!/usr/bin/env bash
# Makes the image localhost/agentwrit-postgres:dev for the tests on the node: the server of this machine's Debian package
# postgresql, with what it needs and nothing else, as target/images/agentwrit-postgres.tar. Loads it into the cluster if one is up.
#   postgres-image.sh          again: says that it is unchanged
#   postgres-image.sh folder   only the image's files, in target/postgres-image
# What it does when it starts: tests/cluster/postgres/entrypoint.sh
set -euo pipefail
SCRIPT_NAME=postgres-image
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/image.sh
source "$REPO/scripts/lib/image.sh"

IMAGE=localhost/agentwrit-postgres:dev
TAR=$REPO/target/images/agentwrit-postgres.tar
ROOT=$REPO/target/postgres-image
ENTRYPOINT=$REPO/tests/cluster/postgres/entrypoint.sh
IMAGE_USER=65532
PROGRAMS=(postgres initdb pg_ctl psql pg_isready)
# What initdb and the entrypoint run besides: initdb starts the server by /bin/sh.
TOOLS=(/bin/sh /bin/mv /bin/rm)

main() {
  case ${1:-} in
    '' | folder) ;;
    *) die -2 "unknown argument \"$1\"; use folder, or nothing for the image" ;;
  esac
  find_server
  if [[ ${1:-} == folder ]]; then
    files
    say "$ROOT: PostgreSQL $VERSION"
    return
  fi
  make_image
  if "$REPO/scripts/cluster.sh" status >/dev/null 2>&1; then "$REPO/scripts/images.sh" load; fi
}

# The latest version that is installed.
find_server() {
  local found=(/usr/lib/postgresql/*/bin/postgres)
  mapfile -t found < <(printf '%s\n' "${found[@]}" | sort -V)
  [[ -x ${found[-1]} ]] || die -2 "there is no /usr/lib/postgresql/VERSION/bin/postgres: install the package postgresql (apt-get install postgresql)"
  BIN=$(dirname "${found[-1]}")
  MAJOR=$(basename "$(dirname "$BIN")")
  VERSION=$("$BIN/postgres" --version | awk '{print $3}')
}

make_image() {
  local hash begin=$SECONDS
  hash=$({ "$BIN/postgres" --version; cat "$ENTRYPOINT" "${BASH_SOURCE[0]}"; ldd "$BIN/postgres" "$BIN/psql" | awk '$2 == "=>" {print $3}' | xargs sha256sum; } | sha256sum | cut -d' ' -f1)
  if [[ -f $TAR && $(cat "$TAR.hash" 2>/dev/null) == "$hash" ]]; then
    say "$IMAGE: unchanged"
    return 0
  fi
  files
  IMAGE_USER=$IMAGE_USER IMAGE_VERSION=$VERSION IMAGE_LICENSES=PostgreSQL \
    image_from_folder "$ROOT" entrypoint "$IMAGE" "$TAR" "PostgreSQL for tests" "The server of Debian's package postgresql-$MAJOR"
  rm -rf "$ROOT"
  printf '%s\n' "$hash" >"$TAR.hash"
  say "$IMAGE: PostgreSQL $VERSION, $(($(stat -c %s "$TAR") / 1024)) KiB ($((SECONDS - begin)) s)"
}

# copy FILE...: to the same place in the image; a link becomes what it leads to.
copy() {
  local file
  for file in "$@"; do install -D --mode "$(stat -L -c %a "$file")" "$file" "$ROOT$file"; done
}

# The programs, their libraries, and the data that they open by name.
files() {
  local library=/usr/lib/postgresql/$MAJOR/lib share=/usr/share/postgresql/$MAJOR name module
  rm -rf "$ROOT"
  mkdir -p "$ROOT"/{bin,etc,init,run,usr/bin,var/lib/postgresql} "$ROOT/tmp"
  chmod 1777 "$ROOT/tmp"
  copy "${TOOLS[@]}"
  for name in "${PROGRAMS[@]}"; do
    copy "$BIN/$name"
    ln -s "$BIN/$name" "$ROOT/usr/bin/$name"
  done
  # Without the compiler of queries, whose LLVM is larger than all the rest.
  for module in "$library"/*.so; do
    [[ $(basename "$module") == llvmjit*.so ]] || copy "$module"
  done
  mkdir -p "$ROOT$share"
  tar -C "$share" --exclude=./man --exclude='*.sql.gz' -cf - . | tar -C "$ROOT$share" -xf -
  # The package's files of words are links to folders that it does not bring.
  find "$ROOT$share" -xtype l -delete
  mkdir -p "$ROOT/usr/share" "$ROOT/usr/lib/locale"
  cp -rL /usr/share/zoneinfo "$ROOT/usr/share/"
  cp -r /usr/lib/locale/C.utf8 "$ROOT/usr/lib/locale/"
  libraries
  # A process wants to know its name.
  printf 'postgres:x:%s:%s::/var/lib/postgresql:/bin/sh\n' "$IMAGE_USER" "$IMAGE_USER" >"$ROOT/etc/passwd"
  printf 'postgres:x:%s:\n' "$IMAGE_USER" >"$ROOT/etc/group"
  install --mode 0755 "$ENTRYPOINT" "$ROOT/entrypoint"
}

# What ldd finds for all that is there, the loader included.
libraries() {
  local found
  mapfile -t found < <(
    find "$ROOT" -type f \( -perm -u+x -o -name '*.so*' \) -exec ldd {} + 2>/dev/null |
      awk '$2 == "=>" && $3 ~ "^/" {print $3} $1 ~ "^/" && $2 ~ "^\\(" {print $1}' | sort -u
  )
  ((${#found[@]})) || die "ldd found no libraries of $BIN/postgres"
  copy "${found[@]}"
}

main "$@"
