//! What a connection says holds for its entries: what may be kept, where, how many at a time; and what is said of it.

use crate::chosen;
use crate::harness::wait::ready;
use crate::harness::{Gate, Stage, shared};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use modelcache::api::connection::ConnectionQueue;
use modelcache::api::{HubConnection, ModelCacheEntryStatus, Phase, condition, label};
use modelcache::ident::Reason;
use serde_json::{Value, json};

/// The tiny model in a folder of its own of the claim `models`.
fn in_folder(name: &str) -> Value {
    shared("models", json!({"storage": {"claimName": "models", "subPath": name}}))
}

fn place(status: &ModelCacheEntryStatus) -> Option<(i64, i64)> {
    status.queue.as_ref().filter(|_| status.phase == Some(Phase::Queued)).map(|queue| (queue.position, queue.waiting))
}

impl Stage {
    /// Changes a connection's annotation so that it is checked again.
    async fn check_again(&self, connection: &str) {
        let now = jiff::Timestamp::now().as_nanosecond().to_string();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"modelcache.dev/retry": now}}}));
        self.api::<HubConnection>().patch(connection, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until a connection has these two conditions, each with its reason.
    async fn until_found(&self, name: &str, reachable: [&str; 2], authenticated: [&str; 2]) -> HubConnection {
        let says = |connection: &HubConnection, type_: &str, [status, reason]: [&str; 2]| {
            let conditions = connection.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|one| one.type_ == type_ && one.status == status && one.reason == reason)
        };
        let what = format!("Reachable {reachable:?}, Authenticated {authenticated:?}");
        self.until_is(name, &what, |connection: &HubConnection| {
            says(connection, condition::REACHABLE, reachable)
                && says(connection, condition::AUTHENTICATED, authenticated)
        })
        .await
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_goes_on_when_it_is() {
    let mut stage = Stage::new("policy").await;
    let volume = stage.local("models").await;
    let endpoint = stage.hub.endpoint();
    let allow = |allow: Value| json!({"endpoint": endpoint, "allow": allow});
    stage.connect("default", allow(json!({"repos": ["other/*"]}))).await;
    let entry = stage.entry("tiny", shared("models", json!({}))).await;
    let words = ["org/tiny", "HubConnection \"default\"", "other/*"];
    stage.until_says("tiny", Phase::Failed, Reason::PolicyDenied, &words).await;
    assert!(stage.jobs(&entry).await.is_empty() && stage.hub().seen().is_empty(), "it is refused before a Job");

    // Which weights there are only the worker sees.
    stage.connect("default", allow(json!({"repos": ["org/*"], "weights": ["Gguf"]}))).await;
    let denied = |status: &ModelCacheEntryStatus| ready(status).1.contains("model.safetensors");
    let entry = stage.until("tiny", "denied by its worker", denied).await;
    assert_eq!(ready(entry.status.as_ref().unwrap()).0, Reason::PolicyDenied.as_str());
    assert!(stage.hub().requests_for("/resolve/").is_empty(), "no file is fetched");
    volume.assert_nothing_published();

    stage.connect("default", allow(json!({"weights": ["Safetensors"]}))).await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());

    // What is there stays, whatever is allowed from now on.
    stage.connect("default", allow(json!({"repos": ["other/*"]}))).await;
    stage.retry("tiny").await;
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn an_entry_without_storage_is_kept_where_its_connection_said_and_stays_there() {
    let mut stage = Stage::new("defaultstorage").await;
    let volume = stage.local("models").await;
    let endpoint = stage.hub.endpoint();
    let entry = stage.entry("tiny", json!({"repo": crate::fakehub::REPO})).await;
    let words = ["spec.storage", "HubConnection \"default\"", "storage.default"];
    stage.until_says("tiny", Phase::Pending, Reason::PVCPending, &words).await;
    assert!(stage.jobs(&entry).await.is_empty());

    // A default that turns out wrong is no trap, as long as nothing was begun.
    let cache = |storage: Value| {
        let proxy = json!({"https": "http://me:hunter2@proxy.example:3128"});
        json!({"endpoint": endpoint, "proxy": proxy, "cache": {"storage": storage, "job": {"labels": {"team": "a"}}}})
    };
    stage.connect("default", cache(json!({"claimName": "typo"}))).await;
    let waits = |status: &ModelCacheEntryStatus| ready(status).1.contains("claim \"typo\" does not exist");
    stage.until("tiny", "waiting for the wrong claim", waits).await;
    stage.connect("default", cache(json!({"claimName": "models"}))).await;
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());

    let status = entry.status.unwrap();
    let effective = json!(status.effective);
    let expected = json!({
        "connection": "default",
        "endpoint": endpoint,
        "proxy": {"https": "http://***@proxy.example:3128"},
        "storage": {"claimName": "models"},
    });
    assert_eq!(effective, expected);

    stage.connect("default", cache(json!({"claimName": "other"}))).await;
    stage.retry("tiny").await;
    let heeded =
        |status: &ModelCacheEntryStatus| status.attempts.as_ref().is_some_and(|attempts| attempts.last_retry.is_some());
    let entry = stage.until("tiny", "aware of the retry", heeded).await;
    let status = entry.status.as_ref().unwrap();
    assert_eq!((status.phase, status.volume.as_ref().unwrap().claim_name.as_str()), (Some(Phase::Ready), "models"));
    stage.delete("tiny").await;
    volume.assert_nothing_published();
}

#[tokio::test]
async fn over_a_connections_limit_entries_wait_in_line_and_one_that_a_pod_awaits_goes_first() {
    let mut stage = Stage::new("queue").await;
    let _volume = stage.local("models").await;
    stage.connect("default", json!({"endpoint": stage.hub.endpoint(), "maxConcurrentJobs": 1})).await;
    let first = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("one", in_folder("one")).await;
    stage.until_held("one", &first).await;
    stage.entry("two", in_folder("two")).await;
    let two = stage.until("two", "first in line", |status| place(status) == Some((1, 1))).await;
    let said = ready(two.status.as_ref().unwrap()).1.to_owned();
    assert!(said.starts_with("1st of 1 that wait for HubConnection \"default\""), "{said}");
    // Those of one second stand in the order of their uids.
    let mut three = stage.entry("three", in_folder("three")).await;
    while three.metadata.creation_timestamp == two.metadata.creation_timestamp && three.uid() < two.uid() {
        stage.delete("three").await;
        three = stage.entry("three", in_folder("three")).await;
    }
    stage.until("three", "second in line", |status| place(status) == Some((2, 2))).await;
    let taking = ListParams::default().labels(label::HUB);
    assert_eq!(stage.api::<Job>().list(&taking).await.unwrap().items.len(), 1);
    let counted = |connection: &HubConnection| {
        let queue = connection.status.as_ref().and_then(|status| status.queue.clone());
        queue == Some(ConnectionQueue { running: 1, waiting: 2 })
    };
    stage.until_is("default", "counting its queue", counted).await;

    let pod = json!({
        "metadata": {"name": "consumer", "annotations": {"modelcache.dev/models": "three"}},
        "spec": {
            "schedulingGates": [{"name": "example.org/wait"}],
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "web", "image": "never-pulled",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        },
    });
    stage.create::<Pod>(pod).await;
    stage.until("three", "first in line", |status| place(status) == Some((1, 2))).await;
    stage.until("two", "second in line", |status| place(status) == Some((2, 2))).await;

    let second = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    first.open();
    stage.until_held("three", &second).await;
    stage.until_ready("one").await;
    let two = stage.until("two", "still in line", |status| place(status).is_some()).await;
    assert!(stage.jobs(&two).await.is_empty(), "one at a time");
    second.open();
    stage.until_ready("three").await;
    let two = stage.until_ready("two").await;
    assert_eq!(two.status.unwrap().queue, None);
}

#[tokio::test]
async fn one_whose_job_cannot_start_does_not_hold_up_its_hub() {
    let mut stage = Stage::new("inway").await;
    let _volume = stage.local("models").await;
    stage.connect("default", json!({"endpoint": stage.hub.endpoint(), "maxConcurrentJobs": 1})).await;
    let nowhere = json!({"job": {"nodeSelector": {"no-node": "has-this"}}, "storage": {"claimName": "models", "subPath": "stuck"}});
    stage.entry("stuck", shared("models", nowhere)).await;
    stage.until_says("stuck", Phase::Provisioning, Reason::Unschedulable, &["no node"]).await;
    // What is no quantity passes the schema of an entry, and not that of its Job.
    let no_size = json!({"job": {"resources": {"limits": {"memory": "512 MB"}}}, "storage": {"claimName": "models", "subPath": "typo"}});
    stage.entry("typo", shared("models", no_size)).await;
    stage.entry("two", in_folder("two")).await;
    stage.until_phase("two", Phase::Queued).await;
    stage.until_says("stuck", Phase::Retrying, Reason::Unschedulable, &["others that wait for the Hub"]).await;
    stage
        .until_says(
            "typo",
            Phase::Pending,
            Reason::Unschedulable,
            &["refused by the API server", "quantities must match"],
        )
        .await;
    stage.until_ready("two").await;
}

#[tokio::test]
async fn a_connection_says_whether_its_hub_answers_and_whose_token_it_is() {
    const TOKEN: &str = "hf_rightrightright";
    const WRONG: &str = "hf_wrongwrongwrong";
    let stage = Stage::new("check").await;
    *stage.hub().token.lock().unwrap() = Some(TOKEN.to_owned());
    let with =
        |secret: &str| json!({"endpoint": stage.hub.endpoint(), "tokenSecretRef": {"name": secret, "key": "token"}});
    stage.secret("right", "token", TOKEN).await;
    stage.secret("wrong", "token", WRONG).await;
    stage.connect("right", with("right")).await;
    stage.connect("wrong", with("wrong")).await;
    stage.connect("absent", with("absent")).await;
    stage.connect("nobody", json!({"endpoint": "http://127.0.0.1:9"})).await;

    let found = stage.until_found("right", ["True", "Answered"], ["True", "TokenAccepted"]).await;
    assert_eq!(found.status.unwrap().authenticated_as.as_deref(), Some(crate::fakehub::ACCOUNT));
    let found = stage.until_found("wrong", ["True", "Answered"], ["False", "Unauthorized"]).await;
    assert_eq!(found.status.unwrap().authenticated_as, None);
    stage.until_found("absent", ["Unknown", "SecretNotFound"], ["False", "SecretNotFound"]).await;
    stage.until_found("nobody", ["False", "HubUnavailable"], ["Unknown", "HubUnavailable"]).await;

    // A mended Secret is seen when somebody asks.
    let patch = Patch::Merge(json!({"stringData": {"token": TOKEN}}));
    stage.api::<Secret>().patch("wrong", &PatchParams::default(), &patch).await.unwrap();
    stage.check_again("wrong").await;
    stage.until_found("wrong", ["True", "Answered"], ["True", "TokenAccepted"]).await;
    // Another spec is checked by itself.
    stage.connect("nobody", with("right")).await;
    stage.until_found("nobody", ["True", "Answered"], ["True", "TokenAccepted"]).await;
    stage.assert_hidden(TOKEN);
    stage.assert_hidden(WRONG);
}
