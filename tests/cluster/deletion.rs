//! An entry in a shared claim is deleted at every moment of its life: it goes, with exactly its files.

use crate::chosen;
use crate::harness::command::kubectl;
use crate::harness::volume::Volume;
use crate::harness::wait::says;
use crate::harness::{Gate, Stage, operator, shared};
use crate::usage::neighbour;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use modelcache::api::{ModelCacheEntry, ModelCacheEntryStatus, Phase, condition};
use serde_json::json;
use std::sync::Arc;

/// An entry beside another one, whose download is held; with its worker's Pod.
struct Held {
    stage: Stage,
    volume: Arc<Volume>,
    neighbour: ModelCacheEntry,
    gate: Gate,
    pod: Pod,
}

impl Held {
    async fn after(name: &str, bytes: usize, small_disk: bool) -> Self {
        let mut stage = Stage::new(name).await;
        let volume = if small_disk { stage.disk("models", 64).await } else { stage.local("models").await };
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
    let held = Box::pin(Held::after("deldown", 350_000, true)).await;
    held.delete().await;
    held.goes().await;
}

#[tokio::test]
async fn while_it_verifies_and_publishes() {
    let size = chosen().iter().find(|file| file.path == "model.safetensors").unwrap().bytes.len();
    let held = Box::pin(Held::after("delpub", size - 1, false)).await;
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

#[tokio::test]
async fn while_its_worker_does_not_hear_that_it_shall_end() {
    let held = Box::pin(Held::after("delstop", 350_000, false)).await;
    operator::signal(held.process(), "STOP");
    held.delete().await;
    // The kubelet kills it after the grace period of 20 s.
    held.goes().await;
}

#[tokio::test]
async fn while_its_workers_pod_is_kept_by_somebody() {
    let held = Box::pin(Held::after("delkept", 350_000, true)).await;
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
