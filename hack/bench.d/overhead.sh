# shellcheck shell=bash
# `hack/bench overhead`: what the operator costs, from kubectl apply to Ready, against a raw Job that does the same copy from
# the same Hub with the same image on the same claim. To be sourced.

OVERHEAD=modelcache-bench # the namespace, the claim and the lab's volume
OVERHEAD_REPO=bench/tiny

overhead_k() { kubectl --namespace "$OVERHEAD" "$@"; }

overhead_hub() {
  local listen=$1 folder=$2 tries=0
  mkdir -p "$folder/tiny"
  printf '{"hidden_size": 8}\n' >"$folder/tiny/config.json"
  head -c 1000000 /dev/urandom >"$folder/tiny/model.safetensors"
  "${MODELCACHE_BIN:-$TARGET/release/modelcache}" serve --listen "$listen" --model "$OVERHEAD_REPO=$folder/tiny" >"$folder/hub.log" 2>&1 &
  OVERHEAD_HUB_PID=$!
  until (: <"/dev/tcp/${listen%:*}/${listen##*:}") 2>/dev/null; do
    if ! kill -0 "$OVERHEAD_HUB_PID" 2>/dev/null || [ "$((tries += 1))" -gt 100 ]; then
      tail -n 20 "$folder/hub.log" >&2
      die "the Hub did not start on $listen"
    fi
    sleep 0.1
  done
}

overhead_claim() {
  local class=${STORAGE_CLASS:-} volume=''
  kubectl create namespace "$OVERHEAD" >/dev/null
  if cluster_is_lab && [ -z "$class" ]; then
    "$ROOT/hack/lab" pv "$OVERHEAD" 1Gi >/dev/null 2>&1
    class=lab-local volume="volumeName: $OVERHEAD"
  fi
  overhead_k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $OVERHEAD}
spec:
  accessModes: [ReadWriteOnce]
  ${class:+storageClassName: $class}
  $volume
  resources: {requests: {storage: 1Gi}}
YAML
}

overhead_entry() {
  cat <<YAML
apiVersion: modelcache.dev/v1alpha1
kind: HubConnection
metadata: {name: bench}
spec: {endpoint: "$OVERHEAD_URL"}
---
apiVersion: modelcache.dev/v1alpha1
kind: ModelCacheEntry
metadata: {name: $1}
spec:
  repo: $OVERHEAD_REPO
  source: {hub: {connectionRef: {name: bench}}}
  storage: {claimName: $OVERHEAD, subPath: $1}
YAML
}

# The Pod is the operator's own, but for the words.
overhead_job() {
  cat <<YAML
apiVersion: batch/v1
kind: Job
metadata: {name: $1}
spec:
  backoffLimit: 0
  template:
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      restartPolicy: Never
      securityContext:
        {fsGroup: 65532, fsGroupChangePolicy: OnRootMismatch, runAsGroup: 65532, runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: copy
          image: "$OVERHEAD_IMAGE"
          args: [download, $OVERHEAD_REPO, --volume, /volume/$1, --endpoint, "$OVERHEAD_URL"]
          resources: {limits: {memory: 512Mi}, requests: {cpu: 100m, memory: 128Mi}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
          volumeMounts: [{mountPath: /volume, name: volume}]
      volumes: [{name: volume, persistentVolumeClaim: {claimName: $OVERHEAD}}]
YAML
}

# overhead_measure entry|job NAME: the seconds from before kubectl apply until the object is as it should be.
overhead_measure() {
  local began ended manifest
  manifest=$("overhead_$1" "$2")
  began=$(date +%s.%N)
  overhead_k apply -f - <<<"$manifest" >/dev/null
  case $1 in
    entry) overhead_k wait --for=condition=Ready --timeout 120s "mce/$2" >/dev/null ;;
    job) overhead_k wait --for=condition=Complete --timeout 120s "job/$2" >/dev/null ;;
  esac
  ended=$(date +%s.%N)
  awk -v a="$began" -v b="$ended" 'BEGIN {printf "%.2f\n", b - a}'
}

overhead_remove() {
  overhead_k delete mce,jobs --all --wait --timeout 120s >/dev/null
  overhead_k wait --for=delete pods --all --timeout 120s >/dev/null 2>&1 || true
}

overhead_end() {
  [ -z "${OVERHEAD_HUB_PID:-}" ] || kill "$OVERHEAD_HUB_PID" 2>/dev/null || true
  kubectl delete namespace "$OVERHEAD" --ignore-not-found --wait --timeout 120s >/dev/null 2>&1 || true
  if cluster_is_lab; then "$ROOT/hack/lab" pv --delete "$OVERHEAD" >/dev/null 2>&1 || true; fi
  [ -z "${OVERHEAD_FOLDER:-}" ] || rm -rf "$OVERHEAD_FOLDER"
}

# stdin: a number a line. Prints "median (min–max)".
overhead_median() { sort -n | awk '{x[NR] = $1} END {printf "%.2f (%.2f–%.2f)", (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2, x[1], x[NR]}'; }

bench_overhead() {
  local pairs=5 number one seconds entries='' jobs='' entry job
  while [ $# -gt 0 ]; do
    case $1 in
      --pairs) pairs=$2; shift 2 ;;
      *) die "hack/bench overhead knows --pairs N only" ;;
    esac
  done
  if cluster_is_lab; then use_lab; fi
  OVERHEAD_IMAGE=$(kubectl --namespace "${NAMESPACE:-$HELM_NAMESPACE_DEFAULT}" get deployment \
    --selector app.kubernetes.io/instance=modelcache -o jsonpath='{.items[0].spec.template.spec.containers[0].image}') || true
  [ -n "$OVERHEAD_IMAGE" ] || die "the operator is not in this cluster: run hack/install first"
  HUB_LISTEN=${HUB_LISTEN:-${LAB_HOST_IP:+$LAB_HOST_IP:18081}}
  [ -n "$HUB_LISTEN" ] || die "Pods of this cluster need a Hub: give HUB_LISTEN=IP:PORT, an address of this machine that they reach"
  OVERHEAD_URL=http://$HUB_LISTEN
  OVERHEAD_FOLDER=$(mktemp -d)
  trap overhead_end EXIT
  overhead_hub "$HUB_LISTEN" "$OVERHEAD_FOLDER"
  overhead_claim
  say "a first pair, not counted: it binds the claim"
  overhead_measure job warm-up-job >/dev/null
  overhead_measure entry warm-up-entry >/dev/null
  for ((number = 1; number <= pairs; number++)); do
    overhead_remove
    # Which one goes first alternates.
    for one in $([ $((number % 2)) -eq 0 ] && echo "entry job" || echo "job entry"); do
      seconds=$(overhead_measure "$one" "$one-$number")
      say "pair $number of $pairs: $one $seconds s"
      if [ "$one" = entry ]; then entries+=$seconds$'\n'; else jobs+=$seconds$'\n'; fi
    done
  done
  entry=$(printf %s "$entries" | overhead_median)
  job=$(printf %s "$jobs" | overhead_median)
  cat <<TEXT
### From kubectl apply to Ready

| | seconds (min–max) |
| --- | --- |
| a ModelCacheEntry on a bound claim, until Ready | $entry |
| a raw Job that does the same copy, until Complete | $job |
| difference of the medians | $(awk -v a="${entry%% *}" -v b="${job%% *}" 'BEGIN {printf "%.2f", a - b}') |

$pairs interleaved pairs; a model of 1 MB from a Hub on the same machine; $OVERHEAD_IMAGE.
TEXT
}
