//! From `kubectl apply` to a Pod that reads the model.

use crate::fakehub::{COMMIT, REPO};
use crate::harness::wait::{holds, ready};
use crate::harness::{Gate, Stage, operator, shared, try_kubectl};
use crate::{ENTRY, chosen};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use modelcache::api::{ModelCacheEntry, Phase, condition};
use serde_json::json;

#[tokio::test]
async fn an_entry_in_a_shared_claim_is_published_and_a_pod_reads_it() {
    let mut stage = Stage::new("shared").await;
    let volume = stage.local("models").await;
    let storage = json!({"claimName": "models", "subPath": "team/a"});
    stage.entry("tiny", shared("models", json!({"storage": storage}))).await;
    let entry = stage.until_ready("tiny").await;

    let status = entry.status.as_ref().unwrap();
    assert_eq!(status.commit.as_deref(), Some(COMMIT));
    assert_eq!(status.endpoint.as_deref(), Some(stage.hub.endpoint().as_str()));
    let path = format!("team/a/entries/{ENTRY}/model");
    assert_eq!(status.volume.as_ref().unwrap().path.as_deref(), Some(path.as_str()));
    for type_ in [condition::READY, condition::STORAGE_READY, condition::TRANSFERRED, condition::VERIFIED] {
        assert!(holds(status, type_), "{type_}: {:?}", status.conditions);
    }
    volume.assert_holds(&entry, &chosen());
    let root = volume.folder.join("team/a");
    assert_eq!(std::fs::read_to_string(root.join("hub/models--org--tiny/refs/main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read_to_string(root.join("views").join(ENTRY).join("refs/main")).unwrap(), COMMIT);
    let told = stage.until_event(&entry, "Published").await;
    assert_eq!(told.type_.as_deref(), Some("Normal"));
    let job = status.attempts.as_ref().unwrap().last_job.clone().unwrap();
    stage.until_gone::<Job>(&job).await;
    let nonempty = chosen().iter().filter(|file| !file.bytes.is_empty()).count();
    assert_eq!(stage.hub().requests_for("/resolve/").len(), nonempty, "each file is fetched once");

    // The entry's `model` is a link out of its folder, so it is mounted by itself: the kubelet resolves it.
    let mount = |name: &str| json!({"name": "models", "mountPath": format!("/entry/{name}"), "readOnly": true, "subPath": format!("team/a/entries/{ENTRY}/{name}")});
    let mounts = json!([mount("model"), mount("SHA256SUMS")]);
    let said = stage.read(mounts, "cd /entry && sha256sum -c SHA256SUMS && ! touch model/new").await;
    assert_eq!(said.matches(": OK").count(), chosen().len(), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[tokio::test]
async fn an_entry_with_an_own_claim_shows_its_columns_and_takes_the_claim_along() {
    let mut stage = Stage::new("own").await;
    let volume = stage.unclaimed("models");
    let claim = json!({"storageClassName": "lab-local", "volumeName": volume.name, "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "100Mi"}}});
    let template = json!({"metadata": {"labels": {"team": "a"}}, "spec": claim});
    stage.entry("tiny", json!({"repo": REPO, "revision": "main", "storage": {"volumeClaimTemplate": template}})).await;
    let entry = stage.until_ready("tiny").await;
    volume.assert_holds(&entry, &chosen());

    let table = stage.kubectl(&["get", "mce", "-o", "wide"]);
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(
        rows[0],
        ["NAME", "MODEL", "REVISION", "PHASE", "PROGRESS", "SIZE", "AGE", "SOURCE", "CLAIM", "LAST USED", "REASON"],
        "{table}"
    );
    let endpoint = stage.hub.endpoint();
    let row = &rows[1];
    assert_eq!(row[..6], ["tiny", REPO, "main@7dbbc90", "Ready", "100%", "688.5 KiB"], "{table}");
    assert_eq!(row[7..], [&endpoint, "tiny", "Published"], "{table}");

    let claim = stage.until_is("tiny", "there", |_: &PersistentVolumeClaim| true).await;
    assert_eq!(claim.labels().get("team").map(String::as_str), Some("a"));
    assert_eq!(claim.owner_references().first().map(|owner| owner.uid.clone()), entry.uid());
    stage.kubectl(&["delete", "mce", "tiny", "--wait=false"]);
    stage.until_gone::<ModelCacheEntry>("tiny").await;
    stage.until_gone::<PersistentVolumeClaim>("tiny").await;
}

#[tokio::test]
async fn a_running_worker_is_told_of_and_has_no_power() {
    let mut stage = Stage::new("worker").await;
    stage.local("models").await;
    let gate = Gate::at(stage.hub(), "/model.safetensors", 350_000);
    stage.entry("tiny", shared("models", json!({}))).await;
    stage.until_held("tiny", &gate).await;
    let half = |status: &modelcache::api::ModelCacheEntryStatus| {
        status
            .progress
            .as_ref()
            .is_some_and(|progress| progress.bytes_done > 300_000 && progress.bytes_done < progress.bytes_total)
    };
    let entry = stage.until("tiny", "half done", half).await;
    let status = entry.status.as_ref().unwrap();
    assert_eq!(status.phase, Some(Phase::Downloading));
    assert_eq!(ready(status).0, "Downloading");
    assert!(
        holds(status, condition::STORAGE_READY) && !holds(status, condition::TRANSFERRED),
        "{:?}",
        status.conditions
    );
    assert_eq!(stage.jobs(&entry).await.len(), 1, "exactly one Job");

    let pods = stage.pods(&entry).await;
    let [pod] = pods.as_slice() else { panic!("{} Pods", pods.len()) };
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.automount_service_account_token, Some(false));
    let volumes: Vec<_> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    assert_eq!(volumes, ["volume"], "no token is mounted");
    assert_eq!(spec.security_context.as_ref().unwrap().run_as_non_root, Some(true));
    gate.open();
    stage.until_ready("tiny").await;
}

#[tokio::test]
async fn the_operator_can_read_no_secret() {
    let account = format!("system:serviceaccount:{}:modelcache", operator::namespace());
    for verb in ["get", "list", "watch"] {
        let answer = try_kubectl(&["auth", "can-i", verb, "secrets", "--all-namespaces", "--as", &account]);
        assert!(answer.is_err_and(|said| said.contains("no")), "{verb}");
    }
}
