use super::*;
use crate::api::connection::ConnectionQueue;
use crate::api::{HubConnection, HubConnectionStatus, annotation};
use crate::controller::fixture::{COMMIT, NONCE, now, shared_claim};
use crate::controller::plan::connection::{self, ObservedConnection};
use crate::controller::plan::{Why, queue};
use crate::format::outcome::{Checked, Done, Failed, Line, Say};
use crate::format::task::Work;
use crate::ident::Reason;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const HOUR: i64 = 3600;

fn world() -> ObservedConnection {
    let connection = json!({
        "apiVersion": "modelcache.dev/v1alpha1",
        "kind": "HubConnection",
        "metadata": {"name": "team", "namespace": "team-a", "uid": "uid-c", "generation": 1},
        "spec": {"endpoint": "https://hub.example", "tokenSecretRef": {"name": "mine", "key": "t"}},
    });
    ObservedConnection {
        connection: serde_json::from_value::<HubConnection>(connection).unwrap(),
        entries: Vec::new(),
        consumers: Vec::new(),
        config: shared_claim().config,
        scene: Scene::default(),
        running: Vec::new(),
        now: now(),
        nonce: NONCE.to_owned(),
    }
}

/// One round: the plan, and the world after it.
fn step(mut world: ObservedConnection) -> (Plan<HubConnectionStatus>, ObservedConnection) {
    let plan = connection::decide(&world);
    world.connection.status = Some(plan.status.clone());
    jobs_after(&mut world.scene, &plan.actions, world.now);
    (plan, world)
}

/// The worker's last line, and its end.
fn ended(mut world: ObservedConnection, say: Say) -> ObservedConnection {
    let code = match &say {
        Say::Failed(failed) => i32::from(failed.reason.exit_code()),
        _ => 0,
    };
    let pod = json!({
        "metadata": {"name": "p", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "uid-job"}]},
        "status": {
            "phase": if code == 0 { "Succeeded" } else { "Failed" },
            "containerStatuses": [crate::controller::fixture::worker(&json!({"terminated": {"exitCode": code}}))],
        },
    });
    world.scene.pods = vec![serde_json::from_value(pod).unwrap()];
    world.scene.heard.hear(NONCE, &serde_json::to_string(&Line { nonce: NONCE.to_owned(), say }).unwrap());
    world
}

fn answered(world: ObservedConnection, checked: Checked) -> ObservedConnection {
    ended(world, Say::Done(Done { checked: Some(Box::new(checked)), ..Done::default() }))
}

fn failed(world: ObservedConnection, reason: Reason) -> ObservedConnection {
    ended(world, Say::Failed(Failed { reason, message: format!("about {reason}"), retry_after_seconds: None }))
}

/// The Job, its Pod and its log are gone.
fn forgotten(mut world: ObservedConnection) -> ObservedConnection {
    world.scene = Scene::default();
    world
}

fn said(plan: &Plan<HubConnectionStatus>, type_: &str) -> (String, String) {
    let condition = plan.status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn kinds_in(plan: &Plan<HubConnectionStatus>) -> Vec<&'static str> {
    kinds_of(&plan.actions)
}

#[test]
fn a_new_connection_is_checked_once_by_a_job_without_a_volume() {
    let (plan, world) = step(world());
    assert_eq!(kinds_in(&plan), ["CreateJob"]);
    let Action::CreateJob(job) = &plan.actions[0] else { unreachable!() };
    let task = crate::controller::plan::observed::task_of(job).unwrap();
    let Work::Check(check) = task.work else { panic!("{task:?}") };
    assert_eq!(check.hub.token.unwrap().origin, "Secret \"mine\", key \"t\"");
    let volumes = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().volumes.clone().unwrap_or_default();
    assert!(volumes.iter().all(|volume| volume.persistent_volume_claim.is_none()), "{volumes:?}");
    // It is in no budget: whoever waits for a place would wait for its own check.
    assert_eq!(queue::running([&**job]), []);
    let (plan, world) = step(answered(world, Checked::Account { name: "ada".into() }));
    assert_eq!(said(&plan, condition::REACHABLE), pair("True", "Answered"));
    assert_eq!(said(&plan, condition::AUTHENTICATED), pair("True", "TokenAccepted"));
    assert_eq!((plan.status.authenticated_as.as_deref(), plan.again), (Some("ada"), None));
    let (plan, world) = step(world);
    assert_eq!(kinds_in(&plan), ["DeleteJob"], "a Job that succeeded goes");
    let mut world = forgotten(world);
    world.now += SignedDuration::from_hours(1000);
    let (plan, _) = step(world);
    assert_eq!((kinds_in(&plan), plan.again), (vec![], None), "all is well: nothing is asked again");
}

#[test]
fn what_failed_is_looked_at_every_hour_and_all_is_said() {
    for (reason, reachable, authenticated) in [
        (Reason::HubUnavailable, "False", "Unknown"),
        (Reason::TLSUntrusted, "False", "Unknown"),
        (Reason::ProxyError, "False", "Unknown"),
        (Reason::SecretNotFound, "Unknown", "False"),
    ] {
        let (_, world) = step(world());
        let (plan, world) = step(failed(world, reason));
        assert_eq!(said(&plan, condition::REACHABLE), pair(reachable, reason.as_str()));
        assert_eq!(said(&plan, condition::AUTHENTICATED), pair(authenticated, reason.as_str()));
        assert_eq!(plan.again, Some(Duration::from_hours(1)), "{reason}");
        assert!(plan.notices.iter().all(|notice| notice.warning) && plan.notices.len() == 2);
        let mut world = forgotten(world);
        world.now += SignedDuration::from_secs(HOUR - 1);
        let (plan, mut world) = step(world);
        assert_eq!((kinds_in(&plan), plan.again), (vec![], Some(Duration::from_secs(1))));
        world.now += SignedDuration::from_secs(1);
        let (plan, world) = step(world);
        assert_eq!(kinds_in(&plan), ["CreateJob"]);
        // The same again is no news, and nothing is written but the count.
        let (plan, _) = step(failed(world, reason));
        assert_eq!((plan.notices.len(), plan.status.attempts.unwrap().count), (0, 2));
    }
}

#[test]
fn a_refused_token_is_the_hubs_answer_and_asked_again_every_hour() {
    let (_, world) = step(world());
    let (plan, _) = step(answered(world, Checked::Refused { why: "the Hub refused it".into() }));
    assert_eq!(said(&plan, condition::REACHABLE), pair("True", "Answered"));
    assert_eq!(said(&plan, condition::AUTHENTICATED), pair("False", "Unauthorized"));
    assert_eq!((plan.status.authenticated_as, plan.again), (None, Some(Duration::from_hours(1))));
}

#[test]
fn a_hub_without_accounts_or_tokens_is_reachable() {
    for (checked, expected) in [
        (Checked::Untold { why: "it answers 404".into() }, pair("Unknown", "NotTold")),
        (Checked::Anonymous, pair("False", "Anonymous")),
    ] {
        let (_, world) = step(world());
        let (plan, _) = step(answered(world, checked));
        assert_eq!(said(&plan, condition::REACHABLE), pair("True", "Answered"));
        assert_eq!((said(&plan, condition::AUTHENTICATED), plan.again), (expected, None));
    }
}

#[test]
fn another_spec_or_a_retry_is_checked_at_once() {
    let (_, world) = step(world());
    let (_, world) = step(answered(world, Checked::Account { name: "ada".into() }));
    let well = forgotten(world);
    let mut changed = well.clone();
    changed.connection.metadata.generation = Some(2);
    assert_eq!(kinds_in(&step(changed).0), ["CreateJob"]);
    let mut asked = well;
    asked.connection.metadata.annotations = Some([(annotation::RETRY.to_owned(), "now".to_owned())].into());
    let (plan, world) = step(asked);
    assert_eq!(kinds_in(&plan), ["CreateJob"]);
    let (_, world) = step(answered(world, Checked::Refused { why: "no".into() }));
    let (plan, _) = step(forgotten(world));
    assert_eq!(kinds_in(&plan), [""; 0], "the wish is fulfilled");
}

#[test]
fn a_spec_that_changes_while_it_is_checked_is_checked_next() {
    let (_, mut world) = step(world());
    world.connection.metadata.generation = Some(2);
    let (_, world) = step(answered(world, Checked::Account { name: "ada".into() }));
    let (plan, _) = step(forgotten(world));
    assert_eq!(kinds_in(&plan), ["CreateJob"]);
}

#[test]
fn what_stops_the_worker_says_nothing_of_the_hub() {
    let (_, world) = step(world());
    let (plan, _) = step(failed(world.clone(), Reason::Interrupted));
    assert_eq!(said(&plan, condition::REACHABLE), pair("Unknown", "Interrupted"));
    assert!(plan.again.unwrap() < Duration::from_secs(10));
    let why = Why::new(Reason::QuotaExceeded, "no Pods left");
    let plan = connection::obstructed(&forgotten(world), &Obstacle::Denied(why));
    assert_eq!(said(&plan, condition::REACHABLE), pair("Unknown", "QuotaExceeded"));
    assert_eq!(kinds_in(&plan), [""; 0]);
}

#[test]
fn a_check_that_was_not_allowed_or_was_taken_away_is_made_again() {
    let (_, world) = step(world());
    let (_, world) = step(failed(world, Reason::HubUnavailable));
    let mut due = forgotten(world);
    due.now += SignedDuration::from_secs(HOUR);
    let plan = connection::obstructed(&due, &Obstacle::Denied(Why::new(Reason::QuotaExceeded, "no more Jobs")));
    due.connection.status = Some(plan.status);
    let (plan, world) = step(due);
    assert_eq!(kinds_in(&plan), ["CreateJob"], "the quota was raised");
    assert_eq!(kinds_in(&step(forgotten(world)).0), ["CreateJob"], "somebody deleted the Job");
}

#[test]
fn one_that_is_deleted_is_left_alone() {
    let mut world = world();
    world.connection.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(kinds_in(&step(world).0), [""; 0]);
}

#[test]
fn the_queue_is_counted() {
    let mut observed = world();
    assert_eq!(step(observed.clone()).0.status.queue, None);
    let mut other = shared_claim();
    other.connection = crate::controller::plan::ConnectionSight::Found(Box::new(observed.connection.clone()));
    let plan = decide(&other);
    let Some(Action::CreateJob(job)) = plan.actions.last() else { panic!("{plan:?}") };
    observed.running = queue::running([&**job]);
    let mut waiting = other.entry;
    waiting.spec.source = serde_json::from_value(json!({"hub": {"connectionRef": {"name": "team"}}})).unwrap();
    let status: Value = json!({"phase": "Queued", "commit": COMMIT, "queue": {"position": 1, "waiting": 1, "updatedAt": "2026-11-24T09:00:00Z"}});
    waiting.status = serde_json::from_value(status).unwrap();
    observed.entries = vec![Arc::new(waiting)];
    assert_eq!(step(observed).0.status.queue, Some(ConnectionQueue { running: 1, waiting: 1 }));
}
