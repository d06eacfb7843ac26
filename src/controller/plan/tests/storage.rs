use super::*;
use crate::api::storage::StorageSpec;
use crate::api::{HubConnection, Phase};
use crate::controller::fixture::{claim, observed};
use crate::controller::plan::{ConnectionSight, storage_of, volume_of};
use crate::ident::Reason;
use serde_json::json;

fn storage(yaml: &str) -> StorageSpec {
    serde_yaml::from_str(yaml).unwrap()
}

/// An entry that does not say where it is kept, with a connection that does.
fn connected(cache: &str) -> Observed {
    let mut world = observed("{repo: org/model}");
    world.connection = connection(cache);
    world
}

fn connection(cache: &str) -> ConnectionSight {
    let mut connection = HubConnection::new("default", serde_yaml::from_str(&format!("cache: {cache}")).unwrap());
    connection.metadata.generation = Some(1);
    ConnectionSight::Found(Box::new(connection))
}

#[test]
fn the_connections_default_goes_before_the_operators() {
    let mut world = connected("{storage: {claimName: of-team, subPath: cache}}");
    world.config.storage.default = Some(storage("{claimName: of-all}"));
    let (plan, world) = round(world);
    assert_eq!((kinds(&plan), plan.status.phase), (vec![], Some(Phase::Pending)));
    assert!(plan.notices[0].message.contains("claim \"of-team\", as HubConnection \"default\" says"), "{plan:?}");
    assert_eq!(volume_of(&world.entry), Some(("of-team".to_owned(), Some("cache".to_owned()))));
    let mut world = connected("{}");
    world.config.storage.default = Some(storage("{claimName: of-all}"));
    assert_eq!(storage_of(&round(world).1.entry), Some(&storage("{claimName: of-all}")));
}

#[test]
fn what_the_spec_says_goes_before_every_default() {
    let mut world = observed("{repo: org/model, storage: {claimName: own}}");
    world.connection = connection("{storage: {claimName: of-team}}");
    world.config.storage.default = Some(storage("{claimName: of-all}"));
    world.scene.claim = Some(claim("own", "Bound"));
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["AddFinalizer", "CreateJob"]);
    assert_eq!(volume_of(&world.entry), Some(("own".to_owned(), None)));
}

#[test]
fn where_nobody_says_an_entry_waits_and_names_what_is_missing() {
    let plan = decide(&connected("{}"));
    assert_eq!((kinds(&plan), ready_reason(&plan)), (vec![], Reason::PVCPending.as_str()));
    let said = &plan.notices[0].message;
    for setting in ["spec.storage", "spec.cache.storage of HubConnection \"default\"", "storage.default"] {
        assert!(said.contains(setting), "{said}");
    }
}

#[test]
fn a_default_that_nothing_was_begun_with_is_left_for_another() {
    // The claim does not exist, so nothing begins.
    let (_, world) = round(connected("{storage: {claimName: typo}}"));
    let (plan, world) = round(world);
    assert_eq!(ready_reason(&plan), Reason::PVCPending.as_str());
    assert_eq!(kinds(&plan), [""; 0]);
    let (plan, mut world) = round(world);
    assert_eq!(kinds(&plan), [""; 0], "no finalizer while the default may change");
    world.connection = connection("{storage: {claimName: models}}");
    let (_, mut world) = round(world);
    assert_eq!(volume_of(&world.entry), Some(("models".to_owned(), None)));
    world.scene.claim = Some(claim("models", "Bound"));
    assert_eq!(kinds(&round(world).0), ["AddFinalizer", "CreateJob"]);
}

#[test]
fn what_was_begun_or_published_stays_where_it_is() {
    let (_, mut world) = round(connected("{storage: {claimName: models}}"));
    world.scene.claim = Some(claim("models", "Bound"));
    let (_, begun) = round(world);
    let published = round(begun.clone().succeeded()).1;
    let ready = round(published.clone().forgotten()).1.forgotten();
    let failed = round(begun.clone().failed(Reason::OutOfSpace, None)).1;
    for mut world in [begun, published].into_iter().chain([ready, failed]) {
        for other in [connection("{storage: {claimName: other}}"), connection("{}"), ConnectionSight::Defaults] {
            world.connection = other;
            let (plan, after) = round(world.clone());
            assert_eq!(storage_of(&after.entry), Some(&storage("{claimName: models}")), "{plan:?}");
            assert_eq!(plan.status.volume.unwrap().claim_name, "models");
        }
    }
}

#[test]
fn an_own_claim_by_default_is_the_entrys() {
    let template = "{volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Gi}}}}}";
    let (_, world) = round(connected(&format!("{{storage: {template}}}")));
    let (plan, mut world) = round(world);
    assert_eq!(kinds(&plan), ["CreateClaim", "CreateJob"]);
    world.connection = connection("{storage: {claimName: other}}");
    let (_, world) = round(world.succeeded());
    assert_eq!(storage_of(&world.entry), Some(&storage(template)));
    assert_eq!(round(world.deleted()).1.entry.metadata.finalizers, None);
}

#[test]
fn files_in_a_default_claim_go_with_the_entry() {
    let (_, mut world) = round(connected("{storage: {claimName: models}}"));
    world.scene.claim = Some(claim("models", "Bound"));
    let world = round(round(world).1.succeeded()).1.forgotten();
    let (_, mut world) = round(world);
    world.connection = ConnectionSight::Defaults;
    world.scene.jobs.clear();
    assert_eq!(kinds(&decide(&world.deleted())), ["CreateJob"]);
}

#[test]
fn a_named_connection_that_is_missing_says_nothing_of_storage() {
    let mut world = observed("{repo: org/model, source: {hub: {connectionRef: {name: ours}}}}");
    world.connection = ConnectionSight::Missing("ours".to_owned());
    world.config.storage.default = Some(storage("{claimName: of-all}"));
    let (plan, world) = round(world);
    assert_eq!((ready_reason(&plan), storage_of(&world.entry)), (Reason::ConnectionNotFound.as_str(), None));
}

#[test]
fn twins_by_default_are_twins() {
    let (_, one) = round(connected("{storage: {claimName: models}}"));
    let mut other = one.entry.clone();
    other.metadata.uid = Some("uid-2".into());
    other.spec.storage = serde_json::from_value(json!({"claimName": "models"})).unwrap();
    other.status = None;
    assert_eq!(crate::controller::plan::peers(&one.entry, [&other]).len(), 1);
}

#[test]
fn the_connections_job_settings_stand_between_the_entrys_and_the_operators() {
    let mut world = observed("{repo: org/model, storage: {claimName: models}, job: {priorityClassName: own}}");
    world.connection = connection("{job: {priorityClassName: team, serviceAccountName: team}}");
    world.config.job = serde_yaml::from_str("{serviceAccountName: all, activeDeadlineSeconds: 9}").unwrap();
    world.scene.claim = Some(claim("models", "Bound"));
    let plan = decide(&world);
    let Some(Action::CreateJob(job)) = plan.actions.last() else { panic!("{plan:?}") };
    let spec = job.spec.as_ref().unwrap();
    let pod = spec.template.spec.as_ref().unwrap();
    assert_eq!(pod.priority_class_name.as_deref(), Some("own"));
    assert_eq!(pod.service_account_name.as_deref(), Some("team"));
    assert_eq!(spec.active_deadline_seconds, Some(9));
}
