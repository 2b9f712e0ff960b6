# shellcheck shell=bash
# The Kubernetes programs: Go tool dependencies of the modules in tests/tools, built into $TOOLS_BIN.

CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
CARGO_MUTANTS_VERSION=27.0.0

# The version that a module of tests/tools pins for a dependency, such as v1.36.3.
pinned() { awk -v name="$2" '$1 == name {print $2; exit} $1 == "require" && $2 == name {print $3; exit}' "$REPO/tests/tools/$1/go.mod"; }

# Programs that are told their version by the linker report v0.0.0 otherwise. helm also takes from there
# which Kubernetes version it renders for when it has no cluster to ask.
K8S_VERSION=$(pinned node k8s.io/kubernetes)
K8S_MINOR=$(cut -d. -f2 <<<"$K8S_VERSION")
K8S_FLAGS="-X k8s.io/component-base/version.gitVersion=$K8S_VERSION -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$K8S_MINOR"
CONTAINERD_FLAGS="-X github.com/containerd/containerd/v2/version.Version=$(pinned containerd github.com/containerd/containerd/v2)"
HELM_FLAGS="-X helm.sh/helm/v3/internal/version.version=$(pinned node helm.sh/helm/v3)"
for package in chartutil lint/rules; do
  HELM_FLAGS+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=$K8S_MINOR"
done

# module|package|program|ldflags
NODE_TOOLS=(
  "node|go.etcd.io/etcd/server/v3|etcd|"
  "node|k8s.io/kubernetes/cmd/kube-apiserver|kube-apiserver|$K8S_FLAGS"
  "node|k8s.io/kubernetes/cmd/kubectl|kubectl|$K8S_FLAGS"
  "node|k8s.io/kubernetes/cmd/kube-controller-manager|kube-controller-manager|$K8S_FLAGS"
  "node|k8s.io/kubernetes/cmd/kube-scheduler|kube-scheduler|$K8S_FLAGS"
  "node|k8s.io/kubernetes/cmd/kubelet|kubelet|$K8S_FLAGS"
  "node|k8s.io/kubernetes/cmd/kube-proxy|kube-proxy|$K8S_FLAGS"
  "containerd|github.com/containerd/containerd/v2/cmd/containerd|containerd|$CONTAINERD_FLAGS"
  "containerd|github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2|containerd-shim-runc-v2|"
  "containerd|github.com/containerd/containerd/v2/cmd/ctr|ctr|"
  "node|helm.sh/helm/v3/cmd/helm|helm|$HELM_FLAGS"
  "node|./coredns|coredns|"
)
# Where a Docker engine answers, kind brings the node; the API server alone still runs by itself.
KIND_TOOLS=(
  "checks|sigs.k8s.io/kind|kind|"
  "node|go.etcd.io/etcd/server/v3|etcd|"
  "node|k8s.io/kubernetes/cmd/kube-apiserver|kube-apiserver|$K8S_FLAGS"
  "node|k8s.io/kubernetes/cmd/kube-controller-manager|kube-controller-manager|$K8S_FLAGS"
  "node|k8s.io/kubernetes/cmd/kubectl|kubectl|$K8S_FLAGS"
  "node|helm.sh/helm/v3/cmd/helm|helm|$HELM_FLAGS"
)
# What checks manifests, whatever runs them.
CHECK_TOOLS=(
  "checks|github.com/yannh/kubeconform/cmd/kubeconform|kubeconform|"
)

# What each takes on two cores, in seconds, when it is built after those before it: they share most packages.
declare -A ROUGH_SECONDS=(
  [etcd]=35 [kube-apiserver]=180 [kubectl]=20 [kube-controller-manager]=65 [kube-scheduler]=10 [kubelet]=25 [kube-proxy]=10
  [containerd]=60 [containerd-shim-runc-v2]=5 [ctr]=10 [helm]=60 [coredns]=45 [kind]=30 [kubeconform]=20
)

# The entries of this machine's kind of cluster: those that run or install something, and those that check manifests.
cluster_tools() { if docker_answers; then printf '%s\n' "${KIND_TOOLS[@]}"; else printf '%s\n' "${NODE_TOOLS[@]}"; fi; }
check_tools() { printf '%s\n' "${CHECK_TOOLS[@]}"; }

# plan_tools ENTRIES: what of them would be built.
plan_tools() {
  local module package program flags missing=() seconds=0 GO_TOOLCHAIN=go$GO_RELEASE
  go_there || true
  while IFS='|' read -r module package program flags; do
    if ! is_built "$module" "$package" "$program" "$flags"; then
      missing+=("$program")
      seconds=$((seconds + ${ROUGH_SECONDS[$program]:-60}))
    fi
  done <<<"$1"
  ((${#missing[@]} == 0)) || echo "$(how_many ${#missing[@]} program) (${missing[*]})|source, as Go modules|$(about "$seconds") on two cores"
}

# Seconds as a person would say them.
about() { if (($1 < 90)); then echo "about $((($1 + 9) / 10 * 10)) s"; else echo "about $((($1 + 30) / 60)) min"; fi; }

# A hash of everything that decides what one program is: its module's pins and sources, package, flags, Go release.
tool_stamp() {
  local module=$1 package=$2 flags=$3
  { find "$REPO/tests/tools/$module" -type f | LC_ALL=C sort | xargs cat; echo "$package $flags $(go_release)"; } |
    sha256sum | cut -d' ' -f1
}

# The release that builds, such as go1.26.8, whether it is here already or not.
go_release() {
  if [[ $GO_TOOLCHAIN != local ]]; then echo "$GO_TOOLCHAIN"; else GOTOOLCHAIN=local go env GOVERSION; fi
}

is_built() { [[ -x $TOOLS_BIN/$3 && $(cat "$TOOLS_BIN/.stamps/$3" 2>/dev/null) == "$(tool_stamp "$1" "$2" "$4")" ]]; }

build_tool() {
  local module=$1 package=$2 program=$3 flags=$4
  # Built beside and moved, so that a running program's file is never written into. What a debugger reads isn't compiled,
  # since the linker (-w) would leave it out.
  run_step "$program" "$AGENTWRIT_CACHE/log/build-$program.log" go_in "$module" \
    go build -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "-s -w $flags" -o "$TOOLS_BIN/.$program.new" "$package"
  mv -f "$TOOLS_BIN/.$program.new" "$TOOLS_BIN/$program"
  tool_stamp "$module" "$package" "$flags" >"$TOOLS_BIN/.stamps/$program"
}

# go_in MODULE COMMAND...
go_in() {
  local module=$1
  shift
  env -C "$REPO/tests/tools/$module" GOTOOLCHAIN="$GO_TOOLCHAIN" GOFLAGS=-mod=readonly CGO_ENABLED=0 "$@"
}

# tools ENTRIES: builds those of them that are not there.
tools() {
  local module package program flags todo=() all built=0 start=$SECONDS
  go_toolchain
  mkdir -p "$TOOLS_BIN/.stamps" "$AGENTWRIT_CACHE/log"
  exec 9>"$TOOLS_BIN/.lock"
  if ! flock -n 9; then
    say "another clone is building the Kubernetes programs; waiting for it"
    flock 9
  fi
  all=$(wc -l <<<"$1")
  while IFS='|' read -r module package program flags; do
    is_built "$module" "$package" "$program" "$flags" || todo+=("$module|$package|$program|$flags")
  done <<<"$1"
  for entry in "${todo[@]}"; do
    IFS='|' read -r module package program flags <<<"$entry"
    built=$((built + 1))
    ROUGH="$built of ${#todo[@]}, $(about "${ROUGH_SECONDS[$program]:-60}")" build_tool "$module" "$package" "$program" "$flags" 9>&-
  done
  exec 9>&-
  say "Kubernetes programs in $TOOLS_BIN: $built built, $((all - built)) already there ($((SECONDS - start)) s)"
}

# What cargo and go would fetch while they build, so that what a build takes is told apart.
fetch_sources() {
  local module modules entries
  mkdir -p "$AGENTWRIT_CACHE/log"
  KIND=download ROUGH="150 MB" run_step "Rust crates fetched" "$AGENTWRIT_CACHE/log/fetch-crates.log" \
    cargo fetch --locked --manifest-path "$REPO/Cargo.toml" --target "$IMAGE_TARGET"
  entries=$(cluster_tools)
  [[ -n $(plan_tools "$entries") ]] || return 0
  go_toolchain
  mapfile -t modules < <(cut -d'|' -f1 <<<"$entries" | sort -u)
  for module in "${modules[@]}"; do
    # shellcheck disable=SC2046 # one package a word
    KIND=download ROUGH="up to 200 MB" run_step "Go modules of tests/tools/$module fetched" "$AGENTWRIT_CACHE/log/fetch-$module.log" \
      go_in "$module" go list -deps $(grep "^$module|" <<<"$entries" | cut -d'|' -f2)
  done
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
