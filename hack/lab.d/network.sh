# shellcheck shell=bash
# The bridge that Pods and host share, and the address translation that lets Pods out.

LAB_CHAIN=MC-LAB

# What the lab or its kubelet and kube-proxy set on the machine, and `down` sets back.
LAB_SYSCTLS="net.ipv4.ip_forward vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops
  kernel.keys.root_maxkeys kernel.keys.root_maxbytes"

make_network() {
  save_sysctls
  ! iptables-save | grep -q '^:KUBE-' || touch "$LAB_STATE/foreign-kube-chains"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  ip link add "$LAB_BRIDGE" type bridge || die "cannot make a network bridge: the lab needs CAP_NET_ADMIN"
  # Why a fixed address: a bridge takes over its first port's, and the neighbours' caches would go stale.
  ip link set "$LAB_BRIDGE" address 0a:58:0a:4d:00:01 up
  ip address add "$LAB_HOST_IP/${LAB_POD_CIDR#*/}" dev "$LAB_BRIDGE"
  iptables -w -t nat -N "$LAB_CHAIN"
  iptables -w -t nat -A "$LAB_CHAIN" -s "$LAB_POD_CIDR" ! -d "$LAB_POD_CIDR" -j MASQUERADE
  iptables -w -t nat -A POSTROUTING -j "$LAB_CHAIN"
  # Why: a container engine on the machine sets the policy of FORWARD to DROP.
  iptables -w -N "$LAB_CHAIN"
  iptables -w -A "$LAB_CHAIN" -i "$LAB_BRIDGE" -j ACCEPT
  iptables -w -A "$LAB_CHAIN" -o "$LAB_BRIDGE" -j ACCEPT
  iptables -w -I FORWARD -j "$LAB_CHAIN"
}

# Why reject and not drop: what tries to get out learns at once that it cannot.
isolate_network() {
  iptables -w -C "$LAB_CHAIN" -i "$LAB_BRIDGE" ! -o "$LAB_BRIDGE" -j REJECT 2>/dev/null ||
    iptables -w -I "$LAB_CHAIN" -i "$LAB_BRIDGE" ! -o "$LAB_BRIDGE" -j REJECT
}

connect_network() {
  iptables -w -D "$LAB_CHAIN" -i "$LAB_BRIDGE" ! -o "$LAB_BRIDGE" -j REJECT 2>/dev/null || true
}

remove_network() {
  local link
  restore_sysctls
  if command -v iptables >/dev/null; then
    [ ! -x "$LAB_BIN/kube-proxy" ] || "$LAB_BIN/kube-proxy" --cleanup >/dev/null 2>&1 || true
    remove_chain iptables nat "$LAB_CHAIN" POSTROUTING
    remove_chain iptables filter "$LAB_CHAIN" FORWARD
    remove_kube_firewall
  fi
  # Pods' interfaces go with their network namespaces; one whose namespace still waits for its end is removed here.
  for link in $(ip -o link show master "$LAB_BRIDGE" 2>/dev/null | sed 's/^[0-9]*: \([^@:]*\).*/\1/'); do
    ip link delete "$link" 2>/dev/null || true
  done
  ! ip link show "$LAB_BRIDGE" >/dev/null 2>&1 || ip link delete "$LAB_BRIDGE"
  rm -f "/var/lib/cni/results/$LAB_CNI_NETWORK"-*
}

# Why: kube-proxy makes this chain, and its cleanup leaves it to a kubelet to remove. Another cluster's is left alone.
remove_kube_firewall() {
  [ -d "$LAB_STATE" ] && [ ! -f "$LAB_STATE/foreign-kube-chains" ] || return 0
  remove_chain iptables filter KUBE-FIREWALL INPUT OUTPUT
  remove_chain ip6tables filter KUBE-FIREWALL INPUT OUTPUT
}

# remove_chain PROGRAM TABLE CHAIN PARENT...
remove_chain() {
  local program=$1 table=$2 chain=$3 parent
  shift 3
  for parent in "$@"; do "$program" -w -t "$table" -D "$parent" -j "$chain" 2>/dev/null || true; done
  "$program" -w -t "$table" -F "$chain" 2>/dev/null || true
  "$program" -w -t "$table" -X "$chain" 2>/dev/null || true
}

save_sysctls() {
  local name file
  for name in $LAB_SYSCTLS; do
    file=/proc/sys/${name//.//}
    [ ! -f "$file" ] || printf '%s %s\n' "$file" "$(cat "$file")"
  done >"$LAB_STATE/sysctls"
}

restore_sysctls() {
  local file value
  [ -f "$LAB_STATE/sysctls" ] || return 0
  while read -r file value; do
    [ "$(cat "$file")" = "$value" ] || echo "$value" >"$file" || true
  done <"$LAB_STATE/sysctls"
  rm -f "$LAB_STATE/sysctls"
}
