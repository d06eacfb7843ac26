use super::usage::pod;
use super::*;
use crate::api::Phase;
use crate::controller::fixture::{observed, shared_claim};
use crate::controller::plan::Consumer;
use crate::controller::plan::placement::{NodeSight, nodes_to_see};
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde_json::json;
use std::sync::Arc;

pub(super) fn node(name: &str, is_ready: bool) -> NodeSight {
    let taint = |key: &str| Taint { key: key.into(), effect: "NoSchedule".into(), ..Taint::default() };
    let taints = vec![taint("gpu"), taint("node.kubernetes.io/unschedulable")];
    NodeSight { name: name.into(), hostname: format!("{name}.local"), is_ready, taints }
}

/// A shared claim of this access mode that a Pod on `node-1` has.
fn had(mode: &str) -> Observed {
    let mut world = shared_claim();
    world.scene.claim.as_mut().unwrap().spec.as_mut().unwrap().access_modes = Some(vec![mode.into()]);
    let mut consumer: Consumer = (*pod("web", 0, "shared", &[])).clone();
    consumer.node = Some("node-1".into());
    world.scene.consumers = vec![Arc::new(consumer)];
    world.scene.nodes = nodes_to_see(&world.scene).iter().map(|name| node(name, true)).collect();
    world
}

fn pod_spec(plan: &Plan) -> serde_json::Value {
    let job = plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => Some(json!(job)),
        _ => None,
    });
    job.expect("a Job is created")["spec"]["template"]["spec"].clone()
}

#[test]
fn a_claim_for_one_node_takes_the_worker_there() {
    let spec = pod_spec(&decide(&had("ReadWriteOnce")));
    insta::assert_yaml_snapshot!(json!({"affinity": spec["affinity"], "tolerations": spec["tolerations"]}));
    assert!(pod_spec(&decide(&had("ReadWriteMany")))["affinity"].is_null(), "others go anywhere");
}

#[test]
fn a_pod_that_ends_on_a_lost_node_takes_no_worker_there() {
    let ending = |is_ready: bool| {
        let mut world = had("ReadWriteOnce");
        let mut consumer = (*world.scene.consumers[0]).clone();
        consumer.meta_mut().deletion_timestamp = Some(Time(world.now));
        world.scene.consumers = vec![Arc::new(consumer)];
        world.scene.nodes = vec![node("node-1", is_ready)];
        pod_spec(&decide(&world))["affinity"].clone()
    };
    assert!(ending(false).is_null(), "it would wait there for ever");
    assert!(!ending(true).is_null());
}

#[test]
fn a_worker_that_no_node_takes_follows_its_claim() {
    let unschedulable = json!({"phase": "Pending", "conditions":
        [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
    let (_, world) = round(had("ReadWriteOnce"));
    let stuck = world.with_pod(&unschedulable);
    assert_eq!(kinds(&decide(&stuck)), [""; 0], "it has to be there");
    let mut world = stuck.clone();
    world.scene.consumers.clear();
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    let plan = decide(&world.forgotten());
    assert!(pod_spec(&plan)["affinity"].is_null(), "and now need not");
    // One that is only slow is left alone.
    let mut slow = stuck.with_pod(&json!({"phase": "Pending"}));
    slow.scene.consumers.clear();
    assert_eq!(kinds(&decide(&slow)), [""; 0]);
}

#[test]
fn the_settings_affinity_is_kept() {
    let mut world = had("ReadWriteOnce");
    let own = "{repo: org/model, storage: {claimName: shared}, job: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
        {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}, {matchExpressions: [{key: b, operator: Exists}]}]}}}}}";
    world.entry.spec = observed(own).entry.spec;
    let terms = pod_spec(&decide(&world))["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"]
        .clone();
    let keys =
        |term: &serde_json::Value| json!([term["matchExpressions"][0]["key"], term["matchExpressions"][1]["key"]]);
    let all: Vec<_> = terms.as_array().unwrap().iter().map(keys).collect();
    assert_eq!(all, [json!(["a", "kubernetes.io/hostname"]), json!(["b", "kubernetes.io/hostname"])]);
}

#[test]
fn a_claim_for_one_pod_is_waited_for() {
    let plan = decide(&had("ReadWriteOncePod"));
    assert_eq!((kinds(&plan), plan.status.phase), (vec![], Some(Phase::Provisioning)));
    let message = &plan.status.conditions.iter().find(|condition| condition.type_ == condition::READY).unwrap().message;
    assert!(message.contains("\"web\""), "{message}");
}

#[test]
fn a_removal_goes_there_too() {
    let world = had("ReadWriteOnce");
    let (_, world) = round(world);
    let (_, world) = round(world.succeeded());
    let (_, world) = round(world.forgotten());
    let plan = decide(&world.deleted());
    assert_eq!(pod_spec(&plan)["tolerations"][0]["key"], "gpu");
}
