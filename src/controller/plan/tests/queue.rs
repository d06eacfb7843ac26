use super::*;
use crate::api::status::QueueStatus;
use crate::api::{HubConnection, ModelCacheEntry, ModelCacheEntryStatus, Phase, annotation, label};
use crate::controller::fixture::{now, observed, shared_claim};
use crate::controller::plan::queue::{Budget, Queue, budgets, is_spent, next, running, waiting};
use crate::controller::plan::{ConnectionSight, Consumer, hub_view};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::sync::Arc;

/// The connection of all entries here; it lets so many Jobs run.
fn connection(most: Option<i32>) -> ConnectionSight {
    let mut connection = HubConnection::new("default", serde_json::from_value(json!({})).unwrap());
    connection.spec.max_concurrent_jobs = most;
    connection.metadata.uid = Some("uid-c".to_owned());
    ConnectionSight::Found(Box::new(connection))
}

fn limited(most: i32) -> Observed {
    let mut world = shared_claim();
    world.connection = connection(Some(most));
    world
}

/// A model that is there and asks its Hub, which lets one Job run, for newer commits.
fn notified() -> Observed {
    let mut world = limited(1);
    world.entry.spec.update = serde_json::from_value(json!({"policy": "Notify"})).unwrap();
    let (_, world) = round(world);
    let (_, world) = round(world.succeeded());
    round(world.forgotten()).1
}

/// A Job of another entry, as this world would make it.
fn other_job(world: &Observed, name: &str) -> Job {
    let mut world = world.clone();
    world.queue = Queue::default();
    world.entry.metadata.uid = Some(format!("uid-{name}"));
    let plan = decide(&world);
    let Some(Action::CreateJob(job)) = plan.actions.last() else { panic!("{plan:?}") };
    let mut job = (**job).clone();
    job.metadata.uid = Some(format!("uid-job-{name}"));
    job
}

/// An entry that waits in the line; it was created so many seconds after this world's.
fn other(world: &Observed, name: &str, after: i64) -> ModelCacheEntry {
    let mut entry = world.entry.clone();
    let created = entry.metadata.creation_timestamp.clone().unwrap().0;
    entry.metadata.name = Some(name.to_owned());
    entry.metadata.uid = Some(format!("uid-{name}"));
    entry.metadata.creation_timestamp = Some(Time(created + SignedDuration::from_secs(after)));
    let queue = Some(QueueStatus { position: 1, waiting: 1, updated_at: Time(now()) });
    entry.status =
        Some(ModelCacheEntryStatus { phase: Some(Phase::Queued), queue, ..ModelCacheEntryStatus::default() });
    entry
}

/// With these Jobs at work and these entries in the line.
fn with(mut world: Observed, jobs: &[Job], entries: &[ModelCacheEntry]) -> Observed {
    let (sight, consumers) = (world.connection.clone(), world.scene.consumers.clone());
    let waiting = waiting(entries, |_| sight.clone(), &consumers, &world.config);
    world.queue = Queue { running: running(jobs), waiting };
    world
}

fn gated(entry: &str) -> Arc<Consumer> {
    let pod = json!({
        "metadata": {"name": "web", "namespace": "team-a", "uid": "uid-web", "annotations": {annotation::MODELS: entry}},
        "spec": {"containers": [], "schedulingGates": [{"name": "modelcache.dev/ready"}]},
        "status": {"phase": "Pending"},
    });
    Arc::new(Consumer::from(serde_json::from_value::<Pod>(pod).unwrap()))
}

fn place(plan: &Plan) -> Option<(i64, i64)> {
    plan.status.queue.as_ref().map(|queue| (queue.position, queue.waiting))
}

#[test]
fn over_the_limit_an_entry_is_queued_with_its_place_and_makes_nothing() {
    let world = limited(1);
    let job = other_job(&world, "a");
    let (older, younger) = (other(&world, "older", -5), other(&world, "younger", 5));
    let plan = decide(&with(world, &[job], &[older, younger]));
    assert_eq!((kinds(&plan), plan.status.phase), (vec![], Some(Phase::Queued)));
    assert_eq!(place(&plan), Some((2, 3)));
    let said = &plan.notices[0].message;
    assert!(
        said.starts_with("2nd of 3 that wait for HubConnection \"default\", which lets one Job at a time"),
        "{said}"
    );
    assert!(plan.again.is_some());
}

#[test]
fn who_waits_for_a_turn_needs_no_removal() {
    let world = limited(1);
    let job = other_job(&world, "a");
    let (_, mut world) = round(with(world, std::slice::from_ref(&job), &[]));
    world.entry.metadata.finalizers = None;
    assert_eq!(kinds(&decide(&with(world.clone(), std::slice::from_ref(&job), &[]))), [""; 0]);
    assert_eq!(kinds(&decide(&with(world, &[], &[]))), ["AddFinalizer", "CreateJob"]);
}

#[test]
fn an_own_claim_is_not_made_before_its_turn() {
    let mut world = crate::controller::fixture::own_claim();
    world.connection = connection(Some(1));
    let job = other_job(&limited(1), "a");
    assert_eq!(kinds(&decide(&with(world.clone(), &[job], &[]))), [""; 0]);
    assert_eq!(kinds(&decide(&world)), ["CreateClaim", "CreateJob"]);
}

#[test]
fn the_first_goes_and_the_next_waits_when_one_place_is_free() {
    let world = limited(2);
    let jobs = [other_job(&world, "a")];
    let older = other(&world, "older", -5);
    assert_eq!(place(&decide(&with(world.clone(), &jobs, &[older]))), Some((2, 2)));
    let younger = other(&world, "younger", 5);
    assert_eq!(kinds(&decide(&with(world, &jobs, &[younger]))), ["CreateJob"]);
}

#[test]
fn who_a_pod_waits_for_goes_first() {
    let mut world = limited(1);
    let older = other(&world, "older", -5);
    world.scene.consumers = vec![gated("bert")];
    assert_eq!(kinds(&decide(&with(world.clone(), &[], std::slice::from_ref(&older)))), ["CreateJob"]);
    world.scene.consumers = vec![gated("older")];
    assert_eq!(place(&decide(&with(world.clone(), &[], std::slice::from_ref(&older)))), Some((2, 2)));
    // By its model's name both are meant.
    world.scene.consumers = vec![gated("org/model")];
    assert_eq!(place(&decide(&with(world, &[], &[older]))), Some((2, 2)));
}

#[test]
fn the_operators_limit_holds_for_a_host_over_all_connections() {
    let mut world = shared_claim();
    world.config.max_concurrent_jobs = Some(1);
    let job = other_job(&limited(5), "a");
    let plan = decide(&with(world.clone(), std::slice::from_ref(&job), &[]));
    assert_eq!(place(&plan), Some((1, 1)));
    assert!(plan.notices[0].message.contains("the Hub hub.example, from which the operator lets one Job"), "{plan:?}");
    // Another Hub has a budget of its own.
    world.config.endpoint = "https://other.example".parse().unwrap();
    assert_eq!(kinds(&decide(&with(world, &[job], &[]))), ["CreateJob"]);
}

#[test]
fn one_connections_crowd_does_not_hold_up_another() {
    let mut world = shared_claim();
    world.config.max_concurrent_jobs = Some(2);
    let crowd = limited(1);
    let (job, older) = (other_job(&crowd, "a"), other(&crowd, "older", -5));
    let mut world = with(world, &[], &[]);
    world.queue = with(crowd, &[job], &[older]).queue;
    assert_eq!(kinds(&decide(&world)), ["CreateJob"], "the older one's own connection is what it waits for");
}

#[test]
fn what_comes_from_elsewhere_does_not_count_and_does_not_wait() {
    let mut world = limited(1);
    let job = other_job(&world, "a");
    world.entry.spec.source =
        serde_json::from_value(json!({"archive": {"url": "https://files.example/a.tar"}})).unwrap();
    let plan = decide(&with(world.clone(), &[job], &[]));
    assert_eq!(kinds(&plan), ["CreateJob"]);
    let import = other_job(&world, "b");
    assert_eq!(budgets(&import, &world.config), []);
    assert_eq!(running([&import]), []);
}

#[test]
fn a_place_is_written_when_it_changes_and_at_most_every_ten_seconds() {
    let world = limited(1);
    let job = other_job(&world, "a");
    let others = [other(&world, "a", -5), other(&world, "b", -4)];
    let (first, world) = round(with(world, std::slice::from_ref(&job), &others));
    assert_eq!(place(&first), Some((3, 3)));
    let later = |seconds: i64, others: &[ModelCacheEntry]| {
        decide(&with(world.clone(), std::slice::from_ref(&job), others).later(seconds)).status
    };
    assert_eq!(later(60, &others), first.status, "the same place is not written again");
    assert_eq!(later(9, &others[1..]), first.status, "too soon");
    let moved = later(10, &others[1..]);
    assert_eq!(moved.queue.unwrap().position, 2);
}

#[test]
fn an_ended_job_lets_the_next_one_in_and_the_line_is_left() {
    let world = limited(1);
    let mut job = other_job(&world, "a");
    let (_, world) = round(with(world, std::slice::from_ref(&job), &[]));
    assert!(world.entry.status.as_ref().unwrap().queue.is_some());
    job.status = serde_json::from_value(json!({"conditions": [{"type": "Complete", "status": "True"}]})).unwrap();
    let plan = decide(&with(world, &[job], &[]));
    assert_eq!((kinds(&plan), plan.status.queue), (vec!["CreateJob"], None));
}

#[test]
fn one_that_was_too_late_under_the_lock_waits_in_the_line() {
    let world = with(limited(1), &[], &[]);
    let plan = hindered(&world, Obstacle::Full);
    assert_eq!((plan.status.phase, place(&plan)), (Some(Phase::Queued), Some((1, 1))));
    assert!(plan.again.unwrap().as_secs() <= 5);
}

#[test]
fn a_suspended_or_deleted_entry_leaves_the_line() {
    let world = limited(1);
    let mut suspended = other(&world, "a", -5);
    suspended.spec.suspend = Some(true);
    let mut deleted = other(&world, "b", -5);
    deleted.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(kinds(&decide(&with(world, &[], &[suspended, deleted]))), ["CreateJob"]);
    let job = other_job(&limited(1), "a");
    let (_, mut world) = round(with(limited(1), &[job], &[]));
    world.entry.spec.suspend = Some(true);
    assert_eq!(decide(&world).status.queue, None);
}

/// No node takes its Job, so many seconds after it was made.
fn cannot_start(world: Observed, seconds: i64) -> Observed {
    let held_up = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
    world.with_pod(&held_up).later(seconds)
}

#[test]
fn a_job_that_cannot_start_gives_its_place_to_those_who_wait_for_it() {
    let (_, world) = round(limited(1));
    let job = world.scene.jobs[0].clone();
    let at_work = |world: Observed, waiting: &[ModelCacheEntry]| with(world, std::slice::from_ref(&job), waiting);
    let younger = [other(&world, "younger", 5)];
    let stuck = cannot_start(world.clone(), 60);
    assert_eq!(kinds(&decide(&at_work(stuck.clone(), &[]))), [""; 0], "nobody wants it");
    assert_eq!(kinds(&decide(&at_work(cannot_start(world.clone(), 59), &younger))), [""; 0], "too soon");
    assert_eq!(kinds(&decide(&at_work(world.clone().running().later(60), &younger))), [""; 0], "it runs");
    let mut elsewhere = younger.clone();
    elsewhere[0].metadata.uid = world.entry.metadata.uid.clone();
    assert_eq!(kinds(&decide(&at_work(stuck.clone(), &elsewhere))), [""; 0], "it waits for itself");

    let (plan, stuck) = round(at_work(stuck, &younger));
    assert_eq!((kinds(&plan), plan.status.phase), (vec![], Some(Phase::Retrying)));
    assert_eq!(ready_reason(&plan), "Unschedulable");
    assert!(plan.notices[0].message.contains("0/1 nodes; others that wait for the Hub"), "{:?}", plan.notices);
    // It is back in a minute or a little more, and not before the others.
    let (plan, after) = round(stuck);
    assert_eq!((kinds(&plan), plan.status.phase), (vec!["DeleteJob"], Some(Phase::Retrying)));
    let after = after.forgotten();
    assert_eq!(kinds(&decide(&with(after.clone(), &[], &younger).later(59))), [""; 0]);
    assert_eq!(kinds(&decide(&with(after.clone(), &[], &[]).later(73))), ["CreateJob"]);
    // A person need not wait.
    let asked = after.annotated(annotation::RETRY, "now");
    assert_eq!(kinds(&decide(&with(asked, &[], &[]))), ["CreateJob"]);
}

#[test]
fn a_place_that_would_let_nobody_go_is_kept() {
    let mut world = limited(1);
    world.config.max_concurrent_jobs = Some(1);
    let (_, world) = round(world);
    let (own, other_one) = (world.scene.jobs[0].clone(), other_job(&limited(5), "a"));
    // The Hub's budget was made smaller: there are two, where one may be.
    let younger = [other(&world, "younger", 5)];
    let stuck = cannot_start(world, 60);
    let phase = |jobs: &[Job]| decide(&with(stuck.clone(), jobs, &younger)).status.phase;
    assert_eq!(phase(&[own.clone(), other_one]), Some(Phase::Provisioning));
    assert_eq!(phase(&[own]), Some(Phase::Retrying));
}

#[test]
fn an_update_that_cannot_start_gives_its_place_too() {
    let (_, world) = round(notified().later(100_000));
    let job = world.scene.jobs[0].clone();
    let younger = other(&world, "younger", 5);
    let (plan, world) = round(with(cannot_start(world, 60), &[job], &[younger]));
    assert_eq!((kinds(&plan), plan.status.phase), (vec![], Some(Phase::Ready)));
    assert_eq!(kinds(&decide(&world)), ["DeleteJob"]);
    let attempts = plan.status.attempts.unwrap();
    assert_eq!((attempts.count, attempts.last_reason.as_deref()), (1, Some("Unschedulable")));
    assert!(attempts.next_retry_at.is_some());
}

#[test]
fn those_whose_turn_it_is_are_woken() {
    let world = limited(2);
    let entries = [other(&world, "c", 3), other(&world, "a", 1), other(&world, "b", 2)];
    let one = other_job(&world, "x");
    let uids = |jobs: &[Job]| next(&with(world.clone(), jobs, &entries).queue, &world.config);
    assert_eq!(uids(&[]), ["uid-a", "uid-b"]);
    assert_eq!(uids(std::slice::from_ref(&one)), ["uid-a"]);
    assert_eq!(uids(&[one.clone(), other_job(&world, "y")]), [""; 0]);
}

#[test]
fn an_update_comes_after_all_who_have_no_model() {
    let world = notified().later(100_000);
    assert!(kinds(&decide(&world)).contains(&"CreateJob"), "it is due");
    let younger = other(&world, "younger", 5);
    let plan = decide(&with(world, &[], &[younger]));
    assert_eq!((kinds(&plan), plan.status.phase, plan.status.queue), (vec![], Some(Phase::Ready), None));
}

#[test]
fn a_retry_of_an_update_stands_until_there_is_a_place() {
    let world = notified().annotated(annotation::RETRY, "now");
    let job = other_job(&limited(1), "a");
    let (plan, world) = round(with(world, &[job], &[]));
    assert_eq!(kinds(&plan), [""; 0]);
    assert_eq!(kinds(&decide(&with(world, &[], &[]))), ["CreateJob"]);
}

#[test]
fn a_job_and_its_pods_tell_what_they_count_for() {
    let mut world = limited(3);
    world.config.max_concurrent_jobs = Some(7);
    let job = other_job(&world, "a");
    let budget = |label: &'static str, limit| Budget {
        label,
        value: job.metadata.labels.as_ref().unwrap()[label].clone(),
        limit,
    };
    assert_eq!(budgets(&job, &world.config), [budget(label::CONNECTION_UID, 3), budget(label::HUB, 7)]);
    let pod = job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
    assert_eq!(
        (pod.get(label::CONNECTION_UID).map(String::as_str), pod.contains_key(label::HUB)),
        (Some("uid-c"), true)
    );
}

#[test]
fn under_the_lock_unfinished_jobs_and_pods_without_one_are_counted() {
    let world = limited(2);
    let (me, a) = (other_job(&world, "me"), other_job(&world, "a"));
    let mut done = other_job(&world, "done");
    done.status = serde_json::from_value(json!({"conditions": [{"type": "Failed", "status": "True"}]})).unwrap();
    let pod = |owner: &str, phase: &str| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": owner}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    };
    let spent = |jobs: &[Job], pods: &[Pod]| is_spent(&me, jobs, pods, 2, world.now);
    assert!(!spent(&[a.clone(), done.clone()], &[]));
    assert!(spent(&[a.clone(), other_job(&world, "b")], &[]));
    // A deleted Job's Pod still takes from the Hub; one of a Job that is counted is not counted twice.
    assert!(spent(std::slice::from_ref(&a), &[pod("uid-job-gone", "Running")]));
    assert!(!spent(std::slice::from_ref(&a), &[pod("uid-job-gone", "Succeeded"), pod("uid-job-a", "Running")]));
    // One on a lost node never ends for anybody to see.
    let mut lost = pod("uid-job-gone", "Running");
    lost.metadata.deletion_timestamp = Some(Time(world.now - SignedDuration::from_secs(119)));
    assert!(spent(std::slice::from_ref(&a), std::slice::from_ref(&lost)));
    lost.metadata.deletion_timestamp = Some(Time(world.now - SignedDuration::from_secs(120)));
    assert!(!spent(std::slice::from_ref(&a), &[lost]));
    // Creating it a second time is no second Job.
    assert!(!spent(&[a, me.clone()], &[pod("uid-job-me", "Running")]));
}

#[test]
fn without_limits_nobody_waits() {
    let mut world = observed("{repo: org/model, storage: {claimName: shared}}");
    world.scene.claim = shared_claim().scene.claim;
    let jobs: Vec<_> = ["a", "b", "c"].map(|name| other_job(&world, name)).to_vec();
    assert_eq!(kinds(&decide(&with(world.clone(), &jobs, &[]))), ["AddFinalizer", "CreateJob"]);
    assert!(hub_view(&world.connection, &world.config).is_ok());
}
