# shellcheck shell=bash
# Starts and stops the components as detached processes. Their command lines are in components.sh.

pid_of() {
  local pid
  pid=$(cat "$LAB_PIDS/$1" 2>/dev/null) && [ -n "$pid" ] && is_ours "$pid" && ! ended "$pid" && printf '%s' "$pid"
}

# Why the threads: a process shows as a zombie while its last threads still hold its ports; and it stays one after them
# where process 1 collects no children.
ended() {
  local state
  state=$(sed -n 's/^State:\t\(.\).*/\1/p; s/^Threads:\t//p' "/proc/$1/status" 2>/dev/null | tr '\n' ' ')
  [ -z "$state" ] || [ "$state" = "Z 1 " ]
}

running() { pid_of "$1" >/dev/null; }

known_component() {
  local name
  for name in $LAB_DAEMONS $LAB_EXTRAS; do [ "$name" != "$1" ] || return 0; done
  die "unknown component: ${1:-none given}; there are: $LAB_DAEMONS $LAB_EXTRAS"
}

# spawn NAME: in a session of its own, with a clean environment (a proxy variable would break the API server's webhooks and
# the pulls) and none of our open files.
spawn() {
  local name=$1 argv=()
  ! running "$name" || return 0
  rm -f "$LAB_PIDS/$name"
  "argv_${name//-/_}"
  # shellcheck disable=SC2016 # expanded by the new process
  setsid bash -c 'echo $$ >"$1"; echo $$ >"$2"; shift 2; exec "$@"' spawn "$(cgroup_home)/daemons/cgroup.procs" "$LAB_PIDS/$name" \
    env -i HOME="$LAB_STATE" PATH="$LAB_BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "${argv[@]}" \
    </dev/null >>"$LAB_LOGS/$name.log" 2>&1 9>&- &
  wait_until 20 "$name to have a process id" test -s "$LAB_PIDS/$name"
}

# await NAME: until it answers, or it has died, or the time is over; then its log says why.
await() {
  local name=$1 deadline=$((SECONDS + 60))
  until "ready_${name//-/_}" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$deadline" ] || ! running "$name"; then
      say "$name does not answer; the last lines of $LAB_LOGS/$name.log:"
      tail -n 30 "$LAB_LOGS/$name.log" >&2
      return 1
    fi
    sleep 0.1
  done
}

start_component() {
  known_component "$1"
  spawn "$1"
  await "$1" || return 1
  [ "$1" != apiserver ] || restart_followers
}

# Why: client-go asks again after up to a minute when the API server was away twice within two minutes, as it is in tests; and
# who keeps no state loses nothing by beginning anew. (The kubelet goes on, since tests want to see what it does.)
restart_followers() {
  local name followers=()
  for name in controller-manager scheduler; do
    ! running "$name" || { kill_component "$name" && followers+=("$name"); }
  done
  for name in "${followers[@]}"; do spawn "$name"; done
  for name in "${followers[@]}"; do await "$name" || return 1; done
}

kill_component() {
  local pid
  known_component "$1"
  pid=$(pid_of "$1") || { say "$1 is not running"; return 0; }
  kill -KILL "$pid"
  wait_until 10 "$1 to end" ended "$pid"
}

signal_component() {
  local pid
  known_component "$1"
  pid=$(pid_of "$1") || die "$1 is not running"
  kill "-$2" "$pid"
}

# A polite stop first, as a node's service manager does it.
restart_component() {
  local pid
  known_component "$1"
  if pid=$(pid_of "$1"); then
    kill -TERM "$pid"
    # Why so short: the API server would wait up to a minute for its clients' connections.
    wait_until 3 "$1 to end by itself, so it is killed" ended "$pid" || kill_component "$1"
  fi
  start_component "$1"
}

# http_ok HOST PORT PATH: in a subshell, because a refused connection ends the shell that opened it.
http_ok() (
  exec 8<>"/dev/tcp/$1/$2" || exit 1
  printf 'GET %s HTTP/1.0\r\n\r\n' "$3" >&8
  IFS= read -r -t 3 line <&8
  [[ $line == *' 200 '* ]]
) 2>/dev/null

port_open() (
  exec 8<>"/dev/tcp/$1/$2"
) 2>/dev/null
