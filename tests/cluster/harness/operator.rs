//! The operator in the cluster.

use super::command::{program, run, try_kubectl};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use std::process::Command;

const DEPLOYMENT: &str = "modelcache";
const SELECTOR: &str = "app.kubernetes.io/instance=modelcache,app.kubernetes.io/component=operator";

/// The namespace of its release.
pub fn namespace() -> String {
    std::env::var("MODELCACHE_NAMESPACE").unwrap_or_else(|_| "modelcache-system".to_owned())
}

/// Fails with the next step when there is no operator.
pub async fn must_run(client: &Client) {
    let namespace = namespace();
    let deployment = Api::<Deployment>::namespaced(client.clone(), &namespace).get_opt(DEPLOYMENT).await;
    let deployment = deployment.expect("the cluster of KUBECONFIG answers: `hack/lab status` tells more");
    let available = deployment.as_ref().and_then(|deployment| deployment.status.as_ref()?.available_replicas);
    assert!(
        available.unwrap_or(0) > 0,
        "no operator runs in namespace {namespace}: `cargo build --release && hack/install` puts it there"
    );
}

/// The last lines of the operator's log.
pub fn log(lines: u32) -> String {
    let tail = format!("--tail={lines}");
    try_kubectl(&["-n", &namespace(), "logs", "--selector", SELECTOR, &tail]).unwrap_or_else(|error| error)
}

/// Its Pods.
pub async fn pods(client: &Client) -> Vec<Pod> {
    let ours = ListParams::default().labels(SELECTOR);
    Api::<Pod>::namespaced(client.clone(), &namespace()).list(&ours).await.unwrap().items
}

/// The process on this machine that a Pod's only container runs.
pub fn process(pod: &Pod) -> Option<u32> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let id = status.container_id.as_ref()?.strip_prefix("containerd://")?;
    let tasks = run(Command::new(program("ctr")).args(["-n", "k8s.io", "tasks", "ls"])).unwrap();
    let task = tasks.lines().find(|line| line.starts_with(id))?;
    task.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal to a process.
pub fn signal(process: u32, name: &str) {
    run(Command::new("kill").args([&format!("-{name}"), &process.to_string()])).unwrap();
}
