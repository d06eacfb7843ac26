# shellcheck shell=bash
# One command line (argv_X) and one readiness check (ready_X) for each component.

LAB_DAEMONS="etcd containerd apiserver controller-manager scheduler kubelet proxy coredns"
# Not started by `up`: a test that wants it starts it.
LAB_EXTRAS="kwok"

argv_etcd() {
  # Why no fsync: the data lives as long as the lab, and fsync makes every write wait for a shared disk.
  argv=("$LAB_BIN/etcd" --name lab --data-dir "$LAB_STATE/etcd" --unsafe-no-fsync --log-level warn
    --listen-client-urls "http://$LAB_ETCD" --advertise-client-urls "http://$LAB_ETCD"
    --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380
    --initial-cluster lab=http://127.0.0.1:12380)
}
ready_etcd() { http_ok "${LAB_ETCD%:*}" "${LAB_ETCD#*:}" /health; }

argv_containerd() { argv=("$LAB_BIN/containerd" --config "$LAB_ETC/containerd.toml"); }
ready_containerd() { lab_ctr version; }

argv_apiserver() {
  # shellcheck disable=SC2054 # the comma is the flag's own
  argv=("$LAB_BIN/kube-apiserver" --bind-address "$LAB_HOST_IP" --secure-port "$LAB_API_PORT" --advertise-address "$LAB_HOST_IP"
    --etcd-servers "http://$LAB_ETCD" --service-cluster-ip-range "$LAB_SERVICE_CIDR"
    --client-ca-file "$LAB_PKI/ca.crt" --tls-cert-file "$LAB_PKI/apiserver.crt" --tls-private-key-file "$LAB_PKI/apiserver.key"
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged
    --service-account-issuer "https://kubernetes.default.svc.$LAB_DOMAIN"
    --service-account-signing-key-file "$LAB_PKI/service-accounts.key" --service-account-key-file "$LAB_PKI/service-accounts.pub"
    --kubelet-certificate-authority "$LAB_PKI/ca.crt" --kubelet-preferred-address-types InternalIP
    --kubelet-client-certificate "$LAB_PKI/admin.crt" --kubelet-client-key "$LAB_PKI/admin.key"
    --audit-policy-file "$LAB_ETC/audit.yaml" --audit-log-path "$LAB_AUDIT_LOG" --audit-log-maxsize 500 --audit-log-maxbackup 1
    # Why blocking: a line is in the file before its request is answered, so a test need not wait for it.
    --audit-log-mode blocking
    # Why: with the 300 s of a real cluster, no test of a dead node would end in time. (When every node is dead, as when
    # the only one is, Kubernetes evicts nothing; such a test needs a second node, which kwok can play.)
    --default-not-ready-toleration-seconds 15 --default-unreachable-toleration-seconds 15)
}
ready_apiserver() { lab_kubectl get --raw /readyz; }

argv_controller_manager() {
  argv=("$LAB_BIN/kube-controller-manager" --kubeconfig "$LAB_ETC/controller-manager.kubeconfig" --bind-address "$LAB_HOST_IP"
    --leader-elect=false --use-service-account-credentials
    --service-account-private-key-file "$LAB_PKI/service-accounts.key" --root-ca-file "$LAB_PKI/ca.crt"
    # The provisioner of class lab-dynamic.
    --enable-hostpath-provisioner
    # Why 16 s and not 50: tests of a dead node; a kubelet restart takes 2 s, so it is not taken for one.
    --node-monitor-grace-period 16s --node-monitor-period 1s
    --concurrent-job-syncs 20 --pvclaimbinder-sync-period 3s
    --kube-api-qps 200 --kube-api-burst 300)
}
ready_controller_manager() { port_open "$LAB_HOST_IP" 10257; }

argv_scheduler() {
  argv=("$LAB_BIN/kube-scheduler" --kubeconfig "$LAB_ETC/scheduler.kubeconfig" --bind-address "$LAB_HOST_IP" --leader-elect=false)
}
ready_scheduler() { port_open "$LAB_HOST_IP" 10259; }

argv_kubelet() {
  argv=("$LAB_BIN/kubelet" --config "$LAB_ETC/kubelet.yaml" --kubeconfig "$LAB_ETC/kubelet.kubeconfig" --root-dir "$LAB_STATE/kubelet"
    --cert-dir "$LAB_STATE/kubelet/pki" --hostname-override "$LAB_NODE" --node-ip "$LAB_HOST_IP")
}
ready_kubelet() { http_ok "$LAB_HOST_IP" 10248 /healthz; }

argv_proxy() {
  argv=("$LAB_BIN/kube-proxy" --kubeconfig "$LAB_ETC/proxy.kubeconfig" --hostname-override "$LAB_NODE" --proxy-mode iptables
    # Why masquerade all: Pods share one bridge, where an answer would pass by the host without its address translated back
    # unless the machine has br_netfilter on.
    --masquerade-all --cluster-cidr "$LAB_POD_CIDR" --iptables-min-sync-period 100ms
    # Why: it would change net.ipv4.conf.all.route_localnet and leave a firewall rule for that behind.
    --iptables-localhost-nodeports=false
    --healthz-bind-address "$LAB_HOST_IP:10256" --metrics-bind-address "$LAB_HOST_IP:10249"
    # Why 0: leave the machine's connection tracking limits alone.
    --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0)
}
ready_proxy() { http_ok "$LAB_HOST_IP" 10256 /livez; }

argv_coredns() { argv=("$LAB_BIN/coredns" -conf "$LAB_ETC/Corefile"); }
ready_coredns() { http_ok "$LAB_HOST_IP" 8181 /ready; }

# Nodes with the label type=kwok, and their Pods, which run without a process.
argv_kwok() {
  argv=("$LAB_BIN/kwok" --config "$LAB_SOURCES/kwok.yaml" --kubeconfig "$LAB_KUBECONFIG" --manage-all-nodes=false --manage-nodes-with-label-selector type=kwok
    --node-lease-duration-seconds 40 --server-address 127.0.0.1:10247)
}
ready_kwok() { http_ok 127.0.0.1 10247 /healthz; }

lab_kubectl() { "$LAB_BIN/kubectl" --kubeconfig "$LAB_KUBECONFIG" --request-timeout 10s "$@"; }
