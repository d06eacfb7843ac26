use super::*;
use crate::api::{Phase, annotation};
use crate::controller::fixture::{own_claim, shared_claim};
use crate::controller::plan::Peer;
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
fn the_younger_twin_removes_what_the_older_left_to_it() {
    use crate::controller::plan::peers;
    let mut younger = shared_claim();
    younger.peers = vec![Peer { name: "elder".into(), key: "hf@org/model".into(), older: true, takes_over: true }];
    let (_, mut younger) = round(younger);
    let mut elder = ready();
    younger.entry.metadata.uid = Some("uid-2".to_owned());
    elder.peers = peers(&elder.entry, [&younger.entry]);
    assert_eq!(kinds(&decide(&elder.clone().deleted())), ["RemoveFinalizer"], "the files are the twin's now");
    younger.peers = Vec::new();
    let younger = younger.deleted();
    assert!(!removal(&decide(&younger)).unfinished_only, "nobody else would remove them");
    elder.peers = peers(&elder.entry, [&younger.entry]);
    assert_eq!(kinds(&decide(&elder.clone().deleted())), ["CreateJob"]);
    // A twin that waits for something else has not taken anything over.
    let mut waiting = shared_claim().entry;
    waiting.metadata.uid = Some("uid-2".to_owned());
    elder.peers = peers(&elder.entry, [&waiting]);
    assert_eq!(kinds(&decide(&elder.deleted())), ["CreateJob"]);
}

#[test]
fn retain_and_a_living_twin_keep_the_files() {
    let mut world = ready().deleted();
    world.entry.spec.reclaim_policy = Some(crate::api::entry::ReclaimPolicy::Retain);
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"]);
    let mut world = ready().deleted();
    let twin = |takes_over| vec![Peer { name: "twin".into(), key: "hf@org/model".into(), older: false, takes_over }];
    world.peers = twin(true);
    assert_eq!(kinds(&decide(&world)), ["RemoveFinalizer"]);
    world.peers = twin(false);
    assert_eq!(kinds(&decide(&world)), ["CreateJob"], "two that go must not each leave it to the other");
}
