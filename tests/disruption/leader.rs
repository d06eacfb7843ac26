//! Two operators, of which one leads.

use crate::harness::{Stage, operator, shared};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client};
use serde_json::json;
use std::time::{Duration, Instant};

/// The Lease lasts 15 s; a leader that is told to stop gives it back and nobody needs to wait for its end.
const HANDOVER: Duration = Duration::from_secs(10);

/// A lost leader's lease ends by itself, and the standby looks every few seconds.
const LEASE_ENDS: Duration = Duration::from_secs(25);

/// Two operators, until the end of this value.
struct Pair;

impl Pair {
    async fn new(client: &Client) -> Self {
        operator::scale(2);
        operator::until_ready(client, 2).await;
        Self
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        operator::scale(1);
    }
}

async fn delete_pod(client: &Client, name: &str) {
    Api::<Pod>::namespaced(client.clone(), &operator::namespace())
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_standby_takes_over_when_the_leader_is_lost() {
    let mut stage = Stage::new("lost-leader").await;
    stage.local("models").await;
    let client = stage.client.clone();
    let pair = Pair::new(&client).await;
    let first = operator::until_leads(&client, "one of them", |_| true).await;
    let began = Instant::now();
    operator::kill_pod(&client, &first).await;
    let second = operator::until_leads(&client, "another one", |name| name != first).await;
    let took = began.elapsed();
    println!("the lease of a lost leader was taken over in {took:?}");
    assert!(took < LEASE_ENDS, "the standby waits for the lease's end and no longer: {took:?}");
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_ready("tiny").await;
    assert_eq!(operator::leader(&client).await, second);
    drop(pair);
    operator::until_ready(&client, 1).await;
}

#[tokio::test]
async fn a_second_operator_takes_over_at_once_when_the_first_is_told_to_stop() {
    let mut stage = Stage::new("leader").await;
    stage.local("models").await;
    let client = stage.client.clone();
    let pair = Pair::new(&client).await;
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
    drop(pair);
    operator::until_ready(&client, 1).await;
}
