# shellcheck shell=bash
# Objects that a hosted cluster would bring along: rights of CoreDNS, a default StorageClass, volumes.

VOLUMES=8   # 1 GiB each; a released one is emptied and offered again by reclaim_volumes

addons_apply() {
  { coredns_rights; storage_class; volume_manifests; } | admin_kubectl apply --server-side --force-conflicts -f - >/dev/null
}

coredns_rights() {
  cat <<'EOF'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "agentwrit-test:coredns"}
rules:
- apiGroups: [""]
  resources: [services, pods, namespaces, endpoints]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "agentwrit-test:coredns"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "agentwrit-test:coredns"}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:coredns"}
---
EOF
}

storage_class() {
  cat <<'EOF'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Retain
---
EOF
}

# Type local, because kubelet applies a pod's fsGroup to it (it does not to hostPath).
volume_manifest() {
  mkdir -p "$STATE/volumes"
  [[ -d $STATE/volumes/$1 ]] || mkdir -m 0770 "$STATE/volumes/$1"
  cat <<EOF
apiVersion: v1
kind: PersistentVolume
metadata: {name: "local-$1"}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: standard
  local: {path: "$STATE/volumes/$1"}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: ["$NODE_NAME"]}]
---
EOF
}

volume_manifests() {
  local number
  for ((number = 1; number <= VOLUMES; number++)); do volume_manifest "$number"; done
}

# Nothing provisions local volumes: one whose claim was deleted stays Released for ever, so make it new.
reclaim_volumes() {
  local name
  for name in $(admin_kubectl get pv -o 'jsonpath={range .items[?(@.status.phase=="Released")]}{.metadata.name}{"\n"}{end}'); do
    [[ $name =~ ^local-[0-9]+$ ]] || continue
    admin_kubectl delete pv "$name" --wait=true --timeout=20s >/dev/null
    rm -rf --one-file-system "$STATE/volumes/${name#local-}"
    volume_manifest "${name#local-}" | admin_kubectl apply --server-side -f - >/dev/null
    say "volume $name: emptied and offered again"
  done
}
