//! A volume at the level of its rules (design 3): which files are where, and what they stand for.

use super::hub::Files;
use modelcache::format::outcome::Manifest;
use modelcache::ident::{Commit, ModelRef, RepoId, Sha256};
use sha2::Digest;
use std::collections::BTreeMap;

/// A volume.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Each cache's root, by its `subPath`.
    pub(crate) roots: BTreeMap<String, Root>,
    pub(crate) is_read_only: bool,
    pub(crate) is_full: bool,
}

/// The root of a cache.
#[derive(Debug, Default)]
pub(crate) struct Root {
    pub(crate) snapshots: BTreeMap<(RepoId, Commit), Files>,
    /// By the model's key.
    pub(crate) entries: BTreeMap<String, Published>,
    /// Entries whose deletion is not finished.
    pub(crate) trash: BTreeMap<String, Published>,
    pub(crate) stagings: BTreeMap<StagingId, Files>,
    /// Which entry a source ended in, and what it listed.
    pub(crate) sources: BTreeMap<Sha256, (ModelRef, Sha256)>,
}

/// Partial work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StagingId {
    /// Of the download of a model (its key) at a commit.
    Download(String, Commit),
    /// Of the import of an archive.
    Import(Sha256),
}

/// An entry on a volume: what its folder says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Published {
    pub(crate) model: ModelRef,
    pub(crate) commit: Commit,
    pub(crate) files: Files,
}

impl Published {
    pub(crate) fn manifest(&self) -> Manifest {
        let mut hash = sha2::Sha256::new();
        for (name, digest) in &self.files {
            hash.update(name);
            hash.update(digest.to_be_bytes());
        }
        let files = self.files.len() as u64;
        Manifest { sha256: Sha256::from_bytes(hash.finalize().into()), files, bytes: files * 1000 }
    }
}

impl Root {
    /// Whether every file of an entry is in its snapshot, with the right bytes.
    pub(crate) fn holds(&self, entry: &Published) -> bool {
        let snapshot = self.snapshots.get(&(entry.model.repo.clone(), entry.commit));
        entry.files.iter().all(|(name, digest)| snapshot.and_then(|files| files.get(name)) == Some(digest))
    }

    /// What a task's source ended in, when it is recorded and whole.
    pub(crate) fn done_before(&self, source: Sha256) -> Option<&Published> {
        let (model, manifest) = self.sources.get(&source)?;
        let entry = self.entries.get(&model.key().to_string())?;
        (entry.manifest().sha256 == *manifest && self.holds(entry)).then_some(entry)
    }

    /// Removes the download's stagings of a model, but for one.
    pub(crate) fn clear_stagings(&mut self, key: &str, except: Option<Commit>) {
        self.stagings
            .retain(|id, _| !matches!(id, StagingId::Download(of, commit) if of == key && Some(*commit) != except));
    }

    /// Finishes the deletion of an entry whose folder is in the trash, up to the removal of one file; false when nothing is left.
    pub(crate) fn finish_deletion(&mut self, key: &str) -> bool {
        let Some(gone) = self.trash.get(key).cloned() else { return false };
        if !self.entries.contains_key(key) {
            self.sources.retain(|_, (model, _)| model.key().to_string() != key);
        }
        let place = (gone.model.repo.clone(), gone.commit);
        let keepers: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.model.repo == gone.model.repo && entry.commit == gone.commit)
            .collect();
        let unlisted = |name: &&str| !keepers.iter().any(|keeper| keeper.files.contains_key(name));
        let next = self
            .snapshots
            .get(&place)
            .and_then(|there| gone.files.keys().copied().filter(|name| there.contains_key(name)).find(unlisted));
        match (next, self.snapshots.get_mut(&place)) {
            (Some(name), Some(there)) => {
                there.remove(name);
            }
            _ => {
                self.trash.remove(key);
            }
        }
        self.snapshots.retain(|_, files| !files.is_empty());
        true
    }
}
