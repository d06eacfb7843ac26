//! Claims that are made to fit, claims that grow, and what a quota says of them.

use crate::chosen;
use crate::fakehub::{HubFile, REPO};
use crate::harness::volume::Volume;
use crate::harness::wait::{holds, ready, says};
use crate::harness::{Gate, Stage, shared};
use crate::storage::{StorageClass, fill, weights};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use modelcache::api::{ModelCacheEntryStatus, Phase, condition};
use modelcache::ident::Reason;
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;

/// An entry whose own claim has no size.
fn unsized_claim(class: &str, over: Value) -> Value {
    template(class, None, over)
}

/// An entry whose own claim has this size.
fn template(class: &str, size: Option<&str>, over: Value) -> Value {
    let mut claim = json!({"storageClassName": class});
    if let Some(size) = size {
        claim["resources"] = json!({"requests": {"storage": size}});
    }
    for (key, value) in over.as_object().unwrap() {
        claim[key] = value.clone();
    }
    json!({"repo": REPO, "storage": {"volumeClaimTemplate": {"spec": claim}}})
}

/// What raises the size of an entry's own claim.
fn raise(size: &str) -> Value {
    json!({"spec": {"storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": size}}}}}}})
}

/// A Hub that says that its model is so large; there is nothing behind it.
fn promise(stage: &Stage, bytes: u64) {
    let file = json!({"type": "file", "path": "model.safetensors", "size": bytes, "oid": "0".repeat(40),
        "lfs": {"oid": "0".repeat(64), "size": bytes, "pointerSize": 135}});
    *stage.hub().raw_tree.lock().unwrap() = Some(json!([file]).to_string());
}

fn asked(claim: &PersistentVolumeClaim) -> &str {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests.and_then(|requests| requests.get("storage")).map_or("", |quantity| quantity.0.as_str())
}

#[tokio::test]
async fn a_claim_without_a_size_is_made_for_the_model() {
    let mut stage = Stage::new("fits").await;
    let volume = stage.unclaimed("models");
    stage.entry("small", unsized_claim("lab-local", json!({"volumeName": volume.name}))).await;
    let entry = stage.until_ready("small").await;
    volume.assert_holds(&entry, &chosen());
    let claim = stage.until_is("small", "bound", |_: &PersistentVolumeClaim| true).await;
    assert_eq!(asked(&claim), "1Gi");

    promise(&stage, 5 * GIB);
    stage.hub().forget();
    stage.entry("large", unsized_claim("lab-dynamic", json!({}))).await;
    let measured = |status: &ModelCacheEntryStatus| status.resolved.is_some();
    let entry = stage.until("large", "measured", measured).await;
    let resolved = entry.status.unwrap().resolved.unwrap();
    assert_eq!((resolved.files, u64::try_from(resolved.bytes)), (Some(1), Ok(5 * GIB)));
    let claim = stage.until_is("large", "made", |_: &PersistentVolumeClaim| true).await;
    assert_eq!(asked(&claim), "6Gi", "the model and a tenth");
    // The lab's provisioner makes folders of root and knows no fsGroup.
    stage.until_says("large", Phase::Failed, Reason::PermissionDenied, &["65532", "ownershipInit.enabled"]).await;
    assert!(stage.hub().requests_for("/resolve/").is_empty(), "{:?}", stage.hub().seen());
}

#[tokio::test]
async fn a_quota_on_storage_is_told_with_numbers_before_the_first_byte() {
    let mut stage = Stage::new("storagequota").await;
    let volume = stage.unclaimed("models");
    let quota = json!({"metadata": {"name": "disks"}, "spec": {"hard": {"requests.storage": "512Mi"}}});
    stage.create::<ResourceQuota>(quota).await;
    let counted = |quota: &ResourceQuota| quota.status.as_ref().is_some_and(|status| status.hard.is_some());
    stage.until_is("disks", "counted", counted).await;
    stage.entry("tiny", unsized_claim("lab-local", json!({"volumeName": volume.name}))).await;
    let words =
        ["\"tiny\"", "exceeded quota: disks", "requested: requests.storage=1Gi", "limited: requests.storage=512Mi"];
    stage.until_says("tiny", Phase::Pending, Reason::QuotaExceeded, &words).await;
    assert!(stage.hub().requests_for("/resolve/").is_empty(), "{:?}", stage.hub().seen());
    stage.api::<ResourceQuota>().delete("disks", &DeleteParams::default()).await.unwrap();
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
}

/// Makes a disk of the lab larger and tells the cluster so, as the driver of a class that allows it does.
async fn grow(stage: &Stage, claim: &str, volume: &Volume, size_mib: u32) {
    volume.grow(size_mib);
    let capacity = json!({"storage": format!("{size_mib}Mi")});
    let volumes = Api::<PersistentVolume>::all(stage.client.clone());
    let patch = Patch::Merge(json!({"spec": {"capacity": capacity}}));
    volumes.patch(&volume.name, &PatchParams::default(), &patch).await.unwrap();
    let patch = Patch::Merge(json!({"status": {"capacity": capacity}}));
    stage.api::<PersistentVolumeClaim>().patch_status(claim, &PatchParams::default(), &patch).await.unwrap();
}

/// Lets an entry begin its download on a disk that fills up meanwhile; gives the Hub's files.
async fn until_full(stage: &Stage, name: &str, spec: Value, volume: &Volume) -> Vec<HubFile> {
    let files = weights(4_000_000);
    (*stage.hub().files.lock().unwrap()).clone_from(&files);
    let gate = Gate::at(stage.hub(), "/model.safetensors", 500_000);
    stage.entry(name, spec).await;
    stage.until_held(name, &gate).await;
    volume.until_journaled().await;
    fill(&volume.folder.join("filler"));
    gate.open();
    stage.until_says(name, Phase::Failed, Reason::OutOfSpace, &["the volume is full"]).await;
    stage.hub().forget();
    files
}

fn assert_only_the_rest(stage: &Stage) {
    let requests = stage.hub().requests_for("/model.safetensors");
    assert!(requests.iter().all(|seen| seen.range.is_some()), "it goes on where it stopped: {requests:?}");
}

#[tokio::test]
async fn a_full_claim_that_somebody_made_larger_is_gone_on_with() {
    let mut stage = Stage::new("grown").await;
    let volume = stage.disk("models", 16).await;
    let files = until_full(&stage, "tiny", shared("models", json!({})), &volume).await;
    grow(&stage, "models", &volume, 48).await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    assert_only_the_rest(&stage);
    volume.assert_holds(&entry, &files);
}

#[tokio::test]
async fn a_full_claim_of_ones_own_grows_when_its_template_does() {
    let mut stage = Stage::new("raised").await;
    let volume = stage.unclaimed_disk("models", 16);
    let class = StorageClass::new(&stage, &stage.namespace, true);
    stage.kubectl(&[
        "patch",
        "pv",
        &volume.name,
        "--patch",
        &json!({"spec": {"storageClassName": class.0}}).to_string(),
    ]);
    let spec = template(&class.0, Some("16Mi"), json!({"volumeName": volume.name}));
    let files = until_full(&stage, "tiny", spec, &volume).await;
    stage.change("tiny", raise("48Mi")).await;
    stage.until_is("tiny", "asked to grow", |claim: &PersistentVolumeClaim| asked(claim) == "48Mi").await;
    let waits = |status: &ModelCacheEntryStatus| {
        status.phase == Some(Phase::Provisioning)
            && ready(status).1.contains("had 16Mi, which was too small, and grows")
    };
    stage.until("tiny", "waiting for its driver", waits).await;
    grow(&stage, "tiny", &volume, 48).await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    assert_only_the_rest(&stage);
    volume.assert_holds(&entry, &files);
}

#[tokio::test]
async fn a_claim_that_may_not_grow_is_told_and_its_model_stays_ready() {
    let mut stage = Stage::new("nogrowth").await;
    let volume = stage.unclaimed("models");
    stage.entry("tiny", template("lab-local", Some("16Mi"), json!({"volumeName": volume.name}))).await;
    stage.until_ready("tiny").await;
    // The lab's volume has 1Gi, whatever was asked for.
    stage.change("tiny", raise("2Gi")).await;
    let refused =
        |status: &ModelCacheEntryStatus| says(status, condition::STORAGE_GROWN).0 == Reason::PolicyDenied.as_str();
    let entry = stage.until("tiny", "refused", refused).await;
    stage.until_event(&entry, Reason::PolicyDenied.as_str()).await;
    let status = entry.status.unwrap();
    assert_eq!((status.phase, holds(&status, condition::READY)), (Some(Phase::Ready), true));
    assert!(!holds(&status, condition::STORAGE_GROWN), "{status:?}");
    assert!(says(&status, condition::STORAGE_GROWN).1.contains("must support resize"), "{status:?}");

    // A class that allows it takes the same request, also where the worker could not use the volume.
    stage.entry("dynamic", template("lab-dynamic", Some("16Mi"), json!({}))).await;
    stage.until_reason("dynamic", Phase::Failed, Reason::PermissionDenied).await;
    stage.change("dynamic", raise("64Mi")).await;
    stage.until_is("dynamic", "asked to grow", |claim: &PersistentVolumeClaim| asked(claim) == "64Mi").await;
}
