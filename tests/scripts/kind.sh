#!/usr/bin/env bash
# The branch of the scripts that runs where a Docker engine answers, against the programs of tests/scripts/fakes. They know
# the flags that the real ones have (kind v0.33.0, docker 20.10 to 28), answer and fail as those were seen to, and refuse
# everything else. The same branch has run with the real ones: tests/cluster/README.md says how to do that again.
set -euo pipefail
# shellcheck source=tests/scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# ---- the machine ----

# docker_machine: an engine answers, and there is no cluster. Its folder "is" holds what is true:
# engine, cluster (its container exists), running, admin (kubeadm has finished), ready, dns, storage.
docker_machine() {
  local name
  machine
  mkdir -p "$MACHINE/is" "$MACHINE/cache" "$MACHINE/loaded"
  ln -s "$MACHINE/bin" "$MACHINE/cache/bin"
  ln -s "$(type -P cmp)" "$MACHINE/bin/cmp"
  touch "$MACHINE/is/"{engine,dns,storage}
  for name in kind docker kubectl helm; do has "$name" "source $REPO/tests/scripts/fakes/$name.sh"; done
  has openssl 'echo 00ff'
}


state() { echo "$MACHINE/state"; }
script() { on env AGENTWRIT_TEST_STATE="$(state)" "${SETTINGS[@]}" bash "$REPO/scripts/$1" "${@:2}"; }
cluster() { script cluster.sh "$@"; }
SETTINGS=(A=)
calls_of() { grep -c "^$1" "$MACHINE/log" || true; }
# archive NAME: what docker save or buildah make of an image of ours.
archive() {
  mkdir -p "$MACHINE/images"
  echo "[{\"RepoTags\":[\"localhost/$1:dev\"]}]" >"$MACHINE/manifest.json"
  tar -C "$MACHINE" -cf "$MACHINE/images/$1.tar" manifest.json
}

# ---- setup ----

it "with Docker the packages of the node without it are not wanted"
docker_machine
has apt-get ''
has dpkg-query 'echo un'
script setup.sh --dry-run packages
ended 0
says "jq make openssl"
says_not "runc"
says_not "buildah"
says_not "conntrack"

it "without Docker they are"
rm "$MACHINE/is/engine"
script setup.sh --dry-run packages
says "runc containernetworking-plugins iptables nftables iproute2 conntrack buildah"

# ---- up ----

it "up makes a cluster and waits for its node, DNS and storage"
docker_machine
cluster up
ended 0
called "kind create cluster --name agentwrit-test --config $REPO/kind-config.yaml --kubeconfig $(state)/kubeconfig --wait 180s"
called_not "--image"
called "wait --for=condition=Ready node"
called "rollout status deployment/coredns"
called "rollout status deployment/local-path-provisioner"
says "cluster: up (kind): "
says "export KUBECONFIG=$(state)/kubeconfig"
check "the kubeconfig is its owner's alone" "$(find "$MACHINE" -path "$(state)/kubeconfig" -perm 0600)" contains kubeconfig

it "up again makes nothing"
cluster up
ended 0
says "cluster: already up and healthy (kind)"
check "one cluster was made" "$(calls_of 'kind create')" equals 1

it "status and env tell where the cluster is"
cluster status
ended 0
says "cluster: up (kind); export KUBECONFIG=$(state)/kubeconfig"
cluster env
says "export KUBECONFIG=$(state)/kubeconfig"
says "export PATH=$MACHINE/cache/bin:\$PATH"

it "a node that is stopped is started"
rm -f "$MACHINE/is/"{running,ready} "$(state)/kubeconfig"
cluster status
ended 1
says "cluster: not up (kind); start it by: make cluster-up"
cluster up
ended 0
called "docker start agentwrit-test-control-plane"
called "kind export kubeconfig --name agentwrit-test --kubeconfig $(state)/kubeconfig"
check "none was made" "$(calls_of 'kind create')" equals 1

it "a cluster that was left half made is made anew"
rm -f "$MACHINE/is/"{running,ready,admin} "$(state)/kubeconfig"
cluster up
ended 0
says "/etc/kubernetes/admin.conf: No such file or directory"
says "cluster: the cluster of kind is half made: making it anew"
called "kind delete cluster --name agentwrit-test --kubeconfig $(state)/kubeconfig"
check "a second was made" "$(calls_of 'kind create')" equals 2

it "another node image can be named"
docker_machine
SETTINGS=(AGENTWRIT_KIND_IMAGE=localhost/agentwrit-kind-node:v1)
cluster up
SETTINGS=(A=)
ended 0
called "--wait 180s --image localhost/agentwrit-kind-node:v1"

it "what kind says of its failure is shown, and no export line"
docker_machine
touch "$MACHINE/is/broken"
cluster up
ended 1
says "failed to init node with kubeadm"
says "cluster: kind could not create the cluster"
says_not "export KUBECONFIG"

it "a cluster whose DNS doesn't start is not up"
docker_machine
rm -f "$MACHINE/is/dns"
cluster up
ended 1
says "cluster: the cluster's DNS doesn't start"
says_not "export KUBECONFIG"

it "a cluster whose storage doesn't start is not up"
docker_machine
rm -f "$MACHINE/is/storage"
cluster up
ended 1
says "cluster: the cluster's storage doesn't start"

it "kind that isn't built is named"
docker_machine
rm -f "$MACHINE/bin/kind"
cluster up
ended 1
says "cluster: $MACHINE/cache/bin/kind is not there; run make setup"

# ---- engines that come and go ----

it "without the engine the cluster of kind is neither lost nor replaced"
docker_machine
cluster up
rm -f "$MACHINE/is/engine"
cluster down
ended 2
says "cluster: the cluster was made by kind, and no Docker engine answers now"
check "the state folder stays" "$(ls "$(state)")" contains kubeconfig

it "an engine that comes later doesn't take over a node"
docker_machine
mkdir -p "$(state)"
echo node >"$(state)/mode"
cluster status
ended 1
says "cluster: not up (node)"
cluster mode
check "it is a node" "$OUTPUT" equals node
called_not "kind"

it "neither engine nor root is one sentence"
docker_machine
rm -f "$MACHINE/is/engine"
has id 'echo 1000'
cluster up
ended 2
says "a cluster needs either a Docker engine that answers, or root on Linux"

# ---- images ----

it "images are loaded one by one"
docker_machine
cluster up
archive agentwrit-broker
archive agentwrit-sidecar
cluster load-image "$MACHINE/images/agentwrit-broker.tar" "$MACHINE/images/agentwrit-sidecar.tar"
ended 0
called "kind load image-archive $MACHINE/images/agentwrit-broker.tar --name agentwrit-test"
says "cluster: loaded agentwrit-sidecar.tar"
check "the node has both" "$(ls "$MACHINE/loaded")" equals $'agentwrit-broker.tar\nagentwrit-sidecar.tar'

it "an archive that can't be loaded is an error with kind's words"
echo "not an archive" >"$MACHINE/images/bad.tar"
cluster load-image "$MACHINE/images/bad.tar"
ended 1
says "ctr: unrecognized image format"
says "cluster: kind could not load $MACHINE/images/bad.tar"
says_not "loaded bad.tar"

it "an archive that isn't there is named"
cluster load-image "$MACHINE/images/none.tar"
ended 2
says "cluster: there is no image file $MACHINE/images/none.tar; run make images"

it "a new cluster is given the images again"
mkdir "$(state)/images"
echo hash >"$(state)/images/agentwrit-broker.tar.hash"
rm -f "$MACHINE/is/"{cluster,running,admin,ready}
cluster up
ended 0
check "nothing counts as loaded" "$(ls "$(state)")" equals $'kubeconfig\nmode'

it "an image is imported into the engine, saved and removed there"
docker_machine
echo program >"$MACHINE/agentwrit-broker"
chmod 0640 "$MACHINE/agentwrit-broker"
on bash -euo pipefail -c "source $REPO/scripts/lib/common.sh; source $REPO/scripts/lib/image.sh; IMAGE_USER=65532 IMAGE_VERSION=1.2.3 \
  image_from_binary $MACHINE/agentwrit-broker localhost/agentwrit-broker:dev $MACHINE/out/broker.tar 'AgentWrit broker' 'Issues tokens'"
ended 0
called "docker save --output $MACHINE/out/broker.tar.new localhost/agentwrit-broker:dev"
called "docker rmi localhost/agentwrit-broker:dev"
check "only the archive is there" "$(ls "$MACHINE/out")" equals broker.tar
OUTPUT=$(cat "$MACHINE/changes")
says 'ENTRYPOINT ["/agentwrit-broker"]'
says 'USER 65532:65532'
says 'LABEL org.opencontainers.image.title="AgentWrit broker"'
says 'LABEL org.opencontainers.image.version="1.2.3"'
OUTPUT=$(tr -s ' ' <"$MACHINE/layer")
says "-rwxr-xr-x 0/0 8 1970-01-01"
says "agentwrit-broker"

# ---- install, down ----

it "install puts the chart into the cluster of kind"
docker_machine
cluster up
mkdir -p "$MACHINE/checkout/target/images"
cp -r "$REPO/scripts" "$MACHINE/checkout/"
mkdir -p "$MACHINE/checkout/tests"
cp -r "$REPO/tests/cluster" "$REPO/tests/tools" "$MACHINE/checkout/tests/"
for name in broker controller sidecar demo; do
  archive "agentwrit-$name"
  cp "$MACHINE/images/agentwrit-$name.tar" "$MACHINE/checkout/target/images/"
  echo "hash of $name" >"$MACHINE/checkout/target/images/agentwrit-$name.tar.hash"
done
on env AGENTWRIT_TEST_STATE="$(state)" bash "$MACHINE/checkout/scripts/install.sh"
ended 0
says "cluster: loaded agentwrit-controller.tar"
called "helm upgrade --install agentwrit "
check "the admin's secret came by a pipe" "$(cat "$MACHINE/is/secret")" contains 00ff
called_not 00ff
called "rollout status statefulset.apps/agentwrit-broker"
says "install: release agentwrit is ready in namespace agentwrit-system"

it "the same images are not loaded twice"
on env AGENTWRIT_TEST_STATE="$(state)" bash "$MACHINE/checkout/scripts/install.sh"
ended 0
says "images: the node has these images already"
check "each was loaded once" "$(calls_of 'kind load')" equals 4

it "down deletes the cluster and leaves nothing"
cluster down
ended 0
called "kind delete cluster --name agentwrit-test --kubeconfig $(state)/kubeconfig"
check "the state folder is gone" "$(ls "$MACHINE")" lacks state
cluster status
ended 1

it "down is no error when there is nothing"
cluster down
ended 0
says "cluster: down (kind): "

# ---- the runtime of scripts/kind-engine.sh ----

limited() { on bash "$REPO/tests/cluster/kind/runc-limited" "$@"; }

it "the limited runtime asks for no CAP_SYS_RESOURCE"
machine
# shellcheck disable=SC2016 # the fake expands it
has runc 'cat "$MACHINE"/*.json "$MACHINE"/bundle/config.json 2>/dev/null || true'
mkdir "$MACHINE/bundle"
echo '{"process":{"args":["init"],"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"]}},"hostname":"x"}' >"$MACHINE/bundle/config.json"
limited --root /run/x create --bundle "$MACHINE/bundle" --pid-file p name
ended 0
says '{"process":{"args":["init"],"capabilities":{"bounding":["CAP_CHOWN"],"effective":[]}},"hostname":"x"}'
called "runc --root /run/x create --bundle $MACHINE/bundle --pid-file p name"

it "nor does a command that is run in a container"
echo '{"args":["sh"],"capabilities":{"bounding":["CAP_SYS_RESOURCE","CAP_KILL"]}}' >"$MACHINE/process.json"
limited exec --process "$MACHINE/process.json" name
ended 0
says '{"args":["sh"],"capabilities":{"bounding":["CAP_KILL"]}}'

it "a process without capabilities and other commands are left alone"
echo '{"args":["sh"]}' >"$MACHINE/process.json"
limited exec --process "$MACHINE/process.json" name
says '{"args":["sh"]}'
limited delete --force name
ended 0
called "runc delete --force name"

summary
