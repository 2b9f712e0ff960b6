# shellcheck shell=bash
# etcd, kube-apiserver, kube-controller-manager, kube-scheduler as plain processes of this machine.

start_etcd() {
  local client=https://127.0.0.1:$ETCD_PORT peer=https://127.0.0.1:$ETCD_PEER_PORT
  # No fsync: the data of a test cluster need not outlive a power cut.
  start etcd "$(tool etcd)" --name "$CLUSTER" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$CLUSTER=$peer" \
    --cert-file "$PKI/etcd.crt" --key-file "$PKI/etcd.key" --client-cert-auth --trusted-ca-file "$PKI/etcd-ca.crt" \
    --peer-cert-file "$PKI/etcd.crt" --peer-key-file "$PKI/etcd.key" --peer-client-cert-auth --peer-trusted-ca-file "$PKI/etcd-ca.crt"
  wait_for "etcd answering on port $ETCD_PORT" etcd 20 etcd_answers --cert "$PKI/etcd.crt" --key "$PKI/etcd.key"
  # Who writes into etcd is above every rule of the API server: no other program of this machine may.
  if etcd_answers || etcd_answers --cert "$PKI/admin.crt" --key "$PKI/admin.key"; then
    die "etcd answers a client that has none of its certificates"
  fi
}

# etcd_answers CURL-OPTIONS...
etcd_answers() {
  curl -fsS --max-time 2 --cacert "$PKI/etcd-ca.crt" "$@" "https://127.0.0.1:$ETCD_PORT/health" >/dev/null 2>&1
}

start_apiserver() {
  local reconciler=lease
  # A loopback address is no endpoint that a pod could use: in api-only mode there are none.
  [[ $HOST_ADDRESS == 127.* ]] && reconciler=none
  start kube-apiserver "$(tool kube-apiserver)" \
    --bind-address "$HOST_ADDRESS" --secure-port "$API_PORT" --advertise-address "$HOST_ADDRESS" \
    --endpoint-reconciler-type "$reconciler" \
    --etcd-servers "https://127.0.0.1:$ETCD_PORT" \
    --etcd-cafile "$PKI/etcd-ca.crt" --etcd-certfile "$PKI/etcd.crt" --etcd-keyfile "$PKI/etcd.key" --service-cluster-ip-range "$SERVICE_CIDR" \
    --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" --client-ca-file "$PKI/ca.crt" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-signing-key-file "$PKI/sa.key" --service-account-key-file "$PKI/sa.pub" \
    --kubelet-preferred-address-types InternalIP --kubelet-certificate-authority "$PKI/ca.crt" \
    --kubelet-client-certificate "$PKI/kubelet-client.crt" --kubelet-client-key "$PKI/kubelet-client.key" \
    --shutdown-delay-duration 0s --profiling=false
}

api_ready() {
  curl -fsS --max-time 2 --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "$API_SERVER/readyz"
}

wait_for_apiserver() {
  wait_for "the API server ready on $API_SERVER" kube-apiserver 90 api_ready
  kubeconfig admin "$KUBECONFIG_FILE"
}

start_controller_manager() {
  local cidrs=()
  [[ -z ${POD_CIDR:-} ]] || cidrs=(--allocate-node-cidrs --cluster-cidr "$POD_CIDR" --node-cidr-mask-size 24)
  start kube-controller-manager "$(tool kube-controller-manager)" \
    --kubeconfig "$STATE/controller-manager.kubeconfig" --leader-elect=false --secure-port 0 \
    --use-service-account-credentials --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
    --service-cluster-ip-range "$SERVICE_CIDR" --cluster-name "$CLUSTER" "${cidrs[@]}"
}

default_service_account_exists() {
  curl -fsS --max-time 2 --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" \
    "$API_SERVER/api/v1/namespaces/default/serviceaccounts/default"
}

# Pods can be created once the controller manager has made the namespace's ServiceAccount.
wait_for_controller_manager() {
  wait_for "the ServiceAccount default" kube-controller-manager 60 default_service_account_exists
}

start_scheduler() {
  start kube-scheduler "$(tool kube-scheduler)" --kubeconfig "$STATE/scheduler.kubeconfig" --leader-elect=false --secure-port 0
}

control_plane_up() {
  local begin=$SECONDS
  control_plane_pki
  say "certificates: $((SECONDS - begin)) s"
  begin=$SECONDS
  start_etcd
  start_apiserver
  wait_for_apiserver
  say "etcd and kube-apiserver: $((SECONDS - begin)) s"
  start_controller_manager
}
