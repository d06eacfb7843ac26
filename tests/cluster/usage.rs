//! Pods that use models: how they are seen, and how they keep a model from being deleted.

use crate::chosen;
use crate::harness::volume::Volume;
use crate::harness::wait::{holds, says};
use crate::harness::{Stage, lab, operator, shared};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use modelcache::api::{ModelCacheEntry, ModelCacheEntryStatus, condition};
use serde_json::{Value, json};
use std::sync::Arc;

/// Another entry in the same claim, in a folder of its own.
pub(crate) async fn neighbour(stage: &Stage) -> ModelCacheEntry {
    let spec = json!({"repo": crate::fakehub::REPO, "storage": {"claimName": "models", "subPath": "neighbour"}});
    stage.entry("neighbour", spec).await;
    stage.until_ready("neighbour").await
}

/// A Pod that mounts a folder of the claim `models` and stays.
async fn consumer(stage: &Stage, name: &str, mount: Value) {
    let mut mount = mount;
    mount["name"] = "models".into();
    mount["mountPath"] = "/models".into();
    let pod = json!({"metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}}],
        "containers": [{"name": "c", "image": lab::shell_image(), "command": ["sh", "-c", "sleep 3600"],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [mount]}]}});
    stage.create::<Pod>(pod).await;
    let running = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    stage.until_is(name, "running", running).await;
}

async fn end(stage: &Stage, pod: &str) {
    stage.api::<Pod>().delete(pod, &DeleteParams::default()).await.unwrap();
    stage.until_gone::<Pod>(pod).await;
}

async fn delete(stage: &Stage, name: &str) {
    let api: Api<ModelCacheEntry> = stage.api();
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

fn pods(status: &ModelCacheEntryStatus) -> Option<i32> {
    status.usage.as_ref()?.pods
}

#[tokio::test]
async fn a_use_is_seen_and_its_end_too() {
    let mut stage = Stage::new("used").await;
    stage.disk("models", 64).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let entry = stage.until_ready("tiny").await;
    let path = entry.status.unwrap().volume.unwrap().path.unwrap();
    consumer(&stage, "web", json!({"subPath": path})).await;
    let used = |status: &ModelCacheEntryStatus| pods(status) == Some(1) && holds(status, condition::IN_USE);
    let status = stage.until("tiny", "in use", used).await.status.unwrap();
    let by = format!("{}/default/Pod/web", stage.namespace);
    assert_eq!(says(&status, condition::IN_USE), ("Used", "1 Pod uses the model: web"));
    assert_eq!(status.usage.unwrap().last_used_by.as_ref(), Some(&by));
    assert_eq!(status.metadata.unwrap()["lastUsedBy"], by);
    // Of other tests there are more.
    for metric in ["modelcache_using_pods", "modelcache_entries{phase=\"Ready\"}", "modelcache_model_bytes"] {
        assert!(operator::metric(&stage.client, metric).await.is_some_and(|value| value >= 1.0), "{metric}");
    }
    end(&stage, "web").await;
    let unused = |status: &ModelCacheEntryStatus| pods(status) == Some(0) && !holds(status, condition::IN_USE);
    let status = stage.until("tiny", "not in use", unused).await.status.unwrap();
    assert_eq!(status.usage.unwrap().last_used_by, Some(by));
}

async fn published_again(stage: &Stage, volume: &Arc<Volume>) {
    stage.entry("tiny", shared("models", json!({}))).await;
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn a_model_that_pods_mount_stays_until_they_go_or_it_is_forced() {
    let mut stage = Stage::new("guarded").await;
    let volume = stage.local("models").await;
    let other = neighbour(&stage).await;
    published_again(&stage, &volume).await;
    consumer(&stage, "web", json!({"subPath": "entries/org_2ftiny/model"})).await;
    consumer(&stage, "root", json!({})).await;
    let blocked = |status: &ModelCacheEntryStatus| holds(status, condition::DELETION_BLOCKED);
    delete(&stage, "tiny").await;
    let entry = stage.until("tiny", "blocked", blocked).await;
    let (reason, message) = says(entry.status.as_ref().unwrap(), condition::DELETION_BLOCKED);
    assert!(reason == "InUse" && message.contains("web") && message.contains("root"), "{reason}: {message}");
    volume.assert_holds(&entry, &chosen());
    end(&stage, "web").await;
    let one = |status: &ModelCacheEntryStatus| !says(status, condition::DELETION_BLOCKED).1.contains("web");
    let entry = stage.until("tiny", "blocked by the other", one).await;
    volume.assert_holds(&entry, &chosen());
    end(&stage, "root").await;
    stage.until_gone::<ModelCacheEntry>("tiny").await;
    assert!(
        !volume.folder.join("entries/org_2ftiny").exists() && !volume.folder.join("hub/models--org--tiny").exists()
    );

    published_again(&stage, &volume).await;
    consumer(&stage, "web", json!({"subPath": "entries/org_2ftiny/model"})).await;
    delete(&stage, "tiny").await;
    stage.until("tiny", "blocked", blocked).await;
    stage.change("tiny", json!({"metadata": {"annotations": {"modelcache.dev/force-delete": "true"}}})).await;
    stage.until_gone::<ModelCacheEntry>("tiny").await;
    assert!(!volume.folder.join("entries/org_2ftiny").exists(), "it is removed under the Pod");
    volume.assert_holds(&other, &chosen());
}
