//! Models whose revision moves on the Hub.

use super::usage::consumer;
use super::*;
use crate::api::{Phase, annotation, condition};
use crate::controller::fixture::{COMMIT, now, shared_claim};
use crate::controller::plan::observed::task_of;
use crate::controller::plan::{Obstacle, Why};
use crate::format::outcome::{Done, Manifest, Resolved, Say, metadata_lines};
use crate::format::task::{Download, Work};
use crate::ident::Reason;
use jiff::SignedDuration;
use serde_json::json;

const NEWER: &str = "1111111111111111111111111111111111111111";

fn with_policy(mut world: Observed, update: serde_json::Value) -> Observed {
    world.entry.spec.update = serde_json::from_value(update).unwrap();
    let generation = world.entry.metadata.generation.unwrap();
    world.entry.metadata.generation = Some(generation + 1);
    world
}

/// A published model with this policy, an hour old and with nothing under way.
fn ready(update: serde_json::Value) -> Observed {
    let (_, world) = round(with_policy(shared_claim(), update));
    let (_, world) = round(world.succeeded());
    let (_, world) = round(world.forgotten());
    settled(world).later(3600)
}

/// After a round that changes the status only.
fn settled(world: Observed) -> Observed {
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), [""; 0]);
    world
}

fn task(plan: &Plan) -> Work {
    let job = plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => Some(job),
        _ => None,
    });
    task_of(job.expect("a Job is created")).unwrap().work
}

fn download(plan: &Plan) -> Download {
    let Work::Download(download) = task(plan) else { panic!("no download") };
    download
}

/// What `Drifted` says: its status, and its reason.
fn drifted(plan: &Plan) -> (&str, &str) {
    let condition = plan.status.conditions.iter().find(|condition| condition.type_ == condition::DRIFTED);
    condition.map_or(("absent", ""), |condition| (&condition.status, &condition.reason))
}

fn answered(world: Observed, commit: &str) -> Observed {
    let resolved = Resolved { commit: commit.parse().ok(), files: Some(2), bytes: 5 };
    world.says(Say::Done(Done { resolved: Some(Box::new(resolved)), ..Done::default() })).ended(0)
}

/// A check was made, and the Hub has this commit.
fn checked(world: Observed, commit: &str) -> (Plan, Observed) {
    let (plan, world) = round(world);
    assert!(matches!(task(&plan), Work::Resolve(_)));
    let (plan, world) = round(answered(world, commit));
    (plan, world.forgotten())
}

fn updated(mut world: Observed) -> Observed {
    let manifest = Manifest { sha256: "cd".repeat(32).parse().unwrap(), files: 14, bytes: 92_000_000 };
    for line in
        metadata_lines(crate::controller::fixture::NONCE, &json!({"version": 0, "commitHash": NEWER}).to_string())
    {
        world = world.says(line.say);
    }
    let path = "cache/entries/org_2fmodel/model".parse().ok();
    world
        .says(Say::Done(Done { path, commit: NEWER.parse().ok(), manifest: Some(manifest), ..Done::default() }))
        .ended(0)
}

#[test]
fn the_hub_is_asked_when_it_is_time_and_the_model_stays_ready() {
    let world = ready(json!({"policy": "Notify", "interval": "2h"}));
    let plan = decide(&world);
    assert_eq!((kinds(&plan), plan.again), (vec![], Some(std::time::Duration::from_hours(1))));
    assert_eq!((drifted(&plan), json!(plan.status)), (("False", "UpToDate"), json!(world.entry.status)));
    let (plan, world) = round(world.later(3600));
    assert_eq!((kinds(&plan), plan.status.phase), (vec!["CreateJob"], Some(Phase::Ready)));
    let (plan, world) = round(world.running());
    assert_eq!((json!(plan.status), plan.notices.len()), (json!(world.entry.status), 0));
    let (plan, world) = round(answered(world, COMMIT));
    assert_eq!((drifted(&plan), plan.notices.len()), (("False", "UpToDate"), 0));
    assert_eq!(plan.status.update.as_ref().unwrap().checked_at.as_ref().unwrap().0, world.now);
    let (plan, world) = round(world.forgotten());
    assert_eq!((kinds(&plan), plan.again), (vec!["DeleteJob"], Some(std::time::Duration::from_hours(2))));
    assert_eq!(json!(plan.status), json!(world.entry.status));
}

#[test]
fn notify_says_old_and_new_and_downloads_when_asked() {
    let (plan, world) = checked(ready(json!({"policy": "Notify"})), NEWER);
    assert_eq!((drifted(&plan), plan.status.phase), (("True", "NewCommit"), Some(Phase::Ready)));
    assert!(plan.notices[0].message.contains(COMMIT) && plan.notices[0].message.contains(NEWER));
    let (plan, world) = round(world);
    assert_eq!((kinds(&plan), plan.status.commit.as_deref()), (vec!["DeleteJob"], Some(COMMIT)));

    let (plan, world) = round(world.annotated(annotation::RETRY, "1"));
    let wanted = download(&plan);
    assert_eq!((wanted.seen_at, wanted.keep), (NEWER.parse().ok(), 1));
    assert_eq!((drifted(&plan), plan.status.phase), (("True", "Updating"), Some(Phase::Ready)));
    // It fails, and is tried again without being asked again.
    let (plan, world) = round(world.running().progressed(1, 4).failed(Reason::HubUnavailable, None));
    assert_eq!((drifted(&plan), ready_reason(&plan)), (("True", "HubUnavailable"), "Published"));
    assert_eq!(plan.status.display.as_ref().unwrap().progress.as_deref(), Some("100%"));
    let (plan, world) = round(world.forgotten().later(12));
    assert_eq!(download(&plan).seen_at, NEWER.parse().ok());
    let (plan, _) = round(updated(world));
    assert_eq!((drifted(&plan), plan.status.commit.as_deref()), (("False", "UpToDate"), Some(NEWER)));
}

#[test]
fn track_takes_the_newer_commit_and_switches_as_a_whole() {
    let (_, world) = checked(ready(json!({"policy": "Track", "keep": 3})), NEWER);
    let (plan, world) = round(world);
    assert_eq!((download(&plan).keep, plan.status.phase), (3, Some(Phase::Ready)));
    let (plan, world) = round(world.running().progressed(50, 200));
    assert_eq!((plan.status.phase, plan.status.commit.as_deref()), (Some(Phase::Ready), Some(COMMIT)));
    assert_eq!(plan.status.progress.as_ref().unwrap().bytes_done, 50);
    let since = |plan: &Plan| {
        let conditions = &plan.status.conditions;
        conditions.iter().find(|condition| condition.type_ == condition::READY).unwrap().last_transition_time.clone()
    };
    let ready_since = since(&plan);
    let (plan, world) = round(updated(world));
    let status = &plan.status;
    assert_eq!(
        (status.commit.as_deref(), status.metadata.as_ref().unwrap()["commitHash"].as_str()),
        (Some(NEWER), Some(NEWER))
    );
    assert_eq!((status.manifest.as_ref().unwrap().files, drifted(&plan)), (14, ("False", "UpToDate")));
    assert_eq!(status.display.as_ref().unwrap().revision.as_deref(), Some("main@1111111"));
    assert_eq!(since(&plan), ready_since, "an update is no use");
    let update = status.update.as_ref().unwrap();
    assert_eq!((update.replaced[0].commit.as_str(), update.updating_to.as_ref()), (COMMIT, None));
    let (plan, world) = round(world.forgotten());
    assert_eq!((kinds(&plan), plan.again), (vec!["DeleteJob"], Some(std::time::Duration::from_hours(1))));
    assert_eq!(json!(plan.status), json!(world.entry.status));
}

#[test]
fn what_a_running_pod_mounts_is_kept() {
    let pod = |name: &str, minutes: i64| {
        let at = (now() + SignedDuration::from_mins(minutes)).to_string();
        consumer(json!({
            "metadata": {"name": name, "namespace": "team-a", "creationTimestamp": at},
            "spec": {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "shared"}}],
                "containers": [{"name": "c", "volumeMounts": [{"name": "m", "mountPath": "/m", "subPath": "cache/entries/org_2fmodel/model"}]}]},
            "status": {"phase": "Running", "startTime": at},
        }))
    };
    // It began with the first commit, through the entry's own path.
    let mut world = ready(json!({"policy": "Track", "keep": 0}));
    world.scene.consumers = vec![pod("early", 1)];
    let (_, world) = checked(world, NEWER);
    let (plan, world) = round(world);
    let first = COMMIT.parse().unwrap();
    assert_eq!(download(&plan).mounted, [first]);
    let (_, mut world) = round(updated(world));
    world.scene.consumers.push(pod("late", 90));
    // With the next one the first is still held by the early Pod, and the second by the late one.
    let third = "2".repeat(40);
    let (_, world) = checked(world.forgotten().later(3600), &third);
    let (plan, mut world) = round(world);
    assert_eq!(download(&plan).mounted, [NEWER.parse().unwrap(), first]);
    // Nobody is left.
    world.scene.jobs.clear();
    world.scene.consumers.clear();
    assert_eq!(download(&decide(&world)).mounted, []);
}

#[test]
fn a_failed_check_leaves_the_model_ready_and_is_tried_again() {
    let (_, world) = round(ready(json!({"policy": "Track"})));
    let (plan, world) = round(world.failed(Reason::Unauthorized, None));
    assert_eq!((plan.status.phase, drifted(&plan)), (Some(Phase::Ready), ("Unknown", "Unauthorized")));
    assert!(plan.notices[0].warning);
    let (plan, world) = round(world.forgotten().later(60));
    assert_eq!(kinds(&plan), [""; 0], "the Job stays for its log, and the next check is not due");
    let (plan, _) = checked(world.later(3600), COMMIT);
    assert_eq!((drifted(&plan), plan.status.attempts.as_ref().unwrap().count), (("False", "UpToDate"), 0));
}

#[test]
fn what_speaks_against_one_commit_is_not_tried_again_until_there_is_another() {
    let (_, world) = checked(ready(json!({"policy": "Track"})), NEWER);
    let (_, world) = round(world);
    let (plan, world) = round(world.failed(Reason::OutOfSpace, None));
    assert_eq!((plan.status.phase, drifted(&plan)), (Some(Phase::Ready), ("True", "OutOfSpace")));
    let (plan, world) = checked(world.forgotten().later(3600), NEWER);
    assert_eq!(drifted(&plan), ("True", "OutOfSpace"));
    let (plan, world) = round(world.later(60));
    assert!(!kinds(&plan).contains(&"CreateJob"), "{:?}", kinds(&plan));
    // Asked to, it tries again; and so it does with the next commit.
    assert_eq!(download(&decide(&world.clone().annotated(annotation::RETRY, "1"))).seen_at, NEWER.parse().ok());
    let third = "2".repeat(40);
    let (_, world) = checked(world.later(3600), &third);
    assert_eq!(download(&decide(&world)).seen_at, third.parse().ok());
}

#[test]
fn a_change_of_policy_is_taken_up_at_once() {
    let (_, world) = checked(ready(json!({"policy": "Notify"})), NEWER);
    let (_, world) = round(world);
    let (plan, tracking) = round(with_policy(world.clone(), json!({"policy": "Track"})));
    assert_eq!(download(&plan).seen_at, NEWER.parse().ok());
    // Back: the download ends, and nothing was lost.
    let (plan, notified) = round(with_policy(tracking.clone().running(), json!({"policy": "Notify"})));
    assert_eq!((kinds(&plan), plan.status.commit.as_deref()), (vec!["DeleteJob"], Some(COMMIT)));
    let (plan, _) = round(notified.forgotten());
    assert_eq!((kinds(&plan), drifted(&plan)), (vec![], ("True", "NewCommit")));
    let (plan, world) = round(with_policy(tracking.running(), json!(null)));
    assert_eq!((kinds(&plan), drifted(&plan), &plan.status.update), (vec!["DeleteJob"], ("absent", ""), &None));
    let quiet = decide(&world.clone().forgotten().later(86_400));
    assert_eq!((quiet.actions.len(), json!(quiet.status), quiet.again), (0, json!(world.entry.status), None));
}

#[test]
fn nothing_is_asked_for_commits_archives_and_suspended_entries() {
    let mut commit = ready(json!({"policy": "Track"}));
    commit.entry.spec.revision = Some(COMMIT.to_owned());
    let mut suspended = ready(json!({"policy": "Track"}));
    suspended.entry.spec.suspend = Some(true);
    for world in [commit, suspended] {
        let plan = decide(&world.later(86_400));
        assert_eq!((kinds(&plan), plan.again), (vec![], None));
    }
    // One that is suspended while the update runs keeps what it has.
    let (_, world) = checked(ready(json!({"policy": "Track"})), NEWER);
    let (_, world) = round(world);
    let (_, mut world) = round(world.running().progressed(1, 4));
    world.entry.spec.suspend = Some(true);
    let plan = decide(&world);
    assert!(kinds(&plan).contains(&"DeleteJob"));
    assert_eq!(
        (plan.status.phase, plan.status.display.unwrap().progress.as_deref()),
        (Some(Phase::Ready), Some("100%"))
    );
}

#[test]
fn an_obstacle_leaves_the_model_ready() {
    let world = ready(json!({"policy": "Track"}));
    let busy = hindered(&world, Obstacle::Busy("Job x".into()));
    assert_eq!((json!(busy.status), busy.notices.len()), (json!(world.entry.status), 0));
    let denied = hindered(&world, Obstacle::Denied(Why::new(Reason::QuotaExceeded, "no")));
    assert_eq!((denied.status.phase, drifted(&denied)), (Some(Phase::Ready), ("Unknown", "QuotaExceeded")));
}
