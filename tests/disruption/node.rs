//! The kubelet, the API server and the image go away while a worker is at work.

use crate::fakehub::Fault;
use crate::harness::command::{lab, program, run};
use crate::harness::wait::says;
use crate::harness::{Gate, Stage, apart, operator, shared};
use crate::{assert_fetched_once, chosen};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use modelcache::api::{ModelCacheEntry, ModelCacheEntryStatus, Phase, condition};
use modelcache::ident::Reason;
use serde_json::json;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Holds a download at its weights while a component is dead; it comes back after the worker has ended.
async fn component_dies(component: &'static str) {
    let mut stage = Stage::new(component).await;
    let volume = stage.local("models").await;
    let hub = stage.hub_named("tiny").await;
    let gate = Gate::at(&hub.hub, "/model.safetensors", 350_000);
    stage.entry("tiny", apart("tiny", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    let entry = stage.until_phase("tiny", Phase::Downloading).await;
    let worker = stage.pods(&entry).await.remove(0);
    let process = operator::process(&worker).expect("the worker runs");
    let dead = Away::dead(component);
    gate.open();
    until_ended(process).await;
    drop(dead);
    assert_fetched_once(&stage, &volume, "tiny", &hub).await;
    operator::until_ready(&stage.client, 1).await;
}

/// A component that is away, and comes back with the end of this value, whatever happens meanwhile.
struct Away {
    component: &'static str,
    comes_back: &'static str,
}

impl Away {
    /// It is killed.
    fn dead(component: &'static str) -> Self {
        lab(&["kill", component]);
        Self { component, comes_back: "start" }
    }

    /// It runs, and answers nobody.
    fn mute(component: &'static str) -> Self {
        lab(&["freeze", component]);
        Self { component, comes_back: "thaw" }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        lab(&[self.comes_back, self.component]);
    }
}

/// Waits for the end of a process that is not ours to wait for.
async fn until_ended(process: u32) {
    let running = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    };
    let gone = async {
        while running() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::harness::wait::DEADLINE, gone).await.expect("the worker ends");
}

#[tokio::test]
async fn the_kubelet_dies_while_a_worker_ends() {
    Box::pin(component_dies("kubelet")).await;
}

#[tokio::test]
async fn the_api_server_dies_while_a_worker_ends() {
    Box::pin(component_dies("apiserver")).await;
}

/// As many workers run on the node as the operator has rounds at a time, and it looks at each of their logs every two seconds.
#[tokio::test]
async fn a_node_that_answers_nobody_keeps_no_other_entry_waiting() {
    const WORKERS: usize = 8;
    let mut stage = Stage::new("mute").await;
    let volume = stage.local("models").await;
    let (reached, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let pause = Fault::Pause { after: 350_000, reached: Arc::clone(&reached), open: Arc::clone(&open) };
    stage.hub().fault("/model.safetensors", WORKERS, pause);
    let names: Vec<_> = (0..WORKERS).map(|number| format!("tiny{number}")).collect();
    for name in &names {
        let storage = json!({"storage": {"claimName": "models", "subPath": name}});
        stage.entry(name, shared("models", storage)).await;
    }
    for name in &names {
        stage.until_phase(name, Phase::Downloading).await;
    }
    let mute = Away::mute("kubelet");
    let since = Instant::now();
    // For so long all logs have been asked for, and more than once.
    for number in 0.. {
        if since.elapsed() > Duration::from_secs(20) {
            break;
        }
        let (name, asked) = (format!("absent{number}"), Instant::now());
        stage.entry(&name, shared(&name, json!({}))).await;
        stage.until_reason(&name, Phase::Provisioning, Reason::PVCPending).await;
        let waited = asked.elapsed();
        assert!(waited < Duration::from_secs(10), "{name} waited for {waited:?}");
    }
    drop(mute);
    open.add_permits(WORKERS);
    for name in &names {
        volume.assert_holds(&stage.until_ready(name).await, &chosen());
    }
}

#[tokio::test]
async fn components_are_restarted_while_a_worker_is_at_work() {
    let mut stage = Stage::new("restarts").await;
    let volume = stage.local("models").await;
    let hub = stage.hub_named("tiny").await;
    let gate = Gate::at(&hub.hub, "/model.safetensors", 350_000);
    stage.entry("tiny", apart("tiny", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    lab(&["restart", "kubelet"]);
    lab(&["restart", "apiserver"]);
    stage.until_phase("tiny", Phase::Downloading).await;
    gate.open();
    assert_fetched_once(&stage, &volume, "tiny", &hub).await;
    operator::until_ready(&stage.client, 1).await;
}

fn images(args: &[&str]) -> String {
    run(Command::new(program("ctr")).args(["-n", "k8s.io", "images"]).args(args)).unwrap()
}

/// An image that is hidden under another name, until the end of this value.
struct Hidden {
    name: String,
    kept: String,
}

impl Hidden {
    fn new(image: &str) -> Self {
        // containerd puts the name of a default registry in front.
        let name = images(&["ls", "-q", &format!("name~=\"(^|/){image}$\"")]).trim().to_owned();
        assert!(!name.is_empty(), "image {image} is not on the node");
        let hidden = Self { kept: "test.invalid/kept:1".to_owned(), name };
        images(&["tag", "--force", &hidden.name, &hidden.kept]);
        images(&["rm", &hidden.name]);
        hidden
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        images(&["tag", "--force", &self.kept, &self.name]);
        images(&["rm", &self.kept]);
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_waited_for() {
    let mut stage = Stage::new("image").await;
    let volume = stage.local("models").await;
    let pods: Vec<Pod> = operator::pods(&stage.client).await;
    let image = pods[0].spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let hub = stage.hub_named("tiny").await;
    {
        let _hidden = Hidden::new(&image);
        stage.entry("tiny", apart("tiny", json!({}))).await;
        stage.until_says("tiny", Phase::Provisioning, Reason::ImagePullFailed, &[&image]).await;
    }
    assert_fetched_once(&stage, &volume, "tiny", &hub).await;
}

async fn delete(stage: &Stage, name: &str) {
    stage.api::<ModelCacheEntry>().delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn an_entry_is_deleted_while_its_worker_waits_for_its_image() {
    let mut stage = Stage::new("delimage").await;
    let volume = stage.local("models").await;
    let pods: Vec<Pod> = operator::pods(&stage.client).await;
    let image = pods[0].spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    {
        let _hidden = Hidden::new(&image);
        stage.entry("tiny", shared("models", json!({}))).await;
        stage.until_reason("tiny", Phase::Provisioning, Reason::ImagePullFailed).await;
        delete(&stage, "tiny").await;
        let told = |status: &ModelCacheEntryStatus| says(status, condition::DELETION_BLOCKED).0 == "ImagePullFailed";
        stage.until("tiny", "blocked by the image of the removal", told).await;
    }
    stage.until_gone::<ModelCacheEntry>("tiny").await;
    volume.assert_nothing_published();
}

#[tokio::test]
async fn entries_are_deleted_while_the_api_server_restarts() {
    let mut stage = Stage::new("delapi").await;
    let volume = stage.local("models").await;
    stage.entry("ready", shared("models", json!({"storage": {"claimName": "models", "subPath": "ready"}}))).await;
    stage.until_ready("ready").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    stage.until_phase("tiny", Phase::Downloading).await;
    delete(&stage, "ready").await;
    delete(&stage, "tiny").await;
    lab(&["restart", "apiserver"]);
    stage.until_gone::<ModelCacheEntry>("ready").await;
    stage.until_gone::<ModelCacheEntry>("tiny").await;
    volume.assert_nothing_published();
    operator::until_ready(&stage.client, 1).await;
}
