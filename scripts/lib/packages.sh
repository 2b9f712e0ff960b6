# shellcheck shell=bash
# Debian packages and the Rust toolchain.

# gcc, libc6-dev: the pause image, linking; cmake: aws-lc-sys; runc, CNI plugins, iptables, nftables,
# conntrack, iproute2: the test node; buildah: images; openssl: its certificates; jq, shellcheck: lint and tests;
# python3-venv: the tests with other people's clients.
DEBIAN_PACKAGES=(
  build-essential cmake curl ca-certificates git jq make openssl procps util-linux shellcheck python3 python3-venv
  runc containernetworking-plugins iptables nftables iproute2 conntrack buildah
)

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi
}

packages() {
  local missing=() name
  if ! command -v dpkg-query >/dev/null 2>&1; then
    say "this is not Debian or Ubuntu; please install by hand what is missing of: ${DEBIAN_PACKAGES[*]}"
    return 0
  fi
  for name in "${DEBIAN_PACKAGES[@]}"; do
    # shellcheck disable=SC2016 # dpkg-query expands it, not the shell
    [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null) == ii* ]] || missing+=("$name")
  done
  if ((${#missing[@]} == 0)); then
    say "Debian packages: all there"
    return 0
  fi
  if [[ $(id -u) != 0 ]] && ! sudo -n true 2>/dev/null; then
    die -2 "these Debian packages are missing and installing them needs root: ${missing[*]}"
  fi
  mkdir -p "$AGENTWRIT_CACHE/log"
  run_step "package lists (apt-get update)" "$AGENTWRIT_CACHE/log/apt-update.log" as_root apt-get update -q
  run_step "Debian packages (${missing[*]})" "$AGENTWRIT_CACHE/log/apt-install.log" \
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# The toolchain that rust-toolchain.toml names; rustup fetches it if it is missing.
rust_toolchain() {
  local channel
  command -v cargo >/dev/null 2>&1 ||
    die -2 "no cargo found; install Rust by rustup (https://rustup.rs), then run make setup again"
  channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$REPO/rust-toolchain.toml")
  if [[ $(cd "$REPO" && cargo --version 2>/dev/null) == "cargo ${channel}"* ]]; then
    say "Rust $channel: there"
  elif command -v rustup >/dev/null 2>&1; then
    mkdir -p "$AGENTWRIT_CACHE/log"
    run_step "Rust $channel" "$AGENTWRIT_CACHE/log/rustup.log" \
      rustup toolchain install "$channel" --profile minimal -c rustfmt -c clippy
  else
    die -2 "cargo is not version $channel (rust-toolchain.toml) and there is no rustup to fetch it; see https://rustup.rs"
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
  command -v apt-get >/dev/null 2>&1 ||
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
