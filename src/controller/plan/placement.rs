//! Where a worker's Job has to run: a volume that only one node can have is where its Pods are.

use super::Why;
use super::attempt::may_write;
use super::consumer::Consumer;
use super::observed::Scene;
use crate::api::job::JobSettings;
use crate::ident::Reason;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolumeClaim, Taint,
    Toleration,
};
use std::collections::BTreeSet;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Taints of this kind tell how a node is, not whom it is for: a worker does not go to a node that is drained or unwell.
const STATE_TAINT: &str = "node.kubernetes.io/";

/// A node, as far as it matters to a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSight {
    /// Its name.
    pub name: String,
    /// Its label `kubernetes.io/hostname`.
    pub hostname: String,
    /// Whether its kubelet is heard of.
    pub is_ready: bool,
    /// Its taints.
    pub taints: Vec<Taint>,
}

impl From<Node> for NodeSight {
    fn from(node: Node) -> Self {
        let name = node.metadata.name.unwrap_or_default();
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        Self {
            hostname: node.metadata.labels.and_then(|mut all| all.remove(HOSTNAME)).unwrap_or_else(|| name.clone()),
            is_ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            taints: node.spec.and_then(|spec| spec.taints).unwrap_or_default(),
            name,
        }
    }
}

/// The nodes to be looked up before a decision: those that have a claim which no second node can have, and those on which
/// workers still end.
pub fn nodes_to_see(scene: &Scene) -> BTreeSet<String> {
    let bound =
        claims(scene).filter(|claim| has_mode(claim, &["ReadWriteOnce"])).flat_map(|claim| tenants(scene, claim));
    let ending = scene.pods.iter().filter(|pod| may_write(pod) && pod.metadata.deletion_timestamp.is_some());
    let ending = ending.filter_map(|pod| pod.spec.as_ref()?.node_name.clone());
    bound.filter_map(|pod| pod.node.clone()).chain(ending).collect()
}

/// The settings of a Job that goes to where its claims are, or why it has to wait.
pub fn place(scene: &Scene, mut settings: JobSettings) -> Result<JobSettings, Why> {
    for claim in claims(scene) {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let tenant = tenants(scene, claim).find(|pod| pod.node.is_some());
        let Some(tenant) = tenant else { continue };
        if has_mode(claim, &["ReadWriteOncePod"]) {
            let message = format!(
                "claim {name:?} is for one Pod at a time (ReadWriteOncePod), and Pod {:?} has it",
                tenant.name()
            );
            return Err(Why::new(Reason::PVCPending, message));
        }
        let is_on_one_node =
            has_mode(claim, &["ReadWriteOnce"]) && !has_mode(claim, &["ReadWriteMany", "ReadOnlyMany"]);
        let node = scene.nodes.iter().find(|node| Some(&node.name) == tenant.node.as_ref());
        // Nobody sees the end of a Pod on a lost node; whether its volume can be had elsewhere, the cluster says.
        let is_lost = |node: &NodeSight| tenant.is_ending() && !node.is_ready;
        if let Some(node) = node.filter(|node| is_on_one_node && !is_lost(node)) {
            settings = on_node(settings, node);
        }
    }
    Ok(settings)
}

/// Whether a Job has to run elsewhere than one with the same settings would now: since it was made, a Pod that has its claim
/// went or came.
pub fn is_elsewhere(scene: &Scene, settings: JobSettings, job: &Job) -> bool {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let made = pod.map(|pod| (&pod.affinity, &pod.tolerations));
    place(scene, settings).is_ok_and(|now| made.is_some_and(|made| made != (&now.affinity, &now.tolerations)))
}

fn claims(scene: &Scene) -> impl Iterator<Item = &PersistentVolumeClaim> {
    scene.claim.iter().chain(&scene.archive_claim)
}

fn has_mode(claim: &PersistentVolumeClaim, modes: &[&str]) -> bool {
    let has = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    has.into_iter().flatten().any(|mode| modes.contains(&mode.as_str()))
}

/// The Pods that have a claim, workers among them.
fn tenants<'a>(scene: &'a Scene, claim: &'a PersistentVolumeClaim) -> impl Iterator<Item = &'a Consumer> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    scene.consumers.iter().map(AsRef::as_ref).filter(move |pod| !pod.is_over && pod.has_claim(name))
}

fn on_node(mut settings: JobSettings, node: &NodeSight) -> JobSettings {
    let here = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.hostname.clone()]),
    };
    let affinity: &mut NodeAffinity = settings.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let required: &mut NodeSelector =
        affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    // One of the terms has to fit, and so each of them says where.
    for term in &mut required.node_selector_terms {
        let expressions = term.match_expressions.get_or_insert_default();
        if !expressions.contains(&here) {
            expressions.push(here.clone());
        }
    }
    let tolerations = node.taints.iter().filter(|taint| !taint.key.starts_with(STATE_TAINT)).map(|taint| Toleration {
        key: Some(taint.key.clone()),
        operator: Some("Equal".to_owned()),
        value: taint.value.clone(),
        effect: Some(taint.effect.clone()),
        ..Toleration::default()
    });
    for toleration in tolerations {
        let all = settings.tolerations.get_or_insert_default();
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    settings
}
