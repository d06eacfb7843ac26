//! The operator is killed while its entries stand at every point of their way.

use crate::fakehub::Running;
use crate::harness::{Gate, Stage, apart, operator, try_kubectl};
use crate::{assert_fetched_once, chosen};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use modelcache::api::{ModelCacheEntry, ModelCacheEntryStatus, Phase};
use serde_json::{Value, json};

/// A label of the only node that goes with this value.
struct NodeLabel(String);

impl NodeLabel {
    fn set(key: &str) -> Self {
        try_kubectl(&["label", "node", "--all", &format!("{key}=yes")]).unwrap();
        Self(key.to_owned())
    }
}

impl Drop for NodeLabel {
    fn drop(&mut self) {
        let _ = try_kubectl(&["label", "node", "--all", &format!("{}-", self.0)]);
    }
}

async fn start(stage: &Stage, name: &str, over: Value) -> Running {
    let hub = stage.hub_named(name).await;
    stage.entry(name, apart(name, over)).await;
    hub
}

/// Starts an entry whose download is held at a request.
async fn hold(stage: &Stage, name: &str, on: &str, after: usize) -> (Running, Gate) {
    let hub = stage.hub_named(name).await;
    let gate = Gate::at(&hub.hub, on, after);
    stage.entry(name, apart(name, json!({}))).await;
    stage.until_held(name, &gate).await;
    (hub, gate)
}

fn is_complete(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Complete" && condition.status == "True")
}

#[tokio::test]
async fn the_operator_is_killed_at_every_phase() {
    let mut stage = Stage::new("phases").await;
    let volume = stage.local("models").await;
    let label = format!("modelcache.dev/{}", stage.namespace);
    let elsewhere = json!({"job": {"nodeSelector": {&label: "yes"}}});

    // One entry at each point of its way.
    let leaving = start(&stage, "leaving", json!({})).await;
    assert_fetched_once(&stage, &volume, "leaving", &leaving).await;
    stage.change("leaving", json!({"spec": elsewhere})).await;
    stage.kubectl(&["delete", "mce", "leaving", "--wait=false"]);
    stage.until_phase("leaving", Phase::Deleting).await;
    let provisioning = start(&stage, "provisioning", elsewhere.clone()).await;
    stage.until_phase("provisioning", Phase::Provisioning).await;
    let (resolving, resolving_gate) = hold(&stage, "resolving", "/revision/", 0).await;
    stage.until_phase("resolving", Phase::Resolving).await;
    let (downloading, downloading_gate) = hold(&stage, "downloading", "/model.safetensors", 350_000).await;
    stage.until_phase("downloading", Phase::Downloading).await;
    let (ending, ending_gate) = hold(&stage, "ending", "/model.safetensors", 350_000).await;
    let ended = stage.until_phase("ending", Phase::Downloading).await;

    // A stopped operator misses the end of one worker and the birth of an entry; then it dies.
    let pod = operator::pods(&stage.client).await.remove(0);
    operator::signal(operator::process(&pod).expect("the operator runs"), "STOP");
    ending_gate.open();
    let job = stage.jobs(&ended).await.remove(0).name_any();
    stage.until_is(&job, "complete", is_complete).await;
    let unborn = start(&stage, "unborn", json!({})).await;
    operator::kill(&stage.client).await;
    operator::until_ready(&stage.client, 1).await;

    // The next one finds everything as it was, and brings it to its end.
    resolving_gate.open();
    downloading_gate.open();
    let _label = NodeLabel::set(&label);
    let hubs = [
        ("provisioning", provisioning),
        ("resolving", resolving),
        ("downloading", downloading),
        ("ending", ending),
        ("unborn", unborn),
    ];
    for (name, hub) in &hubs {
        assert_fetched_once(&stage, &volume, name, hub).await;
    }
    stage.until_gone::<ModelCacheEntry>("leaving").await;
    assert!(!volume.entry("leaving", "org_2ftiny").exists());
}

/// How often both are killed: a few times here, many times in `make soak`.
fn rounds() -> usize {
    if std::env::var_os("MODELCACHE_SOAK").is_some() { 50 } else { 2 }
}

#[tokio::test]
async fn the_operator_and_a_worker_are_killed_together() {
    let mut stage = Stage::new("together").await;
    let volume = stage.local("models").await;
    for round in 0..rounds() {
        let name = format!("tiny{round}");
        // At another place each time: from the first byte of the weights to their last.
        let (hub, _gate) = hold(&stage, &name, "/model.safetensors", round * 349_999 % 700_000).await;
        let rest_is_there =
            |status: &ModelCacheEntryStatus| status.progress.as_ref().is_some_and(|progress| progress.files_done == 6);
        let entry = stage.until(&name, "done but for the weights", rest_is_there).await;
        let worker = stage.pods(&entry).await.remove(0);
        operator::kill(&stage.client).await;
        operator::signal(operator::process(&worker).expect("the worker runs"), "KILL");
        let entry = stage.until_ready(&name).await;
        volume.assert_holds(&entry, &chosen());
        let fetched = hub.hub.requests_for("/resolve/");
        assert_eq!(fetched.len(), 7, "only the weights are asked for twice: {fetched:?}");
        operator::until_ready(&stage.client, 1).await;
    }
}
