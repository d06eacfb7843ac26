//! Entries that come from an archive.

use super::*;
use crate::api::Phase;
use crate::controller::build;
use crate::controller::fixture::{COMMIT, claim, observed};
use crate::controller::plan::{Freshness, Peer, PeerStanding, Wanted, known_model};
use crate::format::outcome::{Done, Manifest, Say, metadata_lines};
use crate::format::task::{ArchivePlace, Work};
use crate::ident::Reason;
use serde_json::json;

const KEY: &str = "hf@org/packed@v2";

fn from_claim() -> Observed {
    let spec = "{source: {archive: {claimName: usb, path: models/a.tar}}, storage: {claimName: shared}, reclaimPolicy: Retain}";
    let mut world = observed(spec);
    world.scene.claim = Some(claim("shared", "Bound"));
    world.scene.archive_claim = Some(claim("usb", "Bound"));
    world
}

fn imported(mut world: Observed, unverified: Option<&str>) -> Observed {
    let manifest = Manifest { sha256: "ab".repeat(32).parse().unwrap(), files: 2, bytes: 1024 };
    let metadata = json!({"version": 0, "modelDefinition": {"key": KEY}});
    for line in metadata_lines(crate::controller::fixture::NONCE, &metadata.to_string()) {
        world = world.says(line.say);
    }
    let done = Done {
        path: "entries/org_2fpacked_40v2/model".parse().ok(),
        commit: COMMIT.parse().ok(),
        manifest: Some(manifest),
        unverified: unverified.map(str::to_owned),
        ..Done::default()
    };
    world.says(Say::Done(done)).ended(0)
}

#[test]
fn an_archive_says_which_model_it_is() {
    let (plan, world) = round(from_claim());
    assert_eq!(kinds(&plan), ["CreateJob"]);
    assert_eq!(plan.status.endpoint, None);
    assert_eq!(plan.status.display.as_ref().unwrap().source.as_deref(), Some("models/a.tar in claim usb"));
    assert_eq!(known_model(&world.entry), None);
    let (plan, world) = round(world.running().progressed(10, 40));
    assert_eq!(plan.status.phase, Some(Phase::Importing));
    let (plan, world) = round(imported(world, None));
    let display = plan.status.display.as_ref().unwrap();
    assert_eq!((display.model.as_deref(), display.revision.as_deref()), (Some("org/packed"), Some("v2@7dbbc90")));
    assert_eq!(verified(&plan), ("True", "DigestsMatch"));
    assert_eq!(known_model(&world.entry).unwrap().key().to_string(), KEY);
}

fn verified(plan: &Plan) -> (&str, &str) {
    let verified = plan.status.conditions.iter().find(|condition| condition.type_ == condition::VERIFIED).unwrap();
    (&verified.status, &verified.reason)
}

#[test]
fn what_an_archive_does_not_prove_is_not_called_verified() {
    let (plan, _) = round(imported(round(from_claim()).1.running(), Some("no SHA256SUMS in it")));
    assert_eq!(plan.status.phase, Some(Phase::Ready));
    assert_eq!(verified(&plan), ("Unknown", "NoDigests"));
    assert!(plan.notices[0].message.contains("no SHA256SUMS in it"), "{}", plan.notices[0].message);
}

#[test]
fn the_claim_of_an_archive_is_waited_for() {
    let mut world = from_claim();
    world.scene.archive_claim = None;
    let plan = decide(&world);
    assert_eq!((ready_reason(&plan), kinds(&plan)), ("PVCPending", vec![]));
    assert!(plan.notices[0].message.contains("\"usb\"") && plan.again.is_some());
}

#[test]
fn an_imported_twin_of_an_older_entry_is_told_apart() {
    let (_, mut world) = round(imported(round(from_claim()).1.running(), None));
    world.peers = vec![Peer {
        name: "first".into(),
        key: Some(KEY.into()),
        older: true,
        deleting: false,
        standing: PeerStanding::Keeps,
    }];
    let plan = decide(&world);
    assert_eq!(ready_reason(&plan), Reason::DuplicateEntry.as_str());
    assert!(plan.notices[0].message.contains("org/packed@v2"), "{}", plan.notices[0].message);
}

#[test]
fn what_is_imported_stays_while_the_older_twin_has_nothing() {
    let (_, mut world) = round(imported(round(from_claim()).1.running(), None));
    let elder =
        |standing| vec![Peer { name: "first".into(), key: Some(KEY.into()), older: true, deleting: false, standing }];
    for standing in [PeerStanding::AtWork, PeerStanding::Waits, PeerStanding::Stuck] {
        world.peers = elder(standing);
        let plan = decide(&world);
        assert_eq!(plan.status.phase, Some(Phase::Ready), "{standing:?}");
        assert!(plan.again.is_some(), "nothing tells when the older one has it");
        world = world.after(&plan);
    }
    world.peers = elder(PeerStanding::Keeps);
    assert_eq!(ready_reason(&decide(&world)), Reason::DuplicateEntry.as_str());
}

#[test]
fn an_import_that_never_ended_leaves_nothing() {
    let mut world = from_claim();
    world.entry.spec.reclaim_policy = None;
    let (_, world) = round(world);
    let (_, world) = round(world);
    let (_, world) = round(world.running().deleted());
    let plan = decide(&world.forgotten());
    let removal = plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => crate::controller::plan::observed::task_of(job),
        _ => None,
    });
    let Some(Work::Delete(delete)) = removal.map(|task| task.work) else { panic!("{:?}", kinds(&plan)) };
    assert_eq!(delete.model, None);
    let Work::Import(import) = crate::controller::plan::observed::task_of(&build::transfer_job(
        &from_claim(),
        &Wanted::of(&from_claim()).unwrap(),
        &Freshness::default(),
    ))
    .unwrap()
    .work
    else {
        panic!()
    };
    assert_eq!(delete.source, crate::format::layout::Source::of_import(&import).map(|source| source.digest()));
}

#[test]
fn the_job_of_an_archive_in_a_claim() {
    let world = from_claim();
    insta::assert_yaml_snapshot!(build::transfer_job(&world, &Wanted::of(&world).unwrap(), &Freshness::default()));
}

#[test]
fn the_job_of_an_archive_at_an_address() {
    let world = observed(
        "{repo: org/model, revision: v1, source: {archive: {url: 'https://files.example/a.tar?sig=1', sha256: \
         abababababababababababababababababababababababababababababababab, authSecretRef: {name: login}}}, storage: {claimName: shared}}",
    );
    let wanted = Wanted::of(&world).unwrap();
    assert_eq!(wanted.source_shown(), "https://files.example/a.tar", "a signature is not shown");
    insta::assert_yaml_snapshot!(build::transfer_job(&world, &wanted, &Freshness::default()));
}

#[test]
fn a_claim_that_holds_archive_and_model_is_mounted_once() {
    let world = observed("{source: {archive: {claimName: shared, path: a.tar}}, storage: {claimName: shared}}");
    let job = build::transfer_job(&world, &Wanted::of(&world).unwrap(), &Freshness::default());
    let Work::Import(import) = crate::controller::plan::observed::task_of(&job).unwrap().work else { panic!() };
    let ArchivePlace::File(file) = import.archive else { panic!() };
    assert_eq!(file.path.to_str(), Some("/volume/a.tar"));
    assert_eq!(job.spec.unwrap().template.spec.unwrap().volumes.unwrap().len(), 1);
}
