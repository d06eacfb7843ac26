//! What the Hub, or something about it, refuses: each in its own word, with nothing published.

use crate::chosen;
use crate::fakehub::{self, Authority, Fault, Hub, REPO, answer};
use crate::harness::stage::named;
use crate::harness::wait::ready;
use crate::harness::{Stage, lab, shared};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use modelcache::api::{ModelCacheEntryStatus, Phase};
use modelcache::ident::Reason;
use serde_json::{Value, json};

const ALWAYS: usize = usize::MAX;

/// Seconds until the next attempt.
fn wait_of(status: &ModelCacheEntryStatus) -> Option<f64> {
    let next = status.attempts.as_ref()?.next_retry_at.as_ref()?.0;
    Some(next.duration_since(jiff::Timestamp::now()).as_secs_f64())
}

fn error_code(status: u16, code: &str) -> Fault {
    answer(status, &[("x-error-code", code)], "{}")
}

/// The tiny model in a folder of its own, so that entries in one claim are no twins.
fn in_folder(folder: &str, over: Value) -> Value {
    let mut spec = shared("models", over);
    spec["storage"]["subPath"] = folder.into();
    spec
}

#[tokio::test]
async fn names_that_the_hub_does_not_know() {
    let mut stage = Stage::new("unknown").await;
    let volume = stage.local("models").await;
    stage.hub().fault("/revision/nope", ALWAYS, error_code(404, "RevisionNotFound"));
    stage.hub().fault("/revision/gated", ALWAYS, error_code(403, "GatedRepo"));
    stage.entry("repo", named("org/unknown", "models", json!({}))).await;
    stage.entry("revision", in_folder("a", json!({"revision": "nope"}))).await;
    stage.entry("pattern", in_folder("b", json!({"files": {"include": ["nothing-*"]}}))).await;
    stage.entry("gated", in_folder("c", json!({"revision": "gated"}))).await;
    let endpoint = stage.hub.endpoint();
    stage.until_says("repo", Phase::Failed, Reason::RepoNotFound, &["org/unknown", &endpoint, "check the name"]).await;
    stage.until_says("revision", Phase::Failed, Reason::RevisionNotFound, &[REPO, "\"nope\"", "use a branch"]).await;
    stage.until_says("pattern", Phase::Failed, Reason::FileNotFound, &["nothing-*"]).await;
    stage.until_says("gated", Phase::Failed, Reason::GatedModel, &[REPO, "accept the licence"]).await;
    volume.assert_nothing_published();
    let described = stage.kubectl(&["describe", "mce", "repo"]);
    let (status, events) = described.split_once("Events:").unwrap();
    for told in [status, events] {
        assert!(told.contains("RepoNotFound") && told.contains("check the name"), "{described}");
    }
    // What may change outside is looked at again within the hour; a wrong name in the spec is not.
    let waits = async |name: &str| wait_of(stage.until_phase(name, Phase::Failed).await.status.as_ref().unwrap());
    assert!(waits("gated").await.is_some_and(|wait| (3000.0..3601.0).contains(&wait)));
    assert_eq!(waits("revision").await, None);
}

#[tokio::test]
async fn a_token_that_is_missing_wrong_and_right() {
    const WRONG: &str = "hf_wrongwrongwrong";
    const RIGHT: &str = "hf_rightrightright";
    let mut stage = Stage::new("token").await;
    let volume = stage.local("models").await;
    let spec = json!({"endpoint": stage.hub.endpoint(), "tokenSecretRef": {"name": "hub", "key": "token"}});
    stage.connect("default", spec).await;
    stage.hub().fault(
        "/revision/",
        1,
        answer(401, &[("x-error-message", "Invalid credentials in Authorization header")], "{}"),
    );
    *stage.hub().token.lock().unwrap() = Some(RIGHT.to_owned());
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_says("tiny", Phase::Failed, Reason::SecretNotFound, &["Secret \"hub\", key \"token\""]).await;
    assert!(stage.hub().seen().is_empty(), "nobody asks without the token");

    stage.secret("hub", "token", WRONG).await;
    stage.retry("tiny").await;
    stage
        .until_says(
            "tiny",
            Phase::Failed,
            Reason::Unauthorized,
            &["Secret \"hub\", key \"token\"", REPO, "use a valid token"],
        )
        .await;
    volume.assert_nothing_published();
    stage.assert_hidden(WRONG);

    let patch = Patch::Merge(json!({"stringData": {"token": RIGHT}}));
    stage.api::<Secret>().patch("hub", &PatchParams::default(), &patch).await.unwrap();
    stage.retry("tiny").await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
    stage.assert_hidden(RIGHT);
}

#[tokio::test]
async fn certificates_that_are_not_trusted_and_trusted_ones_from_both_kinds_of_object() {
    let authority = Authority::new();
    let address = lab::host_address();
    let hub =
        fakehub::start_tls_at(Hub::new(fakehub::tiny_model()), &authority, address, &address.ip().to_string()).await;
    let mut stage = Stage::with_hub("tls", hub).await;
    let volume = stage.local("models").await;
    let stage = &stage;
    let trust = async |kind: &str, name: &str| {
        let bundle = json!({"kind": kind, "name": name, "key": "ca.crt"});
        // A mended connection is a reason to try again: nobody has to ask for it.
        stage.connect("default", json!({"endpoint": stage.hub.endpoint(), "caBundleRef": bundle})).await;
    };
    stage.connect("default", json!({"endpoint": stage.hub.endpoint()})).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let host = address.ip().to_string();
    stage.until_says("tiny", Phase::Failed, Reason::TLSUntrusted, &[&host, "CA bundle"]).await;
    trust("ConfigMap", "absent").await;
    let says_absent =
        |status: &ModelCacheEntryStatus| status.phase == Some(Phase::Failed) && ready(status).1.contains("\"absent\"");
    stage.until("tiny", "told of the missing ConfigMap", says_absent).await;
    volume.assert_nothing_published();

    stage.create::<ConfigMap>(json!({"metadata": {"name": "ours"}, "data": {"ca.crt": authority.pem}})).await;
    trust("ConfigMap", "ours").await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
    stage.secret("ours", "ca.crt", &authority.pem).await;
    trust("Secret", "ours").await;
    stage.entry("again", in_folder("again", json!({}))).await;
    stage.until_ready("again").await;
}

#[tokio::test]
async fn a_hub_that_is_down_is_waited_for() {
    let mut stage = Stage::new("down").await;
    stage.local("models").await;
    let gone = fakehub::start_at(Hub::new(fakehub::tiny_model()), lab::host_address()).await;
    let (address, endpoint) = (gone.address, gone.endpoint());
    drop(gone);
    stage.connect("down", json!({"endpoint": endpoint})).await;
    stage.entry("tiny", shared("models", json!({"source": {"hub": {"connectionRef": {"name": "down"}}}}))).await;
    let entry = stage.until_reason("tiny", Phase::Retrying, Reason::HubUnavailable).await;
    let status = entry.status.as_ref().unwrap();
    let message = ready(status).1;
    assert!(message.contains(&address.to_string()) && message.contains("check the endpoint"), "{message}");
    assert!(wait_of(status).is_some_and(|wait| (0.0..13.0).contains(&wait)), "{:?}", status.attempts);
    let _back = fakehub::start_at(Hub::new(fakehub::tiny_model()), address).await;
    stage.until_phase("tiny", Phase::Ready).await;
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_is_named() {
    let mut stage = Stage::new("proxy").await;
    stage.local("models").await;
    // Nothing listens at a port that was just given back.
    let gone = fakehub::start_at(Hub::new(Vec::new()), lab::host_address()).await;
    let proxy = gone.endpoint();
    drop(gone);
    stage.connect("default", json!({"endpoint": stage.hub.endpoint(), "proxy": {"http": proxy}})).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let named = proxy.trim_start_matches("http://");
    stage.until_says("tiny", Phase::Retrying, Reason::ProxyError, &[named]).await;
    stage.connect("default", json!({"endpoint": stage.hub.endpoint()})).await;
    stage.until_phase("tiny", Phase::Ready).await;
}

#[tokio::test]
async fn a_hub_that_asks_for_a_pause_gets_it() {
    let mut stage = Stage::new("limited").await;
    stage.local("models").await;
    stage.hub().fault("/api/", 1, answer(429, &[("retry-after", "90")], ""));
    stage.entry("tiny", shared("models", json!({}))).await;
    let entry = stage.until_reason("tiny", Phase::Retrying, Reason::RateLimited).await;
    assert!(wait_of(entry.status.as_ref().unwrap()).is_some_and(|wait| (75.0..91.0).contains(&wait)));
    // A person may be less patient.
    stage.retry("tiny").await;
    stage.until_phase("tiny", Phase::Ready).await;
}

#[tokio::test]
async fn answers_that_are_broken_are_retried_until_they_are_whole() {
    let mut stage = Stage::new("broken").await;
    let volume = stage.local("models").await;
    stage.hub().fault("/revision/sick", ALWAYS, answer(500, &[], "oops"));
    stage.hub().fault("/README.md", ALWAYS, Fault::Short(100));
    stage.entry("sick", in_folder("a", json!({"revision": "sick"}))).await;
    stage.entry("short", in_folder("b", json!({}))).await;
    stage.until_says("sick", Phase::Retrying, Reason::HubUnavailable, &["500", REPO]).await;
    stage.until_says("short", Phase::Retrying, Reason::HubUnavailable, &["README.md", "of 5000 bytes"]).await;
    volume.assert_nothing_published();
    stage.hub().heal();
    stage.until_phase("sick", Phase::Ready).await;
    let entry = stage.until_phase("short", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn bytes_that_are_not_the_promised_ones_are_never_published() {
    let mut stage = Stage::new("corrupt").await;
    let volume = stage.local("models").await;
    stage.hub().fault("/model.safetensors", ALWAYS, Fault::Corrupt);
    stage.entry("tiny", shared("models", json!({}))).await;
    let weights = chosen().into_iter().find(|file| file.path == "model.safetensors").unwrap().bytes;
    let mut wrong = weights.clone();
    wrong[weights.len() / 2] ^= 1;
    let digests = [fakehub::sha256(&weights), fakehub::sha256(&wrong)];
    let words = ["model.safetensors", &digests[0], &digests[1], "then retry"];
    stage.until_says("tiny", Phase::Failed, Reason::ChecksumMismatch, &words).await;
    volume.assert_nothing_published();
    stage.hub().heal();
    stage.retry("tiny").await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
}

#[tokio::test]
async fn hostile_file_names_stay_outside() {
    let mut stage = Stage::new("hostile").await;
    let volume = stage.local("models").await;
    for (number, path) in ["../evil", "/etc/evil", "a\\..\\evil", "C:evil"].into_iter().enumerate() {
        let tree = json!([{"type": "file", "path": path, "size": 3, "oid": "0".repeat(40)}]);
        let hub = fakehub::start_at(Hub::new(Vec::new()), lab::host_address()).await;
        *hub.hub.raw_tree.lock().unwrap() = Some(tree.to_string());
        let name = format!("evil{number}");
        stage.connect(&name, json!({"endpoint": hub.endpoint()})).await;
        stage.entry(&name, in_folder(&name, json!({"source": {"hub": {"connectionRef": {"name": name}}}}))).await;
        let shown = format!("{path:?}");
        stage.until_says(&name, Phase::Failed, Reason::UnsafePath, &[&shown[1..shown.len() - 1]]).await;
        assert!(hub.hub.requests_for("/resolve/").is_empty());
    }
    volume.assert_nothing_published();
}

#[tokio::test]
async fn a_missing_connection_is_waited_for() {
    let mut stage = Stage::new("connection").await;
    stage.local("models").await;
    stage.entry("tiny", shared("models", json!({"source": {"hub": {"connectionRef": {"name": "later"}}}}))).await;
    stage.until_says("tiny", Phase::Pending, Reason::ConnectionNotFound, &["\"later\"", "create it"]).await;
    stage.connect("later", json!({"endpoint": stage.hub.endpoint()})).await;
    stage.until_ready("tiny").await;
}
