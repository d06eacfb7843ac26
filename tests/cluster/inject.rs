//! Pods that name a model by annotation alone: what they get, what they wait for, and what they are told.

use crate::chosen;
use crate::fakehub::{COMMIT, Hub, HubFile, REPO, answer, sha256, start_at, tiny_model};
use crate::harness::command::program;
use crate::harness::pods::{deployment, entry_of, is_gated, is_in_phase, pod, populating, runs};
use crate::harness::wait::DEADLINE;
use crate::harness::{Gate, Stage, lab, operator, shared};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use modelcache::api::{ModelCacheEntry, Phase};
use modelcache::ident::{ModelRef, object_name};
use serde_json::json;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

/// What a Pod says that looks at the model in both of its places.
const LOOK: &str = "cd /modelcache/hub/models--org--tiny && cat refs/main && echo && \
    sha256sum snapshots/*/model.safetensors /modelcache/models/org/tiny/model.safetensors && \
    echo $HF_HUB_CACHE $HF_HUB_OFFLINE && (touch snapshots/x 2>/dev/null || echo read-only) && echo whole && sleep 3600";

fn weights() -> HubFile {
    chosen().into_iter().find(|file| file.path == "model.safetensors").unwrap()
}

#[tokio::test]
async fn three_replicas_name_a_model_by_annotation_alone() {
    let stage = populating("injected").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    let mut spec = runs(LOOK);
    // An init container sees the same.
    let mut first = spec["containers"][0].clone();
    first["name"] = "first".into();
    first["command"] = json!(["sh", "-c", "test -s /modelcache/models/org/tiny/config.json"]);
    spec["initContainers"] = json!([first]);
    stage.create::<Deployment>(deployment("web", 3, REPO, spec)).await;
    let name = entry_of(REPO);
    stage.until_held(&name, &gate).await;
    let held = stage.until_pods(3, "gated", is_gated).await;
    for pod in &held {
        assert!(pod.spec.as_ref().unwrap().node_name.is_none(), "a gated Pod has no node");
        assert_eq!(stage.until_event(pod, "WaitingForModels").await.type_.as_deref(), Some("Normal"));
    }
    assert!(operator::metric(&stage.client, "modelcache_gated_pods").await.is_some_and(|value| value >= 3.0));
    gate.open();
    let entry = stage.until_ready(&name).await;
    let running = stage.until_pods(3, "running", |pod| !is_gated(pod) && is_in_phase(pod, "Running")).await;
    assert_eq!(stage.hub().requests_for("/resolve/").len(), 6, "one download");
    let digest = sha256(&weights().bytes);
    for pod in &running {
        let name = pod.name_any();
        let said = stage.until_says_in_log(&name, "whole").await;
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[0], COMMIT, "{said}");
        assert!(lines[1].starts_with(&digest) && lines[2].starts_with(&digest), "{said}");
        assert_eq!(lines[3..], ["/modelcache/hub 1", "read-only", "whole"], "{said}");
        // What stays the same is told once, however often it was looked at.
        assert_eq!(stage.told(pod, "WaitingForModels").await.len(), 1);
        let once = |event: &Event| event.count.unwrap_or(1) == 1 && event.series.is_none();
        assert!(stage.told(pod, "ModelsReady").await.iter().all(once));
    }
    let by = format!("{}/default/Deployment/web", stage.namespace);
    let used = stage.until(&name, "used by three", |status| {
        status.usage.as_ref().is_some_and(|usage| usage.pods == Some(3) || usage.last_used_by.is_some())
    });
    let metadata = used.await.status.unwrap().metadata.unwrap();
    assert_eq!(metadata["lastUsedBy"], by);
    assert!(metadata["lastDssUsage"].as_i64() > metadata["downloadDate"].as_i64().or(Some(0)), "{metadata:?}");
    assert_eq!(metadata["downloadedBy"], format!("system:serviceaccount:{}:default", stage.namespace));
    assert_eq!(entry.metadata.owner_references, None, "nobody owns it");
    // One that comes later finds the model.
    stage.create::<Pod>(pod("late", REPO)).await;
    stage.until_is("late", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    assert_eq!(stage.hub().requests_for("/resolve/").len(), 6);
}

#[tokio::test]
async fn a_gated_pod_holds_nothing_of_its_node() {
    let stage = populating("holding").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    let nodes = Api::<Node>::all(stage.client.clone()).list(&ListParams::default()).await.unwrap().items;
    let memory = nodes[0].status.as_ref().unwrap().allocatable.as_ref().unwrap()["memory"].0.clone();
    let kibibytes: u64 = memory.trim_end_matches("Ki").parse().unwrap();
    // Two of these do not fit on the node.
    let more_than_half = json!({"requests": {"memory": format!("{}Ki", kibibytes * 55 / 100)}});
    let mut waits = pod("waits", REPO);
    waits["spec"]["containers"][0]["resources"] = more_than_half.clone();
    stage.create::<Pod>(waits).await;
    stage.until_held(&entry_of(REPO), &gate).await;
    let mut filler = json!({"metadata": {"name": "filler"}, "spec": runs("sleep 3600")});
    filler["spec"]["containers"][0]["resources"] = more_than_half;
    stage.create::<Pod>(filler).await;
    stage.until_is("filler", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    assert!(is_gated(&stage.api::<Pod>().get("waits").await.unwrap()));
    gate.open();
    stage
        .until_is("waits", "free to run, and without room", |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            let mut reasons = conditions.filter(|condition| condition.type_ == "PodScheduled");
            !is_gated(pod) && reasons.any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
        })
        .await;
    stage.api::<Pod>().delete("filler", &DeleteParams::default()).await.unwrap();
    stage.until_is("waits", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
}

#[tokio::test]
async fn two_pods_at_the_same_instant_get_one_entry() {
    let stage = populating("instant").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    tokio::join!(stage.create::<Pod>(pod("one", REPO)), stage.create::<Pod>(pod("other", REPO)));
    stage.until_held(&entry_of(REPO), &gate).await;
    assert_eq!(stage.api::<ModelCacheEntry>().list(&ListParams::default()).await.unwrap().items.len(), 1);
    gate.open();
    for name in ["one", "other"] {
        stage.until_is(name, "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    }
    assert_eq!(stage.hub().requests_for("/resolve/").len(), 6);
    assert_eq!(stage.api::<ModelCacheEntry>().list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_repo_that_nobody_knows_holds_the_pod_until_a_retry_succeeds() {
    let stage = populating("nobody").await;
    stage.hub().fault("/api/", usize::MAX, answer(404, &[("x-error-code", "RepoNotFound")], "{}"));
    let made = stage.create::<Pod>(pod("web", REPO)).await;
    let told = stage.until_event(&made, "RepoNotFound").await;
    assert_eq!(told.type_.as_deref(), Some("Warning"));
    assert!(told.message.as_ref().is_some_and(|message| message.contains("check the name")), "{told:?}");
    let name = entry_of(REPO);
    stage.until_phase(&name, Phase::Failed).await;
    assert!(is_gated(&stage.api::<Pod>().get("web").await.unwrap()));
    stage.hub().heal();
    stage.retry(&name).await;
    stage.until_is("web", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    assert_eq!(stage.told(&made, "RepoNotFound").await.len(), 1, "it is told once");
}

#[tokio::test]
async fn what_cannot_be_injected_runs_as_it_is_and_is_told() {
    let hub = start_at(Hub::new(tiny_model()), lab::host_address()).await;
    let stage = Stage::with_hub("untouched", hub).await;
    let unpopulated = stage.create::<Pod>(pod("unpopulated", REPO)).await;
    let mut own = pod("own", REPO);
    own["spec"]["containers"][0]["env"] = json!([{"name": "HF_HUB_CACHE", "value": "/own"}]);
    let own = stage.create::<Pod>(own).await;
    let malformed = stage.create::<Pod>(pod("malformed", "no model/at/all")).await;
    let fifty: Vec<_> = (0..50).map(|number| format!("org/model{number}")).collect();
    let many = stage.create::<Pod>(pod("many", &fifty.join(", "))).await;
    let twice = stage.create::<Pod>(pod("twice", "org/tiny, org/tiny@v1")).await;
    for (pod, word) in [
        (&unpopulated, "autoPopulate"),
        (&own, "sets HF_HUB_CACHE itself"),
        (&malformed, "model/at/all"),
        (&many, "50 models"),
        (&twice, "of one repo"),
    ] {
        assert!(!is_gated(pod) && !pod.annotations().contains_key("modelcache.dev/injected"), "{}", pod.name_any());
        assert!(
            pod.spec.as_ref().unwrap().containers[0]
                .volume_mounts
                .iter()
                .flatten()
                .all(|mount| { !mount.mount_path.starts_with("/modelcache") })
        );
        let told = stage.until_event(pod, "NotInjected").await;
        let message = told.message.unwrap_or_default();
        assert!(told.type_.as_deref() == Some("Warning") && message.contains(word), "{message}");
        stage.until_is(&pod.name_any(), "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
        assert_eq!(stage.told(pod, "NotInjected").await.len(), 1, "it is told once");
    }
    assert!(operator::metric(&stage.client, "modelcache_not_injected_pods").await.is_some_and(|value| value >= 5.0));
    assert!(stage.api::<ModelCacheEntry>().list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn without_population_an_entry_that_is_there_serves() {
    let mut stage = Stage::new("present").await;
    stage.local("models").await;
    stage.entry("mine", shared("models", json!({}))).await;
    stage.until_ready("mine").await;
    let made = stage.create::<Pod>(pod("web", "org/tiny, org/other")).await;
    assert_eq!(made.annotations()["modelcache.dev/injected"], "mine");
    stage.until_is("web", "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    assert!(stage.api::<ModelCacheEntry>().get_opt(&entry_of("org/other")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let stage = populating("dry").await;
    let object: Pod = serde_json::from_value(pod("dry", REPO)).unwrap();
    let how = PostParams { dry_run: true, ..PostParams::default() };
    let answered = stage.api::<Pod>().create(&how, &object).await.unwrap();
    assert!(is_gated(&answered), "the answer is that of a real one");
    // The one that comes after it has its entry, and so the other would have had one.
    let gate = Gate::at(stage.hub(), "/model.safetensors", 0);
    stage.create::<Pod>(pod("real", &format!("{REPO}@main"))).await;
    let named = ModelRef { repo: REPO.parse().unwrap(), revision: Some("main".parse().unwrap()) };
    stage.until_held(&object_name(&named), &gate).await;
    assert!(stage.api::<ModelCacheEntry>().get_opt(&entry_of(REPO)).await.unwrap().is_none());
    assert!(stage.api::<Pod>().get_opt("dry").await.unwrap().is_none());
    let claims = stage.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(claims.len(), 1, "only the stage's own");
    gate.open();
}

#[tokio::test]
async fn a_claim_for_one_node_says_so_before_its_pods_run() {
    let mut stage = Stage::new("onenode").await;
    let volume = stage.unclaimed("models");
    stage
        .claim(
            "models",
            json!({"storageClassName": "lab-local", "volumeName": volume.name, "accessModes": ["ReadWriteOnce"]}),
        )
        .await;
    let cache = json!({"autoPopulate": true, "storage": {"claimName": "models"}});
    stage.connect("default", json!({"endpoint": stage.hub.endpoint(), "cache": cache})).await;
    let (one, other) = (stage.create::<Pod>(pod("one", REPO)).await, stage.create::<Pod>(pod("other", REPO)).await);
    for pod in [&one, &other] {
        let told = stage.until_event(pod, "ClaimNotShared").await.message.unwrap_or_default();
        assert!(told.contains("ReadWriteOnce") && told.contains("2 Pods want it"), "{told}");
        stage.until_is(&pod.name_any(), "running", |pod: &Pod| is_in_phase(pod, "Running")).await;
    }
    let entry = stage.until_ready(&entry_of(REPO)).await;
    stage.until_event(&entry, "ClaimNotShared").await;
}

#[tokio::test]
async fn whoever_writes_an_entry_is_told_what_is_missing_still() {
    let stage = Stage::new("warned").await;
    stage.connect("strict", json!({"endpoint": stage.hub.endpoint(), "allow": {"repos": ["other/*"]}})).await;
    let apply = |name: &str, spec: serde_json::Value| {
        let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
            "metadata": {"name": name, "namespace": stage.namespace}, "spec": spec});
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(object.to_string().as_bytes()).unwrap();
        let output = Command::new(program("kubectl")).args(["apply", "-f"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let through = |name: &str| json!({"hub": {"connectionRef": {"name": name}}});
    for (name, over, words) in [
        ("unclaimed", json!({}), "claim \"models\" does not exist"),
        ("unconnected", json!({"source": through("none")}), "none"),
        ("denied", json!({"source": through("strict")}), "other/*"),
    ] {
        let mut said = apply(name, shared("models", over.clone()));
        let end = Instant::now() + DEADLINE;
        // A cluster that is too busy to be asked within a second has nobody warned.
        while said.is_empty() && Instant::now() < end {
            stage.delete(name).await;
            said = apply(name, shared("models", over.clone()));
        }
        assert!(said.contains("Warning: modelcache: ") && said.contains(words), "{name}: {said}");
    }
    // It is signed by whoever wrote it, who need not know.
    let entry = stage.api::<ModelCacheEntry>().get("unclaimed").await.unwrap();
    let signed = entry.annotations().get("modelcache.dev/created-by").cloned();
    assert!(signed.as_ref().is_some_and(|user| !user.contains("modelcache")), "{signed:?}");
    // Only what is written is looked at, and an unchanged spec is not written.
    assert_eq!(apply("unclaimed", shared("models", json!({}))), "");
}
