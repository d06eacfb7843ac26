# shellcheck shell=bash
# What the lab needs of the operating system, installed with apt-get only when it is missing.

# command:package
LAB_COMMANDS="runc:runc iptables:iptables ip:iproute2 openssl:openssl mkfs.ext4:e2fsprogs losetup:mount mountpoint:util-linux"

cni_dir() {
  local dir
  for dir in /usr/lib/cni /opt/cni/bin; do
    [ ! -x "$dir/bridge" ] || { printf '%s' "$dir"; return; }
  done
  return 1
}

ensure_packages() {
  local pair missing=()
  for pair in $LAB_COMMANDS; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  cni_dir >/dev/null || missing+=(containernetworking-plugins)
  [ "${#missing[@]}" -gt 0 ] || return 0
  install_packages "${missing[@]}"
}

install_packages() {
  command -v apt-get >/dev/null || die "needs these programs, install them first: $*"
  say "installing Debian packages: $*"
  # Why the second try: a fresh machine often has no package lists, or old ones.
  apt_get install "$@" || { apt_get update && apt_get install "$@"; } || die "apt-get could not install: $*"
}

apt_get() {
  local action=$1
  shift
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends "$action" "$@" </dev/null >&2
}
