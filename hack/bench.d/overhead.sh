# shellcheck shell=bash
# What an entry costs beside a raw Job that does the same copy: from `kubectl apply` to Ready, and to Complete. To be sourced.

OVERHEAD_RUNS=${OVERHEAD_RUNS:-5}
OVERHEAD_FILES=4
OVERHEAD_NAME=modelcache-bench # the namespace, the volume and the claim
OVERHEAD_WORK=

overhead_clean() {
  [ -z "${OVERHEAD_HUB_PID:-}" ] || kill "$OVERHEAD_HUB_PID" 2>/dev/null || true
  kubectl delete namespace "$OVERHEAD_NAME" --ignore-not-found --wait --timeout 120s >/dev/null 2>&1 || true
  hack/lab pv --delete "$OVERHEAD_NAME" >/dev/null 2>&1 || true
  [ -z "$OVERHEAD_WORK" ] || rm -rf "$OVERHEAD_WORK"
}

# A tiny model under one name for each run, so that no run finds the last one's work.
overhead_hub() {
  local run file models=()
  OVERHEAD_WORK=$(mktemp -d)
  mkdir "$OVERHEAD_WORK/model"
  for file in $(seq "$OVERHEAD_FILES"); do head -c 2048 /dev/urandom | base64 >"$OVERHEAD_WORK/model/file$file.txt"; done
  for run in $(seq 0 "$OVERHEAD_RUNS"); do models+=(--model "bench/tiny$run=$OVERHEAD_WORK/model"); done
  "$TARGET/release/modelcache" serve --listen "$LAB_HOST_IP:0" "${models[@]}" >"$OVERHEAD_WORK/hub.log" 2>&1 &
  OVERHEAD_HUB_PID=$!
  until grep -qs 'listening on' "$OVERHEAD_WORK/hub.log"; do kill -0 "$OVERHEAD_HUB_PID" && sleep 0.1; done
  OVERHEAD_HUB=$(sed -n 's/^listening on //p' "$OVERHEAD_WORK/hub.log")
}

# The claim is bound before anything is measured.
overhead_claim() {
  kubectl create namespace "$OVERHEAD_NAME" >/dev/null
  hack/lab pv "$OVERHEAD_NAME" 1Gi >/dev/null
  k_apply <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: models}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: lab-local
  volumeName: $OVERHEAD_NAME
  resources: {requests: {storage: 1Gi}}
---
apiVersion: modelcache.dev/v1alpha1
kind: HubConnection
metadata: {name: default}
spec: {endpoint: "$OVERHEAD_HUB"}
YAML
}

k_apply() { kubectl --namespace "$OVERHEAD_NAME" apply -f - >/dev/null; }

# seconds COMMAND...: how long it takes, in seconds with three decimals.
seconds() {
  local began
  began=$(date +%s%N)
  "$@" >/dev/null
  awk -v ns="$(($(date +%s%N) - began))" 'BEGIN {printf "%.3f\n", ns / 1e9}'
}

overhead_entry() {
  k_apply <<YAML
apiVersion: modelcache.dev/v1alpha1
kind: ModelCacheEntry
metadata: {name: "tiny$1"}
spec:
  repo: bench/tiny$1
  storage: {claimName: models}
YAML
  kubectl --namespace "$OVERHEAD_NAME" wait --for=condition=Ready "mce/tiny$1" --timeout 60s
}

# What somebody would write without modelcache: fetch the files, and see that they are on the disk.
overhead_raw() {
  k_apply <<YAML
apiVersion: batch/v1
kind: Job
metadata: {name: "raw$1"}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      securityContext: {runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532}
      containers:
        - name: copy
          image: $LAB_SHELL_IMAGE
          command: [sh, -ec]
          args:
            - |
              mkdir -p /volume/raw$1 && cd /volume/raw$1
              for n in $(seq -s ' ' "$OVERHEAD_FILES"); do wget -q "$OVERHEAD_HUB/bench/tiny$1/resolve/main/file\$n.txt"; done
              sync
          volumeMounts: [{name: volume, mountPath: /volume}]
      volumes: [{name: volume, persistentVolumeClaim: {claimName: models}}]
YAML
  kubectl --namespace "$OVERHEAD_NAME" wait --for=condition=complete "job/raw$1" --timeout 60s
}

bench_overhead() {
  local run ours=() raw=() difference=()
  use_lab
  kubectl get crd modelcacheentries.modelcache.dev >/dev/null || die "the operator is not installed: hack/lab up && hack/install"
  overhead_clean
  trap overhead_clean EXIT
  overhead_hub
  overhead_claim
  say "overhead: one run that does not count"
  overhead_raw 0 >/dev/null
  overhead_entry 0 >/dev/null
  for run in $(seq "$OVERHEAD_RUNS"); do
    raw+=("$(seconds overhead_raw "$run")")
    ours+=("$(seconds overhead_entry "$run")")
    difference+=("$(awk -v a="${ours[-1]}" -v b="${raw[-1]}" 'BEGIN {printf "%.3f", a - b}')")
    say "overhead: run $run: raw Job ${raw[-1]} s, entry ${ours[-1]} s"
  done
  machine
  # shellcheck disable=SC2016 # Markdown
  printf '| from `kubectl apply` to | median, s | least–most, s |\n| --- | --- | --- |\n'
  printf '| Complete: a raw Job that fetches the same %d files | %s | %s |\n' "$OVERHEAD_FILES" "$(median "${raw[@]}")" "$(spread "${raw[@]}")"
  printf '| Ready: an entry for them, verified and published | %s | %s |\n' "$(median "${ours[@]}")" "$(spread "${ours[@]}")"
  printf '| entry minus raw Job, pair by pair | %s | %s |\n' "$(median "${difference[@]}")" "$(spread "${difference[@]}")"
}
