//! An entry that follows a branch: what is fetched, what stays, what goes.

use crate::fakehub::{COMMIT, Fault, HubFile};
use crate::rig::{Rig, chosen};
use modelcache::engine::inventory;
use modelcache::format::inventory::Inventory;
use modelcache::ident::{Commit, Reason};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn commit(letter: char) -> Commit {
    letter.to_string().repeat(40).parse().unwrap()
}

impl Rig {
    /// The branch moves to another commit, in which one file has other bytes.
    fn moves(&mut self, letter: char) -> Vec<HubFile> {
        let mut files = chosen();
        let readme = files.iter_mut().find(|file| file.path == "README.md").unwrap();
        readme.bytes = format!("# the commit {letter}\n").into_bytes();
        self.hub().files.lock().unwrap().clone_from(&files);
        self.hub().info.lock().unwrap()["sha"] = commit(letter).to_string().into();
        self.download().seen_at = Some(commit(letter));
        files
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.volume().join("hub/models--org--tiny/snapshots").join(commit)
    }

    fn snapshots(&self) -> BTreeSet<String> {
        let folder = std::fs::read_dir(self.snapshot("")).unwrap();
        folder.map(|found| found.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn usage(&self) -> Inventory {
        inventory::survey(self.volume()).await.unwrap()
    }
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

fn names(commits: &[&str]) -> BTreeSet<String> {
    commits.iter().map(|commit| (*commit).to_owned()).collect()
}

#[tokio::test]
async fn only_changed_files_are_fetched() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.hub().forget();
    let files = rig.moves('b');
    rig.download().keep = 1;
    let finished = rig.run().await.unwrap();
    rig.assert_published(&files);
    assert_eq!(rig.hub().requests_for("/resolve/").len(), 1);
    let changed = files.iter().find(|file| file.path == "README.md").unwrap();
    assert_eq!(finished.done.bytes_fetched, changed.bytes.len() as u64);
    let report = rig.progress.report(0);
    assert_eq!((report.bytes_done, report.files_done), (report.bytes_total, report.files_total));
    for path in ["model.safetensors", "config.json"] {
        let (old, new) = (rig.snapshot(COMMIT).join(path), rig.entry().join("model").join(path));
        assert_eq!(inode(&old), inode(&new), "{path} takes its room once");
    }
    assert!(rig.usage().await.orphans.is_empty(), "the old snapshot is the entry's");
}

#[tokio::test]
async fn as_many_older_snapshots_stay_as_are_kept_and_those_that_are_mounted() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.download().keep = 1;
    rig.download().mounted = vec![COMMIT.parse().unwrap()];
    for letter in ['b', 'c', 'd'] {
        let files = rig.moves(letter);
        rig.run().await.unwrap();
        rig.assert_published(&files);
    }
    let (c, d) = (commit('c').to_string(), commit('d').to_string());
    assert_eq!(rig.snapshots(), names(&[COMMIT, &c, &d]));
    // Nobody mounts the oldest any more: the same task lets it go, and asks nobody.
    rig.download().mounted.clear();
    rig.hub().forget();
    rig.run().await.unwrap();
    assert_eq!(rig.snapshots(), names(&[&c, &d]));
    rig.download().keep = 0;
    rig.run().await.unwrap();
    assert!(rig.hub().seen().is_empty());
    assert_eq!(rig.snapshots(), names(&[&d]));
    assert!(!rig.volume().join(".modelcache/kept/org_2ftiny").exists());
    rig.delete().await.unwrap();
    assert!(!rig.volume().join("hub/models--org--tiny").exists());
}

#[tokio::test]
async fn a_deletion_takes_what_was_kept_but_not_from_others() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.download().model.revision = Some("v1".parse().unwrap());
    rig.download().files.include = vec!["*.json".into()];
    rig.run().await.unwrap();
    rig.download().model.revision = None;
    rig.download().files.include.clear();
    rig.moves('b');
    rig.download().keep = 3;
    rig.run().await.unwrap();
    rig.moves('c');
    rig.run().await.unwrap();
    assert_eq!(rig.snapshots().len(), 3);
    rig.delete().await.unwrap();
    assert_eq!(rig.snapshots(), names(&[COMMIT]));
    let old = rig.snapshot(COMMIT);
    assert!(old.join("config.json").exists() && !old.join("model.safetensors").exists());
    assert!(rig.usage().await.orphans.is_empty());
}

#[tokio::test]
async fn the_reference_that_a_deletion_takes_falls_back_to_who_is_left() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.moves('b');
    rig.download().model.revision = Some("main".parse().unwrap());
    rig.run().await.unwrap();
    let reference = rig.volume().join("hub/models--org--tiny/refs/main");
    assert_eq!(std::fs::read_to_string(&reference).unwrap(), commit('b').to_string());
    rig.delete().await.unwrap();
    assert_eq!(std::fs::read_to_string(&reference).unwrap(), COMMIT);
}

#[tokio::test]
async fn wrong_bytes_in_another_snapshot_are_fetched_and_no_failure() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let damaged = rig.snapshot(COMMIT).join("model.safetensors");
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    rig.hub().forget();
    let files = rig.moves('b');
    rig.download().keep = 1;
    rig.run().await.unwrap();
    rig.assert_published(&files);
    assert!(!rig.hub().requests_for("model.safetensors").is_empty());
    assert_eq!(std::fs::read(&damaged).unwrap(), bytes, "it is nobody's to mend");
}

#[tokio::test]
async fn what_is_staged_as_a_link_is_never_written_through() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let files = rig.moves('b');
    rig.download().keep = 1;
    rig.hub().fault("README.md", usize::MAX, Fault::Cut(1));
    assert_eq!(rig.run().await.unwrap_err().reason(), Reason::HubUnavailable);
    // Now the staging has a second name of a published file, in which a bit changes: it has to be fetched into a file of its own.
    let published = rig.snapshot(COMMIT).join("model.safetensors");
    let mut bytes = std::fs::read(&published).unwrap();
    assert_eq!(std::fs::metadata(&published).unwrap().nlink(), 2);
    bytes[7] ^= 1;
    std::fs::write(&published, &bytes).unwrap();
    rig.hub().heal();
    rig.run().await.unwrap();
    rig.assert_published(&files);
    assert_eq!(std::fs::read(&published).unwrap(), bytes);
}

#[tokio::test]
async fn another_choice_of_files_leaves_no_file_without_an_owner() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.download().files.exclude = vec!["README.md".into()];
    // Where somebody mounts them by path, the files stay.
    rig.download().mounted = vec![COMMIT.parse().unwrap()];
    rig.run().await.unwrap();
    assert!(rig.snapshot(COMMIT).join("README.md").exists());
    assert!(rig.usage().await.orphans.is_empty());
    rig.download().mounted.clear();
    rig.run().await.unwrap();
    assert!(!rig.snapshot(COMMIT).join("README.md").exists());
    rig.delete().await.unwrap();
    assert!(!rig.volume().join("hub/models--org--tiny").exists());
}
