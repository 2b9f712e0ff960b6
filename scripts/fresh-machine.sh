#!/usr/bin/env bash
# Proves that a machine with nothing on it needs nothing but our commands: makes a minimal Debian with debootstrap, copies
# a clean clone of HEAD in, lets scripts/setup.sh bring what is missing, and builds and runs a first program of each language.
# It ends with a table of what was missing, where it came from, and how long that took.
#   fresh-machine.sh [--suite NAME] [--mirror URL] [--no-programs] [--folder FOLDER] [--keep]
# --no-programs   ends when everything is installed, before the first program is built (3 minutes)
# --suite   bookworm (default), trixie, or an Ubuntu's name with its --mirror
# --folder  where to make it (default: a new folder under /var/tmp; 6 GB); --keep leaves it there
# It needs root on Linux, and takes some 6 minutes. This machine stays as it is: everything happens in a mount namespace of
# its own, whose mounts end with it. The settings by which this machine reaches registries (certificates, proxies, mirrors)
# are taken along; toolchains and caches are not.
set -euo pipefail
SCRIPT_NAME=fresh-machine
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

SUITE=bookworm
MIRROR=http://deb.debian.org/debian
FOLDER=
KEEP=
PROGRAMS=1

main() {
  while (($#)); do
    case $1 in
      -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" && exit 0 ;;
      --suite) SUITE=${2:?--suite needs a name} && shift ;;
      --mirror) MIRROR=${2:?--mirror needs a URL} && shift ;;
      --folder) FOLDER=${2:?--folder needs a path} && shift ;;
      --no-programs) PROGRAMS= ;;
      --keep) KEEP=1 ;;
      *) die -2 "unknown argument \"$1\"; see --help" ;;
    esac
    shift
  done
  [[ $(uname -s) == Linux && $(id -u) == 0 ]] || die -2 "this needs root on Linux: it makes a Debian in a folder and enters it"
  command -v debootstrap >/dev/null 2>&1 || die -2 "no debootstrap found; install it by: apt-get install debootstrap"
  FOLDER=${FOLDER:-$(mktemp -d /var/tmp/agentwrit-fresh.XXXXXX)}
  mkdir -p "$FOLDER"
  [[ -z $(ls -A "$FOLDER") ]] || die -2 "$FOLDER is not empty"
  trap clean EXIT
  mkdir -p "$REPO/target/log"
  ROUGH="1 min" run_step "minimal $SUITE from $MIRROR" "$REPO/target/log/debootstrap.log" \
    apart debootstrap --variant=minbase "$SUITE" "$FOLDER" "$MIRROR"
  take_settings_along
  clone
  # shellcheck disable=SC2016 # for the inner shell
  apart bash -c 'mount -t proc proc "$1/proc" && exec chroot "$1" env -i "${@:2}" bash /root/agentwrit/scripts/lib/fresh-inside.sh' \
    inside "$FOLDER" "${SETTINGS[@]}"
}

# Its mounts are seen by nobody else, and end with it; so do its processes.
apart() { unshare --mount --pid --fork --kill-child "$@"; }

clean() {
  local status=$?
  if [[ -n $KEEP ]]; then
    say "left in $FOLDER"
  elif grep -q " $FOLDER" /proc/mounts; then
    say "something is mounted in $FOLDER, so it is left as it is" >&2
  else
    rm -rf --one-file-system "$FOLDER"
  fi
  exit "$status"
}

# How this machine reaches registries: names, certificates, configuration files, variables. Nothing that says who somebody is.
take_settings_along() {
  local file name
  cp /etc/resolv.conf /etc/hosts "$FOLDER/etc/"
  mkdir -p "$FOLDER/usr/local/share/ca-certificates"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$FOLDER/usr/local/share/ca-certificates" {} +
  grep -rlE '^(Acquire::|//)' /etc/apt/apt.conf.d 2>/dev/null | while read -r file; do
    ! grep -qE '^Acquire::(Check|https?::)' "$file" || cp "$file" "$FOLDER/etc/apt/apt.conf.d/"
  done
  for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.cargo/config.toml"; do
    [[ ! -f $file ]] || { mkdir -p "$FOLDER$(dirname "${file/#$HOME//root}")" && cp "$file" "$FOLDER${file/#$HOME//root}"; }
  done
  SETTINGS=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "TERM=${TERM:-dumb}" "PROGRAMS=$PROGRAMS")
  for name in $(compgen -e); do
    case $name in
      *_CA_BUNDLE | SSL_CERT_* | PIP_CERT | PIP_INDEX_URL | PIP_DEFAULT_TIMEOUT | NODE_EXTRA_CA_CERTS | GIT_SSL_CAINFO | *_proxy | *_PROXY | \
        GOPROXY | GOSUMDB | RUSTUP_DIST_SERVER | RUSTUP_UPDATE_ROOT | CARGO_HTTP_* | CARGO_REGISTRIES_* | NPM_CONFIG_REGISTRY | NPM_CONFIG_CAFILE | npm_config_registry)
        SETTINGS+=("$name=${!name}") ;;
    esac
  done
}

clone() {
  [[ -z $(git -C "$REPO" status --porcelain) ]] || say "what is not committed stays out: HEAD is copied"
  git clone --quiet --depth 1 "file://$REPO" "$FOLDER/root/agentwrit"
}

main "$@"
