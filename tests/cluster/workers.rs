//! Workers that are stopped, taken away, starved, or cannot start.

use crate::chosen;
use crate::harness::command::kubectl;
use crate::harness::wait::{DEADLINE, ready};
use crate::harness::{Gate, Stage, apart, operator, shared};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{LimitRange, Pod};
use kube::api::{EvictParams, PostParams};
use kube::{Api, ResourceExt};
use modelcache::api::{ModelCacheEntryStatus, Phase};
use modelcache::ident::Reason;
use serde_json::json;

#[tokio::test]
async fn an_evicted_worker_is_replaced_and_goes_on() {
    let mut stage = Stage::new("evicted").await;
    let volume = stage.local("models").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    let entry = stage.until_phase("tiny", Phase::Downloading).await;
    let before = stage.pods(&entry).await.remove(0).name_any();
    stage.api::<Pod>().evict(&before, &EvictParams::default()).await.unwrap();
    let told = stage.until_event(&entry, Reason::Evicted.as_str()).await;
    assert!(told.message.unwrap_or_default().contains("evicted"));
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
    let weights = stage.hub().requests_for("/model.safetensors");
    assert_eq!(weights.len(), 2, "one for each worker");
    assert!(weights[1].range.is_some(), "the second goes on where the first stopped: {weights:?}");
}

#[tokio::test]
async fn a_worker_that_needs_more_memory_than_it_may() {
    let mut stage = Stage::new("oom").await;
    let volume = stage.local("models").await;
    // A listing so long that it does not fit.
    let file = |number: u32| json!({"type": "file", "path": format!("files/{number}"), "size": 3, "oid": format!("{number:040x}")});
    let tree: Vec<_> = (0..40_000).map(file).collect();
    *stage.hub().raw_tree.lock().unwrap() = Some(serde_json::Value::from(tree).to_string());
    let limits = json!({"resources": {"requests": {"memory": "8Mi"}, "limits": {"memory": "8Mi"}}});
    stage.entry("tiny", shared("models", json!({"job": limits}))).await;
    stage.until_says("tiny", Phase::Retrying, Reason::OOMKilled, &["8Mi", "raise spec.job.resources"]).await;
    volume.assert_nothing_published();
    *stage.hub().raw_tree.lock().unwrap() = None;
    stage.change("tiny", json!({"spec": {"job": null}})).await;
    stage.until_ready("tiny").await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_ended_and_gone_on_with() {
    let mut stage = Stage::new("deadline").await;
    let volume = stage.local("models").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("tiny", shared("models", json!({"job": {"activeDeadlineSeconds": 8}}))).await;
    stage.until_held("tiny", &gate).await;
    stage.until_says("tiny", Phase::Retrying, Reason::DeadlineExceeded, &["spec.job.activeDeadlineSeconds"]).await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn a_suspended_entry_stops_its_worker_and_goes_on_later() {
    let mut stage = Stage::new("suspended").await;
    let volume = stage.local("models").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    let entry = stage.until_phase("tiny", Phase::Downloading).await;
    let job = stage.jobs(&entry).await.remove(0).name_any();
    stage.change("tiny", json!({"spec": {"suspend": true}})).await;
    let entry = stage.until_phase("tiny", Phase::Suspended).await;
    assert_eq!(ready(entry.status.as_ref().unwrap()).0, "Suspended");
    stage.until_gone::<Job>(&job).await;
    volume.assert_nothing_published();
    stage.change("tiny", json!({"spec": {"suspend": false}})).await;
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
    let weights = stage.hub().requests_for("/model.safetensors");
    assert!(weights.len() == 2 && weights[1].range.is_some(), "it goes on where it stopped: {weights:?}");
}

#[tokio::test]
async fn a_worker_that_is_deleted_or_killed_goes_on_where_it_stopped() {
    let mut stage = Stage::new("killed").await;
    let volume = stage.local("models").await;
    for (name, is_killed) in [("deleted", false), ("killed", true)] {
        let hub = stage.hub_named(name).await;
        let gate = Gate::at(&hub.hub, "/model.safetensors", 350_000);
        stage.entry(name, apart(name, json!({}))).await;
        stage.until_held(name, &gate).await;
        let rest_is_there =
            |status: &ModelCacheEntryStatus| status.progress.as_ref().is_some_and(|progress| progress.files_done == 6);
        let entry = stage.until(name, "done but for the weights", rest_is_there).await;
        let pod = stage.pods(&entry).await.remove(0);
        if is_killed {
            operator::signal(operator::process(&pod).expect("the worker runs"), "KILL");
        } else {
            stage.kubectl(&["delete", "pod", &pod.name_any(), "--wait=false"]);
        }
        stage.until_reason(name, Phase::Retrying, Reason::Interrupted).await;
        let entry = stage.until_ready(name).await;
        volume.assert_holds(&entry, &chosen());
        let fetched = hub.hub.requests_for("/resolve/");
        assert_eq!(fetched.len(), 7, "only the weights are asked for twice: {fetched:?}");
        assert!(fetched.last().unwrap().range.is_some(), "{fetched:?}");
    }
}

#[tokio::test]
async fn no_second_worker_starts_while_the_first_still_ends() {
    let mut stage = Stage::new("oneatatime").await;
    stage.local("models").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    let entry = stage.until_phase("tiny", Phase::Downloading).await;
    let pod = stage.pods(&entry).await.remove(0);
    // A worker that does not notice that it is told to stop, as one that waits for a disk.
    let process = operator::process(&pod).expect("the worker runs");
    operator::signal(process, "STOP");
    stage.change("tiny", json!({"spec": {"suspend": true}})).await;
    stage.until_phase("tiny", Phase::Suspended).await;
    stage.change("tiny", json!({"spec": {"suspend": false}})).await;
    let queued = stage.until_phase("tiny", Phase::Queued).await;
    let message = ready(queued.status.as_ref().unwrap()).1.to_owned();
    assert!(message.contains("waits for an earlier worker of this entry"), "{message}");
    operator::signal(process, "CONT");
    stage.until_ready("tiny").await;
}

#[tokio::test]
async fn a_worker_that_no_node_can_take_follows_a_change_of_the_spec() {
    let mut stage = Stage::new("unschedulable").await;
    stage.local("models").await;
    stage.entry("tiny", shared("models", json!({"job": {"nodeSelector": {"gpu": "none"}}}))).await;
    stage.until_says("tiny", Phase::Provisioning, Reason::Unschedulable, &["no node", "selector"]).await;
    stage.change("tiny", json!({"spec": {"job": null}})).await;
    stage.until_ready("tiny").await;
}

#[tokio::test]
async fn a_worker_that_a_limit_range_or_a_policy_forbids() {
    let mut stage = Stage::new("forbidden").await;
    stage.local("models").await;
    let range =
        json!({"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}});
    stage.create::<LimitRange>(range).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_says("tiny", Phase::Provisioning, Reason::QuotaExceeded, &["maximum memory usage", "64Mi"]).await;

    let _policy = Policy::new(&stage, "batch", "jobs", "no Jobs here").await;
    stage.entry("other", apart("other", json!({}))).await;
    stage.connect("other", json!({"endpoint": stage.hub.endpoint()})).await;
    stage.until_says("other", Phase::Pending, Reason::PolicyDenied, &["no Jobs here"]).await;
}

/// A policy that refuses to create such objects in a stage's namespace; it goes with this value.
struct Policy(String);

impl Policy {
    async fn new(stage: &Stage, group: &str, resources: &str, message: &str) -> Self {
        let name = format!("test-{}", stage.namespace);
        let rules =
            json!([{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resources]}]);
        let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "false", "message": message}]}});
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources":
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}}}});
        let made = Self(name);
        Api::all(stage.client.clone())
            .create(&PostParams::default(), &serde_json::from_value::<ValidatingAdmissionPolicy>(policy).unwrap())
            .await
            .unwrap();
        Api::all(stage.client.clone())
            .create(
                &PostParams::default(),
                &serde_json::from_value::<ValidatingAdmissionPolicyBinding>(binding).unwrap(),
            )
            .await
            .unwrap();
        made.until_it_holds(stage).await;
        made
    }

    /// The API server hears of new policies by a watch of its own.
    async fn until_it_holds(&self, stage: &Stage) {
        let probe = json!({"metadata": {"name": "probe"}, "spec": {"template": {"spec":
            {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}});
        let probe: Job = serde_json::from_value(probe).unwrap();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let refused = async {
            while stage.api::<Job>().create(&dry, &probe).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, refused).await.expect("the policy holds");
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        kubectl(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", &self.0, "--wait=false"]);
    }
}

#[tokio::test]
async fn a_retry_is_acted_on_once() {
    let mut stage = Stage::new("retry").await;
    stage.local("models").await;
    let files = std::mem::take(&mut *stage.hub().files.lock().unwrap());
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_reason("tiny", Phase::Failed, Reason::FileNotFound).await;
    *stage.hub().files.lock().unwrap() = files;
    stage.change("tiny", json!({"metadata": {"annotations": {"modelcache.dev/retry": "one"}}})).await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    let echoed =
        |status: &ModelCacheEntryStatus| status.attempts.as_ref().and_then(|attempts| attempts.last_retry.clone());
    assert_eq!(echoed(entry.status.as_ref().unwrap()).as_deref(), Some("one"));
    assert_eq!(entry.annotations()["modelcache.dev/retry"], "one", "the annotation is left alone");
}
