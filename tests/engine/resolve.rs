//! What a model takes, asked before there is a volume.

use crate::fakehub;
use crate::rig::{Rig, chosen, download_of};
use modelcache::format::task::{ArchivePlace, MountedFile, Question, Resolve, Work};
use modelcache::ident::Reason;
use std::path::PathBuf;

#[tokio::test]
async fn the_hub_tells_commit_files_and_bytes_without_a_volume() {
    let mut rig = Rig::new().await;
    let download = download_of(&mut rig.task).clone();
    let question = Question { model: download.model, hub: download.hub, files: download.files };
    rig.task.work = Work::Resolve(Resolve::Hub(question));
    rig.task.volume = PathBuf::new();
    let finished = rig.run().await.unwrap();
    let resolved = finished.done.resolved.clone().unwrap();
    let bytes: usize = chosen().iter().map(|file| file.bytes.len()).sum();
    assert_eq!(resolved.commit.unwrap().to_string(), fakehub::COMMIT);
    assert_eq!((resolved.files, resolved.bytes), (Some(chosen().len() as u64), bytes as u64));
    assert!(rig.hub().requests_for("/resolve/").is_empty(), "no file is asked for");
    assert_eq!(finished.metadata(), None);
}

#[tokio::test]
async fn an_archive_that_is_not_there_is_told_as_in_an_import() {
    let mut rig = Rig::new().await;
    let file = MountedFile { path: rig.place.path().join("a.tar"), origin: "a.tar in claim usb".into() };
    rig.task.work = Work::Resolve(Resolve::Archive(ArchivePlace::File(file)));
    let error = rig.run().await.unwrap_err();
    assert_eq!(error.reason(), Reason::ArchiveNotFound);
    assert!(error.to_string().contains("a.tar in claim usb"), "{error}");
}
