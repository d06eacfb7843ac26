# shellcheck shell=bash
# The three kinds of storage: lab-dynamic (made by the controller manager, root:root 0750, no fsGroup), lab-local (a folder
# that takes fsGroup) and lab-small (an ext4 file system of its own that really fills up).

# Why this path: the host-path provisioner has it built in. A link there leads into the lab's own folder.
LAB_HOSTPATH_LINK=/tmp/hostpath_pv

make_storage() {
  mkdir -p "$LAB_STATE/hostpath" "$LAB_VOLUMES/local" "$LAB_VOLUMES/disk" "$LAB_VOLUMES/image"
  if [ -e "$LAB_HOSTPATH_LINK" ] && [ ! -L "$LAB_HOSTPATH_LINK" ]; then
    say "$LAB_HOSTPATH_LINK exists and is not ours: claims of class lab-dynamic will leave their folders there"
  else
    ln -sfn "$LAB_STATE/hostpath" "$LAB_HOSTPATH_LINK"
  fi
}

remove_storage() {
  local device
  for device in $(losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v dir="$LAB_STATE/" 'index($2, dir) == 1 {print $1}'); do
    losetup -d "$device" || true
  done
  [ "$(readlink "$LAB_HOSTPATH_LINK")" != "$LAB_STATE/hostpath" ] || rm -f "$LAB_HOSTPATH_LINK"
}

apply_storage_classes() {
  lab_kubectl apply -f - >/dev/null <<'YAML'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lab-dynamic}
provisioner: kubernetes.io/host-path
reclaimPolicy: Delete
volumeBindingMode: Immediate
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lab-local}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lab-small}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
YAML
}

# Names become folders and Kubernetes names.
check_volume_name() {
  [[ ${1:-} =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || die "not a usable volume name (lower case letters, digits, - and .): '${1:-}'"
}

# lab_pv NAME SIZE: a folder on the host behind a static PV of class lab-local. Prints the folder.
lab_pv() {
  check_volume_name "${1:-}"
  [ -n "${2:-}" ] || die "usage: hack/lab pv NAME SIZE (a Kubernetes quantity such as 1Gi)"
  mkdir -p "$LAB_VOLUMES/local/$1"
  apply_pv "$1" "$2" lab-local "$LAB_VOLUMES/local/$1"
  printf '%s\n' "$LAB_VOLUMES/local/$1"
}

delete_pv() {
  check_volume_name "${1:-}"
  lab_kubectl delete pv "$1" --ignore-not-found --wait=false >&2
  rm -rf "${LAB_VOLUMES:?}/local/$1"
}

# lab_disk NAME SIZE_MIB: the same on an ext4 file system of that size, of class lab-small. Prints the mount point.
lab_disk() {
  local mount=$LAB_VOLUMES/disk/${1:-} image=$LAB_VOLUMES/image/${1:-}
  check_volume_name "${1:-}"
  [[ ${2:-} =~ ^[0-9]+$ ]] || die "usage: hack/lab disk NAME SIZE_MIB"
  mkdir -p "$mount"
  if ! mountpoint -q "$mount"; then
    truncate -s "${2}M" "$image"
    # Why -m 0: with blocks reserved for root, the disk would be full for a worker and not for a test that runs as root.
    mkfs.ext4 -q -F -m 0 "$image"
    mount -o loop "$image" "$mount"
  fi
  apply_pv "$1" "${2}Mi" lab-small "$mount"
  printf '%s\n' "$mount"
}

# grow_disk NAME SIZE_MIB: makes its file system larger, once no Pod has it. What the PV and the claim say of it is a driver's work,
# and here the caller's. (While it is mounted it would take CAP_SYS_RESOURCE, which containers do not have.)
grow_disk() {
  local mount=$LAB_VOLUMES/disk/${1:-} image=$LAB_VOLUMES/image/${1:-} tries=0
  check_volume_name "${1:-}"
  [[ ${2:-} =~ ^[0-9]+$ ]] || die "usage: hack/lab disk --grow NAME SIZE_MIB"
  umount "$mount" || die "disk $1 is still in use"
  # The device goes with the last mount, the kubelet's included.
  while [ -n "$(losetup -n -O NAME -j "$image")" ]; do
    [ "$((tries += 1))" -le 300 ] || die "a Pod still has disk $1"
    sleep 0.1
  done
  truncate -s "${2}M" "$image"
  e2fsck -fp "$image" >&2 || [ "$?" -eq 1 ] || die "disk $1 is broken"
  resize2fs "$image" >&2
  mount -o loop "$image" "$mount"
}

delete_disk() {
  check_volume_name "${1:-}"
  lab_kubectl delete pv "$1" --ignore-not-found --wait=false >&2
  ! mountpoint -q "$LAB_VOLUMES/disk/$1" || umount "$LAB_VOLUMES/disk/$1" || die "disk $1 is still in use"
  rm -rf "${LAB_VOLUMES:?}/disk/$1" "$LAB_VOLUMES/image/$1"
}

# apply_pv NAME SIZE CLASS DIR: a claim gets exactly this one by `volumeName`, or by a selector on the label.
apply_pv() {
  lab_kubectl apply -f - >&2 <<YAML
apiVersion: v1
kind: PersistentVolume
metadata:
  name: $1
  labels: {modelcache.dev/lab-volume: $1}
spec:
  storageClassName: $3
  capacity: {storage: $2}
  accessModes: [ReadWriteOnce, ReadOnlyMany, ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  local: {path: "$4"}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions:
        - {key: kubernetes.io/hostname, operator: In, values: [$LAB_NODE]}
YAML
}
