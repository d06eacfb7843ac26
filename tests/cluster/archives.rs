//! Models that come and go as one file.

use crate::fakehub::{self, Authority, COMMIT, Hub, HubFile, REPO, sha256};
use crate::harness::command;
use crate::harness::files::RunningFiles;
use crate::harness::volume::Volume;
use crate::harness::wait::{holds, says};
use crate::harness::{Stage, lab, shared};
use crate::{ENTRY, chosen};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use modelcache::api::export::ExportPhase;
use modelcache::api::import::ImportPhase;
use modelcache::api::{ModelCacheExport, ModelCacheImport, Phase, condition};
use modelcache::ident::Reason;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// No way out of the cluster, until the last of these values ends.
struct AirGap;

static AIR_GAPS: Mutex<usize> = Mutex::new(0);

impl AirGap {
    fn new() -> Self {
        let mut gaps = AIR_GAPS.lock().unwrap();
        if *gaps == 0 {
            command::lab(&["isolate"]);
        }
        *gaps += 1;
        Self
    }
}

impl Drop for AirGap {
    fn drop(&mut self) {
        let mut gaps = AIR_GAPS.lock().unwrap();
        *gaps -= 1;
        if *gaps == 0 {
            command::lab(&["connect"]);
        }
    }
}

/// A stage without a Hub: the claims `usb`, for archives, and `models`.
async fn offline(name: &str) -> (Stage, Arc<Volume>, Arc<Volume>) {
    let nobody = fakehub::start_at(Hub::new(Vec::new()), lab::host_address()).await;
    let mut stage = Stage::with_hub(name, nobody).await;
    let (usb, models) = (stage.local("usb").await, stage.local("models").await);
    (stage, usb, models)
}

fn from_archive(path: &str, over: Value) -> Value {
    let mut spec =
        json!({"source": {"archive": {"claimName": "usb", "path": path}}, "storage": {"claimName": "models"}});
    for (key, value) in over.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

async fn export(stage: &Stage, name: &str, format: &str, destination: Value) -> ModelCacheExport {
    let spec = json!({"entryRef": {"name": "tiny"}, "format": format, "destination": destination});
    let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheExport",
        "metadata": {"name": name}, "spec": spec});
    stage.create::<ModelCacheExport>(object).await;
    let ended = |export: &ModelCacheExport| {
        let phase = export.status.as_ref().and_then(|status| status.phase);
        matches!(phase, Some(ExportPhase::Complete | ExportPhase::Failed))
    };
    let export = stage.until_is(name, "ended", ended).await;
    let status = export.status.as_ref().unwrap();
    assert_eq!(status.phase, Some(ExportPhase::Complete), "{status:?}");
    export
}

#[tokio::test]
async fn a_model_crosses_an_air_gap_as_one_file() {
    let mut online = Stage::new("online").await;
    online.local("models").await;
    let outbox = online.local("outbox").await;
    // The worker that writes an archive needs a folder that it may write to, as for a model.
    online.entry("tiny", shared("models", json!({}))).await;
    // It waits until the entry is there.
    let place = json!({"claimName": "outbox", "path": "tiny.tar.zst"});
    let written = export(&online, "send", "TarZst", place).await;
    let archive = written.status.as_ref().unwrap().archive.clone().unwrap();
    let bytes = std::fs::read(outbox.folder.join("tiny.tar.zst")).unwrap();
    assert_eq!((archive.sha256.clone(), archive.size_bytes), (sha256(&bytes), i64::try_from(bytes.len()).unwrap()));
    assert_eq!(archive.location, "tiny.tar.zst in claim outbox");
    assert!(!online.kubectl(&["get", "mcx", "send"]).contains("<none>"));
    assert_eq!(std::fs::read_dir(&outbox.folder).unwrap().count(), 1, "nothing is left beside the archive");

    let _gap = AirGap::new();
    let (stage, usb, models) = offline("isolated").await;
    std::fs::copy(outbox.folder.join("tiny.tar.zst"), usb.folder.join("tiny.tar.zst")).unwrap();
    let mut spec = from_archive("tiny.tar.zst", json!({}));
    spec["source"]["archive"]["sha256"] = archive.sha256.clone().into();
    stage.entry("tiny", spec).await;
    let entry = stage.until_ready("tiny").await;
    let status = entry.status.as_ref().unwrap();
    models.assert_holds(&entry, &chosen());
    assert!(holds(status, condition::VERIFIED), "{:?}", status.conditions);
    assert_eq!((status.commit.as_deref(), status.endpoint.as_deref()), (Some(COMMIT), None));
    let original = online.until_phase("tiny", Phase::Ready).await.status.unwrap().metadata.unwrap();
    assert_eq!(status.metadata.as_ref(), Some(&original), "dates and users come along");
    let row = stage.kubectl(&["get", "mce", "tiny", "-o", "wide"]);
    assert!(row.contains(REPO) && row.contains("tiny.tar.zst in claim usb"), "{row}");

    let mount = |name: &str| json!({"name": "models", "mountPath": format!("/entry/{name}"), "readOnly": true, "subPath": format!("entries/{ENTRY}/{name}")});
    let said = stage.read(json!([mount("model"), mount("SHA256SUMS")]), "cd /entry && sha256sum -c SHA256SUMS").await;
    assert_eq!(said.matches(": OK").count(), chosen().len(), "{said}");

    // The model's name was learned from the archive, and is what goes with the entry.
    stage.delete("tiny").await;
    models.assert_nothing_published();
}

/// A command on the laptop, whose Hub is the stage's and lives in the test's own thread.
async fn on_laptop(stage: &Stage, folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    command.current_dir(folder).env("HF_ENDPOINT", stage.hub.endpoint()).args(words);
    tokio::task::spawn_blocking(move || command::run(&mut command).unwrap()).await.unwrap()
}

/// docs/AIR-GAP.md, step by step; image and chart crossed the gap when the operator was installed.
#[tokio::test]
async fn the_steps_of_the_guide_lead_from_a_laptop_to_a_pod() {
    let mut stage = Stage::new("laptop").await;
    let laptop = tempfile::tempdir().unwrap();
    let laptop = laptop.path();
    on_laptop(&stage, laptop, &["download", REPO, "--volume", "models"]).await;
    on_laptop(&stage, laptop, &["export", REPO, "--volume", "models", "--file", "tiny.tar.zst"]).await;
    let digest = command::run(Command::new("sha256sum").arg("tiny.tar.zst").current_dir(laptop)).unwrap();
    let folder = laptop.join(format!("models/entries/{ENTRY}/model"));
    let copy = laptop.join("clone");
    command::run(Command::new("cp").arg("-rL").arg(&folder).arg(&copy)).unwrap();
    on_laptop(&stage, laptop, &["pack", "clone", "--repo", REPO, "--file", "packed.tar.gz"]).await;
    for archive in ["tiny.tar.zst", "packed.tar.gz"] {
        assert!(on_laptop(&stage, laptop, &["inspect", archive]).await.contains(REPO), "{archive}");
    }

    let _gap = AirGap::new();
    // From here on there is no Hub.
    stage.hub().fault("/", usize::MAX, fakehub::answer(503, &[], "the Hub is on the other side"));
    stage.hub().forget();
    let (usb, models) = (stage.local("usb").await, stage.local("models").await);
    for archive in ["tiny.tar.zst", "packed.tar.gz"] {
        std::fs::copy(laptop.join(archive), usb.folder.join(archive)).unwrap();
    }
    let mut spec = from_archive("tiny.tar.zst", json!({}));
    spec["source"]["archive"]["sha256"] = digest.split(' ').next().unwrap().into();
    stage.entry("tiny", spec).await;
    let entry = stage.until_ready("tiny").await;
    models.assert_holds(&entry, &chosen());
    let mut spec = from_archive("packed.tar.gz", json!({}));
    spec["storage"]["subPath"] = "packed".into();
    stage.entry("packed", spec).await;
    models.assert_holds(&stage.until_ready("packed").await, &chosen());
    assert!(stage.hub().seen().is_empty(), "an archive asks no Hub");

    // The same mounts as the README's: a hub cache for any client.
    let mount = |path: &str, at: &str| json!({"name": "models", "mountPath": format!("/hub/models--org--tiny/{at}"), "readOnly": true, "subPath": path});
    let mounts =
        json!([mount("hub/models--org--tiny/snapshots", "snapshots"), mount(&format!("views/{ENTRY}/refs"), "refs")]);
    let script = "cd /hub/models--org--tiny && cat snapshots/$(cat refs/main)/config.json";
    let said = stage.read(mounts, script).await;
    assert!(said.contains("model_type"), "{said}");
}

/// What the seed's documentation says to make by hand: a clone of the model's repo beside its metadata.
fn make_by_hand(folder: &Path, files: &[HubFile]) {
    let root = folder.join("work/my model");
    for file in files {
        let path = root.join("model").join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.bytes).unwrap();
    }
    std::fs::create_dir_all(root.join("model/.git/objects")).unwrap();
    std::fs::write(root.join("model/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
    let metadata = json!({"commitHash": COMMIT, "modelDefinition": {"key": format!("hf@{REPO}")}, "version": 0,
        "url": "https://hub.example/org%2Ftiny/tree/main", "downloadedBy": "ada"});
    std::fs::write(root.join("model_metadata.json"), metadata.to_string()).unwrap();
}

fn tar(folder: &Path, name: &str) {
    let mut tar = Command::new("tar");
    command::run(tar.arg("-C").arg(folder.join("work")).arg("-czf").arg(folder.join(name)).arg("my model")).unwrap();
}

#[tokio::test]
async fn an_archive_made_by_hand_is_imported_and_what_it_does_not_prove_is_said() {
    let (stage, usb, models) = offline("by-hand").await;
    make_by_hand(&usb.folder, &chosen());
    tar(&usb.folder, "hand.tar.gz");
    stage.entry("tiny", from_archive("hand.tar.gz", json!({"repo": REPO}))).await;
    let entry = stage.until_ready("tiny").await;
    let status = entry.status.as_ref().unwrap();
    models.assert_holds(&entry, &chosen());
    let (reason, message) = says(status, condition::VERIFIED);
    assert!(reason == "NoDigests" && message.contains("SHA256SUMS"), "{reason}: {message}");
    assert!(!holds(status, condition::VERIFIED));
    assert_eq!(status.metadata.as_ref().unwrap()["downloadedBy"], "ada");

    // The same archive again is no news; other bytes under the same name are.
    stage.entry("again", from_archive("hand.tar.gz", json!({}))).await;
    stage.until_says("again", Phase::Failed, Reason::DuplicateEntry, &["\"tiny\"", REPO]).await;
    let mut files = chosen();
    files[1].bytes = b"{\"other\": 1}\n".to_vec();
    make_by_hand(&usb.folder, &files);
    tar(&usb.folder, "other.tar.gz");
    stage.entry("other", from_archive("other.tar.gz", json!({}))).await;
    stage.until_says("other", Phase::Failed, Reason::Conflict, &["delete"]).await;
    models.assert_holds(&stage.until_phase("tiny", Phase::Ready).await, &chosen());
}

#[tokio::test]
async fn archives_that_are_not_what_they_should_be() {
    let (stage, usb, models) = offline("bad-archives").await;
    make_by_hand(&usb.folder, &chosen());
    tar(&usb.folder, "good.tar.gz");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec();
    let files = [HubFile { path: "model.safetensors".into(), bytes: pointer, lfs: false }];
    make_by_hand(&usb.folder, &files);
    tar(&usb.folder, "pointer.tar.gz");
    std::fs::write(usb.folder.join("noise.tar"), [7; 4096]).unwrap();
    let entry = async |name: &str, path: &str, over: Value| {
        let mut spec = from_archive(path, over);
        spec["storage"]["subPath"] = name.into();
        stage.entry(name, spec).await;
    };
    entry("absent", "absent.tar", json!({})).await;
    entry("pointer", "pointer.tar.gz", json!({})).await;
    entry("noise", "noise.tar", json!({})).await;
    entry("mismatch", "good.tar.gz", json!({"repo": "org/other"})).await;
    let digest = "ab".repeat(32);
    let sha = json!({"source": {"archive": {"claimName": "usb", "path": "good.tar.gz", "sha256": digest}}});
    entry("digest", "good.tar.gz", sha).await;
    stage.until_says("absent", Phase::Failed, Reason::ArchiveNotFound, &["absent.tar in claim usb"]).await;
    stage.until_says("pointer", Phase::Failed, Reason::ArchiveInvalid, &["git lfs install", "model.safetensors"]).await;
    stage.until_says("noise", Phase::Failed, Reason::ArchiveInvalid, &[]).await;
    stage.until_says("mismatch", Phase::Failed, Reason::ModelMismatch, &["org/other", REPO]).await;
    stage.until_says("digest", Phase::Failed, Reason::ChecksumMismatch, &[&digest]).await;
    for name in ["absent", "pointer", "noise", "mismatch", "digest"] {
        let found = crate::harness::look::files_in(&models.folder.join(name));
        let left: Vec<_> = found.keys().filter(|path| path.as_str() != ".modelcache/layout").collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    // A claim that comes later is waited for.
    let mut spec = from_archive("good.tar.gz", json!({}));
    spec["source"]["archive"]["claimName"] = "later".into();
    stage.entry("later", spec).await;
    stage.until_says("later", Phase::Provisioning, Reason::PVCPending, &["\"later\""]).await;
}

#[tokio::test]
async fn an_archive_goes_to_a_server_and_comes_back_with_a_login() {
    const PASSWORD: &str = "hunter2hunter2";
    let authority = Authority::new();
    // `ada:hunter2hunter2`
    let server = RunningFiles::start(&authority, "Basic YWRhOmh1bnRlcjJodW50ZXIy").await;
    let mut stage = Stage::new("server").await;
    let models = stage.local("models").await;
    stage.create::<ConfigMap>(json!({"metadata": {"name": "ours"}, "data": {"ca.crt": authority.pem}})).await;
    let login = json!({"metadata": {"name": "login"}, "stringData": {"username": "ada", "password": PASSWORD}});
    stage.create::<Secret>(login).await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let original = stage.until_ready("tiny").await.status.unwrap().manifest.unwrap();

    let url = format!("{}/out/tiny.zip?signature=hush", server.address);
    let destination = json!({"url": url, "authSecretRef": {"name": "login"}});
    let spec = json!({"entryRef": {"name": "tiny"}, "format": "Zip", "destination": destination});
    let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheExport",
        "metadata": {"name": "up"}, "spec": spec});
    stage.create::<ModelCacheExport>(object).await;
    let reason = |export: &ModelCacheExport| {
        let conditions = export.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|found| found.type_ == condition::COMPLETE).map(|found| found.reason)
    };
    let untrusted = Some(Reason::TLSUntrusted.to_string());
    stage.until_is("up", "told of the certificate", |export| reason(export) == untrusted).await;
    // The namespace's connection has the certificates: mending it is a reason to try again.
    let bundle = json!({"kind": "ConfigMap", "name": "ours", "key": "ca.crt"});
    stage.connect("default", json!({"endpoint": stage.hub.endpoint(), "caBundleRef": bundle})).await;
    let written = stage.until_is("up", "complete", |export| reason(export).as_deref() == Some("Written")).await;
    let archive = written.status.unwrap().archive.unwrap();
    let sent = server.files.kept.lock().unwrap()["/out/tiny.zip"].clone();
    assert_eq!((archive.sha256.clone(), archive.location.contains("hush")), (sha256(&sent), false));

    let source = json!({"archive": {"url": url, "authSecretRef": {"name": "absent"}, "sha256": archive.sha256}});
    let storage = json!({"claimName": "models", "subPath": "back"});
    stage.entry("refused", json!({"source": source, "storage": storage})).await;
    stage.until_says("refused", Phase::Failed, Reason::SecretNotFound, &["Secret \"absent\""]).await;
    let mut source = source;
    source["archive"]["authSecretRef"]["name"] = "login".into();
    stage.entry("back", json!({"source": source, "storage": storage})).await;
    let entry = stage.until_ready("back").await;
    assert_eq!(entry.status.as_ref().unwrap().manifest.as_ref(), Some(&original));
    models.assert_holds(&entry, &chosen());
    stage.assert_hidden(PASSWORD);
}

#[tokio::test]
async fn a_folder_of_archives_is_imported_by_one_manifest() {
    let (stage, usb, models) = offline("folder").await;
    let folder = usb.folder.join("models");
    std::fs::create_dir(&folder).unwrap();
    make_by_hand(&usb.folder, &chosen());
    tar(&usb.folder, "models/good.tar.gz");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec();
    make_by_hand(&usb.folder, &[HubFile { path: "model.safetensors".into(), bytes: pointer, lfs: false }]);
    tar(&usb.folder, "models/bad.tar.gz");
    std::fs::write(folder.join("notes.txt"), "no archive").unwrap();
    let spec = json!({"source": {"claimName": "usb", "path": "models"}, "storage": {"claimName": "models"}});
    let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheImport",
        "metadata": {"name": "usb"}, "spec": spec});
    stage.create::<ModelCacheImport>(object).await;
    let counts = |import: &ModelCacheImport| {
        let status = import.status.clone().unwrap_or_default();
        (status.phase, status.found, status.ready, status.failed, status.ignored)
    };
    let half = (Some(ImportPhase::Failed), Some(2), Some(1), Some(1), Some(1));
    let import = stage.until_is("usb", "half done", |import: &ModelCacheImport| counts(import) == half).await;
    let listed = import.status.unwrap().archives;
    assert_eq!((listed[0].name.as_str(), listed[0].reason.as_deref()), ("bad.tar.gz", Some("ArchiveInvalid")));
    assert_eq!(listed[1].name, "good.tar.gz");
    let message = stage.until_says(&listed[0].entry, Phase::Failed, Reason::ArchiveInvalid, &["git lfs install"]).await;
    assert!(message.contains("model.safetensors"), "{message}");
    models.assert_holds(&stage.until_ready(&listed[1].entry).await, &chosen());
    let described = stage.kubectl(&["describe", "mci", "usb"]);
    assert!(described.contains("FilesIgnored") && described.contains("notes.txt"), "{described}");

    // The entry of what is no model goes, and the import is settled; what it made stays when it goes itself.
    stage.delete(&listed[0].entry).await;
    let whole = (Some(ImportPhase::Complete), Some(1), Some(1), Some(0), Some(1));
    stage.until_is("usb", "complete", |import: &ModelCacheImport| counts(import) == whole).await;
    stage.kubectl(&["delete", "mci", "usb"]);
    stage.until_ready(&listed[1].entry).await;
}

#[tokio::test]
async fn every_format_comes_back_as_it_went() {
    let mut stage = Stage::new("formats").await;
    let models = stage.local("models").await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let original = stage.until_ready("tiny").await.status.unwrap().manifest.unwrap();
    for format in ["Tar", "TarGz", "TarZst", "Zip"] {
        let name = format.to_lowercase();
        // Into the model's own claim: a Pod cannot mount one claim twice.
        let destination = json!({"claimName": "models", "path": format!("archives/{name}")});
        std::fs::create_dir_all(models.folder.join("archives")).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(models.folder.join("archives"), open).unwrap();
        export(&stage, &name, format, destination).await;
        let mut spec = json!({"source": {"archive": {"claimName": "models", "path": format!("archives/{name}")}}});
        spec["storage"] = json!({"claimName": "models", "subPath": name});
        stage.entry(&name, spec).await;
        let entry = stage.until_ready(&name).await;
        assert_eq!(entry.status.as_ref().unwrap().manifest.as_ref(), Some(&original), "{format}");
        models.assert_holds(&entry, &chosen());
    }
}

#[tokio::test]
async fn an_export_waits_and_says_why_it_cannot() {
    let mut stage = Stage::new("export-bad").await;
    stage.local("models").await;
    let small = stage.disk("small", 8).await;
    *stage.hub().files.lock().unwrap() =
        vec![HubFile { path: "model.safetensors".into(), bytes: fakehub::noise(9, 9_000_000), lfs: true }];
    let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheExport", "metadata": {"name": "full"},
        "spec": {"entryRef": {"name": "tiny"}, "destination": {"claimName": "small", "path": "a.tar"}}});
    stage.create::<ModelCacheExport>(object).await;
    let complete = |export: &ModelCacheExport| {
        let conditions = export.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition.type_ == condition::COMPLETE);
        found.map(|condition| (condition.reason, condition.message)).unwrap_or_default()
    };
    stage.until_is("full", "waiting", |export| complete(export).0 == "WaitsForEntry").await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let failed =
        stage.until_is("full", "out of space", |export| complete(export).0 == Reason::OutOfSpace.as_str()).await;
    assert_eq!(failed.status.as_ref().unwrap().phase, Some(ExportPhase::Failed));
    assert!(complete(&failed).1.contains("small"), "{:?}", complete(&failed));
    let left = crate::harness::look::files_in(&small.folder);
    assert!(left.is_empty(), "{:?}", left.keys());
    let described = stage.kubectl(&["describe", "mcx", "full"]);
    assert!(described.split_once("Events:").unwrap().1.contains("OutOfSpace"), "{described}");
}
