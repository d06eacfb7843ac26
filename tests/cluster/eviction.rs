//! Models that go by themselves, and come back.

use crate::chosen;
use crate::fakehub::REPO;
use crate::harness::{Stage, shared};
use crate::updates::sits;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams};
use modelcache::api::{HubConnection, ModelCacheEntry, ModelCacheEntryStatus, Phase, condition};
use serde_json::json;

/// As if an entry had been published, and last used, so many hours ago: what nobody wants to wait for. The operator itself never
/// writes a time of the past.
async fn grown_old(stage: &Stage, name: &str, hours: i64) {
    let entry = stage.api::<ModelCacheEntry>().get(name).await.unwrap();
    let status = entry.status.unwrap();
    let ready = status.conditions.iter().position(|condition| condition.type_ == condition::READY).unwrap();
    let then = (Timestamp::now() - SignedDuration::from_hours(hours)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = json!([
        {"op": "test", "path": format!("/status/conditions/{ready}/type"), "value": "Ready"},
        {"op": "replace", "path": format!("/status/conditions/{ready}/lastTransitionTime"), "value": then},
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
    stage.api::<ModelCacheEntry>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

fn is_gone(status: &ModelCacheEntryStatus) -> bool {
    let ready = status.conditions.iter().find(|condition| condition.type_ == condition::READY);
    status.phase == Some(Phase::Evicted) && ready.is_some_and(|ready| ready.reason == "Evicted")
}

fn within_limits(connection: &HubConnection) -> &str {
    let conditions = connection.status.iter().flat_map(|status| &status.conditions);
    let mut ours = conditions.filter(|condition| condition.type_ == condition::WITHIN_LIMITS);
    ours.next().map_or("", |condition| &condition.reason)
}

#[tokio::test]
async fn an_unused_model_goes_and_the_pod_that_wants_it_brings_it_back() {
    let mut stage = Stage::new("unused").await;
    let volume = stage.local("models").await;
    stage.entry("tiny", shared("models", json!({"retention": {"unusedFor": "1h"}}))).await;
    let entry = stage.until("tiny", "to go", |status| status.eviction.is_some()).await;
    let status = entry.status.as_ref().unwrap();
    let path = status.volume.as_ref().unwrap().path.clone().unwrap();
    assert!(status.phase == Some(Phase::Ready) && status.eviction.as_ref().unwrap().at.0 > Timestamp::now());

    grown_old(&stage, "tiny", 2).await;
    let entry = stage.until("tiny", "evicted", is_gone).await;
    volume.assert_nothing_published();
    assert_eq!(entry.status.as_ref().unwrap().commit, None);
    stage.until_event(&entry, "Evicted").await;

    // Its container waits for the folder that is missing, and that is the wish.
    let mount = json!([{"name": "models", "mountPath": "/model", "subPath": path, "readOnly": true}]);
    assert!(stage.read(mount, "ls /model").await.contains("model.safetensors"));
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn a_claim_over_its_limit_loses_the_model_that_was_not_used_for_longest() {
    let mut stage = Stage::new("room").await;
    let volume = stage.disk("models", 64).await;
    // Each revision is a model of its own.
    for name in ["used", "older", "newer", "pinned"] {
        let over = json!({"revision": name, "retention": {"pinned": name == "pinned"}});
        stage.entry(name, shared("models", over)).await;
    }
    let mut bytes = 0;
    for (name, hours) in [("used", 9), ("older", 8), ("newer", 7), ("pinned", 10)] {
        let status = stage.until_ready(name).await.status.unwrap();
        bytes = status.manifest.unwrap().bytes;
        if name == "used" {
            sits(&stage, "reader", &status.volume.unwrap().path.unwrap()).await;
            stage
                .until(name, "in use", |status| status.usage.as_ref().is_some_and(|usage| usage.pods == Some(1)))
                .await;
        }
        grown_old(&stage, name, hours).await;
    }
    let next = |connection: &HubConnection| {
        let claims = connection.status.iter().flat_map(|status| &status.claims);
        claims.flat_map(|claim| claim.next.iter().map(|next| next.entry.clone())).collect::<Vec<_>>()
    };
    // Who would go is told while nobody has to.
    let told = |connection: &HubConnection| next(connection) == ["older", "newer"];
    stage.until_is::<HubConnection>("default", "clear about who goes", told).await;

    let limit = |models: i64| json!({"endpoint": stage.hub.endpoint(), "cache": {"retention": {"maxUsed": (models * bytes).to_string()}}});
    stage.connect("default", limit(3)).await;
    let entry = stage.until("older", "evicted", is_gone).await;
    assert!(entry.status.as_ref().unwrap().eviction.as_ref().unwrap().why.contains("maxUsed"));
    stage
        .until_is::<HubConnection>("default", "within its limits", |connection| {
            within_limits(connection) == "WithinLimits"
        })
        .await;
    for name in ["used", "newer", "pinned"] {
        stage.until_phase(name, Phase::Ready).await;
    }
    assert!(!volume.entry("", "org_2ftiny_40older").exists() && volume.entry("", "org_2ftiny_40newer").exists());

    // One more goes, and then there is nobody left who may.
    stage.connect("default", limit(1)).await;
    stage.until("newer", "evicted", is_gone).await;
    let stuck = |connection: &HubConnection| within_limits(connection) == "NothingToEvict";
    stage.until_is::<HubConnection>("default", "without anybody to evict", stuck).await;
    for name in ["used", "pinned"] {
        stage.until_phase(name, Phase::Ready).await;
    }
    // When the Pod ends, its model is the least recently used one that may go, though it was used last.
    stage.api::<Pod>().delete("reader", &DeleteParams::default()).await.unwrap();
    stage.until("used", "evicted", is_gone).await;
    stage.until_phase("pinned", Phase::Ready).await;
}

#[tokio::test]
async fn an_own_claim_goes_with_its_model_and_comes_back() {
    let mut stage = Stage::new("owngoes").await;
    let volume = stage.unclaimed("tiny");
    let claim = json!({"storageClassName": "lab-local", "volumeName": volume.name, "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}});
    let spec =
        json!({"repo": REPO, "storage": {"volumeClaimTemplate": {"spec": claim}}, "retention": {"unusedFor": "1h"}});
    stage.entry("tiny", spec).await;
    stage.until_ready("tiny").await;
    let uid = stage.api::<PersistentVolumeClaim>().get("tiny").await.unwrap().metadata.uid;
    grown_old(&stage, "tiny", 2).await;
    stage.until("tiny", "evicted", is_gone).await;
    stage.until_gone::<PersistentVolumeClaim>("tiny").await;
    // The volume is one that a person made, and only a person may give it to another claim.
    stage.kubectl(&[
        "patch",
        "pv",
        &volume.name,
        "--type",
        "json",
        "--patch",
        r#"[{"op": "remove", "path": "/spec/claimRef"}]"#,
    ]);
    stage.retry("tiny").await;
    stage.until_ready("tiny").await;
    assert_ne!(stage.api::<PersistentVolumeClaim>().get("tiny").await.unwrap().metadata.uid, uid);
}
