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

/// Fails with the next step when there is no operator; one that is being started is waited for.
pub async fn must_run(client: &Client) {
    let namespace = namespace();
    let api = Api::<Deployment>::namespaced(client.clone(), &namespace);
    let hint =
        format!("no operator runs in namespace {namespace}: `cargo build --release && hack/install` puts it there");
    let deployment = api.get_opt(DEPLOYMENT).await;
    let deployment = deployment.expect("the cluster of KUBECONFIG answers: `hack/lab status` tells more");
    assert!(deployment.is_some(), "{hint}");
    let available = |deployment: Option<&Deployment>| {
        deployment.and_then(|deployment| deployment.status.as_ref()?.available_replicas).unwrap_or(0) > 0
    };
    timeout(DEADLINE, await_condition(api, DEPLOYMENT, available)).await.expect(&hint).unwrap();
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

/// Waits until none of its Pods is left: one that was told to stop answers for a moment more.
pub async fn until_gone(client: &Client) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while !pods(client).await.is_empty() {
        assert!(tokio::time::Instant::now() < end, "the operator should be gone");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
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

/// What the Pod that leads tells at `/metrics` under this name and these labels.
pub async fn metric(client: &Client, name: &str) -> Option<f64> {
    let leader = leader(client).await;
    let text =
        kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{}/pods/{leader}:8081/proxy/metrics", namespace())]);
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
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

/// The Pod whose operator runs, and its process: of a rollout's two Pods, the one that stays.
pub async fn running(client: &Client) -> (Pod, u32) {
    let pods = pods(client).await.into_iter();
    let mut stay = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let found = stay.find_map(|pod| process(&pod).map(|process| (pod, process)));
    found.unwrap_or_else(|| panic!("no operator runs\n{}", log(40)))
}

/// Kills the operator's process, and takes its Pod away as if its node were lost: another Pod must wait for the Lease's end.
pub async fn kill(client: &Client) {
    let (pod, _) = running(client).await;
    kill_pod(client, &pod.name_any()).await;
}

/// The same to the operator of this Pod.
pub async fn kill_pod(client: &Client, name: &str) {
    let api = Api::<Pod>::namespaced(client.clone(), &namespace());
    let process = process(&api.get(name).await.unwrap()).expect("the operator runs");
    signal(process, "KILL");
    let how = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    api.delete(name, &how).await.unwrap();
}

/// Kills the operator's process, as a lack of memory does: the kubelet starts it again, and the Lease is still its own.
pub async fn crash(client: &Client) {
    let (pod, process) = running(client).await;
    signal(process, "KILL");
    let restarts = |pod: &Pod| {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        Some((status.restart_count, status.ready))
    };
    let before = restarts(&pod).map_or(0, |(count, _)| count);
    let is_back = |pod: Option<&Pod>| pod.and_then(restarts).is_some_and(|(count, ready)| count > before && ready);
    let api = Api::<Pod>::namespaced(client.clone(), &namespace());
    let back = timeout(DEADLINE, await_condition(api, &pod.name_any(), is_back)).await;
    back.unwrap_or_else(|_| panic!("the kubelet starts the operator again\n{}", log(40))).unwrap();
}

/// Sends a signal to a process.
pub fn signal(process: u32, name: &str) {
    run(Command::new("kill").args([&format!("-{name}"), &process.to_string()])).unwrap();
}
