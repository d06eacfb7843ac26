//! Volumes that are missing, full, closed or only for reading.

use crate::chosen;
use crate::fakehub::{HubFile, REPO, noise};
use crate::harness::command::run;
use crate::harness::{Gate, Stage, shared};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota};
use kube::api::{Patch, PatchParams};
use modelcache::api::Phase;
use modelcache::ident::Reason;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Command;

pub(crate) fn weights(size: usize) -> Vec<HubFile> {
    vec![HubFile { path: "model.safetensors".into(), bytes: noise(5, size), lfs: true }]
}

fn own(class: &str, over: Value) -> Value {
    let mut claim = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}});
    for (key, value) in over.as_object().unwrap() {
        claim[key] = value.clone();
    }
    json!({"repo": REPO, "storage": {"volumeClaimTemplate": {"spec": claim}}})
}

#[tokio::test]
async fn a_claim_that_is_missing_and_one_that_does_not_bind_are_waited_for() {
    let mut stage = Stage::new("unbound").await;
    stage.entry("missing", shared("models", json!({}))).await;
    stage.until_says("missing", Phase::Provisioning, Reason::PVCPending, &["\"models\"", "create it"]).await;
    stage.local("models").await;
    stage.until_ready("missing").await;

    let later = format!("{}-later", stage.namespace);
    stage.entry("tiny", own("lab-local", json!({"volumeName": later}))).await;
    stage
        .until_says("tiny", Phase::Provisioning, Reason::PVCPending, &["claim \"tiny\"", "lab-local", "is not bound"])
        .await;
    let volume = stage.unclaimed("later");
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn a_missing_storage_class_is_waited_for() {
    let mut stage = Stage::new("class").await;
    let volume = stage.unclaimed("models");
    let class = stage.namespace.clone();
    stage.entry("tiny", own(&class, json!({}))).await;
    stage
        .until_says("tiny", Phase::Provisioning, Reason::StorageClassNotFound, &["claim \"tiny\"", &class, "create it"])
        .await;
    let patch = json!({"spec": {"storageClassName": class}}).to_string();
    stage.kubectl(&["patch", "pv", &volume.name, "--patch", &patch]);
    let _class = StorageClass::new(&stage, &class, false);
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
}

/// A class that goes with this value.
pub(crate) struct StorageClass(pub(crate) String);

impl StorageClass {
    pub(crate) fn new(stage: &Stage, name: &str, expands: bool) -> Self {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": expands});
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(class.to_string().as_bytes()).unwrap();
        stage.kubectl(&["create", "-f", file.path().to_str().unwrap()]);
        Self(name.to_owned())
    }
}

impl Drop for StorageClass {
    fn drop(&mut self) {
        let _ = crate::harness::try_kubectl(&["delete", "storageclass", &self.0]);
    }
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_told_before_the_first_byte() {
    let mut stage = Stage::new("small").await;
    let volume = stage.disk("models", 8).await;
    *stage.hub().files.lock().unwrap() = weights(20_000_000);
    stage.entry("tiny", shared("models", json!({}))).await;
    let message = stage.until_says("tiny", Phase::Failed, Reason::OutOfSpace, &["free"]).await;
    assert!(message.chars().any(|c| c.is_ascii_digit()), "{message}");
    assert!(stage.hub().requests_for("/resolve/").is_empty());
    volume.assert_nothing_published();
}

#[tokio::test]
async fn a_disk_that_fills_up_keeps_what_is_there_and_is_gone_on_with() {
    let mut stage = Stage::new("filling").await;
    let volume = stage.disk("models", 16).await;
    let files = weights(4_000_000);
    (*stage.hub().files.lock().unwrap()).clone_from(&files);
    let gate = Gate::at(stage.hub(), "/model.safetensors", 500_000);
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    volume.until_journaled().await;
    let filler = volume.folder.join("filler");
    fill(&filler);
    gate.open();
    // Space for the file was set aside before its first byte came, where the file system can do that; then what is made
    // after it is the first thing without a place.
    stage.until_says("tiny", Phase::Failed, Reason::OutOfSpace, &["the volume is full", "/volume/"]).await;
    assert!(!volume.folder.join("entries").join(crate::ENTRY).join("model_metadata.json").exists());
    std::fs::remove_file(&filler).unwrap();
    stage.hub().forget();
    stage.retry("tiny").await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    let requests = stage.hub().requests_for("/model.safetensors");
    assert!(requests.iter().all(|seen| seen.range.is_some()), "it goes on where it stopped: {requests:?}");
    let published = volume.assert_holds(&entry, &files);
    assert_eq!(published.files.len(), 1);
}

/// Writes until the disk is full.
pub(crate) fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 * 1024, 1024, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    let _ = file.sync_all();
}

#[tokio::test]
async fn a_volume_that_the_worker_may_not_write_to() {
    let stage = Stage::new("closed").await;
    stage.entry("tiny", own("lab-dynamic", json!({}))).await;
    stage.until_says("tiny", Phase::Failed, Reason::PermissionDenied, &["65532", "fsGroup"]).await;
    assert!(stage.hub().requests_for("/resolve/").is_empty());
}

#[tokio::test]
async fn a_volume_that_is_only_for_reading() {
    let mut stage = Stage::new("readonly").await;
    let volume = stage.disk("models", 16).await;
    stage.entry("before", shared("models", json!({}))).await;
    stage.until_ready("before").await;
    remount(&volume.folder, "ro");
    stage.entry("tiny", shared("models", json!({"revision": "v1"}))).await;
    stage.until_says("tiny", Phase::Failed, Reason::VolumeReadOnly, &["read-only"]).await;
    remount(&volume.folder, "rw");
    stage.retry("tiny").await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
}

pub(crate) fn remount(folder: &Path, how: &str) {
    run(Command::new("mount").arg("-o").arg(format!("remount,{how}")).arg(folder)).unwrap();
}

#[tokio::test]
async fn quotas_on_claims_and_pods_are_told_and_waited_for() {
    let mut stage = Stage::new("quota").await;
    let volume = stage.unclaimed("models");
    let quota = async |hard: Value| {
        let object =
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": hard}});
        stage
            .api::<ResourceQuota>()
            .patch("tight", &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
            .unwrap();
        let set = |quota: &ResourceQuota| {
            let shown = |part: Option<&std::collections::BTreeMap<String, _>>| json!(part);
            quota.status.as_ref().is_some_and(|status| shown(status.hard.as_ref()) == hard)
        };
        stage.until_is("tight", "counted", set).await;
    };
    quota(json!({"persistentvolumeclaims": "0"})).await;
    stage.entry("tiny", own("lab-local", json!({"volumeName": volume.name}))).await;
    stage.until_says("tiny", Phase::Pending, Reason::QuotaExceeded, &["\"tiny\"", "exceeded quota: tight"]).await;
    quota(json!({"persistentvolumeclaims": "1", "pods": "0"})).await;
    stage.until_is("tiny", "made", |_: &PersistentVolumeClaim| true).await;
    stage.until_says("tiny", Phase::Provisioning, Reason::QuotaExceeded, &["Pod", "exceeded quota: tight"]).await;
    quota(json!({"pods": "1"})).await;
    stage.until_phase("tiny", Phase::Ready).await;
}
