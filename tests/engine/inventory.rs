//! What a worker tells of a volume, and models that are taken from it as they are.

use crate::rig::{Rig, chosen, download_of};
use modelcache::engine::{self, EngineError, Finished, Told};
use modelcache::format::inventory::Inventory;
use modelcache::format::task::{Adopt, Task, Work};
use modelcache::ident::{ModelRef, Reason, Sha256};
use std::path::PathBuf;

/// A task of another kind, on the rig's volume.
async fn does(rig: &Rig, work: Work) -> Result<Finished, EngineError> {
    let task = Task { work, ..rig.task.clone() };
    engine::run(&task, &rig.settings, &rig.progress).await
}

async fn inventory(rig: &Rig) -> Inventory {
    match does(rig, Work::Inventory).await.unwrap().told {
        Told::Inventory(inventory) => inventory,
        other => panic!("{other:?}"),
    }
}

fn model(rig: &Rig) -> ModelRef {
    download_of(&mut rig.task.clone()).model.clone()
}

async fn adopt(rig: &Rig, manifest: Option<Sha256>) -> Result<Finished, EngineError> {
    does(rig, Work::Adopt(Adopt { model: model(rig), manifest })).await
}

/// A file of the published model.
fn published(rig: &Rig, name: &str) -> PathBuf {
    std::fs::canonicalize(rig.entry().join("model")).unwrap().join(name)
}

/// Everything below the volume, and when it was changed.
fn state(rig: &Rig) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut folders = vec![rig.volume().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.clone(), path.symlink_metadata().unwrap().modified().unwrap()));
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_inventory_tells_what_is_there_and_changes_nothing() {
    let mut rig = Rig::new().await;
    rig.task.sub_path = Some("team/a".parse().unwrap());
    let first = rig.run().await.unwrap().done;
    rig.download().model.revision = Some("v1".parse().unwrap());
    rig.run().await.unwrap();
    rig.task.volume = rig.task.volume.join("team/a");
    rig.task.sub_path = None;
    let before = state(&rig);
    let found = inventory(&rig).await;
    assert_eq!(state(&rig), before);
    let bytes: u64 = chosen().iter().map(|file| file.bytes.len() as u64).sum();
    let totals = found.totals;
    assert_eq!((totals.entries, totals.bytes, totals.shared_bytes), (2, bytes, bytes), "one snapshot, two entries");
    let room = totals.room.unwrap();
    assert!(room.capacity_bytes > room.free_bytes && room.free_bytes > 0);
    for kept in &found.entries {
        assert_eq!((kept.commit, kept.manifest), (first.commit, first.manifest.map(|manifest| manifest.sha256)));
        assert_eq!((kept.bytes, kept.shared_bytes, kept.trouble.as_ref()), (bytes, bytes, None));
    }
    std::fs::remove_file(published(&rig, "config.json")).unwrap();
    let trouble = inventory(&rig).await.entries[0].trouble.clone().unwrap();
    assert_eq!(trouble, "1 of its files are missing");
    std::fs::write(rig.entry().join("SHA256SUMS"), "nonsense").unwrap();
    let found = inventory(&rig).await;
    assert_eq!(found.entries.iter().filter(|kept| kept.commit.is_none()).count(), 1);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_and_not_made() {
    let mut rig = Rig::new().await;
    rig.task.sub_path = Some("team/a".parse().unwrap());
    for error in [does(&rig, Work::Inventory).await.unwrap_err(), adopt(&rig, None).await.unwrap_err()] {
        assert_eq!(error.reason(), Reason::FileNotFound, "{error}");
        assert!(error.to_string().contains("team/a"), "{error}");
    }
    assert_eq!(std::fs::read_dir(rig.volume()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_model_is_adopted_as_it_is_and_nobody_is_asked() {
    let mut rig = Rig::new().await;
    let downloaded = rig.run().await.unwrap();
    rig.hub().forget();
    let before = state(&rig);
    for manifest in [None, downloaded.done.manifest.map(|manifest| manifest.sha256)] {
        let adopted = adopt(&rig, manifest).await.unwrap();
        assert_eq!(adopted.metadata(), downloaded.metadata());
        assert_eq!((&adopted.done.path, adopted.done.manifest), (&downloaded.done.path, downloaded.done.manifest));
        assert_eq!((adopted.done.bytes_fetched, adopted.done.unverified), (0, None));
    }
    assert_eq!(state(&rig), before);
    assert!(rig.hub().seen().is_empty());
}

#[tokio::test]
async fn a_model_that_is_not_what_was_published_is_not_adopted() {
    let mut rig = Rig::new().await;
    let refused = async |rig: &Rig, manifest, reason: Reason, word: &str| {
        let error = adopt(rig, manifest).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    rig.run().await.unwrap();
    refused(&rig, Some(Sha256::from_bytes([7; 32])), Reason::Conflict, &"07".repeat(32)).await;
    // Of the same size, and so seen only by reading it.
    let file = published(&rig, "config.json");
    let right = std::fs::read(&file).unwrap();
    let mut wrong = right.clone();
    wrong[0] ^= 1;
    std::fs::write(&file, wrong).unwrap();
    refused(&rig, None, Reason::ChecksumMismatch, "config.json").await;
    std::fs::remove_file(&file).unwrap();
    refused(&rig, None, Reason::FileNotFound, "missing: config.json").await;
    std::fs::write(&file, right).unwrap();
    adopt(&rig, None).await.unwrap();
    rig.delete().await.unwrap();
    refused(&rig, None, Reason::FileNotFound, "org/tiny").await;
}

/// What only an archive without digests brought is no more proved on the day it is adopted.
#[tokio::test]
async fn what_was_never_proved_stays_so() {
    let mut rig = Rig::new().await;
    let manifest = rig.run().await.unwrap().done.manifest.unwrap().sha256;
    let sources = rig.volume().join(".modelcache/sources");
    let record = std::fs::read_dir(&sources).unwrap().next().unwrap().unwrap().path();
    let mut unproved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    unproved["unverified"] = "no digests".into();
    std::fs::write(sources.join("ab".repeat(32)), unproved.to_string()).unwrap();
    assert_eq!(adopt(&rig, Some(manifest)).await.unwrap().done.unverified, None, "a Hub's digests proved it");
    std::fs::remove_file(record).unwrap();
    assert_eq!(adopt(&rig, Some(manifest)).await.unwrap().done.unverified.as_deref(), Some("no digests"));
}
