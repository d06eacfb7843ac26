//! Pods that name models while the operator is away, while its certificate changes, by the hundred, and at 50 a second.

use crate::defaults::Values;
use crate::fakehub::REPO;
use crate::harness::pods::{asks_for, deployment, entry_of, is_gated, is_in_phase, pod, populating, runs};
use crate::harness::{Gate, Stage, operator};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::Api;
use kube::api::{ListParams, PostParams};
use modelcache::api::ModelCacheEntry;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

const WEBHOOK: &str = "modelcache-webhook";

/// Creates a Pod without creating it, and gives how long that took.
async fn dry_run(stage: &Stage, object: &Value) -> (Pod, Duration) {
    let how = PostParams { dry_run: true, ..PostParams::default() };
    let object: Pod = serde_json::from_value(object.clone()).unwrap();
    let begun = Instant::now();
    let made = stage.api::<Pod>().create(&how, &object).await.unwrap();
    (made, begun.elapsed())
}

#[tokio::test]
async fn while_the_operator_is_away_pods_are_created_and_told_of_later() {
    let stage = populating("away").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.create::<Pod>(pod("before", REPO)).await;
    stage.until_held(&entry_of(REPO), &gate).await;
    operator::scale(0);
    operator::until_gone(&stage.client).await;
    let plain = json!({"metadata": {"name": "plain"}, "spec": runs("sleep 3600")});
    for (name, object) in [("plain", plain), ("during", pod("during", REPO))] {
        let begun = Instant::now();
        let made = stage.create::<Pod>(object).await;
        assert!(!is_gated(&made));
        // The API server waits three seconds at most for whoever does not answer.
        assert!(begun.elapsed() < Duration::from_secs(if name == "plain" { 1 } else { 5 }), "{:?}", begun.elapsed());
        stage.until_is(name, "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    }
    gate.open();
    operator::scale(1);
    operator::until_ready(&stage.client, 1).await;
    let during = stage.api::<Pod>().get("during").await.unwrap();
    let told = stage.until_event(&during, "NotInjected").await.message.unwrap_or_default();
    assert!(told.contains("the webhook was not asked"), "{told}");
    assert!(operator::metric(&stage.client, "modelcache_not_injected_pods").await.is_some_and(|value| value >= 1.0));
    stage.until_is("before", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    stage.create::<Pod>(pod("after", REPO)).await;
    stage.until_is("after", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
}

#[tokio::test]
async fn pods_that_wait_when_the_webhook_is_switched_off_are_let_go() {
    let stage = populating("switched-off").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    let waits = stage.create::<Pod>(pod("waits", REPO)).await;
    stage.until_held(&entry_of(REPO), &gate).await;
    let values = Values::set(&["--set=webhook.enabled=false".to_owned()]);
    gate.open();
    stage.until_is("waits", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    stage.until_event(&waits, "ModelsReady").await;
    drop(values);
    operator::until_ready(&stage.client, 1).await;
}

#[tokio::test]
async fn a_hundred_replicas_are_one_download_and_a_hundred_gates() {
    let stage = populating("hundred").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    let mut spec = runs("sleep 3600");
    // They may all be scheduled, and none needs to run.
    spec["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "nobody"}}, "topologyKey": "kubernetes.io/hostname"}]}});
    stage.create::<Deployment>(deployment("web", 100, REPO, spec)).await;
    stage.until_held(&entry_of(REPO), &gate).await;
    stage.until_pods(100, "gated", is_gated).await;
    gate.open();
    let begun = Instant::now();
    stage.until_ready(&entry_of(REPO)).await;
    let ready = Instant::now();
    stage.until_pods(100, "free of the gate", |pod| !is_gated(pod)).await;
    println!("Ready after {:?}, 100 gates off {:?} later", ready - begun, ready.elapsed());
    assert_eq!(stage.hub().requests_for("/resolve/").len(), 6, "one download");
    assert_eq!(stage.api::<ModelCacheEntry>().list(&ListParams::default()).await.unwrap().items.len(), 1);
}

fn secrets(stage: &Stage) -> Api<Secret> {
    Api::namespaced(stage.client.clone(), &operator::namespace())
}

async fn keep(stage: &Stage, secret: &Secret) {
    secrets(stage).replace(WEBHOOK, &PostParams::default(), secret).await.unwrap();
}

/// The same authority's certificate for the same host, of last year.
fn expired(secret: &Secret) -> Secret {
    let data = secret.data.as_ref().unwrap();
    let ca_key = KeyPair::from_pem(std::str::from_utf8(&data["ca.key"].0).unwrap()).unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.distinguished_name.push(DnType::CommonName, "modelcache webhook authority");
    let mut params = CertificateParams::new(vec![format!("{WEBHOOK}.{}.svc", operator::namespace())]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &Issuer::new(authority, ca_key)).unwrap();
    let mut secret = secret.clone();
    let data = secret.data.as_mut().unwrap();
    data.insert("tls.crt".into(), ByteString(certificate.pem().into_bytes()));
    data.insert("tls.key".into(), ByteString(key.serialize_pem().into_bytes()));
    secret
}

#[tokio::test]
async fn a_certificate_that_ends_or_is_lost_is_made_anew_under_load() {
    let stage = populating("certificates").await;
    let before = secrets(&stage).get(WEBHOOK).await.unwrap();
    let load = async {
        let mut ticks = interval(Duration::from_millis(50));
        let mut count = 0_u32;
        loop {
            ticks.tick().await;
            let (made, _) = dry_run(&stage, &pod("dry", REPO)).await;
            count += 1;
            assert!(is_gated(&made), "Pod {count} was not injected\n{}", operator::log(20));
        }
    };
    let change = async {
        let certificate = |secret: &Secret| secret.data.as_ref().and_then(|data| data.get("tls.crt").cloned());
        for (what, next) in [("expired", expired(&before)), ("lost", Secret { data: None, ..before.clone() })] {
            let mut next = next;
            next.metadata.resource_version = secrets(&stage).get(WEBHOOK).await.unwrap().metadata.resource_version;
            let old = certificate(&next);
            keep(&stage, &next).await;
            let is_new = |secret: Option<&Secret>| {
                secret
                    .and_then(certificate)
                    .is_some_and(|new| Some(&new) != old.as_ref() && Some(&new) != certificate(&before).as_ref())
            };
            let renewed = kube::runtime::wait::await_condition(secrets(&stage), WEBHOOK, is_new);
            let renewed = tokio::time::timeout(crate::harness::wait::DEADLINE, renewed).await;
            let renewed = renewed.unwrap_or_else(|_| panic!("{what}: {}", operator::log(40))).unwrap().unwrap();
            let authority = |secret: &Secret| secret.data.as_ref().unwrap()["ca.crt"].clone();
            assert_eq!(
                authority(&renewed) == authority(&before),
                what == "expired",
                "an authority stays while its key is there"
            );
            // Until only the new one is trusted.
            let trusted = || {
                let bundle = stage.kubectl(&[
                    "get",
                    "mutatingwebhookconfiguration",
                    "modelcache",
                    "-o",
                    "jsonpath={.webhooks[0].clientConfig.caBundle}",
                ]);
                json!(authority(&renewed)) == bundle
            };
            let end = Instant::now() + crate::harness::wait::DEADLINE;
            while !trusted() {
                assert!(Instant::now() < end, "{what}: the API server trusts another authority\n{}", operator::log(40));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    };
    tokio::select! { () = load => unreachable!("it has no end"), () = change => {} }
}

/// The value of a metric of the API server.
fn of_api_server(stage: &Stage, name: &str, labels: &[&str]) -> f64 {
    let text = stage.kubectl(&["get", "--raw", "/metrics"]);
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

const OURS: &str = "name=\"inject.modelcache.dev\"";
const SECOND: usize = 50;
const SECONDS: usize = 10;

#[tokio::test]
async fn fifty_pods_a_second_wait_less_than_twenty_milliseconds_and_others_not_at_all() {
    let stage = populating("fifty").await;
    // A hundred Pods of another test may still be going.
    crate::idle::until_alone(&stage).await;
    let asked =
        |stage: &Stage| of_api_server(stage, "apiserver_admission_webhook_admission_duration_seconds_count", &[OURS]);
    // As a Deployment's Pods come: their model's entry is there or on its way. The first connection has its handshake.
    stage.entry("mine", crate::harness::shared("models", json!({}))).await;
    dry_run(&stage, &pod("first", REPO)).await;
    let before = asked(&stage);
    let plain = json!({"metadata": {"name": "plain"}, "spec": runs("sleep 3600")});
    let mut unlabelled = json!({"metadata": asks_for(REPO), "spec": runs("sleep 3600")});
    unlabelled["metadata"]["name"] = "unlabelled".into();
    unlabelled["metadata"]["labels"] = json!({"app": "web"});
    for _ in 0..20 {
        dry_run(&stage, &plain).await;
        dry_run(&stage, &unlabelled).await;
    }
    assert!((asked(&stage) - before).abs() < 0.5, "the webhook is asked about Pods without the label");

    let mut took = at_a_rate(&stage).await;
    took.sort();
    let at = |share: usize| took[took.len() * share / 100 - 1];
    println!("asked directly {} times: half {:?}, 99 % {:?}, all {:?}", took.len(), at(50), at(99), at(100));
    assert!(at(99) < Duration::from_millis(20), "99 % took {:?}", at(99));

    let bucket = |stage: &Stage| {
        of_api_server(stage, "apiserver_admission_webhook_admission_duration_seconds_bucket", &[OURS, "le=\"0.025\""])
    };
    let (all, fast) = (asked(&stage), bucket(&stage));
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(SECOND).unwrap());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..SECOND * SECONDS {
        ticks.tick().await;
        let (api, object) = (stage.api::<Pod>(), serde_json::from_value::<Pod>(pod("dry", REPO)).unwrap());
        running.spawn(async move { api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await });
    }
    let made: Vec<_> = running.join_all().await;
    assert!(made.into_iter().all(|pod| is_gated(&pod.unwrap())), "each was asked about and injected");
    let (all, fast) = (asked(&stage) - all, bucket(&stage) - fast);
    println!("the API server asked {all} times, and {fast} took less than 25 ms");
    assert!(fast >= all * 0.99, "of {all}, {fast} took less than 25 ms");
}

/// How long the webhook takes over the network, asked as the API server asks it.
async fn at_a_rate(stage: &Stage) -> Vec<Duration> {
    let namespace = operator::namespace();
    let service = Api::<Service>::namespaced(stage.client.clone(), &namespace).get(WEBHOOK).await.unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    let secret = secrets(stage).get(WEBHOOK).await.unwrap();
    let ca = reqwest::Certificate::from_pem(&secret.data.unwrap()["ca.crt"].0).unwrap();
    let host = format!("{WEBHOOK}.{namespace}.svc");
    let client = reqwest::Client::builder()
        .tls_certs_only([ca])
        .resolve(&host, format!("{address}:443").parse().unwrap())
        .no_proxy()
        .build()
        .unwrap();
    let mut object = pod("direct", REPO);
    object["metadata"]["namespace"] = stage.namespace.clone().into();
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "name": "direct", "namespace": stage.namespace, "operation": "CREATE", "userInfo": {}, "dryRun": true, "object": object}});
    let ask = |client: reqwest::Client, review: Value, url: String| async move {
        let begun = Instant::now();
        let answer: Value = client.post(url).json(&review).send().await.unwrap().json().await.unwrap();
        assert!(!answer["response"]["patch"].is_null(), "{answer}");
        begun.elapsed()
    };
    let url = format!("https://{host}/inject");
    ask(client.clone(), review.clone(), url.clone()).await;
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(SECOND).unwrap());
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..SECOND * SECONDS {
        ticks.tick().await;
        running.spawn(ask(client.clone(), review.clone(), url.clone()));
    }
    running.join_all().await
}
