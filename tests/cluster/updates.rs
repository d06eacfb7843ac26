//! Revisions that move: what is asked, what is fetched, and what running Pods keep.

use crate::fakehub::{COMMIT, HubFile};
use crate::harness::{Stage, shared};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use modelcache::api::{ModelCacheEntryStatus, Phase, condition};
use serde_json::{Value, json};

/// The Hub's `main` is at another commit, with this `config.json`.
fn moves(stage: &Stage, commit: &str, config: &str) -> Vec<HubFile> {
    let hub = stage.hub();
    hub.info.lock().unwrap()["sha"] = json!(commit);
    let mut files = hub.files.lock().unwrap();
    let file = files.iter_mut().find(|file| file.path == "config.json").unwrap();
    file.bytes = config.as_bytes().to_vec();
    hub.forget();
    files.iter().filter(|file| file.path != "pytorch_model.bin").cloned().collect()
}

fn drifted(status: &ModelCacheEntryStatus) -> Option<(&str, &str, &str)> {
    let found = status.conditions.iter().find(|condition| condition.type_ == condition::DRIFTED)?;
    Some((&found.status, &found.reason, &found.message))
}

fn is_at(commit: &str) -> impl Fn(&ModelCacheEntryStatus) -> bool {
    move |status| {
        status.commit.as_deref() == Some(commit)
            && drifted(status).is_some_and(|(status, reason, _)| (status, reason) == ("False", "UpToDate"))
    }
}

/// A Pod that mounts a folder of the claim `models` and stays.
fn sitting(name: &str, sub_path: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}}],
        "containers": [{"name": "c", "image": crate::harness::lab::shell_image(), "command": ["sleep", "3600"],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "models", "mountPath": "/model", "subPath": sub_path, "readOnly": true}]}]}})
}

/// Creates such a Pod, and waits until it runs.
pub(crate) async fn sits(stage: &Stage, name: &str, sub_path: &str) {
    stage.create::<Pod>(sitting(name, sub_path)).await;
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    stage.until_is(name, "running", runs).await;
}

#[tokio::test]
async fn notify_tells_both_commits_and_downloads_when_asked() {
    let mut stage = Stage::new("notify").await;
    let volume = stage.local("models").await;
    stage.entry("tiny", shared("models", json!({"update": {"policy": "Notify"}}))).await;
    stage.until("tiny", "up to date", is_at(COMMIT)).await;
    let newer = "1".repeat(40);
    let files = moves(&stage, &newer, "{\"moved\": 1}");

    // The Hub is asked at once, and for nothing but its listing.
    stage.retry("tiny").await;
    let entry =
        stage.until("tiny", "drifted", |status| drifted(status).is_some_and(|told| told.1 == "NewCommit")).await;
    let status = entry.status.as_ref().unwrap();
    let (holds, _, message) = drifted(status).unwrap();
    assert!(holds == "True" && message.contains(COMMIT) && message.contains(&newer), "{message}");
    assert_eq!((status.phase, status.commit.as_deref()), (Some(Phase::Ready), Some(COMMIT)));
    assert_eq!(stage.hub().requests_for("/resolve/").len(), 0);
    stage.until_event(&entry, "NewCommit").await;

    stage.retry("tiny").await;
    let entry = stage.until("tiny", "updated", is_at(&newer)).await;
    volume.assert_holds(&entry, &files);
}

#[tokio::test]
async fn track_fetches_what_changed_and_running_pods_keep_what_they_began_with() {
    let mut stage = Stage::new("track").await;
    let volume = stage.disk("models", 64).await;
    stage.entry("tiny", shared("models", json!({"update": {"policy": "Track", "keep": 0}}))).await;
    let entry = stage.until("tiny", "up to date", is_at(COMMIT)).await;
    let path = entry.status.as_ref().unwrap().volume.as_ref().unwrap().path.clone().unwrap();
    let before = std::fs::read_to_string(volume.folder.join(&path).join("config.json")).unwrap();
    sits(&stage, "early", &path).await;

    // Twice, so that what the Pod has is neither the entry's commit nor the one before.
    for (commit, config) in [("1".repeat(40), "{\"moved\": 1}"), ("2".repeat(40), "{\"moved\": 2}")] {
        let files = moves(&stage, &commit, config);
        stage.retry("tiny").await;
        let entry = stage.until("tiny", "updated", is_at(&commit)).await;
        volume.assert_holds(&entry, &files);
        assert_eq!(stage.hub().requests_for("/model.safetensors").len(), 0, "an unchanged file was fetched");
        assert_eq!(stage.hub().requests_for("/config.json").len(), 1);
        assert_eq!(stage.kubectl(&["exec", "early", "--", "cat", "/model/config.json"]).trim(), before.trim());
    }
    let mount = json!([{"name": "models", "mountPath": "/model", "subPath": path, "readOnly": true}]);
    assert_eq!(stage.read(mount, "cat /model/config.json").await.trim(), "{\"moved\": 2}");

    // Nobody mounts an old commit any more, and none is kept.
    stage.api::<Pod>().delete("early", &DeleteParams::default()).await.unwrap();
    stage.until_gone::<Pod>("early").await;
    let last = "3".repeat(40);
    let files = moves(&stage, &last, "{\"moved\": 3}");
    stage.retry("tiny").await;
    let entry = stage.until("tiny", "updated", is_at(&last)).await;
    volume.assert_holds(&entry, &files);
    // A Pod that started while it was fetched could have the one before, so that goes after it.
    let tidied =
        |status: &ModelCacheEntryStatus| status.update.as_ref().is_some_and(|update| update.replaced.is_empty());
    stage.until("tiny", "without older snapshots", tidied).await;
    let snapshots = volume.folder.join("hub/models--org--tiny/snapshots");
    let left: Vec<_> = std::fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [last.as_str()]);
}

#[tokio::test]
async fn a_hub_that_is_away_leaves_the_model_ready() {
    let mut stage = Stage::new("away").await;
    stage.local("models").await;
    stage.entry("tiny", shared("models", json!({"update": {"policy": "Track"}}))).await;
    stage.until("tiny", "up to date", is_at(COMMIT)).await;
    *stage.hub().token.lock().unwrap() = Some("other".to_owned());
    stage.retry("tiny").await;
    let unknown = |status: &ModelCacheEntryStatus| drifted(status).is_some_and(|(status, ..)| status == "Unknown");
    let entry = stage.until("tiny", "not known", unknown).await;
    let status = entry.status.as_ref().unwrap();
    assert_eq!((status.phase, status.commit.as_deref()), (Some(Phase::Ready), Some(COMMIT)));
    assert!(status.attempts.as_ref().unwrap().next_retry_at.is_some());
    *stage.hub().token.lock().unwrap() = None;
    stage.retry("tiny").await;
    stage.until("tiny", "up to date", is_at(COMMIT)).await;
}
