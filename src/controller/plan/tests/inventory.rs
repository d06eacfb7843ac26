//! Inventories.

use super::{jobs_after, kinds_of};
use crate::api::inventory::InventoryPhase;
use crate::api::{ModelCacheInventory, Phase, annotation, condition};
use crate::controller::fixture::{claim, now, shared_claim, worker};
use crate::controller::plan::inventory::{ObservedInventory, decide};
use crate::controller::plan::{Action, Plan, Scene};
use crate::format::inventory::{Inventory, Kept, Leftover, Totals};
use crate::format::layout;
use crate::format::outcome::{Done, Failed, Line, Say, metadata_lines};
use crate::ident::{ModelRef, Reason, Sha256};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::sync::Arc;

/// An inventory of the volume in which `bert` keeps `org/model`.
fn world(interval: Option<&str>) -> ObservedInventory {
    let mut spec = json!({"claimName": "shared", "subPath": "cache"});
    if let Some(interval) = interval {
        spec["interval"] = interval.into();
    }
    let inventory: ModelCacheInventory = serde_json::from_value(json!({
        "apiVersion": "modelcache.dev/v1alpha1",
        "kind": "ModelCacheInventory",
        "metadata": {"name": "look", "namespace": "team-a", "uid": "uid-7", "generation": 1},
        "spec": spec,
    }))
    .unwrap();
    let base = shared_claim();
    let mut entry = base.entry;
    entry.status.get_or_insert_default().phase = Some(Phase::Ready);
    let mut elsewhere = entry.clone();
    elsewhere.metadata.name = Some("elsewhere".into());
    elsewhere.spec.storage.as_mut().unwrap().sub_path = None;
    elsewhere.spec.repo = Some("org/other".into());
    ObservedInventory {
        inventory,
        entries: vec![Arc::new(entry), Arc::new(elsewhere)],
        config: base.config,
        scene: Scene { claim: Some(claim("shared", "Bound")), ..Scene::default() },
        now: now(),
        nonce: base.nonce,
    }
}

fn carried_out(mut world: ObservedInventory, plan: &Plan<crate::api::ModelCacheInventoryStatus>) -> ObservedInventory {
    jobs_after(&mut world.scene, &plan.actions, world.now);
    if plan.actions.iter().any(|action| matches!(action, Action::DeleteJob { .. })) {
        crate::controller::fixture::forget(&mut world.scene);
    }
    world.inventory.status = Some(plan.status.clone());
    world
}

fn round(world: ObservedInventory) -> (Vec<&'static str>, ObservedInventory) {
    let plan = decide(&world);
    (kinds_of(&plan.actions), carried_out(world, &plan))
}

fn pod(mut world: ObservedInventory, state: &Value) -> ObservedInventory {
    let pod = json!({"metadata": {"name": "pod", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "uid-job"}]},
        "status": {"containerStatuses": [worker(state)]}});
    world.scene.pods = vec![serde_json::from_value(pod).unwrap()];
    world
}

fn says(mut world: ObservedInventory, say: Say) -> ObservedInventory {
    world.scene.heard.hear("word", &serde_json::to_string(&Line { nonce: "word".into(), say }).unwrap());
    world
}

fn kept(repo: &str, bytes: u64) -> Kept {
    Kept {
        key: format!("hf@{repo}").parse().unwrap(),
        commit: Some("7dbbc90392e2f80f3d3c277d6e90027e55de9125".parse().unwrap()),
        manifest: Some(Sha256::from_bytes([7; 32])),
        files: 2,
        bytes,
        shared_bytes: 1,
        trouble: None,
    }
}

fn finds(mut world: ObservedInventory, found: &Inventory) -> ObservedInventory {
    for line in metadata_lines("word", &json!(found).to_string()) {
        world = says(world, line.say);
    }
    pod(says(world, Say::Done(Done::default())), &json!({"terminated": {"exitCode": 0}}))
}

fn phase(world: &ObservedInventory) -> Option<InventoryPhase> {
    world.inventory.status.as_ref().unwrap().phase
}

fn later(mut world: ObservedInventory, seconds: i64) -> ObservedInventory {
    world.now += SignedDuration::from_secs(seconds);
    world
}

/// Looked at once, and the Job is gone.
fn listed(world: ObservedInventory, found: &Inventory) -> ObservedInventory {
    let (_, world) = round(world);
    let (_, world) = round(finds(world, found));
    round(world).1
}

#[test]
fn what_is_found_is_held_against_the_entries_of_this_volume() {
    let model = ModelRef { repo: "org/model".parse().unwrap(), revision: None };
    let left = |name: String| Leftover { path: format!(".modelcache/staging/{name}"), files: 1, bytes: 5 };
    let found = Inventory {
        entries: vec![
            kept("org/model", 50),
            kept("org/other", 40),
            Kept { trouble: Some("damaged".into()), ..kept("org/broken", 30) },
        ],
        orphans: vec![Leftover { path: "hub/x".into(), files: 3, bytes: 9 }],
        stagings: vec![left(format!("{}abc", layout::staging_prefix(&model))), left("0123456789abcdef-x".into())],
        totals: Totals { entries: 3, bytes: 120, orphans: 1, orphan_bytes: 9, stagings: 2, ..Totals::default() },
    };
    let (done, world) = round(world(None));
    assert_eq!((done, phase(&world)), (vec!["CreateJob"], Some(InventoryPhase::Pending)));
    let (_, world) = round(pod(world, &json!({"running": {}})));
    assert_eq!(phase(&world), Some(InventoryPhase::Listing));
    let (_, world) = round(finds(world, &found));
    let status = world.inventory.status.clone().unwrap();
    assert_eq!((phase(&world), status.observed_at), (Some(InventoryPhase::Complete), Some(Time(now()))));
    let of = |repo: &str| status.entries.iter().find(|entry| entry.model == repo).unwrap();
    assert_eq!(of("org/model").object.as_deref(), Some("bert"));
    assert_eq!(of("org/other").object, None, "it is kept in another folder of the claim");
    assert_eq!(status.entries.last().unwrap().model, "org/model", "those without an object come first");
    let totals = status.totals.unwrap();
    assert_eq!((totals.entries, totals.adoptable, totals.orphans, totals.leaked), (3, 1, 1, 1));
    assert_eq!(status.stagings[0].object.as_deref(), Some("bert"));
    // And then it is quiet.
    let (done, world) = round(world);
    assert_eq!(done, ["DeleteJob"]);
    let plan = decide(&later(world.clone(), 100_000));
    assert_eq!((plan.actions.len(), plan.notices.len(), plan.again), (0, 0, None));
    assert_eq!(Some(plan.status), world.inventory.status);
}

#[test]
fn at_the_interval_only_the_time_moves() {
    let found = Inventory { entries: vec![kept("org/model", 50)], ..Inventory::default() };
    let world = listed(world(Some("6h")), &found);
    let plan = decide(&later(world.clone(), 3600));
    assert_eq!((plan.actions.len(), plan.again.unwrap().as_secs()), (0, 5 * 3600));
    assert_eq!(Some(&plan.status), world.inventory.status.as_ref());
    let before = world.inventory.status.clone().unwrap();
    let world = later(world, 6 * 3600);
    let plan = decide(&world);
    assert_eq!((kinds_of(&plan.actions), plan.notices.len()), (vec!["CreateJob"], 0));
    let world = carried_out(world, &plan);
    assert_eq!(phase(&world), Some(InventoryPhase::Complete), "it says what it said until it knows more");
    let world = finds(world, &found);
    let plan = decide(&world);
    assert_eq!(plan.notices, []);
    let mut after = carried_out(world, &plan).inventory.status.unwrap();
    assert_ne!(after.observed_at, before.observed_at);
    after.observed_at.clone_from(&before.observed_at);
    after.attempts.clone_from(&before.attempts);
    assert_eq!(after, before);
}

#[test]
fn a_retry_looks_again_and_shows_that_it_does() {
    let world = listed(world(None), &Inventory::default());
    let mut world = later(world, 60);
    world.inventory.metadata.annotations = Some([(annotation::RETRY.to_owned(), "x".to_owned())].into());
    let (done, world) = round(world);
    assert_eq!((done, phase(&world)), (vec!["CreateJob"], Some(InventoryPhase::Pending)));
    let attempts = world.inventory.status.as_ref().unwrap().attempts.as_ref().unwrap();
    assert_eq!(attempts.last_retry.as_deref(), Some("x"));
    let (_, world) = round(finds(world, &Inventory::default()));
    assert_eq!(phase(&world), Some(InventoryPhase::Complete));
}

#[test]
fn a_claim_is_waited_for_and_failures_are_as_elsewhere() {
    let mut absent = world(None);
    absent.scene.claim = None;
    let (done, absent) = round(absent);
    let said = &absent.inventory.status.as_ref().unwrap().conditions[0];
    assert_eq!((done.len(), said.type_.as_str(), said.reason.as_str()), (0, condition::COMPLETE, "PVCPending"));
    for (interval, reason, after, next) in [
        (None, Reason::Interrupted, 5, 1),
        (None, Reason::FileNotFound, 100_000, 0),
        (Some("1h"), Reason::FileNotFound, 1800, 0),
        (Some("1h"), Reason::FileNotFound, 3600, 1),
    ] {
        let (_, world) = round(world(interval));
        let failed = Failed { reason, message: "why".into(), retry_after_seconds: None };
        let code = reason.exit_code();
        let world = pod(says(world, Say::Failed(failed)), &json!({"terminated": {"exitCode": code}}));
        let (_, mut world) = round(world);
        crate::controller::fixture::forget(&mut world.scene);
        let jobs = kinds_of(&decide(&later(world, after)).actions);
        assert_eq!(jobs.iter().filter(|kind| **kind == "CreateJob").count(), next, "{reason} {interval:?} {after}");
    }
}

#[test]
fn the_job_that_looks_at_a_volume() {
    let plan = decide(&world(None));
    let Action::CreateJob(job) = &plan.actions[0] else { panic!("no Job") };
    insta::assert_yaml_snapshot!(job);
}

#[test]
fn however_many_there_are_they_fit_an_object_and_what_is_left_out_is_said() {
    let entries: Vec<_> = (0..1000).map(|number| kept(&format!("org/{number}"), 1000 - number)).collect();
    let totals = Totals { entries: 2000, ..Totals::default() };
    let world = listed(world(None), &Inventory { entries, totals, ..Inventory::default() });
    let status = world.inventory.status.as_ref().unwrap();
    assert_eq!((status.entries.len(), status.totals.as_ref().unwrap().adoptable), (500, 1000));
    assert!(status.conditions[0].message.contains("leaves out 1500"), "{}", status.conditions[0].message);
}
