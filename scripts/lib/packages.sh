# shellcheck shell=bash
# Packages of the distribution: by apt-get on Debian and Ubuntu, by dnf on Fedora.

# C compiler and library: linking, the pause image; cmake: aws-lc-sys; runc, CNI plugins, iptables, nftables,
# conntrack, iproute: the test node; buildah: images; openssl: its certificates; jq, shellcheck: lint and tests;
# postgresql: the server that the tests of its store start themselves, on data folders of their own;
# Python with venv: the tests with other people's clients, and Go or Node where their own sites can't be reached.
DEBIAN_PACKAGES=(
  build-essential cmake curl ca-certificates git jq make openssl procps util-linux shellcheck python3 python3-venv
  runc containernetworking-plugins iptables nftables iproute2 conntrack buildah
  postgresql
)
FEDORA_PACKAGES=(
  gcc gcc-c++ glibc-devel glibc-static cmake curl ca-certificates git jq make openssl procps-ng util-linux ShellCheck python3 python3-pip
  runc containernetworking-plugins iptables-nft nftables iproute conntrack-tools buildah
  postgresql-server
  gawk diffutils findutils tar gzip hostname which
)

# Where a Docker engine answers, kind is the node and the engine makes the images. And Docker's own packages (containerd.io)
# conflict with the distribution's runc: apt-get would have to remove Docker.
NODE_ONLY=" runc containernetworking-plugins iptables iptables-nft nftables conntrack conntrack-tools buildah "

# wanted_packages NAME...: those of them that this machine needs, one a line.
wanted_packages() {
  local name node=1
  if docker_answers; then node=; fi
  for name in "$@"; do
    [[ -z $node && $NODE_ONLY == *" $name "* ]] || printf '%s\n' "$name"
  done
}

# how_many NUMBER WORD
how_many() { if (($1 == 1)); then echo "1 $2"; else echo "$1 $2s"; fi; }

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi
}

# apt, dnf, or nothing.
package_manager() {
  if command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1; then
    echo apt
  elif command -v dnf >/dev/null 2>&1 && command -v rpm >/dev/null 2>&1; then
    echo dnf
  fi
}

# What of the list is not installed, one a line.
missing_packages() {
  local name
  case $(package_manager) in
    apt)
      for name in $(wanted_packages "${DEBIAN_PACKAGES[@]}"); do
        # shellcheck disable=SC2016 # dpkg-query expands it, not the shell
        [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null) == ii* ]] || echo "$name"
      done
      ;;
    dnf)
      # --whatprovides: Fedora's curl may be curl-minimal.
      for name in $(wanted_packages "${FEDORA_PACKAGES[@]}"); do
        rpm -q --quiet --whatprovides "$name" >/dev/null 2>&1 || echo "$name"
      done
      ;;
  esac
}

plan_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} == 0)) || printf '%s|%s|%s\n' "$(how_many ${#missing[@]} package) (${missing[*]})" "$(package_source)" "up to 250 MB, 1 to 2 min"
}

package_source() { if [[ $(package_manager) == apt ]]; then echo "apt-get"; else echo "dnf"; fi; }

packages() {
  local missing
  if [[ -z $(package_manager) ]]; then
    say "neither apt-get nor dnf is here; please install by hand what is missing of: ${DEBIAN_PACKAGES[*]}"
    return 0
  fi
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then
    say "packages of the distribution: all there"
    return 0
  fi
  if [[ $(id -u) != 0 ]] && ! sudo -n true 2>/dev/null; then
    die -2 "these packages are missing and installing them needs root: ${missing[*]}"
  fi
  mkdir -p "$AGENTWRIT_CACHE/log"
  install_packages packages "${missing[@]}"
}

# install_packages LOG-NAME PACKAGE...
install_packages() {
  local log=$AGENTWRIT_CACHE/log/$1
  shift
  if [[ $(package_manager) == apt ]]; then
    KIND=download run_step "package lists (apt-get update)" "$log-lists.log" as_root apt-get update -q
    KIND=download ROUGH="1 to 2 min" run_step "$(how_many $# package) by apt-get" "$log.log" \
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove "$@"
  else
    KIND=download ROUGH="1 to 2 min" run_step "$(how_many $# package) by dnf" "$log.log" \
      as_root dnf install -y --setopt=install_weak_deps=False "$@"
  fi
}

# Programs of Debian packages that are not installed, because installing docker-registry starts a service.
# They are taken out of the packages into $TOOLS_BIN, unless they are on the PATH.
UNPACKED_PACKAGES=(skopeo docker-registry)

unpacked_packages() {
  local name missing=() folder
  for name in "${UNPACKED_PACKAGES[@]}"; do
    [[ -x $TOOLS_BIN/$name ]] || command -v "$name" >/dev/null 2>&1 || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  [[ $(package_manager) == apt ]] ||
    die -2 "this is not Debian or Ubuntu; the end-to-end tests need on the PATH: ${missing[*]}"
  folder=$(mktemp -d)
  mkdir -p "$AGENTWRIT_CACHE/log" "$TOOLS_BIN"
  # The lists of packages may be older than what the mirror still has.
  (cd "$folder" && apt-get download -q "${missing[@]}") >"$AGENTWRIT_CACHE/log/apt-download.log" 2>&1 ||
    (as_root apt-get update -q && cd "$folder" && apt-get download -q "${missing[@]}") >>"$AGENTWRIT_CACHE/log/apt-download.log" 2>&1 ||
    die "no package ${missing[*]}: see $AGENTWRIT_CACHE/log/apt-download.log"
  for name in "${missing[@]}"; do
    dpkg-deb --extract "$folder/${name}"_*.deb "$folder/$name"
    install -m 0755 "$folder/$name/usr/bin/$name" "$TOOLS_BIN/$name"
  done
  rm -rf "$folder"
  say "taken out of Debian packages: ${missing[*]}"
}
