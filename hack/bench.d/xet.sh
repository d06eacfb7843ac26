# shellcheck shell=bash
# `hack/bench xet`: lets hack/bench.d/xet.py measure the client of the Hub's chunk store. To be sourced.

bench_xet() {
  local judges
  # shellcheck source=hack/judges/install.sh
  . "$ROOT/hack/judges/install.sh"
  judges=$("$ROOT/hack/judges/setup")
  debian_packages time:time
  bench_folder
  PYTHONDONTWRITEBYTECODE=1 "$judges/bin/python" "$ROOT/hack/bench.d/xet.py" --judges "$judges" --work "$BENCH_WORK" "$@"
}
