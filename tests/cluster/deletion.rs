//! An entry in a shared claim is deleted at every moment of its life: it goes, with exactly its files.

use crate::chosen;
use crate::harness::command::{kubectl, try_kubectl};
use crate::harness::volume::Volume;
use crate::harness::wait::{DEADLINE, says};
use crate::harness::{Gate, Stage, operator, shared};
use crate::storage::{StorageClass, remount};
use crate::usage::neighbour;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use modelcache::api::{HubConnection, ModelCacheEntry, ModelCacheEntryStatus, Phase, condition};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The lab's kinds of storage.
enum Storage {
    Local,
    Disk,
    Dynamic,
}

/// An entry beside another one, whose download is held; with its worker's Pod.
struct Held {
    stage: Stage,
    volume: Arc<Volume>,
    neighbour: ModelCacheEntry,
    gate: Gate,
    pod: Pod,
}

impl Held {
    async fn after(name: &str, bytes: usize, storage: Storage) -> Self {
        let mut stage = Stage::new(name).await;
        let volume = match storage {
            Storage::Local => stage.local("models").await,
            Storage::Disk => stage.disk("models", 64).await,
            Storage::Dynamic => stage.dynamic("models").await,
        };
        let neighbour = neighbour(&stage).await;
        let gate = Gate::at(stage.hub(), "/model.safetensors", bytes);
        stage.entry("tiny", shared("models", json!({}))).await;
        stage.until_held("tiny", &gate).await;
        let entry = stage.until_phase("tiny", Phase::Downloading).await;
        let pod = stage.pods(&entry).await.remove(0);
        Self { stage, volume, neighbour, gate, pod }
    }

    fn process(&self) -> u32 {
        operator::process(&self.pod).expect("the worker runs")
    }

    async fn delete(&self) {
        self.stage.api::<ModelCacheEntry>().delete("tiny", &DeleteParams::default()).await.unwrap();
    }

    /// The entry goes, and all that is left is its neighbour.
    async fn goes(&self) {
        self.stage.until_gone::<ModelCacheEntry>("tiny").await;
        assert_alone(&self.volume, &self.neighbour);
    }
}

fn assert_alone(volume: &Volume, neighbour: &ModelCacheEntry) {
    for left in ["entries/org_2ftiny", "hub/models--org--tiny", "views/org_2ftiny"] {
        assert!(!volume.folder.join(left).exists(), "{left} is left");
    }
    volume.assert_holds(neighbour, &chosen());
}

#[tokio::test]
async fn while_it_downloads() {
    let held = Box::pin(Held::after("deldown", 350_000, Storage::Disk)).await;
    held.delete().await;
    held.goes().await;
}

#[tokio::test]
async fn while_it_verifies_and_publishes() {
    let size = chosen().iter().find(|file| file.path == "model.safetensors").unwrap().bytes.len();
    let held = Box::pin(Held::after("delpub", size - 1, Storage::Local)).await;
    // The last byte arrives when the worker has been told to stop: what it does then, it does at once.
    let process = held.process();
    operator::signal(process, "STOP");
    held.gate.open();
    held.delete().await;
    let is_told = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    held.stage.until_is(&held.pod.name_any(), "told to stop", is_told).await;
    operator::signal(process, "CONT");
    held.goes().await;
}

/// Stops a process once a path is there; gives whether it had not got so far as another one.
fn stop_between(process: u32, first: &Path, last: &Path) -> bool {
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    let started = Instant::now();
    while !first.exists() {
        assert!(started.elapsed() < DEADLINE, "{} should be there", first.display());
        std::hint::spin_loop();
    }
    kill_process(process, Signal::STOP).unwrap();
    let stat = format!("/proc/{}/stat", process.as_raw_nonzero());
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") T ") && !stat.contains(") Z ")) {
        std::hint::spin_loop();
    }
    !last.exists()
}

#[tokio::test]
async fn while_it_publishes() {
    let size = chosen().iter().find(|file| file.path == "model.safetensors").unwrap().bytes.len();
    // Publication takes a few milliseconds: whoever comes too late tries again.
    for turn in 0..10 {
        let held = Box::pin(Held::after(&format!("delmidst{turn}"), size - 1, Storage::Disk)).await;
        let process = held.process();
        let first = held.volume.folder.join(".modelcache/begun/org_2ftiny");
        let last = held.volume.folder.join("entries/org_2ftiny/model_metadata.json");
        let stopping = tokio::task::spawn_blocking(move || stop_between(process, &first, &last));
        held.gate.open();
        let is_midst = stopping.await.unwrap();
        held.delete().await;
        let is_told = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        held.stage.until_is(&held.pod.name_any(), "told to stop", is_told).await;
        operator::signal(process, "KILL");
        held.goes().await;
        if is_midst {
            return;
        }
    }
    panic!("the worker was never caught while it published");
}

/// A node of which nothing is heard, until the end of this value.
struct LostNode(String);

impl LostNode {
    async fn new(stage: &Stage) -> Self {
        let name = format!("lost-{}", std::process::id());
        let nodes = Api::<Node>::all(stage.client.clone());
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"taints": [{"key": "lost", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "8Gi"}}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        Self(name)
    }
}

impl Drop for LostNode {
    fn drop(&mut self) {
        let _ = try_kubectl(&["delete", "node", &self.0, "--wait=false"]);
    }
}

#[tokio::test]
async fn while_its_node_is_lost() {
    let mut stage = Stage::new("dellost").await;
    let volume = stage.dynamic("models").await;
    let other = neighbour(&stage).await;
    let node = LostNode::new(&stage).await;
    let job = json!({"nodeSelector": {"kubernetes.io/hostname": node.0}, "tolerations": [{"operator": "Exists"}]});
    let entry = stage.entry("tiny", shared("models", json!({"job": job}))).await;
    let bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref() == Some(&node.0));
    let pod = stage.until_pod(&entry, "bound to the lost node", bound).await.name_any();
    // What its kubelet said while it was heard of.
    let running = json!({"status": {"phase": "Running", "startTime": jiff::Timestamp::now().to_string()}});
    stage.api::<Pod>().patch_status(&pod, &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    stage.change("tiny", json!({"spec": {"job": null}})).await;
    stage.api::<ModelCacheEntry>().delete("tiny", &DeleteParams::default()).await.unwrap();
    let told = |status: &ModelCacheEntryStatus| {
        let (reason, message) = says(status, condition::DELETION_BLOCKED);
        reason == "WorkerStillEnds" && message.contains(&node.0) && message.contains("not ready")
    };
    stage.until("tiny", "blocked by the lost node", told).await;
    // Two minutes past its grace period.
    stage.until_gone_in::<ModelCacheEntry>("tiny", Duration::from_mins(4)).await;
    assert_alone(&volume, &other);
}

#[tokio::test]
async fn while_its_worker_does_not_hear_that_it_shall_end() {
    let held = Box::pin(Held::after("delstop", 350_000, Storage::Dynamic)).await;
    operator::signal(held.process(), "STOP");
    held.delete().await;
    // The kubelet kills it after the grace period of 20 s.
    held.goes().await;
}

#[tokio::test]
async fn while_its_workers_pod_is_kept_by_somebody() {
    let held = Box::pin(Held::after("delkept", 350_000, Storage::Disk)).await;
    let finalizers = |value: serde_json::Value| json!({"metadata": {"finalizers": value}}).to_string();
    let name = held.pod.name_any();
    held.stage.kubectl(&[
        "patch",
        "pod",
        &name,
        "--type=merge",
        "-p",
        &finalizers(json!(["test.modelcache.dev/kept"])),
    ]);
    held.delete().await;
    held.goes().await;
    let kept = held.stage.api::<Pod>().get(&name).await.unwrap();
    assert!(kept.metadata.deletion_timestamp.is_some(), "the Pod is still there, and writes nothing any more");
    kubectl(&["-n", &held.stage.namespace, "patch", "pod", &name, "--type=merge", "-p", &finalizers(json!([]))]);
}

#[tokio::test]
async fn while_no_node_takes_its_worker() {
    let mut stage = Stage::new("delnode").await;
    let volume = stage.local("models").await;
    let other = neighbour(&stage).await;
    stage.entry("tiny", shared("models", json!({"job": {"nodeSelector": {"gpu": "none"}}}))).await;
    stage.until_reason("tiny", Phase::Provisioning, modelcache::ident::Reason::Unschedulable).await;
    stage.api::<ModelCacheEntry>().delete("tiny", &DeleteParams::default()).await.unwrap();
    let told = |status: &ModelCacheEntryStatus| says(status, condition::DELETION_BLOCKED).0 == "Unschedulable";
    stage.until("tiny", "blocked, as no node takes the removal either", told).await;
    stage.change("tiny", json!({"spec": {"job": null}})).await;
    stage.until_gone::<ModelCacheEntry>("tiny").await;
    assert_alone(&volume, &other);
}

#[tokio::test]
async fn while_its_claim_is_not_bound() {
    let stage = Stage::new("delunbound").await;
    stage.claim("models", json!({"storageClassName": "lab-local", "volumeName": "never"})).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_reason("tiny", Phase::Provisioning, modelcache::ident::Reason::PVCPending).await;
    stage.delete("tiny").await;
}

async fn is_gone(stage: &Stage, name: &str) {
    stage.api::<ModelCacheEntry>().delete(name, &DeleteParams::default()).await.unwrap();
    stage.until_gone::<ModelCacheEntry>(name).await;
}

#[tokio::test]
async fn after_what_it_was_made_with() {
    let mut stage = Stage::new("delafter").await;
    let volume = stage.local("models").await;
    let other = neighbour(&stage).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_ready("tiny").await;
    let spare = stage.unclaimed("own");
    let class = stage.namespace.clone();
    let patch = json!({"spec": {"storageClassName": class}}).to_string();
    stage.kubectl(&["patch", "pv", &spare.name, "--patch", &patch]);
    let class = StorageClass::new(&stage, &class, false);
    let template = json!({"spec": {"storageClassName": stage.namespace, "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "16Mi"}}}});
    let own = json!({"repo": crate::fakehub::REPO, "storage": {"volumeClaimTemplate": template}});
    stage.entry("own", own).await;
    stage.until_ready("own").await;

    drop(class);
    is_gone(&stage, "own").await;
    stage.until_gone::<PersistentVolumeClaim>("own").await;
    stage.api::<HubConnection>().delete("default", &DeleteParams::default()).await.unwrap();
    is_gone(&stage, "tiny").await;
    assert_alone(&volume, &other);
    stage.api::<PersistentVolumeClaim>().delete("models", &DeleteParams::default()).await.unwrap();
    stage.until_gone::<PersistentVolumeClaim>("models").await;
    is_gone(&stage, "neighbour").await;
}

#[tokio::test]
async fn with_its_namespace() {
    let held = Box::pin(Held::after("delspace", 350_000, Storage::Local)).await;
    let namespaces = Api::<Namespace>::all(held.stage.client.clone());
    namespaces.delete(&held.stage.namespace, &DeleteParams::default()).await.unwrap();
    let gone = await_condition(namespaces, &held.stage.namespace, |namespace: Option<&Namespace>| namespace.is_none());
    tokio::time::timeout(DEADLINE, gone).await.unwrap_or_else(|_| panic!("{}", held.stage.picture("tiny"))).unwrap();
}

#[tokio::test]
async fn from_a_volume_that_is_only_for_reading() {
    let mut stage = Stage::new("delreadonly").await;
    let volume = stage.disk("models", 16).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let entry = stage.until_ready("tiny").await;
    remount(&volume.folder, "ro");
    stage.api::<ModelCacheEntry>().delete("tiny", &DeleteParams::default()).await.unwrap();
    let told = |status: &ModelCacheEntryStatus| says(status, condition::DELETION_BLOCKED).0 == "VolumeReadOnly";
    let status = stage.until("tiny", "blocked by the volume", told).await.status.unwrap();
    let said = says(&status, condition::DELETION_BLOCKED).1;
    assert!(said.contains("\"models\"") && said.contains("entries/org_2ftiny"), "{said}");
    stage.change("tiny", json!({"metadata": {"annotations": {"modelcache.dev/force-delete": "true"}}})).await;
    let left = stage.until_event(&entry, modelcache::controller::plan::FILES_LEFT_BEHIND).await;
    stage.until_gone::<ModelCacheEntry>("tiny").await;
    let said = left.message.unwrap();
    assert!(said.contains("\"models\"") && said.contains("entries/org_2ftiny"), "{said}");
    volume.assert_holds(&entry, &chosen());
    remount(&volume.folder, "rw");
}
