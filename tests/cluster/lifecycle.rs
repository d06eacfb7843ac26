//! Several entries in one claim, and how they go.

use crate::fakehub::{COMMIT, HubFile, noise};
use crate::harness::{Stage, shared};
use crate::{ENTRY, chosen};
use modelcache::api::Phase;
use modelcache::ident::Reason;
use serde_json::json;

const OTHER_COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The Hub's repo moves on: another commit, with another README.
fn move_on(stage: &Stage) -> Vec<HubFile> {
    stage.hub().info.lock().unwrap()["sha"] = OTHER_COMMIT.into();
    let mut files = stage.hub().files.lock().unwrap();
    let readme = files.iter_mut().find(|file| file.path == "README.md").unwrap();
    readme.bytes = noise(9, 4_000);
    files.iter().filter(|file| file.path != "pytorch_model.bin").cloned().collect()
}

#[tokio::test]
async fn deleting_one_revision_removes_exactly_its_files() {
    let mut stage = Stage::new("revisions").await;
    let volume = stage.local("models").await;
    stage.entry("old", shared("models", json!({}))).await;
    stage.until_ready("old").await;
    let newer = move_on(&stage);
    stage.entry("new", shared("models", json!({"revision": "v2"}))).await;
    let new = stage.until_ready("new").await;
    volume.assert_holds(&new, &newer);

    stage.delete("old").await;
    assert!(!volume.entry("", ENTRY).exists());
    assert!(!volume.folder.join("hub/models--org--tiny/snapshots").join(COMMIT).exists());
    volume.assert_holds(&new, &newer);
    stage.delete("new").await;
    volume.assert_nothing_published();
}

#[tokio::test]
async fn a_snapshot_that_two_entries_share_outlives_one_of_them() {
    let mut stage = Stage::new("twins").await;
    let volume = stage.local("models").await;
    stage.entry("main", shared("models", json!({}))).await;
    stage.until_ready("main").await;
    stage.hub().forget();
    stage.entry("tag", shared("models", json!({"revision": "v1"}))).await;
    let tag = stage.until_ready("tag").await;
    assert!(stage.hub().requests_for("/resolve/").is_empty(), "no file is fetched a second time");
    stage.delete("main").await;
    assert!(!volume.entry("", ENTRY).exists());
    volume.assert_holds(&tag, &chosen());
}

#[tokio::test]
async fn a_retained_model_is_found_again_without_asking_the_hub() {
    let mut stage = Stage::new("retained").await;
    let volume = stage.local("models").await;
    stage.entry("tiny", shared("models", json!({"reclaimPolicy": "Retain"}))).await;
    let first = stage.until_ready("tiny").await;
    let before = volume.assert_holds(&first, &chosen());
    stage.delete("tiny").await;
    stage.hub().forget();
    stage.entry("tiny", shared("models", json!({"reclaimPolicy": "Retain"}))).await;
    let second = stage.until_ready("tiny").await;
    assert_eq!(volume.assert_holds(&second, &chosen()), before);
    assert!(stage.hub().seen().is_empty(), "{:?}", stage.hub().seen());
}

#[tokio::test]
async fn of_two_entries_for_one_model_the_newer_waits_and_takes_over() {
    let mut stage = Stage::new("duplicate").await;
    let volume = stage.local("models").await;
    stage.entry("first", shared("models", json!({}))).await;
    stage.until_ready("first").await;
    stage.entry("second", shared("models", json!({}))).await;
    stage
        .until_says("second", Phase::Failed, Reason::DuplicateEntry, &["\"first\"", "\"models\"", "delete this one"])
        .await;
    stage.hub().forget();
    stage.delete("first").await;
    // A failure that lasts until the other one is gone is no end.
    let second = stage.until_phase("second", Phase::Ready).await;
    volume.assert_holds(&second, &chosen());
    assert!(stage.hub().requests_for("/resolve/").is_empty(), "no file is fetched a second time");
}
