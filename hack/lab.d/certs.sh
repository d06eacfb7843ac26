# shellcheck shell=bash
# A throw-away certificate authority, the certificates that it signs, and the kubeconfig files that hold them.

# Why elliptic keys: making a dozen RSA keys would take longer than starting the cluster.
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

make_pki() {
  mkdir -p "$LAB_PKI"
  chmod 700 "$LAB_PKI"
  new_key "$LAB_PKI/ca.key"
  openssl req -x509 -new -key "$LAB_PKI/ca.key" -subj "/CN=modelcache-lab" -days 3650 -out "$LAB_PKI/ca.crt" \
    -addext keyUsage=critical,keyCertSign,digitalSignature
  new_key "$LAB_PKI/service-accounts.key"
  openssl pkey -in "$LAB_PKI/service-accounts.key" -pubout -out "$LAB_PKI/service-accounts.pub"

  sign apiserver "/CN=kube-apiserver" "$(names kubernetes.default.svc."$LAB_DOMAIN" kubernetes.default.svc kubernetes.default \
    kubernetes localhost),IP:127.0.0.1,IP:$LAB_HOST_IP,IP:$LAB_SERVICE_IP"
  sign kubelet "/O=system:nodes/CN=system:node:$LAB_NODE" "DNS:$LAB_NODE,IP:127.0.0.1,IP:$LAB_HOST_IP"
  sign admin "/O=system:masters/CN=lab-admin"
  sign controller-manager "/CN=system:kube-controller-manager"
  sign scheduler "/CN=system:kube-scheduler"
  sign proxy "/CN=system:kube-proxy"
  sign coredns "/O=system:masters/CN=coredns"
}

names() {
  local IFS=, list=("${@/#/DNS:}")
  printf '%s' "${list[*]}"
}

# sign NAME SUBJECT [SUBJECT_ALT_NAMES]: a certificate that is good for both ends of a connection.
sign() {
  local file=$LAB_PKI/$1
  new_key "$file.key"
  {
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n'
    [ -z "${3:-}" ] || printf 'subjectAltName=%s\n' "$3"
  } >"$file.ext"
  openssl req -new -key "$file.key" -subj "$2" |
    openssl x509 -req -CA "$LAB_PKI/ca.crt" -CAkey "$LAB_PKI/ca.key" -CAcreateserial -days 3650 \
      -extfile "$file.ext" -out "$file.crt" 2>/dev/null
}

make_kubeconfigs() {
  local name
  for name in kubelet controller-manager scheduler proxy coredns; do
    write_kubeconfig "$name" >"$LAB_ETC/$name.kubeconfig"
  done
  (umask 077 && write_kubeconfig admin >"$LAB_KUBECONFIG")
}

# write_kubeconfig CERTIFICATE: with the keys inside, so that the one file can be copied anywhere.
write_kubeconfig() {
  cat <<YAML
apiVersion: v1
kind: Config
current-context: lab
contexts:
- name: lab
  context: {cluster: lab, user: $1}
clusters:
- name: lab
  cluster:
    server: https://$LAB_HOST_IP:$LAB_API_PORT
    certificate-authority-data: $(base64 -w0 "$LAB_PKI/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$LAB_PKI/$1.crt")
    client-key-data: $(base64 -w0 "$LAB_PKI/$1.key")
YAML
}
