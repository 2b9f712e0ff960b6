# shellcheck shell=bash
# kubelet, kube-proxy and CoreDNS: what makes the machine a node.

write_kubelet_config() {
  mkdir -p "$STATE/kubelet" "$STATE/pod-logs" "$STATE/volume-plugins"
  : >"$STATE/resolv.conf"   # pods ask CoreDNS and nobody else
  cat >"$STATE/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $HOST_ADDRESS
tlsCertFile: $PKI/node.crt
tlsPrivateKeyFile: $PKI/node.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
clusterDomain: cluster.local
clusterDNS: ["$HOST_ADDRESS"]
resolvConf: $STATE/resolv.conf
podLogsDir: $STATE/pod-logs
volumePluginDir: $STATE/volume-plugins
# The machine's own cgroups are left alone, and version 1 is what this machine may have.
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
localStorageCapacityIsolation: false
# No image can be pulled again, so none may be collected, and a full disk is the owner's business.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
# An image that a test has pulled by another name from a registry is still the one that was loaded.
imagePullCredentialsVerificationPolicy: NeverVerify
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, imagefs.available: 0%, nodefs.inodesFree: 0%}
syncFrequency: 10s
EOF
}

start_kubelet() {
  write_kubelet_config
  start kubelet "$(tool kubelet)" --config "$STATE/kubelet.yaml" --kubeconfig "$STATE/node.kubeconfig" \
    --root-dir "$STATE/kubelet" --cert-dir "$STATE/kubelet/pki" --node-ip "$HOST_ADDRESS" --hostname-override "$NODE_NAME"
}

start_proxy() {
  start kube-proxy "$(tool kube-proxy)" --kubeconfig "$STATE/proxy.kubeconfig" --proxy-mode iptables \
    --hostname-override "$NODE_NAME" --cluster-cidr "$POD_CIDR" --conntrack-max-per-core 0 \
    --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0 --oom-score-adj 0 \
    --iptables-localhost-nodeports=false --iptables-min-sync-period 100ms \
    --healthz-bind-address 127.0.0.1:10256 --metrics-bind-address 127.0.0.1:10249
}

start_coredns() {
  cat >"$STATE/Corefile" <<EOF
.:53 {
    bind $HOST_ADDRESS
    errors
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $STATE/coredns.kubeconfig
        pods insecure
        ttl 5
    }
}
EOF
  start coredns "$(tool coredns)" -conf "$STATE/Corefile"
}

node_ready() {
  [[ $(admin_kubectl get node "$NODE_NAME" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

proxy_ready() { curl -fsS --max-time 2 http://127.0.0.1:10256/healthz && iptables -w 5 -t nat -S KUBE-SERVICES; }

dns_answers() {
  # The kubernetes plugin answers only when it has read the Services: a plain TCP connection proves that
  # it serves, a lookup by the C library would need resolv.conf.
  timeout 2 bash -c ": </dev/tcp/$HOST_ADDRESS/53"
}

node_up() {
  local begin=$SECONDS
  start_scheduler
  start_containerd
  pause_image
  say "kube-scheduler, containerd, pause image: $((SECONDS - begin)) s"
  begin=$SECONDS
  start_kubelet
  start_proxy
  addons_apply
  start_coredns
  wait_for "kube-proxy's rules" kube-proxy 60 proxy_ready
  wait_for "CoreDNS answering on $HOST_ADDRESS" coredns 60 dns_answers
  wait_for "node $NODE_NAME Ready" kubelet 90 node_ready
  wait_for_controller_manager
  say "kubelet, kube-proxy, CoreDNS, node Ready: $((SECONDS - begin)) s"
}
