//! Pods that ask for models.

use super::lab;
use super::stage::Stage;
use super::wait::DEADLINE;
use crate::fakehub::REPO;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use modelcache::api::GATE;
use modelcache::ident::{ModelRef, object_name};
use serde_json::{Value, json};

/// The name that the entry of a model has when nobody gave it one.
pub fn entry_of(repo: &str) -> String {
    object_name(&ModelRef { repo: repo.parse().unwrap(), revision: None })
}

/// The spec of a Pod that runs a script, as the restricted standard wants it.
pub fn runs(script: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "main", "image": lab::shell_image(), "command": ["sh", "-c", script],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]})
}

/// The labels and annotations of a Pod that asks for models.
pub fn asks_for(models: &str) -> Value {
    json!({"labels": {"app": "web", "modelcache.dev/inject": "true"}, "annotations": {"modelcache.dev/models": models}})
}

/// A Pod that asks for models and sleeps.
pub fn pod(name: &str, models: &str) -> Value {
    let mut metadata = asks_for(models);
    metadata["name"] = name.into();
    json!({"metadata": metadata, "spec": runs("sleep 3600")})
}

pub fn deployment(name: &str, replicas: u32, models: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": asks_for(models), "spec": spec}}})
}

pub fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| gates.iter().any(|gate| gate.name == GATE))
}

pub fn is_in_phase(pod: &Pod, phase: &str) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase)
}

/// A namespace whose models are fetched by themselves into the claim `models`.
pub async fn populating(name: &str) -> Stage {
    let mut stage = Stage::new(name).await;
    stage.local("models").await;
    let cache = json!({"autoPopulate": true, "storage": {"claimName": "models"}});
    stage.connect("default", json!({"endpoint": stage.hub.endpoint(), "cache": cache})).await;
    stage
}

impl Stage {
    /// Waits until so many Pods of the Deployment `web` are as they should be.
    pub async fn until_pods(&self, count: usize, what: &str, is: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        let ours = ListParams::default().labels("app=web");
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            let pods = self.api::<Pod>().list(&ours).await.unwrap().items;
            if pods.len() == count && pods.iter().all(&is) {
                return pods;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{count} Pods should be {what}\n{}",
                self.picture(&entry_of(REPO))
            );
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    /// The events about a Pod, of this reason.
    pub async fn told(&self, pod: &Pod, reason: &str) -> Vec<Event> {
        let about = ListParams::default().fields(&format!("involvedObject.uid={}", pod.uid().unwrap()));
        let events = self.api::<Event>().list(&about).await.unwrap().items;
        events.into_iter().filter(|event| event.reason.as_deref() == Some(reason)).collect()
    }
}
