# shellcheck shell=bash
# kind v0.33.0 with one cluster at most; what is true of it are the files in $MACHINE/is.
# shellcheck source=tests/scripts/fakes/flags.sh
source "$(dirname "${BASH_SOURCE[0]}")/flags.sh"

fails() { echo "ERROR: $*" >&2; exit 1; }
named() { [[ ${VALUE[name]:-} == agentwrit-test ]] || fails "another cluster than expected: ${VALUE[name]:-}"; }
finished() { touch "$MACHINE/is/"{running,admin,ready}; (umask 077 && echo "server: https://127.0.0.1:1" >"${VALUE[kubeconfig]}"); }
case "${WORDS[*]}" in
  "get clusters")
    takes
    is engine || fails "failed to list clusters: command \"docker ps\" failed with error: exit status 1"
    echo "cgroup v1 is deprecated in Kubernetes" >&2
    if is cluster; then echo agentwrit-test; else echo "No kind clusters found." >&2; fi ;;
  "create cluster")
    takes config image kubeconfig name wait
    named
    [[ ${VALUE[wait]} =~ ^[0-9]+(s|m|h)$ ]] || fails "invalid argument \"${VALUE[wait]}\" for \"--wait\" flag: time: missing unit in duration"
    grep -qx "name: agentwrit-test" "${VALUE[config]}" || fails "failed to create cluster: error reading file"
    ! is cluster || fails "failed to create cluster: node(s) already exist for a cluster with the name \"agentwrit-test\""
    ! is broken || fails "failed to create cluster: failed to init node with kubeadm"
    touch "$MACHINE/is/cluster"
    finished
    rm -f "$MACHINE/loaded"/*
    echo "Creating cluster \"agentwrit-test\" ..." >&2 ;;
  "export kubeconfig")
    takes internal kubeconfig name
    named
    is cluster || fails "could not locate any control plane nodes for cluster named agentwrit-test"
    is admin || fails "failed to get cluster internal kubeconfig: Command Output: cat: /etc/kubernetes/admin.conf: No such file or directory"
    finished ;;
  "delete cluster")
    takes kubeconfig name
    named
    rm -f "$MACHINE/is/"{cluster,running,admin,ready} "${VALUE[kubeconfig]}" ;;
  "load image-archive "*)
    takes name nodes
    named
    [[ -f ${WORDS[2]} ]] || fails "stat ${WORDS[2]}: no such file or directory"
    is cluster || fails "no nodes found for cluster \"agentwrit-test\""
    tar -xOf "${WORDS[2]}" manifest.json >/dev/null 2>&1 || fails "ctr: unrecognized image format"
    cp "${WORDS[2]}" "$MACHINE/loaded/" ;;
  *) fails "unknown command ${WORDS[*]}" ;;
esac
