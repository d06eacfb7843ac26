//! Nodes whose Pods run without a process.

use crate::harness::command::{lab as hack_lab, try_kubectl};
use crate::harness::{Stage, lab, shared};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

/// Nodes of the cluster, until the end of this value. They have a taint that nobody tolerates who does not belong there.
pub(crate) struct Kwok(Vec<String>);

impl Kwok {
    pub(crate) async fn start(client: &Client, nodes: usize) -> Self {
        hack_lab(&["start", "kwok"]);
        let api = Api::<Node>::all(client.clone());
        let kwok = Self((0..nodes).map(|number| format!("kwok-{number}")).collect());
        for name in &kwok.0 {
            let node = json!({"metadata": {"name": name, "labels": {"type": "kwok", "kubernetes.io/hostname": name}},
                "spec": {"taints": [{"key": "type", "value": "kwok", "effect": "NoSchedule"}]},
                "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "200"}}});
            api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        }
        kwok
    }

    /// Creates a Pod on one of the nodes that mounts a folder of the claim `models`, and waits until it runs.
    pub(crate) async fn pod(&self, stage: &Stage, name: &str, node: usize, path: &str) {
        let pod = json!({"metadata": {"name": name}, "spec": {
            "nodeName": self.0[node % self.0.len()], "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}}],
            "containers": [{"name": "c", "image": lab::shell_image(),
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "models", "mountPath": "/models", "subPath": path}]}]}});
        stage.create::<Pod>(pod).await;
        let running = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        stage.until_is(name, "running", running).await;
    }
}

impl Drop for Kwok {
    fn drop(&mut self) {
        for node in &self.0 {
            let _ = try_kubectl(&["delete", "node", node, "--wait=false"]);
        }
        hack_lab(&["kill", "kwok"]);
    }
}

#[tokio::test]
async fn a_worker_goes_to_the_node_that_has_its_claim() {
    let stage = Stage::new("placed").await;
    let kwok = Kwok::start(&stage.client, 1).await;
    stage.claim("models", json!({"storageClassName": "lab-dynamic", "accessModes": ["ReadWriteOnce"]})).await;
    kwok.pod(&stage, "web", 0, "").await;
    let entry = stage.entry("tiny", shared("models", json!({}))).await;
    let there = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref() == Some(&kwok.0[0]));
    // Any other would go to the node that really runs Pods: this one has a taint.
    stage.until_pod(&entry, "on the node that has the claim", there).await;
}
