# shellcheck shell=bash
# The host's address that pods can reach, and the CNI configuration of the pod network.

host_network_up() {
  # This kernel has no dummy links; a bridge without ports carries an address as well.
  ip link show "$HOST_BRIDGE" >/dev/null 2>&1 || ip link add "$HOST_BRIDGE" type bridge
  ip address replace "$HOST_ADDRESS/32" dev "$HOST_BRIDGE"
  ip link set "$HOST_BRIDGE" up
  # Cluster addresses must be routable for this host's own connections (API server to webhooks) even
  # where there is no default route; kube-proxy's rules then send them to a pod.
  ip route replace "$SERVICE_CIDR" dev "$HOST_BRIDGE" src "$HOST_ADDRESS"
  sysctl -q -w net.ipv4.ip_forward=1
  # Without it a pod that reaches itself or its neighbour through a Service gets its answer unrewritten.
  if [[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]]; then
    sysctl -q -w net.bridge.bridge-nf-call-iptables=1
  fi
}

write_cni_config() {
  mkdir -p "$STATE/cni/net.d"
  cat >"$STATE/cni/net.d/10-agentwrit.conflist" <<EOF
{
  "cniVersion": "1.0.0",
  "name": "$CLUSTER",
  "plugins": [
    {
      "type": "bridge", "bridge": "$POD_BRIDGE", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$STATE/cni/addresses",
        "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
EOF
}
