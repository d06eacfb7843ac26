# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share: paths, lines of progress, and stages that are counted. To be sourced.

ROOT=$(readlink -f "${BASH_SOURCE[0]%/*}/..")
# What is built or fetched once for a machine, outside the checkout.
CACHE=${MODELCACHE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/modelcache}
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
HELM_NAMESPACE_DEFAULT=modelcache-system

STEPS_NAME=${STEPS_NAME:-$(basename "$0")}
STEPS_FAILED=()
STEPS_PASSED=0
STAGE_OK=

say() { printf '[%s %3d:%02d] %s\n' "$STEPS_NAME" $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2; }
die() { say "$*"; exit 1; }

# stage TITLE COMMAND...: runs one stage. Its failure is kept for `stages_end` and does not keep the next from running; STAGE_OK
# tells of it. Never to be called as a condition: bash would then go on after the stage's own failed commands.
stage() {
  local title=$1 began=$SECONDS code
  shift
  say "$title"
  set +e
  (set -e; "$@")
  code=$?
  set -e
  if [ "$code" -eq 0 ]; then
    STAGE_OK=1
    STEPS_PASSED=$((STEPS_PASSED + 1))
    say "$title: ok, $((SECONDS - began)) s"
  else
    STAGE_OK=
    stage_failed "$title"
    say "$title: FAILED after $((SECONDS - began)) s"
  fi
}

stage_failed() { STEPS_FAILED+=("$1"); }

# stages_end: the last line, and the exit code.
stages_end() {
  local title
  for title in "${STEPS_FAILED[@]}"; do say "failed: $title"; done
  say "$STEPS_PASSED stages passed, ${#STEPS_FAILED[@]} failed"
  [ "${#STEPS_FAILED[@]}" -eq 0 ]
}

# cluster_is_lab: whether the scripts work on hack/lab's cluster, as they do when nobody names another.
cluster_is_lab() { [ -z "${KUBECONFIG:-}" ] || [ "$KUBECONFIG" = "$(lab_kubeconfig)" ]; }

lab_kubeconfig() { (eval "$("$ROOT/hack/lab" env)" && printf '%s' "$KUBECONFIG"); }

# The lab's settings, and its programs in front of the machine's.
use_lab() {
  eval "$("$ROOT/hack/lab" env)"
  export PATH=$LAB_BIN:$PATH
}

# helm_in_path: helm of the lab's version, built when it is missing; its version decides how a chart is rendered.
helm_in_path() {
  local bin
  "$ROOT/hack/lab" build helm
  bin=$(eval "$("$ROOT/hack/lab" env)" && printf '%s' "$LAB_BIN")
  # Why not the whole folder: with another cluster its own kubectl is the right one.
  mkdir -p "$CACHE/bin"
  ln -sfn "$bin/helm" "$CACHE/bin/helm"
  export PATH=$CACHE/bin:$PATH
}
