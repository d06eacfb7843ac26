# shellcheck shell=bash
# The configuration files of the components. Their command lines are in components.sh.

make_config() {
  mkdir -p "$LAB_ETC/cni" "$LAB_ETC/registries/_default"
  containerd_config >"$LAB_ETC/containerd.toml"
  registry_config >"$LAB_ETC/registries/_default/hosts.toml"
  cni_config >"$LAB_ETC/cni/10-lab.conflist"
  kubelet_config >"$LAB_ETC/kubelet.yaml"
  audit_policy >"$LAB_ETC/audit.yaml"
  coredns_config >"$LAB_ETC/Corefile"
}

containerd_config() {
  cat <<TOML
version = 3
root = "$LAB_STATE/containerd"
state = "$LAB_STATE/containerd-state"
# Why: both would use folders outside the lab's own.
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]

[grpc]
address = "$LAB_CONTAINERD"

[plugins."io.containerd.cri.v1.images"]
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$LAB_PAUSE_IMAGE"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "$LAB_ETC/registries"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = $(lacks_sys_resource)
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$(cni_dir)"]
conf_dir = "$LAB_ETC/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "$(command -v runc)"
Root = "$LAB_STATE/runc"
SystemdCgroup = false
TOML
}

# Why: without CAP_SYS_RESOURCE (bit 24), as inside many sandboxes, lowering a process's OOM score fails and no Pod starts.
lacks_sys_resource() {
  local mask
  mask=$(sed -n 's/^CapEff:\t//p' /proc/self/status)
  if ((0x$mask >> 24 & 1)); then echo false; else echo true; fi
}

# Why: every pull goes to a port where nobody listens, so it fails in milliseconds, the same way on every machine.
# Images get here by `hack/lab load`.
registry_config() {
  printf 'server = "http://127.0.0.1:1"\n[host."http://127.0.0.1:1"]\ncapabilities = ["pull", "resolve"]\n'
}

cni_config() {
  cat <<JSON
{
  "cniVersion": "1.0.0",
  "name": "$LAB_CNI_NETWORK",
  "plugins": [
    {
      "type": "bridge", "bridge": "$LAB_BRIDGE", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$LAB_STATE/cni",
        "ranges": [[{"subnet": "$LAB_POD_CIDR", "rangeStart": "10.77.1.1", "gateway": "$LAB_HOST_IP"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    }
  ]
}
JSON
}

# Why the short lease: the controller manager judges a node dead after 16 s here (see components.sh) and must have seen
# several missed renewals by then, not one.
# Why eviction in MiB: the defaults are shares of the disk, which a build machine's disk regularly exceeds.
kubelet_config() {
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $LAB_HOST_IP
healthzBindAddress: $LAB_HOST_IP
readOnlyPort: 0
containerRuntimeEndpoint: unix://$LAB_CONTAINERD
cgroupDriver: cgroupfs
cgroupRoot: /$LAB_CGROUP
failCgroupV1: false
failSwapOn: false
protectKernelDefaults: false
makeIPTablesUtilChains: false
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: "$LAB_PKI/ca.crt"}
authorization: {mode: Webhook}
tlsCertFile: $LAB_PKI/kubelet.crt
tlsPrivateKeyFile: $LAB_PKI/kubelet.key
clusterDomain: $LAB_DOMAIN
clusterDNS: [$LAB_HOST_IP]
resolvConf: /etc/resolv.conf
podLogsDir: $LAB_STATE/pod-logs
volumePluginDir: $LAB_STATE/volume-plugins
maxPods: 250
serializeImagePulls: false
imageGCHighThresholdPercent: 100
syncFrequency: 5s
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 8
evictionHard:
  memory.available: 50Mi
  nodefs.available: 50Mi
  imagefs.available: 50Mi
registerWithTaints: []
shutdownGracePeriod: 0s
YAML
}

# Why only writes, and all of them: tests count what the operator's service account writes in a span of time.
audit_policy() {
  cat <<YAML
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
YAML
}

coredns_config() {
  cat <<COREFILE
.:53 {
  bind $LAB_HOST_IP
  ready $LAB_HOST_IP:8181
  errors
  cache 5
  kubernetes $LAB_DOMAIN in-addr.arpa {
    kubeconfig $LAB_ETC/coredns.kubeconfig
    ttl 1
    fallthrough in-addr.arpa
  }
$(grep -q '^nameserver' /etc/resolv.conf && echo "  forward . /etc/resolv.conf")
}
COREFILE
}
