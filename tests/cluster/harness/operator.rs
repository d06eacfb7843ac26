//! The operator in the cluster.

use super::command::{kubectl, program, run, try_kubectl};
use super::wait::DEADLINE;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use std::process::Command;
use tokio::time::timeout;

const LEASE: &str = "modelcache-operator";
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

/// The Pod that leads, by the Lease.
pub async fn leader(client: &Client) -> String {
    let lease = Api::<Lease>::namespaced(client.clone(), &namespace()).get(LEASE).await.unwrap();
    lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

/// Waits until a Pod leads of which this holds; gives its name.
pub async fn until_leads(client: &Client, what: &str, is: impl Fn(&str) -> bool) -> String {
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let leases = Api::<Lease>::namespaced(client.clone(), &namespace());
    let leads = await_condition(leases, LEASE, |lease: Option<&Lease>| {
        lease.map(holder).is_some_and(|name| !name.is_empty() && is(&name))
    });
    let lease = timeout(DEADLINE, leads).await.unwrap_or_else(|_| panic!("{what} should lead\n{}", log(40)));
    holder(&lease.unwrap().unwrap())
}

/// Changes the number of Pods.
pub fn scale(replicas: u32) {
    kubectl(&["-n", &namespace(), "scale", "deployment", DEPLOYMENT, &format!("--replicas={replicas}")]);
}

/// Waits until exactly so many Pods are there and ready.
pub async fn until_ready(client: &Client, replicas: i32) {
    let all = |deployment: Option<&Deployment>| {
        deployment.and_then(|deployment| deployment.status.as_ref()).is_some_and(|status| {
            status.ready_replicas.unwrap_or(0) == replicas && status.replicas.unwrap_or(0) == replicas
        })
    };
    let api = Api::<Deployment>::namespaced(client.clone(), &namespace());
    let ready = timeout(DEADLINE, await_condition(api, DEPLOYMENT, all)).await;
    ready.unwrap_or_else(|_| panic!("{replicas} operators should be ready\n{}", log(40))).unwrap();
}

/// Kills the operator's process, as a node that runs out of memory does, and takes its Pod away so that the next one need
/// not wait for the kubelet's patience. Gives the process that came to its end.
pub async fn kill(client: &Client) -> u32 {
    let pod = pods(client).await.into_iter().find(|pod| process(pod).is_some()).expect("the operator runs");
    let process = process(&pod).unwrap();
    signal(process, "KILL");
    let how = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    Api::<Pod>::namespaced(client.clone(), &namespace()).delete(&pod.name_any(), &how).await.unwrap();
    process
}

/// Sends a signal to a process.
pub fn signal(process: u32, name: &str) {
    run(Command::new("kill").args([&format!("-{name}"), &process.to_string()])).unwrap();
}
