# shellcheck shell=bash
# Makes image tars with no container engine: one layer, one config, one manifest (the format of `docker save`).

# image_tar ROOTFS OUT NAME:TAG ARCH CONFIG_JSON: CONFIG_JSON is the image's "config" object (User, Env, Entrypoint...).
# The same input gives the same bytes.
image_tar() {
  local rootfs=$1 out=$2 name=$3 arch=$4 config=$5 work layer digest
  work=$(mktemp -d)
  deterministic_tar "$rootfs" "$work/layer.tar" .
  layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$arch" "$config" "$layer" >"$work/config"
  digest=$(sha256sum "$work/config" | cut -d' ' -f1)
  mv "$work/config" "$work/$digest.json"
  printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$digest" "$name" >"$work/manifest.json"
  # Why by rename: a reader never meets half an image.
  deterministic_tar "$work" "$out.tmp.$$" manifest.json "$digest.json" layer.tar && mv "$out.tmp.$$" "$out"
  rm -rf "$work"
}

# deterministic_tar FOLDER OUT NAME...
deterministic_tar() {
  local folder=$1 out=$2
  shift 2
  tar -C "$folder" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$out" "$@"
}

# elf_arch FILE: the architecture of an ELF file in the words of image formats, from its e_machine field.
elf_arch() {
  case $(od -An -tu2 -j18 -N2 "$1" | tr -d ' ') in
    62) echo amd64 ;;
    183) echo arm64 ;;
    *) echo "not an x86_64 or aarch64 program: $1" >&2; return 1 ;;
  esac
}
