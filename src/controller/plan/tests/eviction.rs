//! Models that nobody used for long, and models that make room.

use super::usage::{pod, ready};
use super::*;
use crate::api::entry::{ReclaimPolicy, RetentionSpec};
use crate::api::{HubConnection, ModelCacheEntry, Phase, annotation};
use crate::controller::fixture::{own_claim, shared_claim};
use crate::controller::plan::connection::{self, ObservedConnection};
use crate::controller::plan::room::{Kept, rooms};
use crate::controller::plan::{ConnectionSight, Consumer, Obstacle};
use crate::format::outcome::{Done, Room, Say};
use crate::format::task::Work;
use crate::ident::Reason;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::sync::Arc;

const MOUNT: &str = "cache/entries/org_2fmodel/model";

fn unused_for(mut world: Observed, period: &str) -> Observed {
    world.entry.spec.retention = Some(RetentionSpec { pinned: None, unused_for: Some(period.to_owned()) });
    world
}

fn using(mut world: Observed, pods: Vec<Arc<Consumer>>) -> Observed {
    world.scene.consumers = pods;
    world
}

fn phase(plan: &Plan) -> Phase {
    plan.status.phase.unwrap()
}

/// Rounds until one changes nothing.
fn settle(mut world: Observed) -> Observed {
    for _ in 0..10 {
        let (plan, after) = round(world.clone());
        if plan.actions.is_empty() && json!(plan.status) == json!(world.entry.status) {
            return after;
        }
        world = after;
    }
    panic!("it does not settle: {:?}", world.entry.status)
}

/// The delete Job removed everything, and measured so many free bytes.
fn removed(world: Observed, free_bytes: u64) -> Observed {
    let room = Some(Room { free_bytes, capacity_bytes: 1 << 40 });
    world.says(Say::Done(Done { room, ..Done::default() })).ended(0)
}

/// Evicted, with nothing left on the volume.
fn evicted() -> Observed {
    let (plan, world) = round(settle(unused_for(ready(), "1h")).later(3600));
    assert_eq!((phase(&plan), ready_reason(&plan)), (Phase::Evicted, "Evicting"));
    let (_, world) = round(world);
    settle(round(removed(world, 7)).1.forgotten())
}

#[test]
fn an_unused_model_goes_when_its_time_is_up_and_says_so_before() {
    let world = settle(unused_for(ready(), "1h"));
    let plan = decide(&world);
    let eviction = plan.status.eviction.as_ref().unwrap();
    assert_eq!(eviction.at.0, world.now + SignedDuration::from_hours(1));
    assert!(
        eviction.why.contains("not used for 1h") && eviction.why.contains("spec.retention.unusedFor"),
        "{eviction:?}"
    );
    assert_eq!(plan.again, Some(std::time::Duration::from_hours(1)));
    // Half an hour later nothing is written, and the wait is half as long.
    let later = decide(&world.clone().later(1800));
    assert_eq!(
        (json!(later.status), later.again),
        (json!(world.entry.status), Some(std::time::Duration::from_mins(30)))
    );

    // The status says that it goes before anything is done to its files.
    let (plan, world) = round(world.later(3600));
    assert_eq!((kinds(&plan), phase(&plan), ready_reason(&plan)), (vec![], Phase::Evicted, "Evicting"));
    assert!(plan.status.manifest.is_some() && !plan.notices[0].warning);
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["CreateJob"]);
    let Action::CreateJob(job) = &plan.actions[0] else { panic!() };
    let task = crate::controller::plan::observed::task_of(job).unwrap();
    let Work::Delete(delete) = task.work else { panic!() };
    assert!(!delete.unfinished_only && delete.model.unwrap().to_string() == "org/model");
    let (plan, _) = round(world.clone().running());
    assert_eq!(ready_reason(&plan), "Evicting");

    let (plan, world) = round(removed(world, 7));
    assert_eq!((phase(&plan), ready_reason(&plan)), (Phase::Evicted, "Evicted"));
    let status = &plan.status;
    assert!(status.manifest.is_none() && status.commit.is_none() && status.metadata.is_some(), "{status:?}");
    let volume = status.volume.as_ref().unwrap();
    assert_eq!((volume.path.as_ref(), volume.free_bytes), (None, Some(7)));
    assert!(!plan.notices[0].warning && plan.notices[0].message.contains("modelcache.dev/retry"));
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    let quiet = decide(&world.clone().forgotten().later(86_400));
    assert_eq!((quiet.actions.len(), json!(quiet.status), quiet.again), (0, json!(world.entry.status), None));
}

#[test]
fn what_is_used_held_awaited_pinned_retained_suspended_or_found_stays() {
    let world = || settle(unused_for(ready(), "1h")).later(7200);
    let gated = super::usage::consumer(
        json!({"metadata": {"name": "p", "annotations": {"modelcache.dev/models": "org/model"}},
        "spec": {"schedulingGates": [{"name": "g"}], "containers": []}}),
    );
    for pods in [vec![pod("p", 0, "shared", &[MOUNT])], vec![pod("p", 0, "shared", &[""])], vec![gated]] {
        let plan = decide(&using(world(), pods));
        assert_eq!((phase(&plan), plan.status.eviction), (Phase::Ready, None));
    }
    let export = super::usage::consumer(json!({
        "metadata": {"name": "w", "labels": {"modelcache.dev/export-uid": "e"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j"}]},
        "spec": {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "shared"}}], "containers": []},
    }));
    assert_eq!(phase(&decide(&using(world(), vec![export]))), Phase::Ready);
    let mut pinned = world();
    pinned.entry.spec.retention.as_mut().unwrap().pinned = Some(true);
    let mut retained = world();
    retained.entry.spec.reclaim_policy = Some(ReclaimPolicy::Retain);
    let mut suspended = world();
    suspended.entry.spec.suspend = Some(true);
    // A connection's `unusedFor` does not know where each model is from.
    let mut found = world();
    found.entry.spec.source = Some(serde_json::from_value(json!({"volume": {}})).unwrap());
    for world in [&pinned, &retained, &suspended, &found] {
        assert_eq!((phase(&decide(world)), decide(world).status.eviction), (Phase::Ready, None));
    }
    assert_eq!(phase(&decide(&world())), Phase::Evicted);
}

#[test]
fn the_end_of_a_use_is_told_before_the_time_is_counted_from_it() {
    let used = using(settle(unused_for(ready(), "1h")), vec![pod("p", 0, "shared", &[MOUNT])]);
    let world = settle(used).later(7200);
    // The Pod ended this very moment: the status still knows only when it began.
    let (plan, world) = round(using(world, Vec::new()));
    assert_eq!(phase(&plan), Phase::Ready);
    assert_eq!(plan.status.eviction.as_ref().unwrap().at.0, world.now + SignedDuration::from_hours(1));
    assert_eq!(phase(&decide(&world.clone().later(3599))), Phase::Ready);
    assert_eq!(phase(&decide(&world.later(3600))), Phase::Evicted);
}

#[test]
fn a_model_that_somebody_wants_comes_back_and_stays() {
    let wanted: [fn(Observed) -> Observed; 3] = [
        |world| world.annotated(annotation::RETRY, "1"),
        |world| using(world, vec![pod("p", 0, "shared", &[MOUNT])]),
        |mut world| {
            world.entry.metadata.generation = Some(2);
            world
        },
    ];
    for want in wanted {
        let (plan, world) = round(want(evicted()));
        assert_eq!((phase(&plan), kinds(&plan), &plan.status.eviction), (Phase::Pending, vec![], &None));
        let (plan, world) = round(world);
        assert_eq!(kinds(&plan), ["CreateJob"]);
        let world = settle(round(world.succeeded()).1.forgotten());
        assert_eq!(world.entry.status.as_ref().unwrap().phase, Some(Phase::Ready));
        // Its time begins anew, whenever it was used before.
        let later = using(world, Vec::new()).later(3500);
        assert_eq!(phase(&decide(&later)), Phase::Ready);
    }
    // One that only mounts the whole claim wants none of its models.
    let held = using(evicted(), vec![pod("p", 0, "shared", &[""])]);
    assert_eq!(phase(&decide(&held)), Phase::Evicted);
}

#[test]
fn a_pod_that_comes_while_the_model_goes_calls_it_off() {
    let (_, world) = round(settle(unused_for(ready(), "1h")).later(3600));
    for folder in [MOUNT, ""] {
        // Before any Job: nothing was touched.
        let (plan, _) = round(using(world.clone(), vec![pod("p", 0, "shared", &[folder])]));
        assert_eq!((phase(&plan), kinds(&plan)), (Phase::Pending, vec![]));
        // A deletion meanwhile still removes it all.
        assert!(plan.status.manifest.is_some());
    }
    // While the Job runs: it is stopped, and what is left is made whole before the entry is Ready.
    let (_, world) = round(world);
    let (plan, world) = round(using(world.running(), vec![pod("p", 0, "shared", &[MOUNT])]));
    assert_eq!(phase(&plan), Phase::Pending);
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    let (plan, world) = round(world.forgotten());
    assert_eq!((kinds(&plan), phase(&plan)), (vec!["CreateJob"], Phase::Provisioning));
    assert_eq!(phase(&decide(&world.succeeded())), Phase::Ready);
}

#[test]
fn a_failed_removal_is_shown_and_tried_again() {
    let (_, world) = round(settle(unused_for(ready(), "1h")).later(3600));
    let (_, world) = round(world);
    let (plan, world) = round(world.failed(Reason::VolumeReadOnly, None));
    assert_eq!((phase(&plan), ready_reason(&plan)), (Phase::Evicted, "VolumeReadOnly"));
    assert!(plan.notices[0].warning && plan.status.manifest.is_some());
    let (plan, world) = round(world.forgotten());
    assert_eq!(kinds(&plan), [""; 0], "its log stays");
    let (plan, world) = round(world.later(10));
    assert_eq!(kinds(&plan), ["CreateJob"]);
    // Its end is not heard: how much is free is worth another run.
    let (plan, world) = round(world.ended(0));
    assert_eq!((ready_reason(&plan), plan.status.manifest.is_some()), ("Interrupted", true));
    let (_, world) = round(world.forgotten().later(600));
    let (plan, _) = round(removed(world, 1));
    assert_eq!((ready_reason(&plan), plan.status.attempts.as_ref().unwrap().count), ("Evicted", 0));
    let busy = hindered(&evicted_and_going(), Obstacle::Busy("Job x".into()));
    assert_eq!((phase(&busy), ready_reason(&busy)), (Phase::Evicted, "Evicting"));
}

fn evicted_and_going() -> Observed {
    round(settle(unused_for(ready(), "1h")).later(3600)).1
}

#[test]
fn an_own_claim_goes_with_its_model_and_comes_back_with_it() {
    let (_, world) = round(own_claim());
    let world = settle(unused_for(settle(round(world.succeeded()).1.forgotten()), "1h"));
    let (_, world) = round(world.later(3600));
    let (plan, world) = round(world);
    assert_eq!((kinds(&plan), ready_reason(&plan)), (vec!["DeleteClaim"], "Evicting"));
    let (plan, world) = round(world);
    assert_eq!((kinds(&plan), ready_reason(&plan)), (vec![], "Evicted"));
    let (_, world) = round(using(world, vec![pod("p", 0, "bert", &[""])]));
    assert_eq!(kinds(&decide(&world)), ["CreateClaim", "CreateJob"]);
}

#[test]
fn a_claim_of_somebody_else_is_not_deleted() {
    let (_, world) = round(own_claim());
    let world = settle(unused_for(settle(round(world.succeeded()).1.forgotten()), "1h"));
    let (_, mut world) = round(world.later(3600));
    world.scene.claim.as_mut().unwrap().metadata.labels = None;
    let (plan, _) = round(world);
    assert_eq!((kinds(&plan), ready_reason(&plan)), (vec![], "Evicted"));
}

// ---- room

fn connection(limits: &serde_json::Value) -> HubConnection {
    serde_json::from_value(json!({
        "apiVersion": "modelcache.dev/v1alpha1", "kind": "HubConnection",
        "metadata": {"name": "default", "namespace": "team-a", "uid": "c", "generation": 1},
        "spec": {"cache": {"retention": limits}},
    }))
    .unwrap()
}

/// A published entry in the claim `shared`: so many bytes, Ready and unused for so many hours.
fn entry(name: &str, bytes: i64, hours: i64) -> ModelCacheEntry {
    let since = (crate::controller::fixture::now() - SignedDuration::from_hours(hours)).to_string();
    serde_json::from_value(json!({
        "apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
        "metadata": {"name": name, "namespace": "team-a", "uid": name, "generation": 1},
        "spec": {"repo": format!("org/{name}"), "storage": {"claimName": "shared"}},
        "status": {
            "phase": "Ready", "observedGeneration": 1,
            "volume": {"claimName": "shared", "freeBytes": 100, "measuredAt": since},
            "manifest": {"sha256": "ab", "files": 1, "bytes": bytes},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Published", "message": "", "lastTransitionTime": since}],
        },
    }))
    .unwrap()
}

fn shared(entries: Vec<ModelCacheEntry>) -> Vec<Arc<ModelCacheEntry>> {
    entries.into_iter().map(Arc::new).collect()
}

fn order(
    limits: &serde_json::Value,
    entries: &[Arc<ModelCacheEntry>],
    pods: &[Arc<Consumer>],
) -> (Option<String>, Vec<String>) {
    let rooms = rooms(&connection(limits), entries, pods, crate::controller::fixture::now());
    let room = &rooms[0];
    (room.first().map(|first| first.entry.clone()), room.next.iter().map(|next| next.entry.clone()).collect())
}

#[test]
fn the_least_recently_used_goes_first_and_nobody_while_there_is_room() {
    let entries = shared(vec![entry("new", 1000, 1), entry("old", 1000, 9), entry("mid", 1000, 5)]);
    let lru = ["old", "mid", "new"];
    assert_eq!(order(&json!({"maxUsed": "3k"}), &entries, &[]), (None, lru.map(String::from).to_vec()));
    assert_eq!(order(&json!({"maxUsed": "2999"}), &entries, &[]).0.as_deref(), Some("old"));
    assert_eq!(order(&json!({"minFree": "100"}), &entries, &[]).0, None);
    assert_eq!(order(&json!({"minFree": "101"}), &entries, &[]).0.as_deref(), Some("old"));
    // The one in use stays, whoever is older.
    let pods = [pod("p", 0, "shared", &["entries/org_2fold/model"])];
    assert_eq!(order(&json!({"maxUsed": "1k"}), &entries, &pods).0.as_deref(), Some("mid"));
}

#[test]
fn one_goes_at_a_time_and_the_newest_measure_counts() {
    let mut going = entry("old", 1000, 9);
    going.status.as_mut().unwrap().phase = Some(Phase::Evicted);
    let entries = shared(vec![going.clone(), entry("mid", 1000, 5)]);
    assert_eq!(order(&json!({"maxUsed": "1k"}), &entries, &[]).0, None);
    // It is gone: what its removal measured is the truth now.
    let status = going.status.as_mut().unwrap();
    status.manifest = None;
    let volume = status.volume.as_mut().unwrap();
    (volume.free_bytes, volume.measured_at.as_mut().unwrap().0) = (Some(500), crate::controller::fixture::now());
    let entries = shared(vec![going.clone(), entry("mid", 1000, 5)]);
    assert_eq!(order(&json!({"minFree": "400"}), &entries, &[]).0, None);
    assert_eq!(order(&json!({"minFree": "600"}), &entries, &[]).0.as_deref(), Some("mid"));
    // A file system that does not say is no reason for anything.
    going.status.as_mut().unwrap().volume.as_mut().unwrap().free_bytes = None;
    let entries = shared(vec![going, entry("mid", 1000, 5)]);
    assert_eq!(order(&json!({"minFree": "600"}), &entries, &[]).0, None);
}

#[test]
fn models_of_another_connection_or_claim_do_not_count() {
    let mut other = entry("other", 5000, 9);
    other.spec.source = serde_json::from_value(json!({"hub": {"connectionRef": {"name": "corp"}}})).unwrap();
    let mut elsewhere = entry("elsewhere", 5000, 9);
    elsewhere.spec.storage = serde_json::from_value(json!({"claimName": "b"})).unwrap();
    let entries = shared(vec![other, elsewhere, entry("ours", 1000, 5)]);
    let rooms = rooms(&connection(&json!({"maxUsed": "2k"})), &entries, &[], crate::controller::fixture::now());
    let seen: Vec<_> =
        rooms.iter().map(|room| (room.claim.as_str(), room.used_bytes, room.first().is_some())).collect();
    assert_eq!(seen, [("b", 5000, true), ("shared", 1000, false)]);
}

#[test]
fn one_that_has_just_arrived_is_given_time() {
    let entries = shared(vec![entry("just", 5000, 0)]);
    let (limits, now) = (connection(&json!({"maxUsed": "1k"})), crate::controller::fixture::now());
    let room = |now: Timestamp| rooms(&limits, &entries, &[], now).remove(0);
    assert_eq!((room(now).first(), room(now).kept.get(&Kept::New)), (None, Some(&1)));
    let at = room(now).changes_at.unwrap();
    assert_eq!(at, now + SignedDuration::from_mins(10));
    assert!(room(at).first().is_some());
}

#[test]
fn the_entry_that_is_first_goes_by_itself_and_no_other() {
    let limits = connection(&json!({"maxUsed": "1k"}));
    let entries = shared(vec![entry("a", 1000, 9), entry("b", 1000, 5)]);
    for (name, expected) in [("a", Phase::Evicted), ("b", Phase::Ready)] {
        let mut world = shared_claim();
        world.entry = (**entries.iter().find(|entry| entry.metadata.name.as_deref() == Some(name)).unwrap()).clone();
        world.entry.metadata.finalizers = Some(vec![crate::api::FINALIZER.to_owned()]);
        world.connection = ConnectionSight::Found(Box::new(limits.clone()));
        world.neighbours = entries.clone();
        let plan = decide(&world);
        assert_eq!(phase(&plan), expected, "{name}");
        assert_eq!(plan.status.eviction.is_some(), expected == Phase::Evicted);
    }
}

#[test]
fn the_connection_says_who_would_go_before_anybody_goes() {
    let said = |limits: serde_json::Value, entries: Vec<ModelCacheEntry>| {
        let mut observed = ObservedConnection {
            connection: connection(&limits),
            entries: shared(entries),
            consumers: Vec::new(),
            config: shared_claim().config,
            scene: Scene::default(),
            running: Vec::new(),
            nonce: "word".to_owned(),
            now: crate::controller::fixture::now(),
        };
        let plan = connection::decide(&observed);
        observed.connection.status = Some(plan.status.clone());
        let again = connection::decide(&observed);
        assert_eq!((json!(again.status), again.notices.len()), (json!(plan.status), 0));
        plan
    };
    let two = || vec![entry("a", 1000, 9), entry("b", 1000, 5)];
    let plan = said(json!({"maxUsed": "2k"}), two());
    let claim = &plan.status.claims[0];
    assert_eq!(
        (plan.status.entries, plan.status.bytes, claim.used_bytes, claim.free_bytes),
        (2, 2000, 2000, Some(100))
    );
    assert_eq!((claim.next[0].entry.as_str(), claim.pressure.as_ref()), ("a", None));
    assert_eq!((plan.status.conditions[0].reason.as_str(), plan.notices.len()), ("WithinLimits", 0));

    let plan = said(json!({"maxUsed": "1k"}), two());
    assert_eq!(plan.status.conditions[0].reason, "Evicting");
    assert!(plan.status.conditions[0].message.contains("\"a\""));

    let mut pinned = entry("a", 2000, 9);
    pinned.spec.retention = Some(RetentionSpec { pinned: Some(true), unused_for: None });
    let plan = said(json!({"maxUsed": "1k"}), vec![pinned]);
    assert_eq!((plan.status.conditions[0].reason.as_str(), plan.notices[0].warning), ("NothingToEvict", true));
    assert!(plan.notices[0].message.contains("pinned: 1"), "{}", plan.notices[0].message);
    // Without limits there is nothing to be within.
    assert!(said(json!({}), two()).status.conditions.is_empty());
}

#[test]
fn a_connection_counts_an_entry_that_goes_before_its_model_came() {
    let mut entry = ready().entry;
    for (phase, counts) in [(Phase::Provisioning, true), (Phase::Downloading, false), (Phase::Ready, true)] {
        entry.status.as_mut().unwrap().phase = Some(phase);
        assert_eq!(connection::counts_anew(&entry), counts, "{phase:?}");
    }
    entry.status.as_mut().unwrap().phase = Some(Phase::Downloading);
    entry.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert!(connection::counts_anew(&entry));
}
