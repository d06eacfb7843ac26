# shellcheck shell=bash
# `hack/bench engine`: installs the contestants, then lets hack/bench.d/engine.py measure. To be sourced.

transfer_packages() {
  say "installing hf_transfer (once for a machine)"
  pip "$1" -r "$ROOT/hack/bench.d/requirements.txt"
}

bench_engine() {
  local judges transfer
  # shellcheck source=hack/judges/install.sh
  . "$ROOT/hack/judges/install.sh"
  judges=$("$ROOT/hack/judges/setup")
  debian_packages aria2c:aria2 curl:curl openssl:openssl time:time
  [ -x /usr/bin/time ] || die "GNU time is missing: install the package time"
  transfer=$(python_venv transfer transfer_packages "$ROOT/hack/bench.d/requirements.txt")
  if [ -z "${MODELCACHE_BIN:-}" ]; then
    cargo build --locked --release --bins
    MODELCACHE_BIN=$TARGET/release/modelcache
  fi
  BENCH_WORK=$(mktemp -d "${MODELCACHE_BENCH_DIR:-${TMPDIR:-/tmp}}/modelcache-bench.XXXXXX")
  trap 'rm -rf "$BENCH_WORK"' EXIT
  echo "modelcache of $(git -C "$ROOT" rev-parse --short HEAD), $(date -u +%F)."
  echo
  PYTHONDONTWRITEBYTECODE=1 "$judges/bin/python" "$ROOT/hack/bench.d/engine.py" --binary "$MODELCACHE_BIN" \
    --judges "$judges" --transfer "$transfer" --work "$BENCH_WORK" "$@"
}
