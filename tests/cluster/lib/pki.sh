# shellcheck shell=bash
# The cluster's CAs, their certificates and the kubeconfigs made of them. EC keys: quick to make.

# make_ca NAME: $PKI/NAME.{crt,key}.
make_ca() {
  local name=$1
  mkdir -p "$PKI"
  chmod 700 "$PKI"
  [[ -f $PKI/$name.crt ]] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$name.key"
  openssl req -x509 -new -key "$PKI/$name.key" -sha256 -days 365 -subj "/CN=$CLUSTER-$name" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out "$PKI/$name.crt"
}

# ServiceAccount tokens: the API server signs with the private half, everybody checks with the public.
make_service_account_key() {
  [[ -f $PKI/sa.pub ]] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/sa.key"
  openssl ec -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
}

# certificate NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES [CA]]: $PKI/NAME.{crt,key}, for client and server use.
certificate() {
  local name=$1 subject=$2 names=${3:-} ca=${4:-ca}
  [[ -f $PKI/$name.crt ]] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$name.key"
  openssl req -new -key "$PKI/$name.key" -subj "$subject" |
    openssl x509 -req -CA "$PKI/$ca.crt" -CAkey "$PKI/$ca.key" -CAcreateserial -sha256 -days 365 -out "$PKI/$name.crt" \
      -extfile <(
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        [[ -z $names ]] || echo "subjectAltName=$names"
      ) 2>/dev/null
}

# kubeconfig NAME FILE: a file with everything in it, so that it can be copied elsewhere.
kubeconfig() {
  local name=$1 file=$2
  (
    umask 077
    cat >"$file" <<EOF
apiVersion: v1
kind: Config
clusters:
- name: $CLUSTER
  cluster:
    server: $API_SERVER
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
- name: $name
  user:
    client-certificate-data: $(base64 -w0 "$PKI/$name.crt")
    client-key-data: $(base64 -w0 "$PKI/$name.key")
contexts:
- name: $CLUSTER
  context: {cluster: $CLUSTER, user: $name}
current-context: $CLUSTER
EOF
  )
}

control_plane_pki() {
  make_ca ca
  make_service_account_key
  # A CA of its own, or the certificate of any client of the API server would open etcd.
  make_ca etcd-ca
  certificate etcd /CN=etcd IP:127.0.0.1 etcd-ca
  certificate apiserver /CN=kube-apiserver \
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:$SERVICE_ADDRESS,IP:$HOST_ADDRESS,IP:127.0.0.1"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  kubeconfig controller-manager "$STATE/controller-manager.kubeconfig"
}

node_pki() {
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
  certificate coredns /CN=system:coredns
  certificate node "/O=system:nodes/CN=system:node:$NODE_NAME" "DNS:$NODE_NAME,IP:$HOST_ADDRESS"
  local name
  for name in scheduler proxy coredns node; do kubeconfig "$name" "$STATE/$name.kubeconfig"; done
}
