# shellcheck shell=bash
# How real peers get onto a machine: Debian packages without their services, and Python packages in a venv outside the
# checkout. To be sourced after hack/steps.sh.

# without_services COMMAND...: Debian starts what it installs, and a system nginx would take the machine's port 80.
without_services() {
  local policy=/usr/sbin/policy-rc.d made='' code=0
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=1
  fi
  "$@" || code=$?
  [ -z "$made" ] || rm -f "$policy"
  return "$code"
}

# debian_packages COMMAND:PACKAGE...: installs the packages whose commands are missing.
debian_packages() {
  local pair missing=() log
  for pair in "$@"; do
    PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    die "missing: ${missing[*]}: install them with what this machine has, then run this again"
  fi
  say "installing the Debian packages ${missing[*]}"
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  # A fresh machine has no package lists, or old ones.
  without_services apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends install "${missing[@]}" >"$log" 2>&1 ||
    { apt-get -qq -o DPkg::Lock::Timeout=120 update && without_services apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends install "${missing[@]}"; } >>"$log" 2>&1 ||
    { tail -n 30 "$log" >&2; die "they could not be installed"; }
  rm -f "$log"
}

# python_venv NAME PACKAGES FILE...: the path of a venv made by PACKAGES, a function that gets its python, and keyed by the
# files' content. A venv cannot be moved, since its scripts hold its path: so it is made under a name of its own, and a link to
# it is put in place.
python_venv() {
  local name=$1 packages=$2 venv made key
  shift 2
  command -v python3 >/dev/null || die "python3 is missing: install Python 3.11 or newer with its venv module"
  key=$({ cat "$@" && python3 --version; } | sha256sum | cut -c1-16)
  venv=$CACHE/$name-$key
  if [ ! -x "$venv/bin/python" ]; then
    mkdir -p "$CACHE"
    made=$(mktemp -d "$venv.XXXXXX")
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$made'" EXIT
    chmod 755 "$made"
    python3 -m venv "$made" >&2
    "$packages" "$made/bin/python"
    ln -s "$(basename "$made")" "$made/published"
    mv -T "$made/published" "$venv"
    trap - EXIT
  fi
  echo "$venv"
}

# pip PYTHON ARGUMENT...: installs without asking and without advice.
pip() {
  local python=$1
  shift
  "$python" -m pip install --quiet --disable-pip-version-check --no-input "$@" >&2
}
