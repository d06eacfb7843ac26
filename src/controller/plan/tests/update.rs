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

/// A Pod that mounts the entry's own path, was taken by its node so many minutes after the beginning, and began then too.
fn by_path(name: &str, minutes: i64) -> std::sync::Arc<crate::controller::plan::Consumer> {
    by_path_begun(name, minutes, Some(minutes))
}

fn by_path_begun(name: &str, minutes: i64, begun: Option<i64>) -> std::sync::Arc<crate::controller::plan::Consumer> {
    let at = |minutes: i64| (now() + SignedDuration::from_mins(minutes)).to_string();
    let state = begun.map_or(json!({"waiting": {}}), |begun| json!({"running": {"startedAt": at(begun)}}));
    let container = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state});
    consumer(json!({
        "metadata": {"name": name, "namespace": "team-a", "creationTimestamp": at(minutes)},
        "spec": {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "shared"}}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "m", "mountPath": "/m", "subPath": "cache/entries/org_2fmodel/model"}]}]},
        "status": {"phase": "Running", "startTime": at(minutes), "containerStatuses": [container]},
    }))
}

#[test]
fn what_a_running_pod_mounts_is_kept() {
    // It began with the first commit, through the entry's own path.
    let mut world = ready(json!({"policy": "Track", "keep": 0}));
    world.scene.consumers = vec![by_path("early", 1)];
    let (_, world) = checked(world, NEWER);
    let (plan, world) = round(world);
    let (first, second) = (COMMIT.parse().unwrap(), NEWER.parse().unwrap());
    assert_eq!(download(&plan).mounted, [first]);
    let (_, mut world) = round(updated(world));
    world.scene.consumers.push(by_path("late", 90));
    // With the next one the first is still held by the early Pod, and the second by the late one.
    let (_, world) = checked(world.forgotten().later(3600), &"2".repeat(40));
    let (plan, mut world) = round(world);
    assert_eq!(download(&plan).mounted, [second, first]);
    // Nobody is left; and who starts until the third is there gets the second.
    world.scene.jobs.clear();
    world.scene.consumers.clear();
    assert_eq!(download(&decide(&world)).mounted, [second]);
}

#[test]
fn what_was_replaced_goes_when_nobody_can_have_it_any_more() {
    let (_, world) = checked(ready(json!({"policy": "Track", "keep": 0})), NEWER);
    let (plan, mut world) = round(world);
    let first = COMMIT.parse().unwrap();
    assert_eq!(download(&plan).mounted, [first], "a Pod may start while the newer one arrives");
    world.scene.consumers = vec![by_path("meanwhile", 60)];
    let (_, world) = round(updated(world.later(60)));
    let (plan, mut world) = round(world.forgotten());
    assert_eq!(kinds(&plan), ["DeleteJob"], "the Pod has it");
    world.scene.consumers.clear();
    let asked = decide(&world.clone().annotated(annotation::RETRY, "1"));
    assert!(matches!(task(&asked), Work::Resolve(_)), "a wish goes first");
    let (plan, world) = round(world);
    let tidies = download(&plan);
    assert_eq!((tidies.seen_at, tidies.mounted, tidies.keep), (NEWER.parse().ok(), vec![], 0));
    assert_eq!((plan.status.phase, drifted(&plan)), (Some(Phase::Ready), ("False", "UpToDate")));
    let before = world.entry.status.clone().unwrap().update.unwrap();
    let (_, asked) = round(updated(world.clone().later(60)).annotated(annotation::RETRY, "1"));
    assert!(matches!(task(&round(asked.forgotten()).0), Work::Resolve(_)), "and is not taken for fulfilled");
    let (plan, world) = round(updated(world.later(60)));
    let after = plan.status.update.clone().unwrap();
    assert_eq!((after.replaced.len(), after.checked_at), (0, before.checked_at), "the Hub was not asked");
    let (plan, _) = round(world.forgotten());
    assert_eq!(kinds(&plan), ["DeleteJob"], "once is enough");
}

#[test]
fn who_asks_for_a_check_gets_one_whatever_is_tidied() {
    let (_, world) = checked(ready(json!({"policy": "Track", "keep": 0})), NEWER);
    let mut world = round(world).1;
    world.scene.consumers = vec![by_path("meanwhile", 60)];
    let (_, world) = round(updated(world.later(60)));
    let (_, mut world) = round(world.forgotten());
    world.scene.consumers.clear();
    let asked = world.clone().annotated(annotation::RETRY, "now");
    assert!(matches!(task(&decide(&asked)), Work::Resolve(_)), "the Hub is asked first");
    let (_, world) = round(world);
    let (plan, world) = round(world.annotated(annotation::RETRY, "now"));
    assert_eq!(kinds(&plan), [""; 0], "the tidying is under way");
    let (_, world) = round(updated(world.later(60)));
    assert!(matches!(task(&decide(&world.forgotten())), Work::Resolve(_)), "the Hub is asked after it");
}

#[test]
fn nothing_goes_that_is_kept() {
    let (_, world) = checked(ready(json!({"policy": "Track", "keep": 1})), NEWER);
    let (_, world) = round(updated(round(world).1.later(60)));
    let (plan, mut world) = round(world.forgotten());
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    world = with_policy(world, json!({"policy": "Track", "keep": 0}));
    assert_eq!(download(&decide(&world)).keep, 0, "fewer are to be kept now");
}

#[test]
fn a_pod_that_began_before_the_update_was_recorded_may_have_the_newer_commit() {
    let third = "2".repeat(40);
    let (first, second) = (COMMIT.parse().unwrap(), NEWER.parse().unwrap());
    // The operator was away for an hour after the worker had published the second commit at minute 61 or so.
    let (_, world) = checked(ready(json!({"policy": "Track", "keep": 0})), NEWER);
    let (_, mut world) = round(world);
    world.scene.consumers = vec![by_path("early", 5), by_path("meanwhile", 65)];
    let (_, world) = round(updated(world.later(3600)));
    let (_, world) = checked(world.forgotten().later(3600), &third);
    let mut world = world.later(3600);
    let mounted = |world: &Observed| download(&round(world.clone()).0).mounted;
    assert_eq!(mounted(&world), [second, first]);
    // Whose containers began anew has what was there then; who has not begun may get whatever was there since.
    world = round(updated(round(world).1)).1.forgotten();
    let (_, mut world) = checked(world.later(7200), &"3".repeat(40));
    world.scene.consumers = vec![by_path_begun("restarted", 5, Some(190))];
    let has = |world: &Observed, commit| mounted(world).contains(&commit);
    assert!(has(&world, second) && has(&world, first));
    world.scene.consumers = vec![by_path_begun("waits", 5, None)];
    assert!(has(&world, second) && has(&world, first));
}

#[test]
fn a_snapshot_that_was_replaced_and_is_mounted_holds_the_entry() {
    let (_, world) = checked(ready(json!({"policy": "Track", "keep": 1})), NEWER);
    let (_, mut world) = round(updated(round(world).1.later(60)));
    let folder = |commit: &str| format!("cache/hub/models--org--model/snapshots/{commit}");
    let usage = |world: &Observed| crate::controller::plan::Usage::of(&world.entry, &world.scene.consumers);
    for (commit, counts) in [(COMMIT, (0, 1)), (NEWER, (1, 0)), (&"9".repeat(40), (0, 0))] {
        world.scene.consumers = vec![super::usage::pod("p", 0, "shared", &[&folder(commit)])];
        assert_eq!((usage(&world).users.len(), usage(&world).holders.len()), counts, "{commit}");
    }
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

#[test]
fn a_newer_commit_in_a_claim_that_is_no_more_is_not_believed() {
    let (_, world) = checked(ready(json!({"policy": "Track"})), NEWER);
    let mut world = updated(round(world).1);
    // An earlier release did not record which claim has the model.
    world.entry.status.as_mut().unwrap().volume.as_mut().unwrap().claim_uid = None;
    world.scene.claim.as_mut().unwrap().metadata.creation_timestamp =
        Some(Time(world.now + SignedDuration::from_secs(1)));
    let (plan, _) = round(world);
    assert_eq!((plan.status.commit.as_deref(), drifted(&plan)), (Some(COMMIT), ("True", "Interrupted")));
}
