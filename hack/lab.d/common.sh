# shellcheck shell=bash
# Folders, messages and locks that every other part of hack/lab uses.

LAB_CACHE=${MODELCACHE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/modelcache}/lab
LAB_STATE=${MODELCACHE_LAB_STATE:-$LAB_CACHE/run}
# Why outside the state folder: `down` deletes the state folder, and must not delete the file that it holds locked.
LAB_LOCK=$LAB_STATE.lock

# Why this address only, and no wildcard: nothing of the lab can collide with another cluster's ports on this machine.
LAB_HOST_IP=10.77.0.1
LAB_API_PORT=16443
LAB_ETCD=127.0.0.1:12379
LAB_POD_CIDR=10.77.0.0/16
LAB_SERVICE_CIDR=10.96.0.0/16
LAB_SERVICE_IP=10.96.0.1
LAB_BRIDGE=mc-lab0
LAB_CNI_NETWORK=modelcache-lab
LAB_CGROUP=modelcache-lab
LAB_NODE=lab
LAB_DOMAIN=cluster.local

LAB_BIN=$LAB_STATE/bin
# Why: a state folder is deleted whole; without this file in it, it is somebody else's and is not.
LAB_MARK=.modelcache-lab
LAB_ETC=$LAB_STATE/etc
LAB_PKI=$LAB_STATE/pki
LAB_LOGS=$LAB_STATE/logs
LAB_PIDS=$LAB_STATE/pids
LAB_VOLUMES=$LAB_STATE/volumes
LAB_KUBECONFIG=$LAB_STATE/kubeconfig
LAB_AUDIT_LOG=$LAB_LOGS/audit.log
LAB_CONTAINERD=$LAB_STATE/containerd.sock

# shellcheck source=hack/lab.d/versions
. "$LAB_SOURCES/versions"

say() { printf 'lab: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

need_root() {
  [ "$(id -u)" = 0 ] || die "must run as root: it mounts volumes, makes a network bridge and starts containers"
}

# seconds SINCE: whole seconds since a value of $SECONDS, for progress messages.
seconds() { printf '%ds' "$((SECONDS - $1))"; }

# with_lock FILE COMMAND...: runs COMMAND while nobody else holds FILE. The daemons that COMMAND starts close fd 9 themselves.
with_lock() {
  local file=$1
  shift
  mkdir -p "$(dirname "$file")"
  exec 9>"$file"
  if ! flock -n 9; then
    say "waiting for another run that holds $file"
    flock 9
  fi
  "$@"
  exec 9>&-
}

# wait_until SECONDS WHAT COMMAND...: polls COMMAND; returns 1 and says so when it does not succeed in time.
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { say "timed out waiting for $what"; return 1; }
    sleep 0.05
  done
}
