use super::*;
use crate::api::{HubConnection, Phase};
use crate::controller::fixture::{own_claim, shared_claim};
use crate::controller::plan::ConnectionSight;
use crate::controller::plan::observed::task_of;
use crate::format::task::{Task, Weights};
use crate::ident::Reason;
use serde_json::json;

fn allowing(mut world: Observed, allow: &str) -> Observed {
    let mut connection = HubConnection::new("default", serde_yaml::from_str(&format!("allow: {allow}")).unwrap());
    connection.metadata.generation = Some(1);
    world.connection = ConnectionSight::Found(Box::new(connection));
    world
}

fn task(plan: &Plan) -> Option<Task> {
    plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => task_of(job),
        _ => None,
    })
}

#[test]
fn a_repo_that_is_not_allowed_gets_no_job_and_no_claim() {
    let world = allowing(own_claim(), "{repos: [other/*]}");
    let (plan, world) = round(world);
    assert_eq!((kinds(&plan), plan.status.phase), (vec![], Some(Phase::Failed)));
    assert_eq!(ready_reason(&plan), Reason::PolicyDenied.as_str());
    let said = &plan.notices[0].message;
    assert!(
        said.contains("HubConnection \"default\" does not allow the repo org/model") && said.contains("other/*"),
        "{said}"
    );
    assert_eq!(plan.again, None, "nothing changes by itself");
    let plan = decide(&allowing(world, "{repos: [other/*, org/*]}"));
    assert_eq!(kinds(&plan), ["CreateClaim", "CreateJob"]);
}

#[test]
fn weights_that_are_asked_for_by_name_are_refused_before_a_job() {
    let mut world = own_claim();
    world.entry.spec.files = serde_json::from_value(json!({"weights": "Pytorch"})).unwrap();
    let plan = decide(&allowing(world.clone(), "{weights: [Safetensors]}"));
    assert_eq!((kinds(&plan), ready_reason(&plan)), (vec![], Reason::PolicyDenied.as_str()));
    assert_eq!(kinds(&decide(&allowing(world, "{weights: [Pytorch]}"))), ["CreateClaim", "CreateJob"]);
}

#[test]
fn the_worker_gets_the_policy_for_what_only_it_can_see() {
    let world = allowing(shared_claim(), "{repos: [org/*], weights: [Safetensors, Gguf]}");
    let policy = task(&decide(&world)).unwrap().policy.unwrap();
    assert_eq!((policy.repos, policy.weights), (vec!["org/*".to_owned()], vec![Weights::Safetensors, Weights::Gguf]));
    assert_eq!(policy.origin, "HubConnection \"default\"");
    assert_eq!(task(&decide(&allowing(shared_claim(), "{}"))).unwrap().policy, None);
    assert_eq!(task(&decide(&shared_claim())).unwrap().policy, None);
}

#[test]
fn an_archive_that_names_no_model_is_judged_by_its_worker() {
    let mut world = shared_claim();
    world.entry.spec.repo = None;
    world.entry.spec.source =
        serde_json::from_value(json!({"archive": {"url": "https://files.example/a.tar"}})).unwrap();
    let mut world = allowing(world, "{repos: [other/*]}");
    assert_eq!(task(&decide(&world)).unwrap().policy.unwrap().repos, ["other/*"]);
    world.entry.spec.repo = Some("org/model".to_owned());
    assert_eq!(ready_reason(&decide(&world)), Reason::PolicyDenied.as_str());
}

#[test]
fn what_the_worker_found_forbidden_is_tried_again_when_the_policy_changes() {
    let (_, world) = round(allowing(shared_claim(), "{weights: [Gguf]}"));
    let (_, world) = round(world.failed(Reason::PolicyDenied, None));
    let (plan, world) = round(world);
    assert_eq!((plan.status.phase, kinds(&plan), plan.again), (Some(Phase::Failed), vec![], None));
    assert!(kinds(&decide(&allowing(world, "{weights: [Gguf, Pytorch]}"))).contains(&"CreateJob"));
}

#[test]
fn an_entry_that_failed_otherwise_goes_on_when_it_is_allowed_again() {
    let (_, world) = round(allowing(shared_claim(), "{repos: [org/*]}"));
    let (_, world) = round(world.failed(Reason::RepoNotFound, None));
    let (plan, world) = round(allowing(world, "{repos: [other/*]}"));
    assert_eq!(ready_reason(&plan), Reason::PolicyDenied.as_str());
    assert!(kinds(&decide(&allowing(world, "{repos: [org/*]}"))).contains(&"CreateJob"));
}

#[test]
fn a_job_that_is_not_allowed_any_more_is_stopped() {
    let (_, world) = round(shared_claim());
    let (plan, world) = round(allowing(world.running(), "{repos: [other/*]}"));
    assert_eq!((kinds(&plan), plan.status.phase), (vec!["DeleteJob"], Some(Phase::Failed)));
    assert_eq!(kinds(&decide(&allowing(world.forgotten(), "{}"))), ["CreateJob"]);
}

#[test]
fn what_is_on_the_volume_stays_and_is_not_updated() {
    let mut world = shared_claim();
    world.entry.spec.update = serde_json::from_value(json!({"policy": "Track"})).unwrap();
    let (_, world) = round(world);
    let (_, world) = round(world.succeeded());
    let (_, world) = round(world.forgotten());
    let plan = decide(&allowing(world.later(100_000), "{repos: [other/*]}"));
    assert_eq!((plan.status.phase, kinds(&plan)), (Some(Phase::Ready), vec![]));
}

#[test]
fn an_update_that_is_not_allowed_any_more_is_stopped_and_the_model_stays() {
    let mut world = shared_claim();
    world.entry.spec.update = serde_json::from_value(json!({"policy": "Track"})).unwrap();
    let (_, world) = round(world);
    let (_, world) = round(world.succeeded());
    let (_, world) = round(round(world.forgotten()).1.later(100_000));
    assert_eq!(world.scene.jobs.len(), 1, "it asks for a newer commit");
    let plan = decide(&allowing(world, "{repos: [other/*]}"));
    assert_eq!((plan.status.phase, kinds(&plan)), (Some(Phase::Ready), vec!["DeleteJob"]));
}
