use super::*;
use crate::controller::fixture::{COMMIT, now, own_claim, shared_claim};
use crate::controller::plan::usage::concerns;
use crate::controller::plan::{Consumer, Usage};
use serde_json::json;
use std::sync::Arc;

/// A Pod that mounts these folders of a claim, created so many seconds after the beginning.
pub(super) fn pod(name: &str, at: i64, claim: &str, folders: &[&str]) -> Arc<Consumer> {
    let mounts: Vec<_> = folders.iter().map(|path| json!({"name": "m", "mountPath": "/m", "subPath": path})).collect();
    consumer(json!({
        "metadata": {"name": name, "namespace": "team-a", "uid": name, "creationTimestamp": (now() + jiff::SignedDuration::from_secs(at)).to_string()},
        "spec": {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": claim}}], "containers": [{"name": "c", "volumeMounts": mounts}]},
        "status": {"phase": "Running"},
    }))
}

pub(super) fn consumer(pod: serde_json::Value) -> Arc<Consumer> {
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// A published model in `cache` of the claim `shared`.
pub(super) fn ready() -> Observed {
    let (_, world) = round(shared_claim());
    let (_, world) = round(world.succeeded());
    round(world.forgotten()).1
}

/// Users, holders, waiting.
fn counts(world: &Observed, pod: &Arc<Consumer>) -> [usize; 3] {
    let usage = Usage::of(&world.entry, std::slice::from_ref(pod));
    [usage.users.len(), usage.holders.len(), usage.waiting.len()]
}

#[test]
fn what_a_mount_has_to_do_with_the_model() {
    const USES: [usize; 3] = [1, 0, 0];
    const HOLDS: [usize; 3] = [0, 1, 0];
    const NOTHING: [usize; 3] = [0, 0, 0];
    let hub = "cache/hub/models--org--model";
    let (snapshots, snapshot) = (format!("{hub}/snapshots"), format!("{hub}/snapshots/{COMMIT}/onnx"));
    let other = format!("{hub}/snapshots/{}", "0".repeat(40));
    let cases: [(&[&str], [usize; 3]); 14] = [
        (&["cache/entries/org_2fmodel/model"], USES),
        (&["cache/entries/org_2fmodel"], USES),
        (&["cache/views/org_2fmodel/refs"], USES),
        (&[&snapshot], USES),
        (&[&snapshots], USES),
        (&[&snapshots, "cache/views/org_2fmodel/refs"], USES),
        (&[&snapshots, "cache/views/org_2fmodel_40v1/refs"], HOLDS),
        (&[&snapshots, "cache/views/org_2fother/refs"], USES),
        (&[&other], NOTHING),
        (&[""], HOLDS),
        (&["cache/entries"], HOLDS),
        (&["cache/entries/org_2fmodel2/model"], NOTHING),
        (&["entries/org_2fmodel/model"], NOTHING),
        (&[], NOTHING),
    ];
    let world = ready();
    for (folders, expected) in cases {
        assert_eq!(counts(&world, &pod("p", 0, "shared", folders)), expected, "{folders:?}");
    }
    assert_eq!(counts(&world, &pod("p", 0, "another", &["cache/entries/org_2fmodel"])), NOTHING);
    let mounted = Usage::of(&world.entry, &[pod("p", 0, "shared", &[&other])]).mounted;
    assert_eq!(mounted, ["0".repeat(40).parse().unwrap()].into());
}

#[test]
fn the_root_of_an_own_claim_is_its_only_model() {
    assert_eq!(counts(&own_claim(), &pod("p", 0, "bert", &[""])), [1, 0, 0]);
    assert_eq!(counts(&own_claim(), &pod("p", 0, "bert", &["scratch"])), [0, 0, 0]);
}

#[test]
fn a_pod_may_name_the_model_or_the_entry() {
    let named = |text: &str, gates: serde_json::Value| {
        consumer(json!({
            "metadata": {"name": "p", "annotations": {"modelcache.dev/models": text}},
            "spec": {"schedulingGates": gates, "containers": []},
        }))
    };
    assert_eq!(counts(&ready(), &named("org/model", json!([]))), [1, 0, 0]);
    assert_eq!(counts(&ready(), &named("other/x bert", json!([]))), [1, 0, 0]);
    assert_eq!(counts(&ready(), &named("org/model@v1", json!([]))), [0, 0, 0]);
    assert_eq!(counts(&ready(), &named("org/model", json!([{"name": "modelcache.dev/model"}]))), [0, 0, 1]);
}

#[test]
fn workers_and_pods_that_ended_do_not_count() {
    let mut ended = (*pod("p", 0, "shared", &["cache/entries/org_2fmodel"])).clone();
    ended.is_over = true;
    assert_eq!(counts(&ready(), &Arc::new(ended.clone())), [0; 3]);
    (ended.is_over, ended.worker) = (false, Some("uid-1".into()));
    assert_eq!(counts(&ready(), &Arc::new(ended)), [0; 3]);
}

fn in_use(plan: &Plan) -> Option<(&str, &str)> {
    let found = plan.status.conditions.iter().find(|condition| condition.type_ == condition::IN_USE)?;
    Some((&found.status, &found.message))
}

#[test]
fn a_use_is_told_when_it_begins_and_when_it_ends() {
    let mut world = ready();
    let plan = decide(&world);
    assert_eq!((in_use(&plan), &plan.status.usage), (None, &None), "nobody ever used it");

    world.scene.consumers = vec![pod("web", 0, "shared", &["cache/entries/org_2fmodel/model"])];
    let (plan, world) = round(world);
    assert_eq!(in_use(&plan), Some(("True", "1 Pod uses the model: web")));
    let usage = plan.status.usage.clone().unwrap();
    assert_eq!((usage.last_used_by.as_deref(), usage.pods), (Some("team-a/default/Pod/web"), Some(1)));
    let metadata = plan.status.metadata.as_ref().unwrap();
    assert_eq!(metadata["lastDssUsage"], now().as_millisecond());
    assert_eq!(metadata["lastUsedBy"], "team-a/default/Pod/web");

    let (plan, mut world) = round(world.later(3600));
    assert_eq!(Some(&plan.status), world.entry.status.as_ref(), "a use that goes on writes nothing");
    assert_eq!((plan.status.usage, plan.again), (Some(usage), None));

    world.scene.consumers.clear();
    let plan = decide(&world);
    assert_eq!(in_use(&plan), Some(("False", "no Pod uses the model")));
    let ended = plan.status.usage.unwrap();
    assert_eq!(ended.last_used_at.unwrap().0, now() + jiff::SignedDuration::from_secs(3600));
    assert_eq!((ended.last_used_by.as_deref(), ended.pods), (Some("team-a/default/Pod/web"), Some(0)));
}

#[test]
fn many_pods_are_told_by_five_names_and_a_number() {
    let mut world = ready();
    world.scene.consumers =
        (0..8).map(|at| pod(&format!("web-{at}"), at, "shared", &["cache/entries/org_2fmodel"])).collect();
    let plan = decide(&world);
    assert_eq!(in_use(&plan).unwrap().1, "8 Pods use the model: web-7, web-6, web-5, web-4, web-3 and 3 more");
}

proptest::proptest! {
    /// However Pods come and go, a status is written at most once a minute, and in the end it says what is true.
    #[test]
    fn a_storm_of_pods_gives_one_write_a_minute(steps in proptest::collection::vec((0_i64..50, 0_usize..4), 1..60)) {
        let mut world = ready();
        let mut written: Vec<jiff::Timestamp> = Vec::new();
        for (number, (seconds, pods)) in steps.into_iter().enumerate() {
            world = world.later(seconds);
            let at = i64::try_from(number).unwrap();
            world.scene.consumers =
                (0..pods).map(|pod_number| pod(&format!("p-{number}-{pod_number}"), at, "shared", &["cache/entries/org_2fmodel"])).collect();
            let plan = decide(&world);
            if Some(&plan.status) != world.entry.status.as_ref() {
                written.push(world.now);
            }
            world = world.after(&plan);
        }
        for pair in written.windows(2) {
            proptest::prop_assert!(pair[0].duration_until(pair[1]).as_secs() >= 60, "{pair:?}");
        }
        if let Some(wait) = decide(&world).again {
            world = world.later(i64::try_from(wait.as_secs()).unwrap() + 1);
        }
        let plan = decide(&world);
        let told = plan.status.usage.as_ref().and_then(|usage| usage.pods).unwrap_or(0);
        proptest::prop_assert_eq!(usize::try_from(told).unwrap(), world.scene.consumers.len());
        let world = world.after(&plan);
        proptest::prop_assert_eq!(decide(&world).again, None, "nothing is left for later");
    }
}

#[test]
fn an_entry_looks_at_pods_that_have_its_claim_or_name_it() {
    let entry = ready().entry;
    let named = |models: &[&str], injected: &[&str]| {
        let mut pod = Consumer::default();
        pod.models = models.iter().map(ToString::to_string).collect();
        if !injected.is_empty() {
            let entries = injected.iter().map(ToString::to_string).collect();
            pod.injection = Some(crate::controller::plan::inject::Injection { entries, ..Default::default() });
        }
        concerns(&entry, &pod)
    };
    assert!(named(&["bert"], &[]) && named(&["org/model"], &[]) && named(&["org/model"], &["bert"]));
    assert!(!named(&["other"], &[]) && !named(&[], &[]) && !named(&["org/model"], &["twin"]));
}
