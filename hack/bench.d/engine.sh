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
  transfer=$(python_venv transfer transfer_packages "$ROOT/hack/bench.d/requirements.txt")
  bench_program
  bench_folder
  PYTHONDONTWRITEBYTECODE=1 "$judges/bin/python" "$ROOT/hack/bench.d/engine.py" --binary "$MODELCACHE_BIN" \
    --judges "$judges" --transfer "$transfer" --work "$BENCH_WORK" "$@"
}
