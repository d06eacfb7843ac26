//! Claims without a size, claims that grow, and volumes that were full.

use crate::api::{Phase, annotation, condition};
use crate::controller::fixture::{observed, own_claim, shared_claim};
use crate::controller::plan::{Action, Met, Observed, Obstacle, Plan, Why, decide, obstructed};
use crate::format::outcome::{Done, Resolved, Say};
use crate::ident::Reason;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

fn names(plan: &Plan) -> Vec<&'static str> {
    super::kinds(plan)
}

fn phase(plan: &Plan) -> Phase {
    plan.status.phase.unwrap()
}

fn step(world: Observed) -> Observed {
    let plan = decide(&world);
    world.after(&plan)
}

fn unsized_claim() -> Observed {
    observed("{repo: org/model, storage: {volumeClaimTemplate: {spec: {storageClassName: fast}}}}")
}

fn resolves(world: Observed, bytes: u64) -> Observed {
    let resolved = Resolved { commit: None, files: Some(3), bytes };
    world.says(Say::Done(Done { resolved: Some(Box::new(resolved)), ..Done::default() })).ended(0)
}

/// What the entry's claim asks for.
fn asked(world: &Observed) -> Option<String> {
    let spec = world.scene.claim.as_ref()?.spec.as_ref()?;
    Some(spec.resources.as_ref()?.requests.as_ref()?["storage"].0.clone())
}

fn with_capacity(mut world: Observed, capacity: &str) -> Observed {
    let status = world.scene.claim.as_mut().unwrap().status.get_or_insert_default();
    status.capacity.get_or_insert_default().insert("storage".into(), Quantity(capacity.into()));
    world
}

#[test]
fn the_model_is_measured_before_its_claim_is_made() {
    let plan = decide(&unsized_claim());
    assert_eq!((names(&plan), phase(&plan)), (vec!["CreateJob"], Phase::Resolving));
    let world = resolves(unsized_claim().after(&plan), 5 << 30);
    let plan = decide(&world);
    assert_eq!((plan.actions.as_slice(), phase(&plan)), ([].as_slice(), Phase::Resolving));
    let resolved = plan.status.resolved.as_ref().unwrap();
    assert_eq!((resolved.files, resolved.bytes), (Some(3), 5 << 30));
    let world = world.after(&plan).forgotten();
    let plan = decide(&world);
    assert_eq!(names(&plan), ["DeleteJob", "CreateClaim", "CreateJob"]);
    let world = world.after(&plan);
    assert_eq!(asked(&world).unwrap(), "6Gi");
    let world = step(world.succeeded());
    assert_eq!(world.entry.status.as_ref().unwrap().phase, Some(Phase::Ready));
    let plan = decide(&step(world.forgotten()));
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
}

#[test]
fn an_archive_whose_size_is_known_needs_no_question() {
    let world = observed(
        "{source: {archive: {url: 'https://files.example/a.tar.gz', unpackedBytes: 3221225472}}, \
         storage: {volumeClaimTemplate: {spec: {}}}}",
    );
    let plan = decide(&world);
    assert_eq!(names(&plan), ["CreateClaim", "CreateJob"]);
    assert_eq!(asked(&world.after(&plan)).unwrap(), "4Gi");
}

#[test]
fn a_question_that_fails_is_asked_again_like_any_attempt() {
    let world = step(unsized_claim());
    let plan = decide(&world.clone().failed(Reason::HubUnavailable, None));
    assert_eq!(phase(&plan), Phase::Retrying);
    let world = world.failed(Reason::HubUnavailable, None).after(&plan).forgotten().later(3600);
    let plan = decide(&world);
    assert_eq!((names(&plan), phase(&plan)), (vec!["CreateJob"], Phase::Resolving));
    let plan = decide(&step(unsized_claim()).failed(Reason::RepoNotFound, None));
    assert_eq!(phase(&plan), Phase::Failed);
}

/// An entry with an own claim of 1Gi, ready.
fn ready() -> Observed {
    let world = step(step(own_claim()).succeeded());
    with_capacity(step(world.forgotten()), "1Gi")
}

fn raised(mut world: Observed, size: &str) -> Observed {
    let storage = json!({"volumeClaimTemplate": {"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}}}});
    world.entry.spec.storage = serde_json::from_value(storage).unwrap();
    *world.entry.metadata.generation.as_mut().unwrap() += 1;
    world
}

#[test]
fn a_raised_size_goes_to_the_claim_and_a_lower_one_does_not() {
    let plan = decide(&raised(ready(), "2Gi"));
    let grow = Action::GrowClaim { name: "bert".into(), uid: "uid-claim".into(), to: Quantity("2Gi".into()) };
    assert_eq!((plan.actions.as_slice(), phase(&plan)), ([grow].as_slice(), Phase::Ready));
    let world = raised(ready(), "2Gi").after(&plan);
    assert_eq!(asked(&world).unwrap(), "2Gi");
    for other in ["2Gi", "2048Mi", "1Gi"] {
        assert!(decide(&raised(world.clone(), other)).actions.is_empty(), "{other}");
    }
    assert!(decide(&raised(with_capacity(ready(), "5Gi"), "2Gi")).actions.is_empty(), "it has that already");
    // Somebody else's claim of the same name is never touched.
    let mut foreign = raised(ready(), "2Gi");
    foreign.scene.claim.as_mut().unwrap().metadata.labels = None;
    assert!(decide(&foreign).actions.is_empty());
}

#[test]
fn a_refused_growth_is_said_once_and_the_model_stays_ready() {
    let world = raised(ready(), "2Gi");
    let plan = decide(&world);
    let why = Why::new(Reason::PolicyDenied, "only dynamically provisioned pvc can be resized");
    let met = Met { action: &plan.actions[0], obstacle: Obstacle::Denied(why) };
    let told = obstructed(&world, &[met]);
    assert_eq!(phase(&told), Phase::Ready);
    let said = told.status.conditions.iter().find(|said| said.type_ == condition::STORAGE_GROWN).unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "PolicyDenied"));
    assert!(told.notices.iter().any(|notice| notice.warning && notice.reason == "PolicyDenied"));
    let mut world = world;
    world.entry.status = Some(told.status);
    let quiet = decide(&world);
    assert!(quiet.actions.is_empty() && quiet.notices.is_empty());
    assert_eq!(Some(&quiet.status), world.entry.status.as_ref(), "nothing is written");
    // A retry tries it again, and so does another size.
    assert_eq!(names(&decide(&world.clone().annotated(annotation::RETRY, "1"))), ["GrowClaim"]);
    assert_eq!(names(&decide(&raised(world.clone(), "3Gi"))), ["GrowClaim"]);
    // With the old size nothing is missing.
    let plan = decide(&raised(world, "1Gi"));
    assert!(plan.status.conditions.iter().all(|said| said.type_ != condition::STORAGE_GROWN));
}

fn full(world: Observed) -> Observed {
    step(step(world).failed(Reason::OutOfSpace, None)).forgotten()
}

#[test]
fn a_full_volume_that_grew_is_gone_on_with_by_itself() {
    let world = full(with_capacity(shared_claim(), "1Gi"));
    let status = world.entry.status.as_ref().unwrap();
    assert_eq!(status.phase, Some(Phase::Failed));
    assert_eq!(status.attempts.as_ref().unwrap().last_room.as_deref(), Some("1Gi"));
    assert!(decide(&world).actions.iter().all(|action| !matches!(action, Action::CreateJob(_))));
    let grown = with_capacity(world.clone(), "2Gi");
    assert!(names(&decide(&grown)).contains(&"CreateJob"));
    // Full again: it waits for the next growth, and does not go round.
    let again = step(step(grown).failed(Reason::OutOfSpace, None)).forgotten();
    assert!(!names(&decide(&again)).contains(&"CreateJob"));
    // Other failures have nothing to do with room.
    let other = step(step(with_capacity(shared_claim(), "1Gi")).failed(Reason::GatedModel, None)).forgotten();
    assert!(!names(&decide(&with_capacity(other, "2Gi"))).contains(&"CreateJob"));
}

#[test]
fn a_raised_size_of_a_full_claim_is_waited_for() {
    let mut world = own_claim();
    world.scene.claim = None;
    let world = full(with_capacity(step(world), "1Gi"));
    let plan = decide(&raised(world.clone(), "2Gi"));
    assert_eq!((names(&plan), phase(&plan)), (vec!["GrowClaim"], Phase::Provisioning));
    let world = raised(world, "2Gi").after(&plan);
    assert_eq!(names(&decide(&world)), ["DeleteJob"], "the driver is at work, and the Job that failed is recorded");
    let plan = decide(&with_capacity(world, "2Gi"));
    assert_eq!(names(&plan), ["DeleteJob", "CreateJob"]);
}

#[test]
fn a_model_that_outgrew_its_computed_claim_is_measured_once_more() {
    let world = step(resolves(step(unsized_claim()), 1 << 20)).forgotten();
    let world = with_capacity(step(world), "1Gi").failed(Reason::OutOfSpace, None);
    let plan = decide(&world);
    assert_eq!((phase(&plan), &plan.status.resolved), (Phase::Retrying, &None));
    let world = world.after(&plan).forgotten();
    let plan = decide(&world);
    assert_eq!(phase(&plan), Phase::Resolving);
    let world = step(resolves(world.after(&plan), 2 << 30)).forgotten();
    let plan = decide(&world);
    assert_eq!((names(&plan), phase(&plan)), (vec!["DeleteJob", "GrowClaim"], Phase::Provisioning));
    let world = with_capacity(step(world), "3Gi");
    let world = step(world).failed(Reason::OutOfSpace, None);
    assert_eq!(phase(&decide(&world)), Phase::Failed, "once is enough");
}

#[test]
fn another_claim_of_the_same_name_does_not_have_the_model() {
    let mut world = ready();
    world.scene.claim.as_mut().unwrap().metadata.uid = Some("uid-other".into());
    let plan = decide(&world);
    assert_eq!((phase(&plan), &plan.status.metadata), (Phase::Provisioning, &None));
    assert!(names(&plan).contains(&"CreateJob"));
}

#[test]
fn metadata_that_no_status_could_hold_is_cut_to_the_known_fields() {
    let world = step(own_claim());
    let mut metadata = json!({"version": 0, "modelDefinition": {"key": "hf@org/model"}, "url": "u"});
    metadata["tags"] = json!(vec!["x".repeat(1000); 200]);
    metadata["note"] = json!("y".repeat(300_000));
    let lines = crate::format::outcome::metadata_lines(crate::controller::fixture::NONCE, &metadata.to_string());
    let world = lines.into_iter().fold(world, |world, line| world.says(line.say));
    let done = Done { path: "entries/org_2fmodel/model".parse().ok(), ..Done::default() };
    let plan = decide(&world.says(Say::Done(done)).ended(0));
    let kept = plan.status.metadata.clone().unwrap();
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["modelDefinition", "url", "version"]);
    let ready = plan.status.conditions.iter().find(|said| said.type_ == condition::READY).unwrap();
    assert!(ready.message.contains("the volume's file all"), "{}", ready.message);
}
