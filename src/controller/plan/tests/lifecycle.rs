use super::*;
use crate::api::{HubConnection, HubConnectionSpec, Phase, annotation};
use crate::controller::fixture::{COMMIT, claim, observed, own_claim, shared_claim};
use crate::controller::plan::{ConnectionSight, Peer, PeerStanding, peers};
use crate::ident::Reason;
use serde_json::json;

#[test]
fn an_own_claim_is_made_before_the_job() {
    let (plan, _) = round(own_claim());
    assert_eq!(kinds(&plan), ["CreateClaim", "CreateJob"]);
    assert_eq!(plan.status.phase, Some(Phase::Provisioning));
    assert_eq!(plan.status.endpoint.as_deref(), Some("https://hub.example"));
}

#[test]
fn a_shared_claim_needs_the_finalizer_first() {
    let mut world = shared_claim();
    world.entry.metadata.finalizers = None;
    assert_eq!(kinds(&round(world).0), ["AddFinalizer", "CreateJob"]);
}

#[test]
fn under_retain_no_finalizer_stays() {
    let mut world = shared_claim();
    world.entry.spec.reclaim_policy = Some(crate::api::entry::ReclaimPolicy::Retain);
    assert_eq!(kinds(&round(world).0), ["RemoveFinalizer", "CreateJob"]);
}

#[test]
fn creating_twice_creates_the_same_job() {
    let first = created_job(&decide(&own_claim()));
    let mut again = own_claim();
    again.nonce = "another".to_owned();
    assert_eq!(created_job(&decide(&again)), first);
}

#[test]
fn from_nothing_to_ready_and_then_quiet() {
    let (_, world) = round(own_claim());
    let (plan, world) = round(world.running());
    assert_eq!(plan.status.phase, Some(Phase::Resolving));
    let (plan, world) = round(world.progressed(50, 200));
    assert_eq!(plan.status.phase, Some(Phase::Downloading));
    let progress = plan.status.progress.as_ref().unwrap();
    assert_eq!((progress.bytes_done, progress.eta_seconds), (50, Some(15)));
    assert_eq!(plan.status.display.as_ref().unwrap().progress.as_deref(), Some("25%"));
    let (plan, world) = round(world.succeeded());
    assert_eq!(plan.status.phase, Some(Phase::Ready));
    assert_eq!(plan.status.commit.as_deref(), Some(COMMIT));
    assert_eq!(plan.status.metadata.as_ref().unwrap()["commitHash"], COMMIT);
    assert_eq!(plan.status.volume.as_ref().unwrap().path.as_deref(), Some("cache/entries/org_2fmodel/model"));
    assert_eq!(plan.status.display.as_ref().unwrap().revision.as_deref(), Some("main@7dbbc90"));
    assert!(!plan.notices[0].warning);
    // The Job goes only now that its end is recorded.
    assert_eq!(kinds(&plan), [""; 0]);
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["DeleteJob"]);
    let quiet = decide(&world.clone().forgotten().later(86_400));
    assert_eq!((quiet.actions.len(), quiet.notices.len(), quiet.again), (0, 0, None));
    assert_eq!(Some(quiet.status), world.entry.status);
}

#[test]
fn the_same_world_is_not_written_twice() {
    let mut world = own_claim();
    for step in 0..4 {
        let (plan, after) = round(world);
        let again = decide(&after);
        assert!(again.notices.is_empty(), "step {step}");
        if step > 0 {
            assert_eq!(json!(again.status), json!(plan.status), "step {step}");
        }
        world = match step {
            0 => after.running(),
            1 => after.progressed(1, 2),
            _ => after.succeeded(),
        };
    }
}

#[test]
fn a_lost_log_runs_the_task_again_at_once() {
    let (_, world) = round(own_claim());
    let (plan, world) = round(world.ended(0));
    assert_eq!(plan.status.phase, Some(Phase::Retrying));
    let first = plan.status.attempts.as_ref().unwrap().last_job.clone().unwrap();
    let (plan, _) = round(world.forgotten());
    assert_ne!(created_job(&plan), first);
}

#[test]
fn what_can_pass_is_tried_again_when_it_is_due() {
    let (_, world) = round(own_claim());
    let (plan, world) = round(world.failed(Reason::HubUnavailable, None));
    assert_eq!((plan.status.phase, ready_reason(&plan)), (Some(Phase::Retrying), "HubUnavailable"));
    assert!(plan.notices[0].warning);
    let (plan, world) = round(world.forgotten().later(5));
    assert_eq!(kinds(&plan), [""; 0], "the failed Job stays for its log");
    let (plan, world) = round(world.later(10));
    assert_eq!(kinds(&plan), ["CreateJob"]);
    let (plan, world) = round(world);
    assert_eq!(kinds(&plan), ["DeleteJob"], "its successor is there");
    let (plan, _) = round(world.failed(Reason::HubUnavailable, None));
    assert_eq!(plan.status.attempts.as_ref().unwrap().count, 2);
}

#[test]
fn what_cannot_pass_waits_for_a_person() {
    let (_, world) = round(own_claim());
    let (plan, world) = round(world.failed(Reason::OutOfSpace, None));
    assert_eq!((plan.status.phase, plan.again), (Some(Phase::Failed), None));
    let world = world.forgotten().later(100_000);
    assert_eq!(kinds(&decide(&world)), [""; 0]);

    let mut changed = world.clone();
    changed.entry.metadata.generation = Some(2);
    assert_eq!(kinds(&decide(&changed)), ["CreateJob"]);

    let (plan, asked) = round(world.annotated(annotation::RETRY, "1"));
    assert_eq!(kinds(&plan), ["CreateJob"]);
    let attempts = plan.status.attempts.as_ref().unwrap();
    assert_eq!((attempts.last_retry.as_deref(), attempts.count), (Some("1"), 0));
    let (plan, _) = round(asked.failed(Reason::OutOfSpace, None));
    assert_eq!(plan.status.phase, Some(Phase::Failed), "one wish is one attempt");
}

#[test]
fn an_outside_cause_is_looked_at_every_hour() {
    let (_, world) = round(own_claim());
    let (plan, world) = round(world.failed(Reason::GatedModel, None));
    assert_eq!(plan.status.phase, Some(Phase::Failed));
    assert!(plan.status.attempts.as_ref().unwrap().next_retry_at.is_some());
    assert_eq!(kinds(&decide(&world.forgotten().later(3_601))), ["CreateJob"]);
}

#[test]
fn a_twin_in_the_same_volume_fails_and_names_the_older_one() {
    let mut world = shared_claim();
    world.peers = vec![Peer {
        name: "elder".into(),
        key: Some("hf@org/model".into()),
        older: true,
        deleting: false,
        standing: PeerStanding::Keeps,
    }];
    let plan = decide(&world);
    assert_eq!((ready_reason(&plan), kinds(&plan).len()), ("DuplicateEntry", 0));
    assert!(plan.notices[0].message.contains("elder"));
    // The elder goes; this one begins.
    let mut world = world.after(&plan);
    world.peers.clear();
    assert_eq!(kinds(&decide(&world)), ["CreateJob"]);
}

#[test]
fn of_two_entries_of_one_second_the_first_by_name_is_the_older_as_for_the_pods_that_ask() {
    let at = |name: &str, uid: &str| {
        let mut entry = shared_claim().entry;
        (entry.metadata.name, entry.metadata.uid) = (Some(name.into()), Some(uid.into()));
        entry
    };
    let all = [at("a", "uid-9"), at("b", "uid-1")];
    let elder = |entry| peers(entry, &all)[0].older;
    assert_eq!((elder(&all[0]), elder(&all[1])), (false, true));
}

#[test]
fn a_mended_connection_is_a_reason_to_try_again_and_another_ones_change_is_not() {
    let connect = |mut world: Observed, endpoint: &str, generation: i64| {
        let spec = HubConnectionSpec { endpoint: Some(endpoint.to_owned()), ..HubConnectionSpec::default() };
        let mut connection = HubConnection::new("default", spec);
        connection.metadata.generation = Some(generation);
        world.connection = ConnectionSight::Found(Box::new(connection));
        world
    };
    let world = round(connect(own_claim(), "https://wrong.example", 1)).1.running();
    let failed = round(world.failed(Reason::RepoNotFound, None)).1.forgotten();
    assert_eq!(kinds(&decide(&connect(failed.clone(), "https://wrong.example", 2))), [""; 0]);
    let plan = decide(&connect(failed.clone(), "https://right.example", 3));
    assert_eq!(kinds(&plan), ["CreateJob"]);
    assert_eq!(plan.status.attempts.as_ref().unwrap().count, 0, "it starts anew");
    let mut config = connect(failed, "https://wrong.example", 2);
    config.config.ca_bundle = Some("-----BEGIN CERTIFICATE-----".into());
    assert!(kinds(&decide(&config)).contains(&"CreateJob"), "the operator's own settings count too");
}

#[test]
fn a_missing_connection_is_waited_for() {
    let mut world = shared_claim();
    world.connection = ConnectionSight::Missing("corp".into());
    let (plan, mut world) = round(world);
    assert_eq!((plan.status.phase, ready_reason(&plan)), (Some(Phase::Pending), "ConnectionNotFound"));
    world.connection = ConnectionSight::Defaults;
    assert_eq!(kinds(&decide(&world)), ["CreateJob"]);
}

#[test]
fn a_published_model_needs_its_connection_no_more() {
    let (_, world) = round(own_claim());
    let (_, world) = round(world.succeeded());
    let (_, mut world) = round(world.forgotten());
    world.connection = ConnectionSight::Missing("corp".into());
    let plan = decide(&world);
    assert_eq!((plan.status.phase, plan.actions.len(), plan.notices.len()), (Some(Phase::Ready), 0, 0));
    let mut retained = world.clone();
    retained.entry.spec.reclaim_policy = Some(crate::api::entry::ReclaimPolicy::Retain);
    assert_eq!(kinds(&decide(&retained)), ["SetClaimOwned"], "what needs no Hub is done");
    world.scene.claim = None;
    assert_eq!(ready_reason(&decide(&world)), "ConnectionNotFound", "with an empty volume it does");
}

#[test]
fn suspend_stops_the_work_and_nothing_else() {
    let (_, mut world) = round(own_claim());
    world.entry.spec.suspend = Some(true);
    let (plan, mut world) = round(world.running());
    assert_eq!((plan.status.phase, kinds(&plan)), (Some(Phase::Suspended), vec!["DeleteJob"]));
    assert_eq!(kinds(&decide(&world)), [""; 0]);
    world.entry.spec.suspend = None;
    assert_eq!(kinds(&decide(&world.forgotten())), ["CreateJob"]);
}

#[test]
fn a_suspended_model_is_ready_as_long_as_its_claim_is_there() {
    let (_, world) = round(shared_claim());
    let (_, world) = round(world.succeeded());
    let mut world = world.forgotten();
    world.entry.spec.suspend = Some(true);
    assert_eq!(decide(&world).status.phase, Some(Phase::Ready));
    world.scene.claim = None;
    assert_eq!(decide(&world).status.phase, Some(Phase::Suspended));
}

#[test]
fn a_claim_that_goes_with_another_entry_is_no_place_for_a_model() {
    let mut world = shared_claim();
    let owner =
        json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry", "name": "shared", "uid": "uid-2"});
    world.scene.claim.as_mut().unwrap().metadata.owner_references = serde_json::from_value(json!([owner])).unwrap();
    let plan = decide(&world);
    assert_eq!((ready_reason(&plan), kinds(&plan).len()), ("Conflict", 0));
    assert!(plan.notices[0].message.contains("entry \"shared\"'s own and goes with it"), "{:?}", plan.notices);
}

#[test]
fn a_claim_that_somebody_removed_is_filled_anew() {
    let (_, world) = round(own_claim());
    let (_, world) = round(world.succeeded());
    let (_, mut world) = round(world.forgotten());
    world.scene.claim = None;
    let plan = decide(&world);
    assert_eq!(kinds(&plan), ["CreateClaim", "CreateJob"]);
    assert_eq!((plan.status.phase, plan.status.metadata), (Some(Phase::Provisioning), None));
}

#[test]
fn a_foreign_claim_of_the_same_name_is_a_conflict() {
    let mut world = own_claim();
    world.scene.claim = Some(claim("bert", "Bound"));
    let plan = decide(&world);
    assert_eq!((ready_reason(&plan), kinds(&plan).len()), ("Conflict", 0));
}

#[test]
fn changing_to_retain_frees_the_claim() {
    let (_, mut world) = round(own_claim());
    world.entry.spec.reclaim_policy = Some(crate::api::entry::ReclaimPolicy::Retain);
    assert!(matches!(&decide(&world.running()).actions[..], [Action::SetClaimOwned { owned: false, .. }]));
}

#[test]
fn a_name_that_the_schema_let_through_is_refused_with_its_rule() {
    let plan = decide(&observed("{repo: 'org/a--b', storage: {claimName: c}}"));
    assert_eq!((plan.status.phase, ready_reason(&plan)), (Some(Phase::Failed), "RepoNotFound"));
}

#[test]
fn the_operators_certificates_are_there_before_the_job() {
    let mut world = shared_claim();
    world.config.ca_bundle = Some("pem".into());
    assert_eq!(kinds(&decide(&world)), ["CreateConfigMap", "CreateJob"]);
}
