//! What people change while an entry is at work, or after it failed.

use crate::chosen;
use crate::fakehub::answer;
use crate::harness::wait::ready;
use crate::harness::{Gate, Stage, shared};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use modelcache::api::{ModelCacheEntryStatus, Phase};
use modelcache::ident::Reason;
use serde_json::json;

#[tokio::test]
async fn a_failed_entry_can_be_suspended_and_goes_on_later() {
    let mut stage = Stage::new("suspendfailed").await;
    let volume = stage.local("models").await;
    let files = std::mem::take(&mut *stage.hub().files.lock().unwrap());
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_reason("tiny", Phase::Failed, Reason::FileNotFound).await;
    stage.change("tiny", json!({"spec": {"suspend": true}})).await;
    let entry = stage.until_phase("tiny", Phase::Suspended).await;
    for job in stage.jobs(&entry).await {
        stage.until_gone::<Job>(&job.name_any()).await;
    }
    *stage.hub().files.lock().unwrap() = files;
    stage.change("tiny", json!({"spec": {"suspend": false}})).await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn a_suspended_entry_tries_nothing_and_can_be_deleted() {
    let mut stage = Stage::new("suspendretrying").await;
    let volume = stage.local("models").await;
    stage.hub().fault("/api/", 1, answer(429, &[("retry-after", "3600")], ""));
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_reason("tiny", Phase::Retrying, Reason::RateLimited).await;
    stage.change("tiny", json!({"spec": {"suspend": true}})).await;
    let entry = stage.until_phase("tiny", Phase::Suspended).await;
    for job in stage.jobs(&entry).await {
        stage.until_gone::<Job>(&job.name_any()).await;
    }
    stage.hub().forget();
    // A wish for another attempt does not outweigh it.
    let generation = entry.metadata.generation.unwrap() + 1;
    let change =
        json!({"metadata": {"annotations": {"modelcache.dev/retry": "one"}}, "spec": {"job": {"labels": {"a": "b"}}}});
    stage.change("tiny", change).await;
    let seen = |status: &ModelCacheEntryStatus| status.observed_generation == Some(generation);
    let entry = stage.until("tiny", "aware of the change", seen).await;
    assert_eq!(ready(entry.status.as_ref().unwrap()).0, "Suspended");
    assert!(stage.jobs(&entry).await.is_empty() && stage.hub().seen().is_empty(), "{:?}", stage.hub().seen());
    stage.delete("tiny").await;
    volume.assert_nothing_published();
}

#[tokio::test]
async fn changed_settings_hold_from_the_next_job_on() {
    let mut stage = Stage::new("settings").await;
    let volume = stage.local("models").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("tiny", shared("models", json!({"job": {"labels": {"round": "one"}}}))).await;
    stage.until_held("tiny", &gate).await;
    let entry = stage.until_phase("tiny", Phase::Downloading).await;
    let before = stage.jobs(&entry).await.remove(0);
    let settings = json!({"labels": {"round": "two"}, "activeDeadlineSeconds": 600,
        "resources": {"requests": {"memory": "96Mi"}, "limits": {"memory": "320Mi"}},
        "securityContext": {"ids": "Assigned"}});
    stage.change("tiny", json!({"spec": {"job": settings}})).await;
    let generation = entry.metadata.generation.unwrap() + 1;
    let seen = |status: &ModelCacheEntryStatus| status.observed_generation == Some(generation);
    let entry = stage.until("tiny", "aware of the change", seen).await;
    let during = stage.jobs(&entry).await;
    assert_eq!(
        during.iter().map(ResourceExt::uid).collect::<Vec<_>>(),
        [before.uid()],
        "the Job at work is left alone"
    );
    let pod = stage.pods(&entry).await.remove(0);
    assert_eq!(pod.labels()["round"], "one");

    stage.kubectl(&["delete", "pod", &pod.name_any(), "--wait=false"]);
    let is_second = |pod: &Pod| pod.labels().get("round").is_some_and(|round| round == "two");
    let second = stage.until_pod(&entry, "made with the new settings", is_second).await;
    let spec = second.spec.unwrap();
    let limits = spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["memory"].0, "320Mi");
    let security = spec.security_context.unwrap();
    let ids = (security.run_as_user, security.run_as_group, security.fs_group, security.run_as_non_root);
    assert_eq!(ids, (None, None, None, Some(true)));
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
    assert!(stage.hub().requests_for("/model.safetensors").last().unwrap().range.is_some());
}
