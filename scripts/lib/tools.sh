# shellcheck shell=bash
# The Kubernetes programs: Go tool dependencies of the modules in tests/tools, built into $TOOLS_BIN.

CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
CARGO_MUTANTS_VERSION=27.0.0

# The version that a module of tests/tools pins for a dependency, such as v1.36.3.
pinned() { awk -v name="$2" '$1 == name {print $2; exit} $1 == "require" && $2 == name {print $3; exit}' "$REPO/tests/tools/$1/go.mod"; }

# Programs that are told their version by the linker report v0.0.0 otherwise. helm also takes from there
# which Kubernetes version it renders for when it has no cluster to ask.
K8S_VERSION=$(pinned kubernetes k8s.io/kubernetes)
K8S_MINOR=$(cut -d. -f2 <<<"$K8S_VERSION")
K8S_FLAGS="-X k8s.io/component-base/version.gitVersion=$K8S_VERSION -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$K8S_MINOR"
CONTAINERD_FLAGS="-X github.com/containerd/containerd/v2/version.Version=$(pinned node github.com/containerd/containerd/v2)"
HELM_FLAGS="-X helm.sh/helm/v3/internal/version.version=$(pinned node helm.sh/helm/v3)"
for package in chartutil lint/rules; do
  HELM_FLAGS+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=$K8S_MINOR"
done

# module|package|program|ldflags
NODE_TOOLS=(
  "etcd|go.etcd.io/etcd/server/v3|etcd|"
  "kubernetes|k8s.io/kubernetes/cmd/kube-apiserver|kube-apiserver|$K8S_FLAGS"
  "kubernetes|k8s.io/kubernetes/cmd/kubectl|kubectl|$K8S_FLAGS"
  "kubernetes|k8s.io/kubernetes/cmd/kube-controller-manager|kube-controller-manager|$K8S_FLAGS"
  "kubernetes|k8s.io/kubernetes/cmd/kube-scheduler|kube-scheduler|$K8S_FLAGS"
  "kubernetes|k8s.io/kubernetes/cmd/kubelet|kubelet|$K8S_FLAGS"
  "kubernetes|k8s.io/kubernetes/cmd/kube-proxy|kube-proxy|$K8S_FLAGS"
  "node|github.com/containerd/containerd/v2/cmd/containerd|containerd|$CONTAINERD_FLAGS"
  "node|github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2|containerd-shim-runc-v2|"
  "node|github.com/containerd/containerd/v2/cmd/ctr|ctr|"
  "node|helm.sh/helm/v3/cmd/helm|helm|$HELM_FLAGS"
  "node|github.com/coredns/coredns|coredns|"
  "checks|github.com/yannh/kubeconform/cmd/kubeconform|kubeconform|"
)
# Where a Docker engine answers, kind brings the node; the API server alone still runs by itself.
KIND_TOOLS=(
  "checks|sigs.k8s.io/kind|kind|"
  "etcd|go.etcd.io/etcd/server/v3|etcd|"
  "kubernetes|k8s.io/kubernetes/cmd/kube-apiserver|kube-apiserver|$K8S_FLAGS"
  "kubernetes|k8s.io/kubernetes/cmd/kube-controller-manager|kube-controller-manager|$K8S_FLAGS"
  "kubernetes|k8s.io/kubernetes/cmd/kubectl|kubectl|$K8S_FLAGS"
  "node|helm.sh/helm/v3/cmd/helm|helm|$HELM_FLAGS"
  "checks|github.com/yannh/kubeconform/cmd/kubeconform|kubeconform|"
)

# The Go release that can build them all without fetching another toolchain.
go_toolchain() {
  local have
  command -v go >/dev/null 2>&1 || [[ ! -x /usr/local/go/bin/go ]] || PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null 2>&1 ||
    die -2 "no Go found; Kubernetes 1.36 needs Go 1.26 or later from https://go.dev/dl (Debian's golang package is too old)"
  have=$(GOTOOLCHAIN=local go env GOVERSION)
  [[ $(printf '%s\n' go1.26 "$have" | sort -V | head -n 1) == go1.26 ]] ||
    die -2 "Go ${have#go} is too old; Kubernetes 1.36 needs Go 1.26 or later from https://go.dev/dl (Debian's golang package is too old)"
}

# A hash of everything that decides what one program is: its module's pins, package, flags, Go release.
tool_stamp() {
  local module=$1 package=$2 flags=$3
  { cat "$REPO/tests/tools/$module/go.mod" "$REPO/tests/tools/$module/go.sum"; echo "$package $flags $GO_VERSION"; } |
    sha256sum | cut -d' ' -f1
}

build_tool() {
  local module=$1 package=$2 program=$3 flags=$4 stamp stamp_file=$TOOLS_BIN/.stamps/$3
  stamp=$(tool_stamp "$module" "$package" "$flags")
  if [[ -x $TOOLS_BIN/$program && $(cat "$stamp_file" 2>/dev/null) == "$stamp" ]]; then
    return 0
  fi
  # Built beside and moved, so that a running program's file is never written into.
  run_step "$program" "$AGENTWRIT_CACHE/log/build-$program.log" \
    env -C "$REPO/tests/tools/$module" GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 \
    go build -trimpath -buildvcs=false -ldflags "-s -w $flags" -o "$TOOLS_BIN/.$program.new" "$package"
  mv -f "$TOOLS_BIN/.$program.new" "$TOOLS_BIN/$program"
  printf '%s\n' "$stamp" >"$stamp_file"
  built=$((built + 1))
}

tools() {
  local wanted=("${NODE_TOOLS[@]}") entry module package program flags built=0 start=$SECONDS
  if docker_answers; then wanted=("${KIND_TOOLS[@]}"); fi
  go_toolchain
  GO_VERSION=$(GOTOOLCHAIN=local go env GOVERSION)
  mkdir -p "$TOOLS_BIN/.stamps" "$AGENTWRIT_CACHE/log"
  exec 9>"$TOOLS_BIN/.lock"
  if ! flock -n 9; then
    say "another clone is building the Kubernetes programs; waiting for it"
    flock 9
  fi
  for entry in "${wanted[@]}"; do
    IFS='|' read -r module package program flags <<<"$entry"
    build_tool "$module" "$package" "$program" "$flags" 9>&-
  done
  exec 9>&-
  say "Kubernetes programs in $TOOLS_BIN: $built built, $((${#wanted[@]} - built)) already there ($((SECONDS - start)) s)"
}

cargo_deny() { cargo_tool cargo-deny "$CARGO_DENY_VERSION"; }
cargo_mutants() { cargo_tool cargo-mutants "$CARGO_MUTANTS_VERSION" mutants; }

# cargo-fuzz builds on the stable toolchain; what it builds needs a nightly one with its sanitizer runtimes.
cargo_fuzz() {
  local toolchain=${FUZZ_TOOLCHAIN:-nightly}
  cargo "+$toolchain" --version >/dev/null 2>&1 ||
    die -2 "no toolchain \"$toolchain\"; run rustup toolchain install nightly, or name one by FUZZ_TOOLCHAIN"
  cargo_tool cargo-fuzz "$CARGO_FUZZ_VERSION"
}

# cargo_tool PROGRAM VERSION [SUBCOMMAND]: SUBCOMMAND where --version is understood only behind it.
cargo_tool() {
  local program=$1 version=$2
  if [[ $("$TOOLS_BIN/$program" ${3:+"$3"} --version 2>/dev/null) == "$program $version" ]]; then
    say "$program $version: there"
    return 0
  fi
  mkdir -p "$AGENTWRIT_CACHE/log"
  run_step "$program $version" "$AGENTWRIT_CACHE/log/$program.log" \
    cargo install --quiet --locked --root "$AGENTWRIT_CACHE" "$program" --version "$version"
}
