# shellcheck shell=bash
# Brings the whole cluster up, says whether it is healthy, and takes it down to the last trace.

# Which lab this machine runs; there is room for one, since the bridge and its addresses are the machine's.
LAB_OWNER=/run/modelcache-lab

foreign_lab() {
  local owner
  owner=$(cat "$LAB_OWNER" 2>/dev/null) && [ "$owner" != "$LAB_STATE" ] && [ -n "$(lab_pids)" ] && printf '%s' "$owner"
}

lab_up() {
  local began=$SECONDS owner
  ! owner=$(foreign_lab) || die "another lab is running on this machine, with its state in $owner"
  if healthy; then
    say "already up"
    [ "$(readlink "$LAB_STATE/bin")" = "$(tools_dir)" ] || say "it runs other versions than this checkout's: 'hack/lab down' first to change that"
    return
  fi
  if [ ! -f "$LAB_STATE/prepared" ] || [ -z "$(lab_pids)" ]; then
    tear_down
    prepare
  else
    say "the lab is up in part: starting what is missing"
  fi
  start_all || die "the lab did not come up; 'hack/lab down' removes what there is of it"
  say "up after $(seconds "$began")"
}

prepare() {
  [ "${#LAB_STATE}" -le 70 ] || die "the path $LAB_STATE is too long for the unix sockets in it: set MODELCACHE_LAB_STATE"
  mkdir -p "$LAB_STATE" "$LAB_ETC" "$LAB_LOGS" "$LAB_PIDS"
  touch "$LAB_STATE/$LAB_MARK"
  printf '%s' "$LAB_STATE" >"$LAB_OWNER"
  # Why a link: a lab goes on with the programs it was started with when another checkout builds other versions.
  ln -sfn "$(tools_dir)" "$LAB_STATE/bin"
  make_cgroups
  make_network
  make_pki
  make_kubeconfigs
  make_config
  make_storage
  touch "$LAB_STATE/prepared"
}

# Each line starts what needs nothing but the lines above.
start_all() {
  local name
  spawn etcd && spawn containerd || return 1
  await etcd && spawn apiserver || return 1
  await containerd && load_lab_images || return 1
  await apiserver || return 1
  for name in controller-manager scheduler kubelet proxy coredns; do spawn "$name"; done
  for name in controller-manager scheduler kubelet proxy coredns; do await "$name" || return 1; done
  apply_storage_classes || return 1
  wait_until 60 "the node to be Ready" node_ready || { tail -n 30 "$LAB_LOGS/kubelet.log" >&2; return 1; }
  # Why: a namespace takes Pods only when it has this account, a second or two after the node is Ready.
  wait_until 60 "the default service account" lab_kubectl -n default get serviceaccount default
}

load_lab_images() {
  local dir
  dir=$(build_dir images)
  image_exists "$LAB_PAUSE_IMAGE" || load_image "$dir/pause.tar" || return 1
  image_exists "$LAB_SHELL_IMAGE" || load_image "$dir/busybox.tar"
}

node_ready() {
  [ "$(lab_kubectl get node "$LAB_NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

healthy() {
  local name
  [ -f "$LAB_STATE/prepared" ] || return 1
  for name in $LAB_DAEMONS; do running "$name" || return 1; done
  { ready_coredns && ready_apiserver && node_ready && lab_kubectl -n default get serviceaccount default; } >/dev/null 2>&1
}

lab_status() {
  local name pid
  for name in $LAB_DAEMONS; do
    if pid=$(pid_of "$name"); then echo "$name: running, pid $pid"; else echo "$name: not running"; fi
  done
  echo "versions: kubernetes $KUBERNETES_VERSION, etcd $ETCD_VERSION, containerd $CONTAINERD_VERSION, coredns $COREDNS_VERSION, helm $HELM_VERSION"
  echo "state: $LAB_STATE"
  echo "KUBECONFIG: $LAB_KUBECONFIG"
  if healthy; then echo "healthy"; else echo "not healthy"; return 1; fi
}

# tear_down: works from any half-made state, and a second time.
tear_down() {
  local owner sockets
  ! owner=$(foreign_lab) || { say "the lab that runs is another one, with its state in $owner: left alone"; return; }
  if [ -d "$LAB_STATE" ] && [ ! -f "$LAB_STATE/$LAB_MARK" ] && [ -n "$(ls -A "$LAB_STATE")" ]; then
    die "$LAB_STATE is not a folder that the lab made: not deleting it"
  fi
  sockets=$(shim_sockets)
  wait_until 30 "the lab's processes to end" no_pids_left || die "these do not end: $(lab_pids | tr '\n' ' ')"
  unmount_all
  remove_storage
  remove_network
  remove_cgroups
  # shellcheck disable=SC2086 # a list of generated names without spaces
  rm -f $sockets "$LAB_OWNER"
  rmdir /run/containerd/s /run/containerd 2>/dev/null || true
  rm -rf --one-file-system "$LAB_STATE"
}

# Why: the shims' sockets are in a folder that containerd has built in, and a killed shim leaves its own behind.
shim_sockets() {
  local file
  [ -d "$LAB_STATE/containerd-state" ] || return 0
  find "$LAB_STATE/containerd-state" -name bootstrap.json -o -name address 2>/dev/null | while read -r file; do
    grep -o '/run/containerd/s/[0-9a-f]*' "$file" || true
  done | sort -u
}

lab_mounts() {
  awk -v dir="$LAB_STATE/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r
}

unmount_all() {
  local mount
  # Why lazily: a process that is just ending may still hold one for a moment.
  lab_mounts | while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount" || true; done
  [ -z "$(lab_mounts)" ] || die "cannot unmount: $(lab_mounts | tr '\n' ' ')"
}
