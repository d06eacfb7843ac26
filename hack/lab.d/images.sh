# shellcheck shell=bash
# The two images that every lab has: the sandbox of each Pod, and a shell for test Pods.

LAB_PAUSE_IMAGE=lab/pause:1
LAB_SHELL_IMAGE=lab/busybox:1
# shellcheck disable=SC2034 # read by recipe_version
IMAGES_VERSION=1

recipe_images() {
  local out
  out=$(dirname "$2")
  pause_image "$out/pause.tar"
  shell_image "$out/busybox.tar"
}

# Why in Go: the lab needs Go anyway, and its programs are static without a C library to link.
pause_image() {
  mkdir -p pause pause-root
  cat >pause/main.go <<'GO'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
GO
  (cd pause && GOFLAGS='' go mod init modelcache.dev/pause && go_build ../pause-root/pause "" .)
  image_tar pause-root "$1" "$LAB_PAUSE_IMAGE" "$(elf_arch pause-root/pause)" '{"Entrypoint":["/pause"],"User":"65535:65535"}'
}

# Why from the package file and not installed: busybox-static replaces the machine's own busybox package.
shell_image() {
  local root=shell-root applet
  mkdir -p "$root"/{bin,etc,tmp,root}
  chmod 1777 "$root/tmp"
  mkdir -p deb
  (cd deb && { apt-get -qq download busybox-static || { apt_get update && apt-get -qq download busybox-static; }; })
  dpkg-deb -x deb/busybox-static_*.deb deb/files
  cp deb/files/bin/busybox "$root/bin/busybox"
  "$root/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  image_tar "$root" "$1" "$LAB_SHELL_IMAGE" "$(elf_arch "$root/bin/busybox")" \
    '{"Cmd":["/bin/sh"],"Env":["PATH=/bin"],"User":"65532:65532"}'
}

# load_image TAR: imports it and waits until the kubelet's side of containerd knows it, which happens a moment later. The
# sign of that is a record under the digest of the image's config, which the tar names.
load_image() {
  local tar=$1 manifest digest
  [ -f "$tar" ] || die "no such file: $tar"
  manifest=$(tar -xOf "$tar" manifest.json) || die "not an image in the format of 'docker save': $tar"
  lab_ctr images import "$tar" >/dev/null || die "containerd refused $tar"
  # shellcheck disable=SC2013 # digests have no spaces
  for digest in $(grep -o '"Config":"[^"]*"' <<<"$manifest" | grep -o '[0-9a-f]\{64\}'); do
    wait_until 20 "containerd to take up the image in $tar" image_exists "sha256:$digest" || return 1
  done
  say "loaded $(grep -o '"RepoTags":\[[^]]*\]' <<<"$manifest" | cut -d: -f2-)"
}

# image_exists NAME: under that name, or under a registry's default in front of it.
image_exists() { lab_ctr images ls -q "name~=\"(^|/)$1\$\"" | grep -q .; }

# Why the filter: with each call ctr prints a warning when the machine has version 1 of cgroups.
lab_ctr() {
  "$LAB_BIN/ctr" --address "$LAB_CONTAINERD" --namespace k8s.io "$@" 2> >(grep -v 'msg="DEPRECATION:' >&2)
}
