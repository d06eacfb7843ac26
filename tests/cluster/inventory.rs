//! What is on a volume, and entries for what is there already.

use crate::fakehub::REPO;
use crate::harness::volume::Volume;
use crate::harness::{Stage, command};
use modelcache::api::{ModelCacheEntry, ModelCacheEntryStatus, Phase};
use modelcache::ident::Reason;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// A model that no Hub has.
const MINE: &str = "me/mine";

/// `kubectl modelcache …`; the stage's Hub lives in the test's own thread.
async fn kubectl_modelcache(stage: &Stage, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    command.arg0("kubectl-modelcache").args(words).args(["-n", &stage.namespace]);
    tokio::task::spawn_blocking(move || command::run(&mut command).unwrap()).await.unwrap()
}

/// Two entries in the claim `models`, from the Hub and from an archive, whose files stay when they go.
async fn two_entries(stage: &mut Stage) -> [ModelCacheEntryStatus; 2] {
    let usb = stage.local("usb").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    std::fs::write(folder.path().join("mine/config.json"), "{}").unwrap();
    std::fs::write(folder.path().join("mine/model.safetensors"), vec![7; 3000]).unwrap();
    let mut pack = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    let archive = usb.folder.join("mine.tar");
    pack.current_dir(folder.path()).args(["pack", "mine", "--repo", MINE, "--file"]).arg(archive);
    command::run(&mut pack).unwrap();
    let storage = json!({"claimName": "models", "subPath": "cache"});
    stage.entry("tiny", json!({"repo": REPO, "storage": storage, "reclaimPolicy": "Retain"})).await;
    let source = json!({"archive": {"claimName": "usb", "path": "mine.tar"}});
    stage.entry("mine", json!({"source": source, "storage": storage, "reclaimPolicy": "Retain"})).await;
    [stage.until_ready("tiny").await.status.unwrap(), stage.until_ready("mine").await.status.unwrap()]
}

/// The inventory of the claim, as the command prints it.
async fn usage(stage: &Stage) -> Value {
    let words = ["usage", "--claim", "models", "--sub-path", "cache", "--output", "json"];
    serde_json::from_str(&kubectl_modelcache(stage, &words).await).unwrap()
}

async fn adopt(stage: &Stage, more: &[&str]) -> String {
    kubectl_modelcache(stage, &[&["adopt", "--claim", "models", "--sub-path", "cache"], more].concat()).await
}

fn of<'a>(found: &'a Value, model: &str) -> &'a Value {
    found["entries"].as_array().unwrap().iter().find(|entry| entry["model"] == model).unwrap()
}

/// The entry that `adopt` made for a model.
fn made(said: &str, model: &str) -> String {
    let line = said.lines().find(|line| line.ends_with(&format!(": {model}"))).unwrap_or_else(|| panic!("{said}"));
    line.trim_start_matches("modelcacheentry/").split(' ').next().unwrap().to_owned()
}

async fn told_lost_and_found(stage: &mut Stage, models: &Arc<Volume>) {
    let [tiny, mine] = Box::pin(two_entries(stage)).await;
    let root = models.folder.join("cache");
    let orphan = root.join("hub/models--old--one/snapshots/0123456789012345678901234567890123456789");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("weights"), vec![0; 5000]).unwrap();
    let leaked = root.join(".modelcache/staging/0123456789abcdef-leaked");
    std::fs::create_dir_all(&leaked).unwrap();
    std::fs::write(leaked.join("part"), vec![0; 1000]).unwrap();

    let found = usage(stage).await;
    assert_eq!((&of(&found, REPO)["object"], &of(&found, MINE)["object"]), (&"tiny".into(), &"mine".into()));
    assert_eq!(of(&found, REPO)["bytes"], tiny.manifest.as_ref().unwrap().bytes);
    assert_eq!((&found["totals"]["entries"], &found["totals"]["adoptable"]), (&2.into(), &0.into()));
    assert_eq!((&found["orphans"][0]["bytes"], &found["totals"]["orphanBytes"]), (&5000.into(), &5000.into()));
    assert_eq!((&found["stagings"][0]["bytes"], &found["totals"]["leaked"]), (&1000.into(), &1.into()));
    assert!(found["totals"]["freeBytes"].as_i64().unwrap() > 0, "{found}");
    let said = kubectl_modelcache(stage, &["usage"]).await;
    assert!(said.contains(REPO) && said.contains(MINE), "{said}");

    // The objects are lost, and the volume is not.
    stage.delete("tiny").await;
    stage.delete("mine").await;
    stage.hub().forget();
    let said = adopt(stage, &["--dry-run"]).await;
    assert_eq!(said.matches("would be created").count(), 2, "{said}");
    assert_eq!(stage.kubectl(&["get", "mce", "-o", "name"]), "");
    let said = adopt(stage, &[]).await;
    for (model, before) in [(REPO, tiny), (MINE, mine)] {
        let after = stage.until_ready(&made(&said, model)).await.status.unwrap();
        assert_eq!((&after.manifest, &after.commit), (&before.manifest, &before.commit));
        assert_eq!(after.metadata, before.metadata);
        assert_eq!(after.volume.unwrap().path, before.volume.unwrap().path);
    }
    assert!(stage.hub().seen().is_empty(), "not one byte is fetched");
    assert_eq!(usage(stage).await["totals"]["adoptable"], 0);
    assert_eq!(adopt(stage, &[]).await, "", "nothing is left to adopt");

    // Of the same size, and so seen only by reading it.
    let name = made(&said, REPO);
    stage.delete(&name).await;
    let file = std::fs::canonicalize(root.join("entries/org_2ftiny/model")).unwrap().join("config.json");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(made(&adopt(stage, &[REPO]).await, REPO), name, "the same model has the same name");
    stage.until_says(&name, Phase::Failed, Reason::ChecksumMismatch, &["config.json", REPO]).await;
    assert!(stage.hub().seen().is_empty());
    assert!(stage.api::<ModelCacheEntry>().get(&name).await.unwrap().status.unwrap().manifest.is_none());
}

#[tokio::test]
async fn a_folder_is_told_lost_and_found() {
    let mut stage = Stage::new("inventory-local").await;
    let models = stage.local("models").await;
    Box::pin(told_lost_and_found(&mut stage, &models)).await;
}

#[tokio::test]
async fn a_disk_is_told_lost_and_found() {
    let mut stage = Stage::new("inventory-small").await;
    let models = stage.disk("models", 64).await;
    Box::pin(told_lost_and_found(&mut stage, &models)).await;
}

#[tokio::test]
async fn a_provisioned_volume_is_told_lost_and_found() {
    let mut stage = Stage::new("inventory-dynamic").await;
    let models = stage.dynamic("models").await;
    Box::pin(told_lost_and_found(&mut stage, &models)).await;
}
