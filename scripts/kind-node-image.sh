#!/usr/bin/env bash
# Makes a node image for kind without any registry, in the Docker engine that answers (as root; Debian or Ubuntu):
# a Debian by debootstrap, the base files that kind's own Go module carries, and Kubernetes programs from pinned Go
# modules as the images that kubeadm starts. For machines that can't pull kindest/node; elsewhere it isn't needed.
#   kind-node-image.sh           make localhost/agentwrit-kind-node:dev; its last line says how to use it
#   kind-node-image.sh --help
# Where there is no engine either, scripts/kind-engine.sh makes one: its --help has the whole way.
# What differs from kindest/node: pods are on a plain bridge (no kindnet, so one node, and no NetworkPolicy);
# containerd and kubelet lower no out-of-memory score (no CAP_SYS_RESOURCE needed), and kubelet accepts cgroup v1.
set -euo pipefail
SCRIPT_NAME=kind-node-image
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/toolchains.sh
source "$REPO/scripts/lib/toolchains.sh"
# shellcheck source=scripts/lib/tools.sh
source "$REPO/scripts/lib/tools.sh"

CACHE=$AGENTWRIT_CACHE/kind
IMAGE=localhost/agentwrit-kind-node:dev
FILES=$REPO/tests/cluster/kind
STEPS=7
SUITE=bookworm   # the last whose systemd and runc work with cgroup v1
MIRROR=http://deb.debian.org/debian
# What kind's own base image has, and runc and the CNI plugins, which it builds.
NODE_PACKAGES=systemd,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,pigz,e2fsprogs,bash,ca-certificates,curl,jq,procps
NODE_PACKAGES+=,runc,containernetworking-plugins,busybox-static
NODE_PROGRAMS=(
  "kindnode|k8s.io/kubernetes/cmd/kubeadm|kubeadm|$K8S_FLAGS"
  "localpath|github.com/rancher/local-path-provisioner|local-path-provisioner|"
)
WORK=

main() {
  case ${1:-} in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; return 0 ;;
    '') ;;
    *) die -2 "unknown argument \"$1\"; --help says more" ;;
  esac
  [[ $(id -u) == 0 ]] || die -2 "this needs root: debootstrap makes device files"
  docker_answers || die -2 "no Docker engine answers; start yours, or one by: scripts/kind-engine.sh up"
  mkdir -p "$CACHE" "$AGENTWRIT_CACHE/log"
  # One at a time: the parts have the same names. The lock is the folder itself, so it leaves no file.
  exec 7<"$CACHE"
  flock -n 7 || die "another one is at work in $CACHE"
  WORK=$(mktemp -d "$CACHE/work.XXXXXX")
  trap clean_up EXIT
  NODE=$WORK/node
  local begin=$SECONDS
  step "Kubernetes programs (6 minutes of CPU if none is built)" programs
  step "Debian $SUITE (2 minutes; kept in $CACHE)" debian
  step "kind's base files" base_files
  step "programs of the node" node_programs
  step "container images" container_images
  step "images into the node's containerd" preload
  step "docker import (1 GB)" import_image
  say "$IMAGE is there: $((SECONDS - begin)) s; use it by: AGENTWRIT_KIND_IMAGE=$IMAGE scripts/cluster.sh up"
}

step() {
  local title=$1 begin=$SECONDS
  COUNT=$((${COUNT:-0} + 1))
  say "$COUNT of $STEPS: $title"
  "${@:2}"
  say "$COUNT of $STEPS: done, $((SECONDS - begin)) s"
}

clean_up() {
  local status=$?
  [[ -z ${CONTAINERD:-} ]] || kill "$CONTAINERD" 2>/dev/null || true
  [[ -z $WORK ]] || rm -rf --one-file-system "$WORK"
  exit "$status"
}

programs() { tools "$(printf '%s\n' "${NODE_TOOLS[@]}" "${NODE_PROGRAMS[@]}")"; }

# A root file system, as a tar in the cache: debootstrap takes two minutes, the tar three seconds.
debian() {
  local tar
  tar=$CACHE/debian-$(echo "$SUITE $NODE_PACKAGES" | sha256sum | cut -c1-12).tar
  if [[ ! -f $tar ]]; then
    (cd "$WORK" && apt-get download -q debootstrap) >"$AGENTWRIT_CACHE/log/debootstrap.log" 2>&1 ||
      die "no package debootstrap: see $AGENTWRIT_CACHE/log/debootstrap.log (apt-get update may help)"
    dpkg-deb --extract "$WORK"/debootstrap_*.deb "$WORK/debootstrap"
    DEBOOTSTRAP_DIR=$WORK/debootstrap/usr/share/debootstrap sh "$WORK/debootstrap/usr/sbin/debootstrap" \
      --variant=minbase "--include=$NODE_PACKAGES" "$SUITE" "$WORK/debian" "$MIRROR" >>"$AGENTWRIT_CACHE/log/debootstrap.log" 2>&1 ||
      die "debootstrap failed: see $AGENTWRIT_CACHE/log/debootstrap.log"
    rm -rf "$WORK"/debian/var/cache/apt/archives/*.deb "$WORK"/debian/var/lib/apt/lists/* "$WORK"/debian/usr/share/{doc,man,locale}
    rm -f "$CACHE"/debian-*.tar
    tar -C "$WORK/debian" --one-file-system --numeric-owner -cf "$tar.new" .
    mv "$tar.new" "$tar"
    rm -rf --one-file-system "$WORK/debian"
  fi
  mkdir "$NODE"
  tar -C "$NODE" --numeric-owner -xpf "$tar"
}

# The folder of a module that a module of tests/tools pins.
module_folder() { (cd "$REPO/tests/tools/$1" && GOTOOLCHAIN=local GOFLAGS=-mod=readonly go mod download -json "$2" | jq -r .Dir); }

# As kind's images/base/Dockerfile says, with the differences that the head of this file tells.
base_files() {
  local base wants
  KIND_SOURCE=$(module_folder checks sigs.k8s.io/kind)
  base=$KIND_SOURCE/images/base/files
  cp -r --no-preserve=mode,ownership "$base/." "$NODE/"
  chmod 0755 "$NODE"/usr/local/bin/* "$NODE"/kind/bin/*
  for wants in /lib/systemd/system/{multi-user,local-fs,basic}.target.wants '/etc/systemd/system/*.wants'; do
    # shellcheck disable=SC2086 # one of them is a pattern
    find "$NODE"$wants -mindepth 1 -delete 2>/dev/null || true
  done
  rm -f "$NODE"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
  rm -f "$NODE"/lib/systemd/system/sockets.target.wants/*{udev,initctl}*
  # These would set the machine's own kernel parameters.
  rm -f "$NODE"/usr/lib/sysctl.d/{50-pid-max,99-protect-links}.conf
  echo "ReadKMsg=no" >>"$NODE/etc/systemd/journald.conf"
  ln -sf /usr/lib/systemd/systemd "$NODE/sbin/init"
  chroot "$NODE" systemctl --quiet enable kubelet.service containerd.service undo-mount-hacks.service
  chroot "$NODE" systemctl --quiet mask systemd-binfmt.service
  mkdir -p "$NODE/etc/kubernetes/manifests" "$NODE/kind/manifests"
  sed -i 's/^OOMScoreAdjust=.*//' "$NODE/etc/systemd/system/containerd.service"
  sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$NODE/etc/containerd/config.toml"
  echo 'KUBELET_EXTRA_ARGS=--fail-cgroupv1=false --oom-score-adj=0' >"$NODE/etc/default/kubelet"
}

node_programs() {
  local name
  for name in kubeadm kubelet kubectl; do install -m 0755 "$TOOLS_BIN/$name" "$NODE/usr/bin/$name"; done
  for name in containerd containerd-shim-runc-v2 ctr; do install -m 0755 "$TOOLS_BIN/$name" "$NODE/usr/local/bin/$name"; done
  printf '%s' "$K8S_VERSION" >"$NODE/kind/version"
  "$TOOLS_BIN/ctr" oci spec 2>/dev/null |
    jq '.hooks.createContainer[.hooks.createContainer | length] |= . + {"path": "/kind/bin/mount-product-files.sh"} | del(.process.rlimits)' \
      >"$NODE/etc/containerd/cri-base.json"
  mkdir -p "$NODE/opt/cni/bin" "$NODE/etc/cni/net.d"
  for name in bridge host-local loopback portmap; do ln -s "/usr/lib/cni/$name" "$NODE/opt/cni/bin/$name"; done
  install -m 0644 "$FILES/pods.conflist" "$NODE/etc/cni/net.d/10-pods.conflist"
  install -m 0644 "$FILES/default-cni.yaml" "$NODE/kind/manifests/default-cni.yaml"
  storage_manifest >"$NODE/kind/manifests/default-storage.yaml"
}

STORAGE_SOURCE=pkg/build/nodeimage/const_storage.go
storage_image() { sed -n "s/^const $1 = \"\(.*\)\"/\1/p" "$KIND_SOURCE/$STORAGE_SOURCE"; }

# kind keeps this manifest as a constant in its source.
storage_manifest() {
  sed -n '/^const defaultStorageManifest = `/,$p' "$KIND_SOURCE/$STORAGE_SOURCE" | sed -e '1d' -e '/^`$/d' \
    -e "s|\` + storageProvisionerImage + \`|$(storage_image storageProvisionerImage)|" \
    -e "s|\` + storageHelperImage + \`|$(storage_image storageHelperImage)|"
}

container_images() {
  local image name
  mkdir "$WORK/images"
  while read -r image; do
    name=${image##*/}
    name=${name%%:*}
    case $name in
      pause) continue ;;   # containerd's configuration names its own
      kube-proxy) proxy_folder ;;
      coredns) program_folder coredns / ;;
      *) program_folder "$name" /usr/local/bin ;;
    esac
    pack "$name" "$image"
  done < <("$TOOLS_BIN/kubeadm" config images list --kubernetes-version "$K8S_VERSION" 2>/dev/null)
  pause_folder
  pack pause "$(sed -n 's/^ *sandbox_image = "\(.*\)"/\1/p' "$NODE/etc/containerd/config.toml")"
  program_folder local-path-provisioner /usr/local/bin
  pack local-path-provisioner "$(storage_image storageProvisionerImage)"
  mkdir -p "$WORK/root/local-path-helper/bin"
  cp "$NODE/bin/busybox" "$WORK/root/local-path-helper/bin/"
  for name in sh mkdir rm; do ln -s busybox "$WORK/root/local-path-helper/bin/$name"; done
  pack local-path-helper "$(storage_image storageHelperImage)"
}

program_folder() {
  mkdir -p "$WORK/root/$1$2"
  cp "$TOOLS_BIN/$1" "$WORK/root/$1$2/"
}

pause_folder() {
  mkdir -p "$WORK/root/pause"
  gcc -static -Os -s -o "$WORK/root/pause/pause" "$REPO/tests/cluster/pause.c"
}

# kube-proxy calls iptables, conntrack and nft: they come out of the node's Debian, with the libraries they name.
proxy_folder() {
  local root=$WORK/root/kube-proxy file name
  mkdir -p "$root"/{usr/sbin,usr/bin,usr/local/bin,usr/lib,lib64,run,tmp,etc}
  cp "$TOOLS_BIN/kube-proxy" "$root/usr/local/bin/"
  for file in /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack; do
    install -D "$NODE$file" "$root$file"
  done
  for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s xtables-nft-multi "$root/usr/sbin/$name"
  done
  ln -s usr/sbin "$root/sbin"
  ln -s usr/bin "$root/bin"
  ln -s usr/lib "$root/lib"
  mkdir -p "$root/usr/lib/x86_64-linux-gnu"
  cp -a "$NODE/usr/lib/x86_64-linux-gnu/xtables" "$root/usr/lib/x86_64-linux-gnu/"
  for file in $(libraries_of "$root"/usr/sbin/{xtables-nft-multi,nft,conntrack} "$root"/usr/lib/x86_64-linux-gnu/xtables/*.so); do
    install -D "$NODE$file" "$root$file"
  done
}

# Paths in the node's root file system of what these files load.
libraries_of() {
  chroot "$NODE" ldd "${@/#$WORK\/root\/kube-proxy/}" 2>/dev/null | grep -o '/lib[^ ]*' | grep -v ':$' | sort -u
}

# pack NAME IMAGE: what is in the folder NAME becomes a docker-archive. In the engine it has a name of our own, so that
# no image of the machine's owner loses his; preload gives it the right one.
PART=localhost/agentwrit-kind-part
pack() {
  local folder=$WORK/root/$1 image=$2
  tar -C "$folder" --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - . |
    docker import --change 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change "ENTRYPOINT [\"/$1\"]" - "$PART:$1" >/dev/null
  docker save --output "$WORK/images/$1.tar" "$PART:$1"
  docker rmi "$PART:$1" >/dev/null
  echo "$image" >"$WORK/images/$1.name"
  rm -rf "$folder"
  say "  $image"
}

ctr_of_the_node() { "$TOOLS_BIN/ctr" --address "$WORK/containerd.sock" --namespace k8s.io "$@"; }

# As kind does it: imported and pinned, but not unpacked, which needs mounts.
preload() {
  local socket=$WORK/containerd.sock tar name
  cat >"$WORK/containerd.toml" <<TOML
version = 3
root = "$NODE/var/lib/containerd"
state = "$WORK/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri"]
[grpc]
address = "$socket"
[ttrpc]
address = "$socket.ttrpc"
[plugins.'io.containerd.internal.v1.opt']
path = "$WORK/opt"
TOML
  "$TOOLS_BIN/containerd" --config "$WORK/containerd.toml" --log-level error >"$AGENTWRIT_CACHE/log/kind-containerd.log" 2>&1 &
  CONTAINERD=$!
  for _ in {1..100}; do
    [[ ! -S $socket ]] || break
    sleep 0.1
  done
  for tar in "$WORK"/images/*.tar; do
    name=$(basename "$tar" .tar)
    {
      ctr_of_the_node images import --label io.cri-containerd.pinned=pinned --all-platforms --no-unpack --digests "$tar" &&
        ctr_of_the_node images tag "$PART:$name" "$(cat "$WORK/images/$name.name")" &&
        ctr_of_the_node images delete "$PART:$name"
    } >>"$AGENTWRIT_CACHE/log/kind-containerd.log" 2>&1 ||
      die "containerd doesn't take $name: see $AGENTWRIT_CACHE/log/kind-containerd.log"
    rm -f "$tar"
  done
  kill "$CONTAINERD"
  wait "$CONTAINERD" || true
  CONTAINERD=
}

import_image() {
  local before
  before=$(docker images --quiet "$IMAGE")
  tar -C "$NODE" --one-file-system --numeric-owner -cf - . | docker import - "$IMAGE-layer" >/dev/null
  # docker import knows no stop signal; DOCKER_BUILDKIT=0 because the newer builder would ask a registry for the layer.
  printf 'FROM %s\nENV container=docker\nSTOPSIGNAL SIGRTMIN+3\nENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]\n' "$IMAGE-layer" |
    DOCKER_BUILDKIT=0 docker build --quiet --tag "$IMAGE" - >/dev/null 2>"$AGENTWRIT_CACHE/log/kind-docker-build.log" ||
    die "docker build failed: see $AGENTWRIT_CACHE/log/kind-docker-build.log"
  docker rmi "$IMAGE-layer" >/dev/null
  # Unless a cluster runs on it.
  [[ -z $before ]] || docker rmi "$before" >/dev/null 2>&1 || true
}

main "$@"
