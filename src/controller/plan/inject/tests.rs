//! Pods as stories: what they get, why they get nothing, and when they may run.

use super::wait::{self, ObservedPod, PodPlan};
use super::{Admission, EntrySight, Known, admit, is_unsure};
use crate::api::HubConnection;
use crate::controller::config::Config;
use crate::controller::plan::Consumer;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::sync::Arc;

const MODEL: &str = "org/model";
/// The name of its entry, where nobody has given it another.
const NAME: &str = "org-model-10131698";

/// A Pod that asks for these models.
fn pod(models: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "team-a", "uid": "uid-web",
            "labels": {"modelcache.dev/inject": "true"}, "annotations": {"modelcache.dev/models": models}},
        "spec": {"serviceAccountName": "web", "containers": [{"name": "main", "image": "web"}]}})
}

/// A connection that keeps models in the claim `models`, and makes entries by itself.
fn populating() -> Value {
    connection(&json!({"autoPopulate": true, "storage": {"claimName": "models", "subPath": "cache"}}))
}

fn connection(cache: &Value) -> Value {
    json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "HubConnection",
        "metadata": {"name": "default", "namespace": "team-a"}, "spec": {"cache": cache}})
}

fn entry(name: &str, spec: &Value, phase: &str, age: u32) -> Value {
    json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
        "metadata": {"name": name, "namespace": "team-a", "uid": format!("uid-{name}"),
            "creationTimestamp": format!("2026-11-24T09:{age:02}:00Z")},
        "spec": spec,
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "False", "reason": "RepoNotFound",
            "message": "the Hub has no such repo", "lastTransitionTime": "2026-11-24T09:00:00Z"}]}})
}

/// The model's entry in the claim `shared`.
fn shared(name: &str, phase: &str, age: u32) -> Value {
    entry(name, &json!({"repo": MODEL, "storage": {"claimName": "shared"}}), phase, age)
}

struct World {
    config: Config,
    entries: Vec<Arc<EntrySight>>,
    connections: Vec<Arc<HubConnection>>,
}

impl World {
    fn of(entries: Vec<Value>, connections: Vec<Value>) -> Self {
        let read = |object| Arc::new(serde_json::from_value(object).unwrap());
        Self {
            config: serde_yaml::from_str("image: registry.example/modelcache:1").unwrap(),
            entries: entries.into_iter().map(read).collect(),
            connections: connections
                .into_iter()
                .map(|object| Arc::new(serde_json::from_value(object).unwrap()))
                .collect(),
        }
    }

    fn known(&self) -> Known<'_> {
        Known { entries: self.entries.clone(), connections: self.connections.clone(), config: &self.config }
    }

    fn admit(&self, pod: &Value) -> Admission {
        admit(&serde_json::from_value::<Pod>(pod.clone()).unwrap(), &self.known())
    }

    /// The Pod as the API server makes it of the answer, and what is missing.
    #[track_caller]
    fn admitted(&self, pod: &Value) -> (Value, Vec<String>) {
        let Admission::Changed { patch, missing } = self.admit(pod) else { panic!("{:?}", self.admit(pod)) };
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &patch).unwrap();
        (pod, missing)
    }

    #[track_caller]
    fn untouched(&self, pod: &Value) -> String {
        match self.admit(pod) {
            Admission::Untouched(why) => why,
            other => panic!("{other:?}"),
        }
    }

    fn decide(&self, pods: &[&Value], modes: &[(&str, &str)]) -> PodPlan {
        let consumers: Vec<_> = pods.iter().map(|pod| consumer(pod)).collect();
        wait::decide(&ObservedPod {
            pod: Arc::clone(&consumers[0]),
            known: self.known(),
            consumers,
            modes: modes.iter().map(|(claim, mode)| ((*claim).to_owned(), vec![(*mode).to_owned()])).collect(),
        })
    }
}

fn consumer(pod: &Value) -> Arc<Consumer> {
    Arc::new(serde_json::from_value(pod.clone()).unwrap())
}

fn reasons(plan: &PodPlan) -> Vec<&str> {
    plan.said.iter().chain(&plan.then).map(|said| said.notice.reason.as_str()).collect()
}

#[test]
fn a_pod_gets_claims_mounts_variables_and_a_gate() {
    let world = World::of(vec![shared("mine", "Ready", 1)], vec![populating()]);
    let mut asks = pod("org/model, other/model@v1.2");
    asks["spec"]["initContainers"] =
        json!([{"name": "first", "image": "web", "env": [{"name": "HF_HUB_OFFLINE", "value": "0"}]}]);
    asks["spec"]["volumes"] = json!([{"name": "own", "persistentVolumeClaim": {"claimName": "shared"}}]);
    asks["spec"]["schedulingGates"] = json!([{"name": "example.com/quota"}]);
    asks["spec"]["hostNetwork"] = true.into();
    let (pod, missing) = world.admitted(&asks);
    assert!(missing.is_empty());
    insta::assert_yaml_snapshot!(pod);
}

#[test]
fn what_this_release_does_not_know_stays() {
    let world = World::of(Vec::new(), vec![populating()]);
    let mut asks = pod(MODEL);
    asks["spec"]["futureField"] = json!({"a": 1});
    asks["spec"]["containers"][0]["futureField"] = json!([1, 2]);
    let (pod, _) = world.admitted(&asks);
    assert_eq!(pod["spec"]["futureField"], json!({"a": 1}));
    assert_eq!(pod["spec"]["containers"][0]["futureField"], json!([1, 2]));
}

#[test]
fn a_pod_that_does_not_ask_is_nobodys_business() {
    let world = World::of(Vec::new(), vec![populating()]);
    let mut silent = pod(MODEL);
    silent["metadata"]["labels"] = json!({"modelcache.dev/inject": "false"});
    assert_eq!(world.admit(&silent), Admission::NotAsked);
    assert!(consumer(&silent).injection.is_none());
}

#[test]
fn the_oldest_entry_of_a_model_serves_it_and_an_entrys_own_name_goes_first() {
    let mut going = shared("oldest", "Ready", 0);
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z".into();
    let elsewhere = entry("other", &json!({"repo": MODEL, "storage": {"claimName": "elsewhere"}}), "Ready", 2);
    let world = World::of(vec![elsewhere, shared("old", "Ready", 1), going], Vec::new());
    let claim = |models: &str| {
        let (pod, _) = world.admitted(&pod(models));
        let claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"].as_str().unwrap().to_owned();
        (claim, pod["metadata"]["annotations"]["modelcache.dev/injected"].as_str().unwrap().to_owned())
    };
    assert_eq!(claim(MODEL), ("shared".into(), "old".into()));
    assert_eq!(claim("other"), ("elsewhere".into(), "other".into()));
    assert_eq!(claim("old, org/model"), ("shared".into(), "old".into()), "one model under two names");
}

#[test]
fn where_an_entry_is_known_for_each_model_nothing_newer_is_looked_for() {
    let world = World::of(vec![shared("mine", "Pending", 1)], vec![populating()]);
    let unsure = |models: &str| is_unsure(&serde_json::from_value::<Pod>(pod(models)).unwrap(), &world.known());
    assert!(!unsure(MODEL) && !unsure("mine"));
    assert!(unsure("org/model@v1") && unsure("org/model, other/model") && unsure("nobodys"));
    assert!(!unsure(""), "it is refused in any case");
}

#[test]
fn without_population_only_what_is_there_is_mounted() {
    let world =
        World::of(vec![shared("mine", "Ready", 1)], vec![connection(&json!({"storage": {"claimName": "models"}}))]);
    let (changed, missing) = world.admitted(&pod("org/model other/model"));
    assert_eq!(changed["spec"]["containers"][0]["volumeMounts"].as_array().unwrap().len(), 3);
    assert!(
        missing.len() == 1 && missing[0].contains("other/model") && missing[0].contains("autoPopulate"),
        "{missing:?}"
    );
    assert!(world.untouched(&pod("other/model")).contains("autoPopulate"));
    let nowhere = World::of(Vec::new(), vec![connection(&json!({"autoPopulate": true}))]);
    assert!(nowhere.untouched(&pod(MODEL)).contains("cache.storage"));
    let archive =
        json!({"source": {"archive": {"claimName": "usb", "path": "a.tar"}}, "storage": {"claimName": "shared"}});
    let unread = World::of(vec![entry("archive", &archive, "Pending", 0)], Vec::new());
    assert!(unread.untouched(&pod("archive")).contains("does not know its model yet"));
}

#[test]
fn an_archive_that_was_not_read_may_hold_another_revision_and_serves_nobody_yet() {
    let archive = |over: Value| {
        let mut spec = json!({"repo": MODEL, "storage": {"claimName": "shared"},
            "source": {"archive": {"claimName": "usb", "path": "a.tar"}}});
        spec.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        entry("archive", &spec, "Importing", 1)
    };
    let unread = World::of(vec![archive(json!({}))], Vec::new());
    for asks in [MODEL, "archive"] {
        let why = unread.untouched(&pod(asks));
        assert!(why.contains("\"archive\"") && why.contains("not read so far"), "{why}");
    }
    let why = unread.untouched(&pod("other/model"));
    assert!(!why.contains("archive"), "{why}");
    // Whoever names the revision says which it is.
    let named = World::of(vec![archive(json!({"revision": "v1"}))], Vec::new());
    named.admitted(&pod("org/model@v1"));
    let mut read = archive(json!({}));
    read["status"]["metadata"] = json!({"modelDefinition": {"key": "hf@org/model@v2"}});
    let read = World::of(vec![read], Vec::new());
    assert!(read.untouched(&pod(MODEL)).contains("no entry of model"));
    read.admitted(&pod("org/model@v2"));
    // Where entries are made, one is made, and waits for what the archive turns out to hold.
    let made = World::of(vec![archive(json!({}))], vec![populating()]);
    let (waits, _) = made.admitted(&pod(MODEL));
    assert_eq!(waits["metadata"]["annotations"]["modelcache.dev/injected"], NAME);
}

#[test]
fn whatever_cannot_be_is_left_as_it_is_and_told() {
    let world = World::of(vec![shared("mine", "Ready", 1)], vec![populating()]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut asks = pod(MODEL);
        change(&mut asks);
        asks
    };
    let fifty: Vec<_> = (0..50).map(|number| format!("org/model{number}")).collect();
    let cases: Vec<(Value, &str)> = vec![
        (pod(""), "missing or empty"),
        (pod(&fifty.join(",")), "names 50 models, and 32 is the most"),
        (pod("org/model, del/../x"), "del/../x"),
        (pod("Org/--x"), "names neither a model nor an entry"),
        (pod("org/model, org/model@v2"), "are of one repo"),
        (pod("mine, org/model@v2"), "are of one repo"),
        (pod("new/model, new/model@v2"), "are of one repo"),
        (pod("gpt2, gpt2/inner"), "would lie in that of model gpt2"),
        (with(&|pod| pod["spec"]["nodeName"] = "node-1".into()), "spec.nodeName"),
        (with(&|pod| pod["spec"]["os"] = json!({"name": "windows"})), "Windows"),
        (with(&|pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"})), "Windows"),
        (with(&|pod| pod["spec"]["ephemeralContainers"] = json!([{"name": "debug"}])), "ephemeral"),
        (
            with(&|pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "HF_HUB_CACHE", "value": "/own"}])),
            "sets HF_HUB_CACHE itself",
        ),
        (
            with(&|pod| {
                pod["spec"]["initContainers"] = json!([{"name": "first", "env": [{"name": "TRANSFORMERS_CACHE"}]}]);
            }),
            "container \"first\" sets TRANSFORMERS_CACHE",
        ),
        (
            with(&|pod| {
                pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/modelcache/hub/"}]);
            }),
            "at /modelcache/hub/",
        ),
    ];
    for (asks, word) in cases {
        let why = world.untouched(&asks);
        assert!(why.contains(word), "{why:?} does not say {word:?}");
        if word != "spec.nodeName" {
            // Later, the same is told of the Pod as it was created.
            let plan = world.decide(&[&asks], &[]);
            assert_eq!(reasons(&plan), ["NotInjected"]);
            assert!(plan.said[0].notice.message.contains(word), "{:?}", plan.said);
        }
    }
}

#[test]
fn a_folder_that_only_begins_like_ours_is_no_conflict() {
    let world = World::of(Vec::new(), vec![populating()]);
    let mut asks = pod(MODEL);
    asks["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/modelcache-data"}]);
    world.admitted(&asks);
}

#[test]
fn the_copy_of_an_injected_pod_is_left_alone_and_nothing_is_said() {
    let world = World::of(Vec::new(), vec![populating()]);
    let (mut copy, _) = world.admitted(&pod(MODEL));
    assert!(world.untouched(&copy).contains("copy"));
    copy["spec"]["schedulingGates"] = json!([]);
    assert_eq!(world.decide(&[&copy], &[]), PodPlan::default());
}

#[test]
fn a_pod_that_gets_some_of_its_models_is_told_which_it_does_not_get() {
    let world = World::of(vec![shared("mine", "Ready", 1)], Vec::new());
    let (pod, missing) = world.admitted(&pod("org/model, other/model"));
    assert_eq!(missing.len(), 1);
    let plan = world.decide(&[&pod], &[]);
    assert_eq!(reasons(&plan), ["NotInjected", "ModelsReady"]);
    let said = &plan.said[0].notice.message;
    assert!(said.contains("other/model") && said.contains("autoPopulate"), "{said}");
}

#[test]
fn a_missing_entry_is_made_for_the_pod_that_waits() {
    let world = World::of(Vec::new(), vec![populating()]);
    let mut asks = pod("org/model@v1");
    asks["spec"]["nodeSelector"] = json!({"gpu": "yes"});
    asks["spec"]["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}, {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
    asks["spec"]["affinity"] = json!({"podAffinity": {}, "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [],
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}], "matchFields": []}]}}});
    let (waits, _) = world.admitted(&asks);
    let plan = world.decide(&[&waits], &[]);
    assert_eq!((reasons(&plan), plan.lift), (vec!["WaitingForModels"], None));
    insta::assert_yaml_snapshot!(plan.create[0]);
}

/// What the entry says of its Jobs that is made for this Pod.
fn job_for(spec: &Value, cache: &Value) -> Value {
    let mut settings = json!({"autoPopulate": true, "storage": {"claimName": "models"}});
    settings["job"] = cache.clone();
    let world = World::of(Vec::new(), vec![connection(&settings)]);
    let mut asks = pod(MODEL);
    asks["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let (waits, _) = world.admitted(&asks);
    let plan = world.decide(&[&waits], &[]);
    json!(plan.create[0].spec.job)
}

#[test]
fn the_node_that_a_daemon_set_chose_for_one_pod_is_not_the_jobs() {
    let of_name = json!({"key": "metadata.name", "operator": "In", "values": ["node-7"]});
    let required = |terms: Value| {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    };
    assert_eq!(job_for(&required(json!([{"matchFields": [of_name]}])), &json!({})), json!(null));
    let zone = json!([{"key": "zone", "operator": "In", "values": ["a"]}]);
    let terms = json!([{"matchFields": [of_name]}, {"matchFields": [of_name], "matchExpressions": zone}]);
    let job = job_for(&required(terms), &json!({}));
    assert_eq!(job["affinity"], required(json!([{"matchExpressions": zone}]))["affinity"]);
}

#[test]
fn a_pods_placement_and_the_connections_are_not_mixed() {
    let gpu = json!({"key": "gpu", "operator": "Exists"});
    let dedicated = json!({"key": "dedicated", "operator": "Equal", "value": "cache"});
    let cache = json!({"nodeSelector": {"pool": "cache"}, "tolerations": [dedicated]});
    // The connection's nodes can be had with the connection's tolerations only.
    let job = job_for(&json!({"tolerations": [gpu]}), &cache);
    assert_eq!(job, json!({"tolerations": [gpu, dedicated]}));
    assert_eq!(job_for(&json!({"tolerations": [dedicated]}), &cache), json!({"tolerations": [dedicated]}));
    // Labels of the Pod's node, or of the connection's, and not both.
    let job = job_for(&json!({"nodeSelector": {"gpu": "yes"}}), &cache);
    assert_eq!(job, json!({"nodeSelector": {"gpu": "yes"}, "affinity": {}}));
    let zone = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}});
    let job = job_for(&json!({"affinity": zone}), &cache);
    assert_eq!(job, json!({"nodeSelector": {}, "affinity": zone}));
    assert_eq!(job_for(&json!({}), &cache), json!(null));
}

#[test]
fn the_gate_comes_off_when_all_models_are_there() {
    let world = |phase: &str, others: &str| {
        let other = entry("second", &json!({"repo": "other/model", "storage": {"claimName": "shared"}}), others, 2);
        World::of(vec![shared("mine", phase, 1), other], Vec::new())
    };
    let (mut waits, _) = world("Pending", "Pending").admitted(&pod("org/model other/model"));
    for (phase, others) in [("Downloading", "Ready"), ("Ready", "Evicted"), ("Queued", "Pending")] {
        let plan = world(phase, others).decide(&[&waits], &[]);
        assert_eq!((reasons(&plan), plan.lift), (vec!["WaitingForModels"], None), "{phase}, {others}");
    }
    let plan = world("Ready", "Ready").decide(&[&waits], &[]);
    assert_eq!((reasons(&plan), plan.lift), (vec!["ModelsReady"], Some(0)));
    assert!(plan.said.is_empty(), "it is told when the gate is off, and not while that fails");
    // Ours is found among others, which stay.
    waits["spec"]["schedulingGates"] = json!([{"name": "example.com/quota"}, {"name": "modelcache.dev/ready"}]);
    assert_eq!(world("Ready", "Ready").decide(&[&waits], &[]).lift, Some(1));
    waits["status"] = json!({"phase": "Failed"});
    assert_eq!(world("Ready", "Ready").decide(&[&waits], &[]), PodPlan::default());
}

#[test]
fn a_failure_is_told_in_the_entrys_words_and_the_gate_stays() {
    let world = |phase: &str| World::of(vec![shared("mine", phase, 1)], Vec::new());
    let (waits, _) = world("Pending").admitted(&pod(MODEL));
    let plan = world("Failed").decide(&[&waits], &[]);
    assert_eq!((reasons(&plan), plan.lift), (vec!["RepoNotFound"], None));
    assert!(plan.said[0].notice.warning && plan.said[0].notice.message.contains("the Hub has no such repo"));
    assert_eq!(world("Ready").decide(&[&waits], &[]).lift, Some(0), "a retry succeeds");
}

#[test]
fn an_entry_that_goes_or_moves_is_told() {
    let world = World::of(vec![shared("mine", "Ready", 1)], Vec::new());
    let (waits, _) = world.admitted(&pod(MODEL));
    let plan = World::of(Vec::new(), Vec::new()).decide(&[&waits], &[]);
    assert_eq!(reasons(&plan), ["NotPopulated"]);
    let (by_name, _) = world.admitted(&pod("mine"));
    let plan = World::of(Vec::new(), vec![populating()]).decide(&[&by_name], &[]);
    assert_eq!(reasons(&plan), ["EntryNotFound"], "nobody knows what it was");
    let elsewhere = entry("mine", &json!({"repo": MODEL, "storage": {"claimName": "elsewhere"}}), "Ready", 3);
    assert_eq!(reasons(&World::of(vec![elsewhere], Vec::new()).decide(&[&waits], &[])), ["EntryMoved"]);

    let populates = World::of(Vec::new(), vec![populating()]);
    let (waits, _) = populates.admitted(&pod(MODEL));
    assert_eq!(populates.decide(&[&waits], &[]).create.len(), 1);
    assert_eq!(reasons(&World::of(Vec::new(), Vec::new()).decide(&[&waits], &[])), ["NotPopulated"]);
    let moved =
        World::of(Vec::new(), vec![connection(&json!({"autoPopulate": true, "storage": {"claimName": "new"}}))]);
    assert_eq!(reasons(&moved.decide(&[&waits], &[])), ["EntryMoved"]);
    // While an entry of the name goes, its files may go with it.
    let mut going =
        entry(NAME, &json!({"repo": MODEL, "storage": {"claimName": "models", "subPath": "cache"}}), "Deleting", 0);
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z".into();
    let plan = World::of(vec![going], vec![populating()]).decide(&[&waits], &[]);
    assert_eq!((reasons(&plan), plan.create.len()), (vec!["WaitingForModels"], 0));
    // Somebody made one in the same place, under another name.
    let twin =
        entry("hers", &json!({"repo": MODEL, "storage": {"claimName": "models", "subPath": "cache"}}), "Ready", 4);
    assert_eq!(World::of(vec![twin], vec![populating()]).decide(&[&waits], &[]).lift, Some(0));
}

/// An entry in the place where an entry that is made for a Pod would be.
fn populated(name: &str, phase: &str, age: u32) -> Value {
    entry(name, &json!({"repo": MODEL, "storage": {"claimName": "models", "subPath": "cache"}}), phase, age)
}

#[test]
fn whoever_keeps_the_model_where_the_pod_mounts_it_lets_the_pod_go() {
    let (waits, _) = World::of(Vec::new(), vec![populating()]).admitted(&pod(MODEL));
    let decide = |entries| World::of(entries, vec![populating()]).decide(&[&waits], &[]);
    // An import's archive turned out to hold it; the entry that was made for the Pod is an older or a younger twin.
    for (made, age) in [("Failed", 3), ("Retrying", 1), ("Queued", 1)] {
        let plan = decide(vec![populated(NAME, made, age), populated("imported", "Ready", 2)]);
        assert_eq!((reasons(&plan), plan.lift), (vec!["ModelsReady"], Some(0)), "{made}");
    }
    // Until then nobody is alarmed by an entry that another one goes before.
    let plan = decide(vec![populated(NAME, "Failed", 3), populated("imported", "Importing", 2)]);
    assert_eq!((reasons(&plan), plan.lift), (vec!["WaitingForModels"], None));
    assert!(plan.said[0].notice.message.contains("imported"), "{:?}", plan.said);
    let mut twin = populated(NAME, "Failed", 3);
    twin["status"]["conditions"][0]["reason"] = "DuplicateEntry".into();
    let plan = decide(vec![twin, populated("imported", "Failed", 2)]);
    assert_eq!(reasons(&plan), ["RepoNotFound"], "the cause is told, and not who waits for it");
    // What is elsewhere, is of another model or goes, does not serve.
    let elsewhere = entry("other", &json!({"repo": MODEL, "storage": {"claimName": "models"}}), "Ready", 2);
    let revision = json!({"repo": MODEL, "revision": "v1", "storage": {"claimName": "models", "subPath": "cache"}});
    let mut going = populated("going", "Ready", 2);
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z".into();
    let plan = decide(vec![populated(NAME, "Failed", 3), elsewhere, entry("v1", &revision, "Ready", 2), going]);
    assert_eq!((reasons(&plan), plan.lift), (vec!["RepoNotFound"], None));
}

#[test]
fn a_lost_entrys_model_is_known_by_the_folder_that_the_pod_mounts() {
    let other = |name: &str, phase: &str| {
        entry(name, &json!({"repo": "other/model", "storage": {"claimName": "models", "subPath": "cache"}}), phase, 1)
    };
    let world = World::of(vec![populated("mine", "Pending", 1), other("theirs", "Pending")], vec![populating()]);
    let (waits, _) = world.admitted(&pod("org/model, other/model"));
    let decide = |entries| World::of(entries, vec![populating()]).decide(&[&waits], &[]);
    assert_eq!(decide(vec![populated("anew", "Ready", 4), other("theirs", "Ready")]).lift, Some(0));
    assert_eq!(decide(vec![populated("anew", "Ready", 4), other("renamed", "Ready")]).lift, Some(0));
    let plan = decide(vec![populated("anew", "Ready", 4), other("renamed", "Pending")]);
    assert!(plan.lift.is_none() && plan.said[0].notice.message.contains("renamed"), "{:?}", plan.said);
    // Nobody made it anew: that is done as for any Pod.
    let plan = decide(vec![other("theirs", "Ready")]);
    let made: Vec<_> = plan.create.iter().map(|entry| entry.metadata.name.as_deref().unwrap()).collect();
    assert_eq!((reasons(&plan), made), (vec!["WaitingForModels"], vec![NAME]));
    // An own claim has its entry's name, and so the entry must have it again.
    let own = connection(&json!({"autoPopulate": true, "storage": {"volumeClaimTemplate": {"spec": {}}}}));
    let mine = entry("mine", &json!({"repo": MODEL, "storage": {"volumeClaimTemplate": {"spec": {}}}}), "Ready", 1);
    let (waits, _) = World::of(vec![mine], Vec::new()).admitted(&pod(MODEL));
    let plan = World::of(Vec::new(), vec![own]).decide(&[&waits], &[]);
    assert_eq!(plan.create[0].metadata.name.as_deref(), Some("mine"));
    assert_eq!(reasons(&World::of(Vec::new(), vec![populating()]).decide(&[&waits], &[])), ["EntryMoved"]);
}

#[test]
fn a_claim_that_cannot_serve_all_says_so_before_the_gate_comes_off() {
    let world = World::of(vec![shared("mine", "Ready", 1)], Vec::new());
    let (one, _) = world.admitted(&pod(MODEL));
    let mut two = one.clone();
    two["metadata"]["name"] = "web-2".into();
    assert!(wait::shared_claims(&consumer(&one), &[consumer(&one)]).is_empty());
    assert!(wait::shared_claims(&consumer(&one), &[consumer(&one), consumer(&two)]).contains("shared"));
    let plan = world.decide(&[&one, &two], &[("shared", "ReadWriteOnce")]);
    assert_eq!((reasons(&plan), plan.lift), (vec!["ClaimNotShared", "ClaimNotShared", "ModelsReady"], Some(0)));
    assert!(plan.said[0].entry.is_none() && plan.said[1].entry.as_ref().unwrap().name() == "mine");
    assert!(plan.said[0].notice.message.contains("2 Pods want it, 2 of them wait"), "{:?}", plan.said[0]);
    assert_eq!(reasons(&world.decide(&[&one, &two], &[("shared", "ReadOnlyMany")])), ["ModelsReady"]);
}

#[test]
fn a_pod_that_the_webhook_never_saw_is_reported() {
    let world = World::of(vec![shared("mine", "Ready", 1)], Vec::new());
    let plan = world.decide(&[&pod(MODEL)], &[]);
    assert!(plan.said[0].notice.message.contains("the webhook was not asked"), "{:?}", plan.said);
    let mut bound = pod(MODEL);
    bound["spec"]["nodeName"] = "node-1".into();
    let plan = world.decide(&[&bound], &[]);
    assert!(plan.said[0].notice.message.contains("named its node itself"), "{:?}", plan.said);
    let none = World::of(Vec::new(), Vec::new()).decide(&[&pod(MODEL)], &[]);
    assert!(none.said[0].notice.message.contains("autoPopulate"), "{:?}", none.said);
}
