//! Imports.

use super::{jobs_after, kinds_of};
use crate::api::import::{ImportPhase, ImportedArchive, LISTED_MAX};
use crate::api::{ModelCacheEntry, ModelCacheImport, ModelCacheImportStatus, Phase, annotation, condition};
use crate::controller::fixture::{NONCE, claim, now, shared_claim, worker};
use crate::controller::plan::import::{ObservedImport, decide, obstructed};
use crate::controller::plan::{Action, Met, Obstacle, Plan, Scene, Why};
use crate::format::outcome::{Done, Failed, Heard, Line, Listing, Say, metadata_lines};
use crate::ident::Reason;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

fn world(source: &Value) -> ObservedImport {
    let import: ModelCacheImport = serde_json::from_value(json!({
        "apiVersion": "modelcache.dev/v1alpha1",
        "kind": "ModelCacheImport",
        "metadata": {"name": "disk", "namespace": "team-a", "uid": "uid-7", "generation": 1,
                     "annotations": {annotation::CREATED_BY: "ada"}},
        "spec": {"source": source, "storage": {"claimName": "shared", "subPath": "cache"}, "reclaimPolicy": "Retain",
                 "job": {"priorityClassName": "low"}},
    }))
    .unwrap();
    let scene = Scene { claim: Some(claim("usb", "Bound")), ..Scene::default() };
    ObservedImport {
        import,
        entries: Vec::new(),
        config: shared_claim().config,
        scene,
        refused: Vec::new(),
        now: now(),
        nonce: NONCE.to_owned(),
    }
}

fn folder() -> ObservedImport {
    world(&json!({"claimName": "usb", "path": "models"}))
}

/// The world after a plan, as the next round sees it.
fn after(mut world: ObservedImport, plan: &Plan<ModelCacheImportStatus>) -> ObservedImport {
    jobs_after(&mut world.scene, &plan.actions, world.now);
    for action in &plan.actions {
        if let Action::CreateEntry(entry) = action {
            world.entries.push((**entry).clone());
        }
    }
    world.import.status = Some(plan.status.clone());
    world
}

fn round(world: ObservedImport) -> (Vec<&'static str>, ObservedImport) {
    let plan = decide(&world);
    (kinds_of(&plan.actions), after(world, &plan))
}

/// The worker's Pod is in this state, and said this.
fn worker_said(mut world: ObservedImport, lines: Vec<Line>, state: &Value) -> ObservedImport {
    let pod = json!({"metadata": {"name": "pod", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "uid-job"}]},
        "status": {"containerStatuses": [worker(state)]}});
    world.scene.pods = vec![serde_json::from_value(pod).unwrap()];
    world.scene.heard = Heard::default();
    for line in lines {
        world.scene.heard.hear(NONCE, &serde_json::to_string(&line).unwrap());
    }
    world
}

fn ended(world: ObservedImport, say: Say, listing: Option<&Listing>) -> ObservedImport {
    let mut lines = listing.map(|listing| metadata_lines(NONCE, &json!(listing).to_string())).unwrap_or_default();
    let code = if let Say::Failed(failed) = &say { failed.reason.exit_code() } else { 0 };
    lines.push(Line { nonce: NONCE.into(), say });
    worker_said(world, lines, &json!({"terminated": {"exitCode": code}}))
}

/// The folder's list arrived.
fn listed(world: ObservedImport, names: &[&str]) -> ObservedImport {
    let archives = names.iter().map(|name| (*name).to_owned()).collect();
    let listing = Listing { archives, others: 1, such_as: vec!["README.md".into()] };
    ended(world, Say::Done(Done::default()), Some(&listing))
}

/// The log is gone with its Pod.
fn quiet(mut world: ObservedImport) -> ObservedImport {
    crate::controller::fixture::forget(&mut world.scene);
    world
}

fn set(world: &mut ObservedImport, archive: &str, phase: Phase, reason: &str) {
    let is_it = |entry: &&mut ModelCacheEntry| {
        let archive_source = entry.spec.source.as_ref().unwrap().archive.as_ref().unwrap();
        archive_source.path.as_deref().or(archive_source.url.as_deref()).unwrap().contains(archive)
    };
    let status = world.entries.iter_mut().find(is_it).unwrap().status.get_or_insert_default();
    status.phase = Some(phase);
    status.conditions = vec![Condition {
        type_: condition::READY.into(),
        status: "False".into(),
        reason: reason.into(),
        message: "words".into(),
        last_transition_time: Time(now()),
        observed_generation: None,
    }];
}

fn status(world: &ObservedImport) -> &ModelCacheImportStatus {
    world.import.status.as_ref().unwrap()
}

/// Phase, reason, and the counts: found, ready, failed.
fn stands(world: &ObservedImport) -> (ImportPhase, &str, [i64; 3]) {
    let status = status(world);
    let complete = status.conditions.iter().find(|said| said.type_ == condition::COMPLETE).unwrap();
    let count = |count: Option<i64>| count.unwrap_or(-1);
    (status.phase.unwrap(), &complete.reason, [count(status.found), count(status.ready), count(status.failed)])
}

fn message(world: &ObservedImport) -> &str {
    &status(world).conditions.iter().find(|said| said.type_ == condition::COMPLETE).unwrap().message
}

fn retry(mut world: ObservedImport, value: &str) -> ObservedImport {
    world.import.metadata.annotations.as_mut().unwrap().insert(annotation::RETRY.to_owned(), value.to_owned());
    world
}

/// A folder whose archives have their entries.
fn imported(names: &[&str]) -> ObservedImport {
    let (_, world) = round(folder());
    let (_, world) = round(listed(world, names));
    let (_, world) = round(quiet(world));
    world
}

#[test]
fn from_a_folder_to_complete_and_then_quiet() {
    let (done, world) = round(folder());
    assert_eq!((done, stands(&world)), (vec!["CreateJob"], (ImportPhase::Listing, "Starting", [-1, -1, -1])));
    let (_, world) = round(worker_said(world, Vec::new(), &json!({"running": {}})));
    assert_eq!(stands(&world).1, "Listing");
    let world = listed(world, &["a.tar", "b.tar"]);
    let plan = decide(&world);
    assert!(plan.notices.iter().any(|notice| notice.message.contains("\"README.md\"")), "{:?}", plan.notices);
    let (done, world) = round(world);
    assert_eq!(done, ["CreateEntry", "CreateEntry"]);
    assert_eq!(stands(&world), (ImportPhase::Importing, "Importing", [2, 0, 0]));
    assert_eq!((status(&world).ignored, status(&world).source.as_deref()), (Some(1), Some("usb/models")));
    let (done, world) = round(world);
    assert_eq!(done, ["DeleteJob"]);
    let mut world = quiet(world);
    set(&mut world, "a.tar", Phase::Ready, "Ready");
    set(&mut world, "b.tar", Phase::Retrying, "HubUnavailable");
    let (_, mut world) = round(world);
    assert_eq!(stands(&world), (ImportPhase::Importing, "Importing", [2, 1, 0]));
    set(&mut world, "b.tar", Phase::Ready, "Ready");
    let (_, world) = round(world);
    assert_eq!(stands(&world), (ImportPhase::Complete, "Imported", [2, 2, 0]));
    let plan = decide(&world);
    assert_eq!((plan.actions.len(), plan.notices.len(), plan.again), (0, 0, None));
    assert_eq!(Some(plan.status), world.import.status);
}

#[test]
fn the_failure_of_one_archive_is_told_and_forgotten_when_it_is_mended() {
    let mut world = imported(&["a.tar", "bad.tar"]);
    set(&mut world, "bad.tar", Phase::Failed, "ArchiveInvalid");
    let (_, mut world) = round(world);
    assert_eq!(stands(&world), (ImportPhase::Importing, "Importing", [2, 0, 1]), "one is under way");
    set(&mut world, "/a.tar", Phase::Ready, "Ready");
    let (_, mut world) = round(world);
    assert_eq!(stands(&world), (ImportPhase::Failed, "ArchiveInvalid", [2, 1, 1]));
    assert!(message(&world).starts_with("1 of 2 archives failed, the first is \"bad.tar\": ArchiveInvalid; entry"));
    let first = &status(&world).archives[0];
    assert_eq!(
        (first.name.as_str(), first.phase, first.reason.as_deref()),
        ("bad.tar", Phase::Failed, Some("ArchiveInvalid"))
    );
    // A person deletes the entry of what is no model: it is not counted any more.
    let mut without = world.clone();
    without.entries.retain(|entry| entry.status.as_ref().unwrap().phase != Some(Phase::Failed));
    assert_eq!(stands(&round(without).1), (ImportPhase::Complete, "Imported", [1, 1, 0]));
    set(&mut world, "bad.tar", Phase::Ready, "Ready");
    assert_eq!(stands(&round(world).1).0, ImportPhase::Complete);
}

#[test]
fn what_the_api_server_refuses_keeps_no_other_archive_out() {
    let (_, world) = round(folder());
    let world = listed(world, &["a.tar", "b.tar", "x\u{202e}.tar"]);
    let plan = decide(&world);
    assert_eq!(kinds_of(&plan.actions), ["CreateEntry", "CreateEntry"]);
    let obstacle = Obstacle::Denied(Why::new(Reason::Conflict, "ModelCacheEntry exists"));
    let turned_out = obstructed(&world, &[Met { action: &plan.actions[0], obstacle }]);
    let mut world = after(world, &turned_out);
    world.entries.remove(0);
    assert_eq!(stands(&world), (ImportPhase::Importing, "Importing", [3, 0, 2]));
    set(&mut world, "b.tar", Phase::Ready, "Ready");
    let (_, world) = round(quiet(world));
    assert_eq!(stands(&world), (ImportPhase::Failed, "Conflict", [3, 1, 2]));
    let refused: Vec<_> = status(&world).archives.iter().filter(|archive| archive.refusal.is_some()).collect();
    let reasons: Vec<_> = refused.iter().map(|archive| (archive.name.as_str(), archive.reason.as_deref())).collect();
    assert_eq!(reasons, [("a.tar", Some("Conflict")), ("x\u{202e}.tar", Some("UnsafePath"))]);
    // Nothing for an hour; then the folder is listed again, and only what has no entry gets one.
    assert_eq!(kinds_of(&decide(&world).actions), [""; 0]);
    let mut world = world;
    world.now += SignedDuration::from_hours(1);
    let (done, world) = round(world);
    assert_eq!(done, ["CreateJob"]);
    let plan = decide(&listed(world, &["a.tar", "b.tar"]));
    assert_eq!(kinds_of(&plan.actions), ["CreateEntry"]);
    assert_eq!((plan.status.found, plan.status.refused), (Some(2), Some(0)));
}

#[test]
fn a_retry_lists_again_and_a_new_file_gets_its_entry() {
    let mut world = imported(&["a.tar"]);
    set(&mut world, "a.tar", Phase::Ready, "Ready");
    let (_, world) = round(world);
    let (done, world) = round(retry(world, "now"));
    assert_eq!((done, stands(&world).0), (vec!["CreateJob"], ImportPhase::Listing));
    let (done, world) = round(listed(world, &["a.tar", "new.tar"]));
    assert_eq!((done, stands(&world)), (vec!["CreateEntry"], (ImportPhase::Importing, "Importing", [2, 1, 0])));
    assert_eq!(status(&world).attempts.as_ref().unwrap().last_retry.as_deref(), Some("now"));
    let (done, _) = round(quiet(world));
    assert_eq!(done, ["DeleteJob"]);
}

#[test]
fn addresses_need_no_job() {
    let urls = json!({"urls": ["https://files.example/a.tar?sig=1", "https://files.example/b.zip"], "authSecretRef": {"name": "login"}});
    let (done, mut world) = round(world(&urls));
    assert_eq!(done, ["CreateEntry", "CreateEntry"]);
    assert_eq!(stands(&world), (ImportPhase::Importing, "Importing", [2, 0, 0]));
    assert_eq!(status(&world).archives[0].name, "https://files.example/a.tar", "a signature is never shown");
    assert_eq!(status(&world).source.as_deref(), Some("2 addresses"));
    // An entry that a person deletes is made again only when somebody asks.
    world.entries.remove(0);
    let (done, world) = round(world);
    assert_eq!((done, stands(&world).2), (vec![], [1, 0, 0]));
    assert_eq!(round(retry(world, "now")).0, ["CreateEntry"]);
}

#[test]
fn a_listing_that_failed_is_tried_again_when_that_may_help() {
    for (failure, then) in [
        (Reason::Interrupted, ImportPhase::Retrying),
        (Reason::ArchiveNotFound, ImportPhase::Failed),
        (Reason::ArchiveInvalid, ImportPhase::Failed),
    ] {
        let (_, world) = round(folder());
        let failed = Failed { reason: failure, message: "why".into(), retry_after_seconds: None };
        let (_, world) = round(ended(world, Say::Failed(failed), None));
        assert_eq!(stands(&world), (then, failure.as_str(), [-1, -1, -1]));
        let mut world = quiet(world);
        assert_eq!(kinds_of(&decide(&world).actions), [""; 0], "not yet");
        assert_eq!(round(retry(world.clone(), "now")).0, ["CreateJob"]);
        world.now += SignedDuration::from_hours(2);
        let expected: &[&str] = if failure == Reason::ArchiveInvalid { &[] } else { &["CreateJob"] };
        assert_eq!(kinds_of(&decide(&world).actions), expected);
    }
}

#[test]
fn a_folder_without_archives_is_a_mistake_until_there_were_some() {
    let (_, world) = round(folder());
    let (done, world) = round(listed(world, &[]));
    assert_eq!((done, stands(&world).0, stands(&world).1), (vec![], ImportPhase::Failed, "ArchiveNotFound"));
    assert!(message(&world).contains("the folder models in claim \"usb\" holds no archive"), "{}", message(&world));
    // A disk that was emptied after its import takes nothing away.
    let mut world = imported(&["a.tar"]);
    set(&mut world, "a.tar", Phase::Ready, "Ready");
    let (_, world) = round(retry(world, "now"));
    let (_, world) = round(listed(world, &[]));
    assert_eq!(stands(&world), (ImportPhase::Complete, "Imported", [1, 1, 0]));
}

#[test]
fn a_folder_with_too_many_archives_is_refused_whole() {
    let names: Vec<_> = (0..1001).map(|n| format!("m{n}.tar")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (_, world) = round(folder());
    let (done, world) = round(listed(world, &names));
    assert_eq!((done, stands(&world).0, stands(&world).1), (vec![], ImportPhase::Failed, "ArchiveInvalid"));
}

#[test]
fn a_lost_list_is_made_again() {
    let (_, world) = round(folder());
    let world = ended(world, Say::Done(Done::default()), None);
    assert_eq!(decide(&world).again, Some(std::time::Duration::ZERO));
    let (_, world) = round(world);
    assert_eq!(stands(&world), (ImportPhase::Retrying, "Interrupted", [-1, -1, -1]));
    assert_eq!(round(quiet(world)).0, ["CreateJob"]);
}

#[test]
fn a_missing_claim_is_waited_for_and_a_stuck_job_is_made_anew() {
    let mut missing = folder();
    missing.scene.claim = None;
    let (done, world) = round(missing);
    assert_eq!((done, stands(&world).1), (vec![], "PVCPending"));
    let (_, world) = round(folder());
    let unscheduled = json!({"metadata": {"name": "pod", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "uid-job"}]},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]}});
    let mut world = world;
    world.scene.pods = vec![serde_json::from_value(unscheduled).unwrap()];
    let (done, mut world) = round(world);
    assert_eq!((done, stands(&world).0, stands(&world).1), (vec![], ImportPhase::Pending, "Unschedulable"));
    world.import.metadata.generation = Some(2);
    assert_eq!(round(world).0, ["DeleteJob"]);
}

#[test]
fn the_status_lists_a_bounded_number_and_counts_all() {
    let names: Vec<_> = (0..LISTED_MAX + 50).map(|n| format!("m{n:03}.tar")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = imported(&names);
    set(&mut world, "m249.tar", Phase::Failed, "ArchiveUnsafe");
    let (_, world) = round(world);
    assert_eq!(stands(&world).2, [250, 0, 1]);
    let archives: &[ImportedArchive] = &status(&world).archives;
    assert_eq!((archives.len(), archives[0].name.as_str()), (LISTED_MAX, "m249.tar"));
}

#[test]
fn the_job_that_lists_a_folder() {
    let plan = decide(&folder());
    let Some(Action::CreateJob(job)) = plan.actions.first() else { panic!() };
    insta::assert_yaml_snapshot!(job);
}

#[test]
fn the_entry_of_an_archive() {
    let (_, world) = round(folder());
    let plan = decide(&listed(world, &["all-MiniLM-L6 v2.tar.zst"]));
    let Some(Action::CreateEntry(entry)) = plan.actions.first() else { panic!() };
    insta::assert_yaml_snapshot!(entry);
}
