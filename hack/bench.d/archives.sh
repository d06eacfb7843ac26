# shellcheck shell=bash
# `hack/bench archives`: exports and imports against GNU tar, zstd and openssl. To be sourced.

bench_archives() {
  # shellcheck source=hack/judges/install.sh
  . "$ROOT/hack/judges/install.sh"
  debian_packages time:time zstd:zstd
  [ -x /usr/bin/time ] || die "GNU time is missing: install the package time"
  if [ -z "${MODELCACHE_BIN:-}" ]; then
    cargo build --locked --release --bins
    MODELCACHE_BIN=$TARGET/release/modelcache
  fi
  BENCH_WORK=$(mktemp -d "${MODELCACHE_BENCH_DIR:-${TMPDIR:-/tmp}}/modelcache-bench.XXXXXX")
  trap 'rm -rf "$BENCH_WORK"' EXIT
  echo "modelcache of $(git -C "$ROOT" rev-parse --short HEAD), $(date -u +%F)."
  echo
  PYTHONDONTWRITEBYTECODE=1 python3 "$ROOT/hack/bench.d/export.py" --binary "$MODELCACHE_BIN" --work "$BENCH_WORK" "$@"
  PYTHONDONTWRITEBYTECODE=1 python3 "$ROOT/hack/bench.d/import.py" --binary "$MODELCACHE_BIN" --dir "$BENCH_WORK" "$@"
}
