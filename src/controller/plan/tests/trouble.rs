use super::*;
use crate::api::{Phase, annotation};
use crate::controller::fixture::{claim, own_claim, shared_claim, worker};
use crate::controller::plan::{Met, Obstacle, Peer, PeerStanding, Warning, Why, obstructed};
use crate::ident::Reason;
use serde_json::json;

fn at_work() -> Observed {
    round(own_claim()).1
}

fn warned(mut world: Observed, kind: &str, message: &str) -> Observed {
    world.scene.warnings = vec![Warning { kind: kind.into(), reason: "Any".into(), message: message.into() }];
    world
}

fn waiting(reason: &str) -> serde_json::Value {
    json!({"phase": "Pending", "containerStatuses": [worker(&json!({"waiting": {"reason": reason, "message": "said so"}}))]})
}

fn unschedulable() -> serde_json::Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]})
}

#[track_caller]
fn assert_waits(world: &Observed, reason: Reason, text: &str) {
    let plan = decide(world);
    assert_eq!(ready_reason(&plan), reason.as_str());
    let message = &plan.notices[0].message;
    assert!(message.contains(text), "{message:?} does not contain {text:?}");
    assert_eq!(kinds(&plan), [""; 0]);
    assert!(plan.again.is_some(), "it is looked at again");
}

#[test]
fn a_claim_that_does_not_exist() {
    let mut world = shared_claim();
    world.scene.claim = None;
    assert_waits(&world, Reason::PVCPending, "claim \"shared\" does not exist");
}

#[test]
fn a_claim_that_goes_away() {
    let mut world = shared_claim();
    world.scene.claim.as_mut().unwrap().metadata.deletion_timestamp = world.entry.metadata.creation_timestamp.clone();
    assert_waits(&world, Reason::PVCPending, "is being deleted");
}

#[test]
fn a_claim_that_lost_its_volume() {
    let mut world = shared_claim();
    world.scene.claim = Some(claim("shared", "Lost"));
    assert_waits(&world, Reason::PVCPending, "lost its volume");
}

#[test]
fn a_missing_storage_class() {
    let mut world = at_work().with_pod(&unschedulable());
    world.scene.claim = Some(claim("bert", "Pending"));
    world.scene.storage_class_missing = true;
    assert_waits(&world, Reason::StorageClassNotFound, "\"fast\", which does not exist");
}

#[test]
fn a_claim_that_never_binds_says_what_the_cluster_says() {
    let mut world =
        warned(at_work().with_pod(&unschedulable()), "PersistentVolumeClaim", "no persistent volumes available");
    world.scene.claim = Some(claim("bert", "Pending"));
    assert_waits(&world, Reason::PVCPending, "no persistent volumes available");
}

#[test]
fn no_node_takes_the_worker() {
    assert_waits(&at_work().with_pod(&unschedulable()), Reason::Unschedulable, "0/1 nodes");
}

#[test]
fn an_image_that_cannot_be_pulled() {
    for word in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"] {
        assert_waits(&at_work().with_pod(&waiting(word)), Reason::ImagePullFailed, "registry.example/modelcache:1");
    }
}

#[test]
fn volumes_that_cannot_be_mounted() {
    let world = warned(at_work().with_pod(&waiting("ContainerCreating")), "Pod", "MountVolume.SetUp failed");
    assert_waits(&world, Reason::PVCPending, "MountVolume.SetUp failed");
}

#[test]
fn a_pod_that_a_quota_forbids() {
    assert_waits(
        &warned(at_work(), "Job", "pods \"x\" is forbidden: exceeded quota: q"),
        Reason::QuotaExceeded,
        "exceeded quota",
    );
    assert_waits(&warned(at_work(), "Job", "violates PodSecurity \"restricted\""), Reason::PolicyDenied, "PodSecurity");
}

#[test]
fn an_obstacle_to_creation_is_waited_for() {
    let plan = decide(&own_claim());
    let meets = |obstacle| obstructed(&own_claim(), &[Met { action: &plan.actions[0], obstacle }]);
    let plan = meets(Obstacle::Denied(Why::new(Reason::QuotaExceeded, "exceeded quota")));
    assert_eq!((plan.status.phase, ready_reason(&plan)), (Some(Phase::Pending), "QuotaExceeded"));
    let plan = meets(Obstacle::Busy("Job other".into()));
    assert_eq!(plan.status.phase, Some(Phase::Queued));
    assert!(plan.again.is_some());
}

#[track_caller]
fn assert_fails(world: Observed, reason: Reason, phase: Phase, text: &str) {
    let (plan, _) = round(world);
    assert_eq!((ready_reason(&plan), plan.status.phase), (reason.as_str(), Some(phase)));
    let attempts = plan.status.attempts.as_ref().unwrap();
    assert_eq!(attempts.last_reason.as_deref(), Some(reason.as_str()));
    let message = attempts.last_message.as_deref().unwrap();
    assert!(message.contains(text), "{message:?} does not contain {text:?}");
}

fn terminated(state: &serde_json::Value) -> serde_json::Value {
    json!({"phase": "Failed", "containerStatuses": [worker(&json!({"terminated": state}))]})
}

#[test]
fn a_worker_that_ran_out_of_memory() {
    let status = terminated(&json!({"exitCode": 137, "reason": "OOMKilled"}));
    assert_fails(at_work().with_pod(&status), Reason::OOMKilled, Phase::Retrying, "512Mi");
}

#[test]
fn a_worker_that_was_killed() {
    assert_fails(at_work().ended(137), Reason::Interrupted, Phase::Retrying, "137");
}

#[test]
fn a_worker_of_another_version() {
    assert_fails(at_work().ended(2), Reason::UnsupportedVersion, Phase::Failed, "another version");
}

#[test]
fn the_termination_message_speaks_when_the_log_is_lost() {
    let line = json!({"nonce": "word", "type": "failed", "reason": "GatedModel", "message": "accept the licence"});
    let status = terminated(&json!({"exitCode": 3, "message": line.to_string()}));
    assert_fails(at_work().with_pod(&status), Reason::GatedModel, Phase::Failed, "accept the licence");
}

#[test]
fn an_evicted_worker_is_replaced_within_the_attempt() {
    let status = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory"});
    assert_waits(&at_work().with_pod(&status), Reason::Evicted, "low on resource");
    assert_fails(
        at_work().with_pod(&status).job_condition("Failed", "BackoffLimitExceeded"),
        Reason::Evicted,
        Phase::Retrying,
        "low on resource",
    );
}

/// A Pod whose container before the worker's is so.
fn initial(phase: &str, state: &serde_json::Value) -> serde_json::Value {
    let mut first = worker(state);
    first["name"] = "ownership".into();
    let second = worker(&json!({"waiting": {"reason": "PodInitializing"}}));
    json!({"phase": phase, "initContainerStatuses": [first], "containerStatuses": [second]})
}

#[test]
fn an_ownership_init_that_fails_is_the_end_of_the_attempt() {
    let line =
        json!({"nonce": "", "type": "failed", "reason": "VolumeReadOnly", "message": "the ownership init failed"});
    let ended =
        |exit: i32, message: &str| initial("Failed", &json!({"terminated": {"exitCode": exit, "message": message}}));
    let world = at_work().with_pod(&ended(3, &line.to_string()));
    assert_fails(world, Reason::VolumeReadOnly, Phase::Failed, "the ownership init failed");
    assert_fails(at_work().with_pod(&ended(2, "")), Reason::UnsupportedVersion, Phase::Failed, "another version");
    assert_fails(at_work().with_pod(&ended(137, "")), Reason::Interrupted, Phase::Retrying, "137");
    let pulls = initial("Pending", &json!({"waiting": {"reason": "ErrImagePull", "message": "said so"}}));
    assert_waits(&at_work().with_pod(&pulls), Reason::ImagePullFailed, "registry.example/modelcache:1");
    let plan = decide(&at_work().with_pod(&initial("Pending", &json!({"running": {}}))));
    assert_eq!((plan.status.phase, ready_reason(&plan)), (Some(Phase::Provisioning), "Provisioning"));
    assert_eq!(
        kinds(&decide(&at_work().with_pod(&initial("Pending", &json!({"terminated": {"exitCode": 0}}))))),
        [""; 0]
    );
}

#[test]
fn a_node_that_was_lost() {
    let condition =
        json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "taint"});
    let status = json!({"phase": "Failed", "conditions": [condition]});
    assert_waits(&at_work().with_pod(&status), Reason::NodeLost, "taint");
    // As long as the node does not come back, its Pod says that it runs.
    let running = json!({"phase": "Running", "conditions": status["conditions"],
        "containerStatuses": [worker(&json!({"running": {}}))]});
    assert_waits(&at_work().with_pod(&running), Reason::NodeLost, "taint");
}

#[test]
fn a_job_past_its_deadline() {
    assert_fails(
        at_work().job_condition("Failed", "DeadlineExceeded"),
        Reason::DeadlineExceeded,
        Phase::Retrying,
        "activeDeadlineSeconds",
    );
}

#[test]
fn a_worker_that_was_told_to_stop_does_not_know_why_but_the_cluster_does() {
    let stopped = || at_work().failed(Reason::Interrupted, None);
    assert_fails(
        stopped().job_condition("FailureTarget", "DeadlineExceeded"),
        Reason::DeadlineExceeded,
        Phase::Retrying,
        "activeDeadlineSeconds",
    );
    let mut evicted = stopped().job_condition("Failed", "BackoffLimitExceeded");
    let condition =
        json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"});
    let status = evicted.scene.pods[0].status.as_mut().unwrap();
    status.conditions = Some(vec![serde_json::from_value(condition).unwrap()]);
    assert_fails(evicted, Reason::Evicted, Phase::Retrying, "drained");
    assert_fails(stopped(), Reason::Interrupted, Phase::Retrying, "about Interrupted");
}

#[test]
fn a_worker_that_cannot_start_is_made_anew_when_the_spec_changes() {
    let mut world = at_work().with_pod(&unschedulable());
    assert_eq!(kinds(&decide(&world)), [""; 0]);
    world.entry.metadata.generation = Some(2);
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    assert_eq!(plan.status.phase, Some(Phase::Provisioning));
    assert_eq!(kinds(&decide(&world)), ["CreateJob"]);
    // A worker that runs is left alone: what changed holds from the next Job on.
    let mut running = at_work().running();
    running.entry.metadata.generation = Some(2);
    assert_eq!(kinds(&decide(&running)), [""; 0]);
}

#[test]
fn a_worker_that_cannot_start_is_made_anew_by_a_retry_or_another_image() {
    let stuck = at_work().with_pod(&waiting("ErrImagePull"));
    let (plan, after) = round(stuck.clone().annotated(annotation::RETRY, "1"));
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    assert_eq!(kinds(&decide(&after.forgotten())), ["CreateJob"]);
    let mut upgraded = stuck;
    upgraded.config.image = "registry.example/modelcache:2".into();
    assert_eq!(kinds(&decide(&upgraded)), ["DeleteJob"]);
    assert_eq!(kinds(&decide(&upgraded.running())), [""; 0], "one that runs is left alone");
}

#[test]
fn a_pod_that_somebody_deleted() {
    assert_fails(
        at_work().job_condition("Failed", "BackoffLimitExceeded"),
        Reason::Interrupted,
        Phase::Retrying,
        "went away",
    );
}

#[test]
fn a_job_that_succeeded_while_nobody_looked() {
    let (plan, _) = round(at_work().job_condition("Complete", "CompletionsReached"));
    assert_eq!(plan.status.phase, Some(Phase::Retrying));
    assert_eq!(plan.again, Some(std::time::Duration::ZERO));
}

#[test]
fn the_hubs_pause_is_kept() {
    let (plan, _) = round(at_work().failed(Reason::RateLimited, Some(300)));
    assert!(plan.again.unwrap().as_secs() >= 300);
}

#[test]
fn what_was_published_in_a_claim_that_is_no_more_is_done_again() {
    let mut gone = round(shared_claim()).1.succeeded();
    gone.scene.claim = None;
    let mut going = round(shared_claim()).1.succeeded();
    going.scene.claim.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(going.now));
    let mut anew = round(shared_claim()).1.succeeded();
    anew.scene.claim.as_mut().unwrap().metadata.creation_timestamp =
        Some(Time(anew.now + jiff::SignedDuration::from_secs(1)));
    let done_again = |world: Observed| {
        let (plan, world) = round(world);
        assert_eq!((plan.status.phase, ready_reason(&plan)), (Some(Phase::Retrying), "Interrupted"));
        assert_eq!((plan.status.manifest, plan.status.attempts.unwrap().count), (None, 1));
        world
    };
    done_again(gone);
    done_again(going);
    let anew = done_again(anew);
    assert_eq!(kinds(&decide(&anew.forgotten())), ["CreateJob"], "at once, into what is there now");
}

#[test]
fn who_stands_far_behind_others_for_a_volume_looks_less_often() {
    let mut world = shared_claim();
    let ahead =
        |name: usize, older, standing| Peer { name: name.to_string(), key: None, standing, older, deleting: false };
    let again = |world: &Observed| hindered(world, Obstacle::Busy("entry \"a\"".into())).again.unwrap().as_secs();
    assert_eq!(again(&world), 3);
    world.peers = vec![ahead(0, true, PeerStanding::Keeps), ahead(1, false, PeerStanding::Waits)];
    world.peers.extend((2..6).map(|name| ahead(name, true, PeerStanding::Waits)));
    assert_eq!(again(&world), 15);
    world.peers.extend((6..1000).map(|name| ahead(name, true, PeerStanding::Waits)));
    assert_eq!(again(&world), 300);
}
