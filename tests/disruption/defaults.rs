//! What whoever installs the operator sets for entries without a connection.

use crate::chosen;
use crate::fakehub::{self, Authority, Hub};
use crate::harness::command::{program, run};
use crate::harness::volume::Volume;
use crate::harness::wait::{DEADLINE, ready};
use crate::harness::{Gate, Stage, lab, operator, shared};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::ListParams;
use modelcache::api::{ModelCacheEntry, ModelCacheEntryStatus, Phase};
use modelcache::ident::Reason;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// Values of the chart, until the end of this value.
pub(crate) struct Values {
    before: NamedTempFile,
}

impl Values {
    pub(crate) fn set(values: &[String]) -> Self {
        let before = NamedTempFile::new().unwrap();
        let mut helm = Command::new(program("helm"));
        let told =
            run(helm.args(["get", "values", "modelcache", "--namespace", &operator::namespace(), "--output=yaml"]));
        std::fs::write(before.path(), told.unwrap()).unwrap();
        upgrade(&[&["--reuse-values".to_owned()], values].concat());
        Self { before }
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        upgrade(&["--reset-values".to_owned(), format!("--values={}", self.before.path().display())]);
    }
}

fn upgrade(values: &[String]) {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/modelcache");
    let mut helm = Command::new(program("helm"));
    helm.args(["upgrade", "modelcache", chart, "--namespace", &operator::namespace(), "--wait"]);
    run(helm.args(["--force-conflicts", "--timeout=90s"]).args(values)).unwrap();
}

#[tokio::test]
async fn hub_token_and_certificates_of_the_operator_serve_entries_without_a_connection() {
    const TOKEN: &str = "hf_operatoroperator";
    let authority = Authority::new();
    let address = lab::host_address();
    let hub =
        fakehub::start_tls_at(Hub::new(fakehub::tiny_model()), &authority, address, &address.ip().to_string()).await;
    *hub.hub.token.lock().unwrap() = Some(TOKEN.to_owned());
    let mut stage = Stage::with_hub("defaults", hub).await;
    let volume = stage.local("models").await;
    stage.secret("hub", "token", TOKEN).await;
    let certificates = NamedTempFile::new().unwrap();
    std::fs::write(certificates.path(), &authority.pem).unwrap();
    let values = Values::set(&[
        format!("--set=hub.endpoint={}", stage.hub.endpoint()),
        format!("--set-file=hub.caBundle={}", certificates.path().display()),
        "--set=hub.tokenSecret.name=hub".to_owned(),
    ]);
    stage.entry("tiny", shared("models", json!({}))).await;
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());
    let maps = stage.api::<ConfigMap>().list(&ListParams::default()).await.unwrap();
    let holds = |map: &ConfigMap| {
        map.data.as_ref().and_then(|data| data.get("ca.crt")).is_some_and(|pem| pem.trim() == authority.pem.trim())
    };
    assert!(maps.items.iter().any(holds), "the certificates are there for the worker");
    stage.assert_hidden(TOKEN);
    drop(values);
    operator::until_ready(&stage.client, 1).await;
}

#[tokio::test]
async fn a_hubs_limit_holds_over_all_connections_and_over_a_restart() {
    let mut stage = Stage::new("hublimit").await;
    let volume = stage.local("models").await;
    stage.connect("other", json!({"endpoint": stage.hub.endpoint()})).await;
    let values = Values::set(&["--set=hub.maxConcurrentJobs=1,hub.limitBytesPerSecond=20M".to_owned()]);
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    let one = stage.entry("one", shared("models", json!({}))).await;
    stage.until_held("one", &gate).await;
    let task = json!(stage.jobs(&one).await.remove(0)).to_string();
    assert!(task.contains(r#"\"limitBytesPerSecond\":20000000"#), "the worker is told its part of the rate: {task}");
    let over = json!({
        "storage": {"claimName": "models", "subPath": "two"},
        "source": {"hub": {"connectionRef": {"name": "other"}}},
    });
    stage.entry("two", shared("models", over)).await;
    let waits = |status: &ModelCacheEntryStatus| {
        status.phase == Some(Phase::Queued) && ready(status).1.contains("hub.maxConcurrentJobs")
    };
    let two = stage.until("two", "in the line for the Hub", waits).await;
    operator::crash(&stage.client).await;
    // It is aware of a change, so it looked; and its place is what it was.
    stage.change("two", json!({"spec": {"job": {"labels": {"a": "b"}}}})).await;
    let generation = two.metadata.generation.unwrap() + 1;
    let aware = |status: &ModelCacheEntryStatus| status.observed_generation == Some(generation);
    let after = stage.until("two", "aware of the change", aware).await;
    assert!(waits(after.status.as_ref().unwrap()) && stage.jobs(&after).await.is_empty(), "{after:?}");
    gate.open();
    let one = stage.until_ready("one").await;
    volume.assert_holds(&one, &chosen());
    stage.until_ready("two").await;
    drop(values);
    operator::until_ready(&stage.client, 1).await;
}

#[tokio::test]
async fn an_entry_that_does_not_say_where_is_kept_where_the_operator_says() {
    let mut stage = Stage::new("storagedefault").await;
    let volume = stage.local("models").await;
    stage.entry("early", json!({"repo": fakehub::REPO, "revision": "main"})).await;
    stage.until_says("early", Phase::Pending, Reason::PVCPending, &["storage.default"]).await;
    let values = Values::set(&[r#"--set-json=storage.default={"claimName":"models","subPath":"kept"}"#.to_owned()]);
    let entry = stage.until_ready("early").await;
    let kept = entry.status.as_ref().unwrap().effective.as_ref().unwrap().storage.clone().unwrap();
    assert_eq!((kept.claim_name.as_deref(), kept.sub_path.as_deref()), (Some("models"), Some("kept")));
    volume.assert_holds(&entry, &chosen());
    drop(values);
    operator::until_ready(&stage.client, 1).await;
    // It stays where it is, and one that comes now waits.
    let spec = json!({"repo": fakehub::REPO, "revision": "v1"});
    stage.entry("late", spec).await;
    stage.until_says("late", Phase::Pending, Reason::PVCPending, &["storage.default"]).await;
    stage.delete("early").await;
    assert_eq!(std::fs::read_dir(volume.folder.join("kept/entries")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_the_chart_seeds_is_there_after_the_installation_and_is_left_alone() {
    let mut stage = Stage::new("preseed").await;
    let volume = stage.local("models").await;
    let entry = json!({"name": "seeded", "namespace": stage.namespace, "spec": shared("models", json!({}))});
    // Its namespace does not exist: it keeps no other out.
    let stray = json!({"name": "stray", "namespace": "no-such-namespace", "spec": shared("models", json!({}))});
    let preseed = json!({"entries": [stray, entry], "imports": []});
    let values = Values::set(&[format!("--set-json=preseed={preseed}")]);
    let entry = stage.until_ready("seeded").await;
    volume.assert_holds(&entry, &chosen());
    assert!(operator::log(200).contains("no-such-namespace"), "what cannot be made is told");
    drop(values);
    let after = stage.until_ready("seeded").await;
    assert_eq!(after.metadata.uid, entry.metadata.uid, "what is not seeded any more stays");
}

#[tokio::test]
async fn the_ownership_init_opens_a_volume_whose_driver_ignores_fs_group() {
    let stage = Stage::new("ownership").await;
    // The lab's provisioner makes folders that belong to root, with mode 0750.
    stage.claim("models", json!({"storageClassName": "lab-dynamic", "accessModes": ["ReadWriteOnce"]})).await;
    let volume = Volume::of(&stage.bound("models").await);
    let foreign = volume.folder.join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_says("tiny", Phase::Failed, Reason::PermissionDenied, &["ownershipInit.enabled"]).await;

    let values = Values::set(&["--set=ownershipInit.enabled=true".to_owned()]);
    stage.retry("tiny").await;
    stage
        .until_says("tiny", Phase::Provisioning, Reason::PolicyDenied, &["PodSecurity", "restricted", "runAsUser=0"])
        .await;
    stage.kubectl(&[
        "label",
        "namespace",
        &stage.namespace,
        "pod-security.kubernetes.io/enforce=baseline",
        "--overwrite",
    ]);
    stage.retry("tiny").await;
    let entry = stage.until_phase("tiny", Phase::Ready).await;
    volume.assert_holds(&entry, &chosen());
    let owner =
        |path: &std::path::Path| std::fs::symlink_metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!([owner(&volume.folder), owner(&foreign)], [(65532, 65532), (0, 0)]);

    // What another user's worker left is taken over, and the entry is removed by its new owner.
    for path in [volume.folder.clone(), volume.folder.join("hub"), volume.folder.join("entries").join("org_2ftiny")] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    stage.delete("tiny").await;
    assert_eq!(std::fs::read_dir(volume.folder.join("entries")).unwrap().count(), 0);
    assert_eq!([owner(&volume.folder.join("hub")), owner(&foreign)], [(65532, 65532), (0, 0)]);
    drop(values);
    operator::until_ready(&stage.client, 1).await;
}

#[tokio::test]
async fn who_may_sign_for_others_restores_what_they_created() {
    let stage = Stage::new("restore").await;
    let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
        "metadata": {"name": "restored", "namespace": stage.namespace, "annotations": {"modelcache.dev/created-by": "ada"}},
        "spec": {"repo": fakehub::REPO, "suspend": true, "storage": {"claimName": "none"}}});
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(object.to_string().as_bytes()).unwrap();
    let create = || {
        let mut kubectl = Command::new(program("kubectl"));
        kubectl.args(["create", "--as=restorer", "--as-group=system:masters", "-f"]).arg(file.path());
        run(&mut kubectl)
    };
    let refused = create().unwrap_err();
    assert!(refused.contains("must be restorer"), "{refused}");
    let values = Values::set(&["--set=admissionPolicy.maySignForOthers={restorer}".to_owned()]);
    // The API server hears of a policy's change a moment later.
    let deadline = Instant::now() + DEADLINE;
    while let Err(refused) = create() {
        assert!(refused.contains("must be restorer") && Instant::now() < deadline, "{refused}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let restored = stage.api::<ModelCacheEntry>().get("restored").await.unwrap();
    assert_eq!(restored.annotations().get("modelcache.dev/created-by").map(String::as_str), Some("ada"));
    drop(values);
    operator::until_ready(&stage.client, 1).await;
}
