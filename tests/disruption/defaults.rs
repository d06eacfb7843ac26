//! What whoever installs the operator sets for entries without a connection.

use crate::chosen;
use crate::fakehub::{self, Authority, Hub};
use crate::harness::command::kubectl;
use crate::harness::{Stage, lab, operator, shared};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde_json::{Value, json};

const CONFIG_MAP: &str = "modelcache";
const FILE: &str = "config.yaml";

/// The operator with another configuration, until the end of this value.
struct Configured(String);

impl Configured {
    async fn new(client: &Client, over: Value) -> Self {
        let maps = Api::<ConfigMap>::namespaced(client.clone(), &operator::namespace());
        let before = maps.get(CONFIG_MAP).await.unwrap().data.unwrap()[FILE].clone();
        let mut config: Value = serde_yaml::from_str(&before).unwrap();
        config.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        restart_with(&config.to_string());
        Self(before)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        restart_with(&self.0);
    }
}

fn restart_with(config: &str) {
    let namespace = operator::namespace();
    let patch = json!({"data": {FILE: config}}).to_string();
    kubectl(&["-n", &namespace, "patch", "configmap", CONFIG_MAP, "--type=merge", "--patch", &patch]);
    kubectl(&["-n", &namespace, "rollout", "restart", "deployment", "modelcache"]);
    kubectl(&["-n", &namespace, "rollout", "status", "deployment", "modelcache", "--timeout=90s"]);
}

#[tokio::test]
async fn hub_token_and_certificates_of_the_operator_serve_entries_without_a_connection() {
    const TOKEN: &str = "hf_operatoroperator";
    let authority = Authority::new();
    let address = lab::host_address();
    let hub =
        fakehub::start_tls_at(Hub::new(fakehub::tiny_model()), &authority, address, &address.ip().to_string()).await;
    *hub.hub.token.lock().unwrap() = Some(TOKEN.to_owned());
    let mut stage = Stage::with_hub("defaults", hub).await;
    let volume = stage.local("models").await;
    stage.secret("hub", "token", TOKEN).await;
    let over = json!({"endpoint": stage.hub.endpoint(), "caBundle": authority.pem,
        "tokenSecret": {"name": "hub", "key": "token"}});
    let configured = Configured::new(&stage.client, over).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
    let maps = stage.api::<ConfigMap>().list(&kube::api::ListParams::default()).await.unwrap();
    let holds = |map: &ConfigMap| map.data.as_ref().is_some_and(|data| data.get("ca.crt") == Some(&authority.pem));
    assert!(maps.items.iter().any(holds), "the certificates are there for the worker");
    stage.assert_hidden(TOKEN);
    drop(configured);
    operator::until_ready(&stage.client, 1).await;
}
