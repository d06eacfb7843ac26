# shellcheck shell=bash
# `hack/bench archives`: exports and imports against GNU tar, zstd and openssl. To be sourced.

bench_archives() {
  # shellcheck source=hack/judges/install.sh
  . "$ROOT/hack/judges/install.sh"
  debian_packages time:time zstd:zstd
  bench_program
  bench_folder
  PYTHONDONTWRITEBYTECODE=1 python3 "$ROOT/hack/bench.d/export.py" --binary "$MODELCACHE_BIN" --work "$BENCH_WORK" "$@"
  PYTHONDONTWRITEBYTECODE=1 python3 "$ROOT/hack/bench.d/import.py" --binary "$MODELCACHE_BIN" --dir "$BENCH_WORK" "$@"
}
