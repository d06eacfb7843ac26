# shellcheck shell=bash
# Builds the cluster's Go programs into the cache. Each recipe_X fills a folder; ensure_built publishes it by one rename.

LAB_COMPONENTS="images etcd containerd helm coredns kubernetes"

recipe_version() {
  local name=${1^^}_VERSION
  printf '%s' "${!name}"
}

# build_dir COMPONENT: where its finished build is. Changed recipes get a new folder, as changed versions do.
build_dir() {
  local helpers hash
  case $1 in
    kubernetes) helpers="kubernetes_module" ;;
    images) helpers="pause_image shell_image image_tar deterministic_tar" ;;
    *) helpers="plain_module" ;;
  esac
  # shellcheck disable=SC2086 # a list of names
  hash=$(declare -f "recipe_$1" go_build $helpers | sha256sum | cut -c1-8)
  printf '%s/%s-%s-%s' "$LAB_CACHE" "$1" "$(recipe_version "$1")" "$hash"
}

# tools_dir: one folder with links to every built program. Its name changes when any version does.
tools_dir() {
  local component
  printf '%s/tools-%s' "$LAB_CACHE" "$(for component in $LAB_COMPONENTS; do build_dir "$component"; done | sha256sum | cut -c1-8)"
}

# build_all [COMPONENT...]: by default everything that `up` needs.
build_all() {
  local component program tools
  # shellcheck disable=SC2048,SC2086 # the default is a list of names
  for component in ${*:-$LAB_COMPONENTS}; do ensure_built "$component"; done
  tools=$(tools_dir)
  mkdir -p "$tools"
  for component in $LAB_COMPONENTS kwok; do
    for program in "$(build_dir "$component")"/bin/*; do
      [ ! -x "$program" ] || ln -sfn "$program" "$tools/$(basename "$program")"
    done
  done
}

ensure_built() {
  local component=$1
  [ -d "$(build_dir "$component")" ] || with_lock "$LAB_CACHE/build-$component.lock" build_component "$component"
}

build_component() {
  local component=$1 dest work began=$SECONDS
  dest=$(build_dir "$component")
  [ ! -d "$dest" ] || return 0
  command -v go >/dev/null || die "building $component needs Go (1.26 or newer) in PATH"
  rm -rf "$dest".tmp.*
  work=$dest.tmp.$$
  mkdir -p "$work/src" "$work/out/bin"
  say "building $component $(recipe_version "$component"); this happens once per version"
  # Why a new process: in the left side of || bash would go on after a recipe's failed step.
  (cd "$work/src" && exec "$LAB_SELF" recipe "$component" "$(recipe_version "$component")" "$work/out/bin") >"$work/log" 2>&1 || {
    tail -n 30 "$work/log" >&2
    die "building $component failed (log above, whole log in $work/log)"
  }
  mv -T "$work/out" "$dest"
  rm -rf "$work"
  say "built $component in $(seconds "$began")"
}

# go_build OUT LDFLAGS PACKAGE...: -mod=mod lets the throw-away module record the sums it needs.
go_build() {
  local out=$1 ldflags=$2
  shift 2
  CGO_ENABLED=0 GOFLAGS='' GOWORK=off go build -mod=mod -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$out" "$@"
}

# plain_module MODULE@VERSION: a module that requires this one only, so its own go.mod decides every other version.
plain_module() {
  GOFLAGS='' go mod init modelcache.dev/lab && GOFLAGS='' GOWORK=off go get "$1"
}

# Why: k8s.io/kubernetes asks for its staging modules at v0.0.0, from folders that its published module does not contain.
# Its own go.mod and go.sum, with those folders replaced by the published staging modules, build the very same programs.
kubernetes_module() {
  local version=$1 dir
  dir=$(GOFLAGS='' go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  sed -e 's|^module .*|module modelcache.dev/lab|' \
    -e "s|=> \./staging/src/\(.*\)|=> \1 v0.${version#1.}|" "$dir/go.mod" >go.mod
  printf '\nrequire k8s.io/kubernetes v%s\n' "$version" >>go.mod
  cat "$dir/go.sum" >go.sum
}

recipe_kubernetes() {
  local version=$1 package=k8s.io/component-base/version
  kubernetes_module "$version"
  # Why: without these the programs call themselves v0.0.0 and clients refuse or misjudge them.
  go_build "$2" "-X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kube-proxy,kubelet,kubectl}
}

recipe_etcd() {
  plain_module "go.etcd.io/etcd/server/v3@v$1" && go_build "$2/etcd" "" go.etcd.io/etcd/server/v3
}

recipe_containerd() {
  local module=github.com/containerd/containerd/v2
  plain_module "$module@v$1" &&
    go_build "$2" "-X $module/version.Version=v$1" $module/cmd/{containerd,containerd-shim-runc-v2,ctr}
}

# Why an own main: the stock one links the SDKs of every cloud, which triples the build, and the lab needs six plugins.
recipe_coredns() {
  plain_module "github.com/coredns/coredns@v$1" || return 1
  cat >main.go <<'GO'
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	dnsserver.Directives = []string{"bind", "ready", "errors", "cache", "kubernetes", "forward"}
	coremain.Run()
}
GO
  go_build "$2/coredns" "" .
}

recipe_helm() {
  plain_module "helm.sh/helm/v4@v$1" &&
    go_build "$2" "-X helm.sh/helm/v4/internal/version.version=v$1" helm.sh/helm/v4/cmd/helm
}

recipe_kwok() {
  plain_module "sigs.k8s.io/kwok@v$1" && go_build "$2" "" sigs.k8s.io/kwok/cmd/kwok
}
