//! Exports.

use super::{jobs_after, kinds_of};
use crate::api::export::ExportPhase;
use crate::api::{ModelCacheExport, Phase, annotation, condition};
use crate::controller::build::{self, Owner};
use crate::controller::fixture::{claim, now, observed, shared_claim, worker};
use crate::controller::plan::export::{ObservedExport, decide};
use crate::controller::plan::{Action, Scene};
use crate::format::outcome::{Archive, Done, Failed, Line, Progress, Say};
use crate::ident::Reason;
use serde_json::{Value, json};

/// An export to a claim, of a Ready entry.
fn world(destination: &Value) -> ObservedExport {
    let export: ModelCacheExport = serde_json::from_value(json!({
        "apiVersion": "modelcache.dev/v1alpha1",
        "kind": "ModelCacheExport",
        "metadata": {"name": "backup", "namespace": "team-a", "uid": "uid-9", "generation": 1},
        "spec": {"entryRef": {"name": "bert"}, "format": "TarZst", "destination": destination},
    }))
    .unwrap();
    let base = shared_claim();
    let mut entry = base.entry;
    entry.status.get_or_insert_default().phase = Some(Phase::Ready);
    let scene =
        Scene { claim: Some(claim("shared", "Bound")), archive_claim: Some(claim("usb", "Bound")), ..Scene::default() };
    ObservedExport {
        export,
        entry: Some(entry),
        config: base.config,
        connection: base.connection,
        scene,
        now: now(),
        nonce: base.nonce,
    }
}

fn to_claim() -> ObservedExport {
    world(&json!({"claimName": "usb", "path": "out/bert.tar.zst"}))
}

/// One round, and the world after it.
fn round(mut world: ObservedExport) -> (Vec<&'static str>, ObservedExport) {
    let plan = decide(&world);
    jobs_after(&mut world.scene, &plan.actions, world.now);
    world.export.status = Some(plan.status.clone());
    (kinds_of(&plan.actions), world)
}

fn says(mut world: ObservedExport, say: Say, state: &Value) -> ObservedExport {
    let pod = json!({"metadata": {"name": "pod", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "uid-job"}]},
        "status": {"containerStatuses": [worker(state)]}});
    world.scene.pods = vec![serde_json::from_value(pod).unwrap()];
    world.scene.heard.hear("word", &serde_json::to_string(&Line { nonce: "word".into(), say }).unwrap());
    world
}

fn phase(world: &ObservedExport) -> Option<ExportPhase> {
    world.export.status.as_ref().unwrap().phase
}

fn reason(world: &ObservedExport) -> &str {
    let conditions = &world.export.status.as_ref().unwrap().conditions;
    &conditions.iter().find(|condition| condition.type_ == condition::COMPLETE).unwrap().reason
}

#[test]
fn from_nothing_to_complete_and_then_quiet() {
    let (done, world) = round(to_claim());
    assert_eq!((done, phase(&world)), (vec!["CreateJob"], Some(ExportPhase::Pending)));
    let half = Progress { bytes_done: 5, bytes_total: 10, ..Progress::default() };
    let (_, world) = round(says(world, Say::Progress(half), &json!({"running": {}})));
    assert_eq!(phase(&world), Some(ExportPhase::Exporting));
    let archive = Archive { sha256: "cd".repeat(32).parse().unwrap(), size_bytes: 2048 };
    let done = Done { archive: Some(archive), ..Done::default() };
    let (_, world) = round(says(world, Say::Done(done), &json!({"terminated": {"exitCode": 0}})));
    let status = world.export.status.as_ref().unwrap();
    assert_eq!((phase(&world), reason(&world)), (Some(ExportPhase::Complete), "Written"));
    let written = status.archive.as_ref().unwrap();
    assert_eq!((written.size_bytes, written.location.as_str()), (2048, "out/bert.tar.zst in claim usb"));
    let (done, world) = round(world);
    assert_eq!(done, ["DeleteJob"]);
    let plan = decide(&world);
    assert_eq!((plan.actions.len(), plan.notices.len(), plan.again), (0, 0, None));
    assert_eq!(Some(plan.status), world.export.status);
}

#[test]
fn the_entry_and_the_claim_are_waited_for() {
    let mut absent = to_claim();
    absent.entry = None;
    let mut busy = to_claim();
    busy.entry.as_mut().unwrap().status.as_mut().unwrap().phase = Some(Phase::Downloading);
    for world in [absent, busy] {
        let (done, world) = round(world);
        assert_eq!((done, phase(&world), reason(&world)), (vec![], Some(ExportPhase::Pending), "WaitsForEntry"));
    }
    let mut no_claim = to_claim();
    no_claim.scene.archive_claim = None;
    let (done, world) = round(no_claim);
    assert_eq!((done, reason(&world)), (vec![], "PVCPending"));
}

#[test]
fn what_can_pass_is_tried_again_and_what_cannot_waits_for_a_person() {
    for (failure, then) in [(Reason::Interrupted, ExportPhase::Retrying), (Reason::OutOfSpace, ExportPhase::Failed)] {
        let (_, world) = round(to_claim());
        let failed = Failed { reason: failure, message: "why".into(), retry_after_seconds: None };
        let code = failure.exit_code();
        let (_, mut world) = round(says(world, Say::Failed(failed), &json!({"terminated": {"exitCode": code}})));
        assert_eq!((phase(&world), reason(&world)), (Some(then), failure.as_str()));
        crate::controller::fixture::forget(&mut world.scene);
        assert_eq!(kinds_of(&decide(&world).actions), [""; 0], "not yet");
        world.now += jiff::SignedDuration::from_mins(5);
        let expected: &[&str] = if then == ExportPhase::Retrying { &["CreateJob"] } else { &[] };
        assert_eq!(kinds_of(&decide(&world).actions), expected);
        let retry = [(annotation::RETRY.to_owned(), "now".to_owned())];
        world.export.metadata.annotations = Some(retry.into());
        let (done, world) = round(world);
        assert_eq!(done, ["CreateJob"]);
        let attempts = world.export.status.as_ref().unwrap().attempts.as_ref().unwrap();
        assert_eq!((attempts.count, attempts.last_retry.as_deref()), (0, Some("now")));
    }
}

#[test]
fn the_job_that_writes_to_a_claim() {
    insta::assert_yaml_snapshot!(job(&to_claim()));
}

#[test]
fn an_archive_beside_its_model_needs_one_mount() {
    let job = job(&world(&json!({"claimName": "shared", "path": "bert.tar"})));
    let volumes = job.spec.unwrap().template.spec.unwrap().volumes.unwrap();
    assert_eq!(volumes.len(), 1);
    assert_eq!(volumes[0].persistent_volume_claim.as_ref().unwrap().read_only, None);
}

fn job(world: &ObservedExport) -> k8s_openapi::api::batch::v1::Job {
    let plan = decide(world);
    let made = plan.actions.into_iter().find_map(|action| match action {
        Action::CreateJob(job) => Some(*job),
        _ => None,
    });
    made.unwrap()
}

#[test]
fn the_operators_certificates_come_along_to_an_address() {
    let mut world = world(&json!({"url": "https://files.example/a.tar"}));
    world.config.ca_bundle = Some("-----BEGIN CERTIFICATE-----".into());
    assert_eq!(kinds_of(&decide(&world).actions), ["CreateConfigMap", "CreateJob"]);
    let map = build::ca_config_map(&Owner::of_export(&world), "x");
    assert_eq!(map.metadata.labels.unwrap()["modelcache.dev/export-uid"], "uid-9");
    assert_ne!(map.metadata.name, build::ca_config_map(&Owner::of(&observed("{repo: a/b}")), "x").metadata.name);
}
