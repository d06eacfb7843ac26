# shellcheck shell=bash
# Everything that the lab runs lives below one cgroup: the daemons, what they start, and the Pods. Being in it, which a
# process inherits and cannot lose by chance, is the proof that a process is ours: no name is matched, no stale id believed.

# cgroup_roots: the cgroup file systems of this machine, one (version 2) or one for each controller (version 1,
# where the runtime also uses an empty one of version 2).
cgroup_roots() {
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    echo /sys/fs/cgroup
  else
    awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts
  fi
}

# The hierarchy in which membership is read. Version 1 has many; `pids` is one that every container is put into.
cgroup_home() {
  local root=/sys/fs/cgroup
  [ -f "$root/cgroup.controllers" ] || root=$root/pids
  printf '%s' "$root/$LAB_CGROUP"
}

make_cgroups() {
  local root file
  for root in $(cgroup_roots); do
    mkdir -p "$root/$LAB_CGROUP" || die "cannot make a cgroup in $root: the lab needs writable cgroups"
    # Why: a version 1 cpuset accepts no process while it is empty, and a new one is.
    for file in cpuset.mems cpuset.cpus; do
      [ ! -f "$root/tasks" ] || [ ! -f "$root/$file" ] || cat "$root/$file" >"$root/$LAB_CGROUP/$file"
    done
  done
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    sed 's/\([^ ]*\)/+\1/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control || true
  fi
  mkdir -p "$(cgroup_home)/daemons"
}

is_ours() { grep -qs ":/$LAB_CGROUP/" "/proc/$1/cgroup"; }

lab_pids() { find "$(cgroup_home)" -name cgroup.procs -exec cat {} + 2>/dev/null || true; }

no_pids_left() {
  local pid
  for pid in $(lab_pids); do
    if is_ours "$pid"; then kill -KILL "$pid" 2>/dev/null || true; fi
  done
  [ -z "$(lab_pids)" ]
}

remove_cgroups() {
  local root
  for root in $(cgroup_roots); do
    [ ! -d "$root/$LAB_CGROUP" ] || find "$root/$LAB_CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}
