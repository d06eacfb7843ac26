//! The operator at rest.

use crate::harness::wait::holds;
use crate::harness::{Stage, lab, operator};
use crate::kwok::Kwok;
use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use modelcache::api::{ModelCacheEntryStatus, condition};
use serde_json::{Value, json};
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

const ENTRIES: usize = 200;
/// As many as fit on a node at once, with room for what else is there.
const AT_ONCE: usize = 25;
const HELD_MAX_KIB: u64 = 30 * 1024;

/// Longer than every interval of the operator's but the Lease's.
fn window() -> Duration {
    Duration::from_mins(if std::env::var_os("MODELCACHE_SOAK").is_some() { 5 } else { 1 })
}

/// So many entries, each Ready and with its Job gone, and a Pod that uses it.
async fn entries_in_use(stage: &Stage, kwok: &Kwok) {
    let names: Vec<_> = (0..ENTRIES).map(|number| format!("tiny{number}")).collect();
    for names in names.chunks(AT_ONCE) {
        for name in names {
            let storage = json!({"claimName": "models", "subPath": name});
            let spec = json!({"repo": crate::fakehub::REPO, "storage": storage, "reclaimPolicy": "Retain"});
            stage.entry(name, spec).await;
        }
        for ready in join_all(names.iter().map(|name| stage.until_ready(name))).await {
            stage.until_gone::<Job>(&ready.status.unwrap().attempts.unwrap().last_job.unwrap()).await;
        }
    }
    for (number, name) in names.iter().enumerate() {
        let path = format!("{name}/entries/org_2ftiny/model");
        kwok.pod(stage, &format!("user{number}"), number, &path).await;
    }
    for names in names.chunks(AT_ONCE) {
        let in_use = |status: &ModelCacheEntryStatus| holds(status, condition::IN_USE);
        join_all(names.iter().map(|name| stage.until(name, "in use", in_use))).await;
    }
}

/// The namespaces that tests before this one deleted are gone, and with them the work of taking them away.
pub(crate) async fn until_alone(stage: &Stage) {
    let api = Api::<Namespace>::all(stage.client.clone());
    let tests = api.list(&ListParams::default().labels("modelcache.dev/test")).await.unwrap();
    let going = tests.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_some());
    for namespace in going.map(ResourceExt::name_any) {
        let gone = await_condition(api.clone(), &namespace, |namespace: Option<&Namespace>| namespace.is_none());
        let gone = tokio::time::timeout(crate::harness::wait::DEADLINE, gone).await;
        gone.unwrap_or_else(|_| panic!("namespace {namespace} of another test does not go")).unwrap();
    }
}

/// What a process holds in memory, and how much of this is pages of the program itself: of these the kernel maps as many as
/// it has at hand, and it may take them back at any time.
fn resident_kib(process: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (kib("VmRSS:"), kib("RssFile:"))
}

/// What the operator wrote, by the API server's own account, from this place of the audit log on.
fn writes_since(place: u64) -> Vec<String> {
    let mut file = std::fs::File::open(lab::audit_log()).unwrap();
    file.seek(SeekFrom::Start(place)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let user = format!("system:serviceaccount:{}:modelcache", operator::namespace());
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours =
        events.filter(|event| event["user"]["username"] == user.as_str() && event["stage"] == "ResponseComplete");
    let writes = ours.filter(|event| !matches!(event["verb"].as_str(), Some("get" | "list" | "watch")));
    writes
        .map(|event| format!("{} {}", event["verb"].as_str().unwrap(), event["requestURI"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn at_rest_the_operator_writes_its_lease_alone_and_is_small() {
    let mut stage = Stage::new("idle").await;
    stage.local("models").await;
    let kwok = Kwok::start(&stage.client, 2).await;
    Box::pin(entries_in_use(&stage, &kwok)).await;
    until_alone(&stage).await;
    let place = std::fs::metadata(lab::audit_log()).unwrap().len();
    // Not a wait for something: nothing happens for this long, and that is measured.
    tokio::time::sleep(window()).await;
    let writes = writes_since(place);
    // Somebody else may use the cluster, and what the operator writes for them is no fault.
    let own = [&stage.namespace, &operator::namespace()].map(|namespace| format!("/namespaces/{namespace}/"));
    let concerns_us = |write: &String| !write.contains("/namespaces/") || own.iter().any(|part| write.contains(part));
    let (leases, others): (Vec<_>, Vec<_>) =
        writes.into_iter().filter(concerns_us).partition(|write| write.contains("/leases/"));
    assert_eq!(others, Vec::<String>::new(), "the operator writes though nothing happens");
    assert!(!leases.is_empty(), "the audit log tells of the operator");

    let (_, process) = operator::running(&stage.client).await;
    let (resident, program) = resident_kib(process);
    let held = resident - program;
    println!(
        "with {ENTRIES} entries and as many Pods at rest: {} writes of the lease and no other in {:?}; {resident} KiB resident, {held} without the program's pages",
        leases.len(),
        window()
    );
    assert!(held < HELD_MAX_KIB, "{held} KiB are held");
}
