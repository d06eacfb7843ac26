use super::usage::pod;
use super::*;
use crate::api::{Phase, annotation, label};
use crate::controller::fixture::{own_claim, shared_claim};
use crate::controller::plan::{Obstacle, Peer, PeerStanding, Why, may_remove_files};
use crate::ident::Reason;
use serde_json::json;

/// A shared claim with a finished model in it.
fn ready() -> Observed {
    let (_, world) = round(shared_claim());
    let (_, world) = round(world.succeeded());
    round(world.forgotten()).1
}

#[test]
fn an_own_claim_goes_by_its_owner() {
    let (_, world) = round(own_claim());
    assert_eq!(kinds(&decide(&world.deleted())), [""; 0]);
}

#[test]
fn files_in_a_shared_claim_are_removed_by_a_job() {
    let (plan, world) = round(ready().deleted());
    assert_eq!((kinds(&plan), plan.status.phase), (vec!["CreateJob"], Some(Phase::Deleting)));
    let (plan, world) = round(world.running());
    assert_eq!(kinds(&plan), [""; 0]);
    let done = crate::format::outcome::Done::default();
    let (plan, _) = round(world.says(crate::format::outcome::Say::Done(done)).ended(0));
    assert_eq!(kinds(&plan), ["RemoveFinalizer"]);
}

fn removal(plan: &Plan) -> crate::format::task::Delete {
    let job = plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => crate::controller::plan::observed::task_of(job),
        _ => None,
    });
    match job.expect("a Job is created").work {
        crate::format::task::Work::Delete(delete) => delete,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_that_failed_takes_no_model_along_that_it_did_not_make() {
    let (_, world) = round(shared_claim());
    let (_, world) = round(world.running().failed(Reason::Conflict, None));
    let (_, world) = round(world.forgotten().deleted());
    assert!(removal(&decide(&world)).unfinished_only);
    assert!(!removal(&decide(&ready().deleted())).unfinished_only);
}

#[test]
fn what_was_published_while_nobody_looked_is_removed_too() {
    let (_, world) = round(shared_claim());
    let (plan, world) = round(world.succeeded().deleted());
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    assert!(plan.status.manifest.is_some(), "the worker's end is recorded first");
    assert!(!removal(&decide(&world.forgotten())).unfinished_only);
}

#[test]
fn what_was_published_in_an_earlier_claim_is_nothing_that_is_in_this_one() {
    let (_, mut world) = round(shared_claim());
    world.scene.claim.as_mut().unwrap().metadata.creation_timestamp =
        Some(Time(world.now + jiff::SignedDuration::from_secs(1)));
    let (plan, world) = round(world.succeeded().deleted());
    assert_eq!((kinds(&plan), plan.status.manifest), (vec!["DeleteJob"], None));
    assert!(removal(&decide(&world.forgotten())).unfinished_only);
}

#[test]
fn a_forced_deletion_waits_for_no_pod() {
    let (_, world) = round(shared_claim());
    let (_, world) = round(world.running().deleted());
    let plan = decide(&world.annotated(annotation::FORCE_DELETE, "true"));
    assert_eq!(kinds(&plan), ["RemoveFinalizer"]);
}

#[test]
fn the_work_is_stopped_before_files_are_removed() {
    let (_, world) = round(shared_claim());
    let (plan, world) = round(world.running().deleted());
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    assert_eq!(kinds(&decide(&world)), [""; 0], "the Pod still runs");
    assert_eq!(kinds(&decide(&world.forgotten())), ["CreateJob"]);
}

#[test]
fn a_failed_removal_is_tried_again_and_says_how_to_get_out() {
    let (_, world) = round(ready().deleted());
    let (plan, world) = round(world.failed(Reason::VolumeReadOnly, None));
    assert_eq!((plan.status.phase, kinds(&plan)), (Some(Phase::Deleting), vec![]));
    let blocked =
        plan.status.conditions.iter().find(|condition| condition.type_ == condition::DELETION_BLOCKED).unwrap();
    assert_eq!((blocked.status.as_str(), blocked.reason.as_str()), ("True", "VolumeReadOnly"));
    assert!(blocked.message.contains(annotation::FORCE_DELETE));
    let world = world.forgotten();
    assert_eq!(kinds(&decide(&world.clone().later(1))), [""; 0]);
    assert_eq!(kinds(&decide(&world.clone().later(60))), ["DeleteJob", "CreateJob"]);
    let plan = decide(&world.annotated(annotation::FORCE_DELETE, "true"));
    assert_eq!((kinds(&plan), plan.notices[0].reason.as_str()), (vec!["RemoveFinalizer"], "FilesLeftBehind"));
}

#[test]
fn a_removal_that_cannot_start_follows_a_change_of_the_spec() {
    let no_node = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
    let mut world = round(ready().deleted()).1.with_pod(&no_node);
    assert_eq!(kinds(&decide(&world)), [""; 0]);
    world.entry.metadata.generation = Some(2);
    let (plan, after) = round(world);
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    assert_eq!(kinds(&decide(&after.forgotten())), ["CreateJob"]);
}

#[test]
fn nothing_is_asked_of_a_claim_or_namespace_that_is_gone() {
    let mut world = ready().deleted();
    world.scene.claim = None;
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"]);
    let mut world = ready().deleted();
    world.namespace_terminating = true;
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"]);
}

#[test]
fn an_entry_that_never_wrote_leaves_at_once() {
    let mut world = shared_claim();
    world.entry.metadata.finalizers = None;
    world.scene.claim = None;
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), [""; 0], "nothing to protect before the first attempt");
    assert_eq!(kinds(&decide(&world.deleted())), [""; 0]);
    let mut world = shared_claim().deleted();
    world.scene.claim = Some(crate::controller::fixture::claim("shared", "Pending"));
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"], "an unbound claim holds nothing");
}

#[test]
fn the_finalizer_comes_before_the_first_job_and_outlives_a_status_that_was_not_written() {
    let mut world = shared_claim();
    world.entry.metadata.finalizers = None;
    let (plan, mut world) = round(world);
    assert_eq!(kinds(&plan), ["AddFinalizer", "CreateJob"]);
    // The operator was killed before it wrote the status, and the Job was deleted by hand.
    (world.entry.status, world.scene.jobs) = (None, Vec::new());
    assert_eq!(kinds(&decide(&world.deleted())), ["CreateJob"], "there may be partial work");
}

#[test]
fn a_removal_does_not_wait_for_what_the_transfer_waited_for() {
    let (_, world) = round(shared_claim());
    let (_, world) = round(world.running().failed(Reason::GatedModel, None));
    let (plan, world) = round(world.deleted());
    assert_eq!(kinds(&plan), ["DeleteJob"], "the failed Job goes first");
    assert_eq!(kinds(&decide(&world.forgotten())), ["CreateJob"], "the next attempt would have come in an hour");
}

#[test]
fn retain_and_a_living_twin_keep_the_files() {
    let mut world = ready().deleted();
    world.entry.spec.reclaim_policy = Some(crate::api::entry::ReclaimPolicy::Retain);
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"]);
    let mut world = ready().deleted();
    world.peers = twin(PeerStanding::Keeps, false);
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"]);
    world.peers = twin(PeerStanding::Keeps, true);
    assert_eq!(kinds(&decide(&world)), ["CreateJob"], "two that go must not each leave it to the other");
}

fn twin(standing: PeerStanding, deleting: bool) -> Vec<Peer> {
    vec![Peer { name: "twin".into(), key: Some("hf@org/model".into()), older: false, deleting, standing }]
}

/// `DeletionBlocked`, when it is True: reason and message.
fn blocked(plan: &Plan) -> Option<(&str, &str)> {
    let found = plan.status.conditions.iter().find(|condition| condition.type_ == condition::DELETION_BLOCKED)?;
    (found.status == "True").then_some((&found.reason, &found.message))
}

#[test]
fn a_twin_takes_the_files_over_before_the_elder_goes() {
    let mut world = ready().deleted();
    world.peers = twin(PeerStanding::Waits, false);
    let plan = decide(&world);
    assert_eq!((kinds(&plan), blocked(&plan).unwrap().0), (vec![], "HandedOver"));
    assert_eq!(kinds(&decide(&world.clone().later(601))), ["CreateJob"], "it does not wait for ever");
    world.peers = twin(PeerStanding::Stuck, false);
    assert_eq!(kinds(&decide(&world)), ["CreateJob"]);
    // The twin itself begins as soon as the elder goes, and finds the files.
    let mut younger = shared_claim();
    younger.peers = twin(PeerStanding::Waits, true);
    younger.peers[0].older = true;
    assert_eq!(kinds(&decide(&younger)), ["CreateJob"]);
}

#[test]
fn nothing_is_removed_beside_an_import_that_may_be_of_the_same_model() {
    let mut world = ready().deleted();
    world.peers = vec![Peer { key: None, ..twin(PeerStanding::AtWork, false).remove(0) }];
    let plan = decide(&world);
    assert_eq!((kinds(&plan), blocked(&plan).unwrap().0), (vec![], "Queued"));
    // Its archive's claim may never come; as long as its worker is at work, the removal's Job is not created.
    assert_eq!(kinds(&decide(&world.clone().later(600))), ["CreateJob"]);
    world.peers[0].standing = PeerStanding::Stuck;
    assert_eq!(kinds(&decide(&world)), ["CreateJob"]);
}

#[test]
fn a_model_that_pods_use_or_hold_stays_until_they_go() {
    for folders in [["cache/entries/org_2fmodel/model"], [""]] {
        let mut world = ready().deleted();
        world.scene.consumers = vec![pod("web", 0, "shared", &folders)];
        let (plan, mut world) = round(world);
        let (reason, message) = blocked(&plan).unwrap();
        assert_eq!((kinds(&plan), reason, plan.status.phase), (vec![], "InUse", Some(Phase::Deleting)));
        assert!(message.contains("web") && message.contains(annotation::FORCE_DELETE), "{message}");
        let forced = world.clone().annotated(annotation::FORCE_DELETE, "true");
        assert_eq!(kinds(&decide(&forced)), ["CreateJob"], "a forced deletion removes the files all the same");
        world.scene.consumers.clear();
        let plan = decide(&world);
        assert_eq!((kinds(&plan), blocked(&plan)), (vec!["CreateJob"], None));
    }
}

#[test]
fn what_was_never_published_is_of_no_use_to_anybody() {
    let (_, world) = round(shared_claim());
    let (_, mut world) = round(world.running().failed(Reason::Conflict, None));
    world.scene.consumers = vec![pod("web", 0, "shared", &[""])];
    assert_eq!(kinds(&decide(&world.forgotten().deleted())), ["DeleteJob"]);
}

#[test]
fn an_export_under_way_is_a_use() {
    let mut world = ready().deleted();
    world.readers = vec!["export-1".into()];
    let plan = decide(&world);
    assert_eq!((kinds(&plan), blocked(&plan).unwrap().0), (vec![], "Exporting"));
    assert_eq!(kinds(&decide(&world.annotated(annotation::FORCE_DELETE, "true"))), ["CreateJob"]);
}

#[test]
fn a_worker_on_a_lost_node_is_waited_for_two_minutes() {
    let (_, world) = round(shared_claim());
    let (_, mut world) = round(world.running().deleted());
    let pod = &mut world.scene.pods[0];
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    pod.spec.as_mut().unwrap().node_name = Some("node-1".into());
    let plan = decide(&world.clone().later(119));
    let (reason, message) = blocked(&plan).unwrap();
    assert!(reason == "WorkerStillEnds" && message.contains("gone"), "{message}");
    let plan = decide(&world.clone().later(121));
    assert_eq!(kinds(&plan), ["CreateJob"]);
    let Some(Action::CreateJob(job)) = plan.actions.first() else { panic!("{plan:?}") };
    let mut pods = world.scene.pods.clone();
    pods[0].metadata.labels = job.metadata.labels.clone();
    assert_eq!(crate::controller::plan::writers::hindrance(job, &[], &pods), None, "the Job is not held up by it");
    // On a node that is well its kubelet ends it.
    world.scene.nodes = vec![super::placement::node("node-1", true)];
    let plan = decide(&world.later(3600));
    assert_eq!((kinds(&plan), blocked(&plan).unwrap().0), (vec![], "WorkerStillEnds"));
}

#[test]
fn a_removal_waits_until_the_end_of_anothers_job_is_recorded() {
    let plan = decide(&ready().deleted());
    let Some(Action::CreateJob(removal)) = plan.actions.first() else { panic!("{plan:?}") };
    let (_, mut twin) = round(shared_claim());
    let mut job = twin.scene.jobs.remove(0);
    job.metadata.labels.as_mut().unwrap().insert(label::ENTRY_UID.to_owned(), "uid-twin".to_owned());
    let hindrance = |condition: &str| {
        let mut job = job.clone();
        job.status = serde_json::from_value(json!({"conditions": [{"type": condition, "status": "True"}]})).unwrap();
        crate::controller::plan::writers::hindrance(removal, &[job], &[]).is_some()
    };
    assert!(hindrance("Complete"), "what it published may be the twin's");
    assert!(!hindrance("Failed"));
}

#[test]
fn the_neighbours_are_asked_for_before_a_removal_begins() {
    let world = ready();
    assert!(!may_remove_files(&world.entry, &world.scene));
    let (_, world) = round(world.deleted());
    assert!(!may_remove_files(&world.entry, &world.scene), "its Job is at work");
    let world = world.job_condition("Failed", "x");
    assert!(may_remove_files(&world.entry, &world.scene), "another one will follow");
}

#[test]
fn an_obstacle_is_told_as_what_blocks_the_deletion() {
    let world = ready().deleted();
    let denied = Obstacle::Denied(Why::new(Reason::QuotaExceeded, "no more Jobs"));
    for (obstacle, expected) in [(denied, "QuotaExceeded"), (Obstacle::Busy("Job x".into()), "Queued")] {
        let plan = hindered(&world, obstacle);
        assert_eq!((plan.status.phase, blocked(&plan).unwrap().0), (Some(Phase::Deleting), expected));
        let after = world.clone().after(&plan).annotated(annotation::FORCE_DELETE, "true");
        assert_eq!(kinds(&decide(&after)), ["RemoveFinalizer"]);
    }
}

#[test]
fn a_forced_removal_gets_two_minutes() {
    let (_, world) = round(ready().deleted().annotated(annotation::FORCE_DELETE, "true"));
    let world = world.running();
    assert_eq!(kinds(&decide(&world.clone().later(119))), [""; 0]);
    assert_eq!(kinds(&decide(&world.later(121))), ["RemoveFinalizer"]);
}

#[test]
fn a_claim_that_was_never_bound_holds_nothing() {
    let (_, mut world) = round(shared_claim());
    world.scene.claim = Some(crate::controller::fixture::claim("shared", "Pending"));
    let (plan, world) = round(world.deleted());
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"]);
}

#[test]
fn what_an_unread_archive_was_published_as_goes_unless_others_have_it() {
    let mut world = crate::controller::fixture::observed(
        "{repo: org/model, source: {archive: {claimName: usb, path: a.tar}}, storage: {claimName: shared}}",
    );
    world.scene.claim = Some(crate::controller::fixture::claim("shared", "Bound"));
    world.scene.archive_claim = Some(crate::controller::fixture::claim("usb", "Bound"));
    let (_, world) = round(world);
    let (_, world) = round(world.running().failed(Reason::HubUnavailable, None));
    let mut world = world.forgotten().deleted();
    world.scene.jobs.clear();
    let peer = |key: &str, standing| Peer { key: Some(key.to_owned()), ..twin(standing, false).remove(0) };
    world.peers = vec![
        peer("hf@org/model", PeerStanding::Keeps),
        peer("hf@org/model@v1", PeerStanding::Keeps),
        peer("hf@org/other", PeerStanding::Waits),
        peer("hf@org/model@v2", PeerStanding::Stuck),
    ];
    let delete = removal(&decide(&world));
    let kept: Vec<_> = delete.kept.iter().map(ToString::to_string).collect();
    assert_eq!(kept, ["hf@org/model", "hf@org/model@v1", "hf@org/other"]);
    assert!(delete.unfinished_only && delete.source.is_some());
    world.peers.push(peer("hf@org/model@v3", PeerStanding::Waits));
    assert_eq!(blocked(&decide(&world)).unwrap().0, "HandedOver", "the archive may hold its model");
    let named = ready().deleted();
    assert!(removal(&decide(&named)).kept.is_empty(), "a twin of a model that is certain keeps its removal away");
}
