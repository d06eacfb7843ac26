//! Two operators, of which one leads.

use crate::harness::{Stage, operator, shared};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client};
use serde_json::json;
use std::time::{Duration, Instant};

/// The Lease lasts 15 s; a leader that is told to stop gives it back and nobody needs to wait for its end.
const HANDOVER: Duration = Duration::from_secs(10);

async fn delete_pod(client: &Client, name: &str) {
    Api::<Pod>::namespaced(client.clone(), &operator::namespace())
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_second_operator_takes_over_at_once_when_the_first_is_told_to_stop() {
    let mut stage = Stage::new("leader").await;
    stage.local("models").await;
    let client = stage.client.clone();
    operator::scale(&client, 2).await;
    let first = operator::until_leads(&client, "one of them", |_| true).await;
    let began = Instant::now();
    delete_pod(&client, &first).await;
    let second = operator::until_leads(&client, "another one", |name| name != first).await;
    let took = began.elapsed();
    println!("the lease was handed over in {took:?}");
    assert!(took < HANDOVER, "the lease was not given back: {took:?}");
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_ready("tiny").await;
    assert_eq!(operator::leader(&client).await, second);
    operator::scale(&client, 1).await;
    // Whoever stays leads.
    let left = operator::until_leads(&client, "who is left", |_| true).await;
    let transitions =
        Api::<Lease>::namespaced(client.clone(), &operator::namespace()).get("modelcache-operator").await.unwrap();
    assert!(transitions.spec.unwrap().lease_transitions.unwrap_or(0) >= 1, "{left}");
}
