//! A volume at the level of its rules (design 3): which files are where, and who lists them.

use super::hub::{Files, size};
use modelcache::format::outcome::{Manifest, Room};
use modelcache::ident::{Commit, ModelRef, RepoId, Sha256};
use sha2::Digest;
use std::collections::BTreeMap;

/// A volume.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Each cache's root, by its `subPath`.
    pub(crate) roots: BTreeMap<String, Root>,
    pub(crate) capacity_bytes: u64,
    pub(crate) is_read_only: bool,
    pub(crate) is_full: bool,
}

impl Disk {
    pub(crate) fn room(&self) -> Room {
        let used: u64 = self.roots.values().map(Root::bytes).sum();
        Room { free_bytes: self.capacity_bytes.saturating_sub(used), capacity_bytes: self.capacity_bytes }
    }
}

/// A list of a snapshot's files that an entry owns: which entry (its key), and the commit.
pub(crate) type Owned = (String, Commit);

/// The root of a cache.
#[derive(Debug, Default)]
pub(crate) struct Root {
    pub(crate) snapshots: BTreeMap<(RepoId, Commit), Files>,
    /// By the model's key.
    pub(crate) entries: BTreeMap<String, Published>,
    /// Entries whose deletion is not finished.
    pub(crate) trash: BTreeMap<String, Published>,
    /// Snapshots that entries had before, and keep.
    pub(crate) kept: BTreeMap<Owned, Published>,
    /// What is being published or let go of.
    pub(crate) begun: BTreeMap<Owned, Published>,
    pub(crate) stagings: BTreeMap<StagingId, Files>,
    /// Which entry a source ended in, and what it listed.
    pub(crate) sources: BTreeMap<Sha256, (ModelRef, Sha256)>,
}

/// Partial work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StagingId {
    /// Of the download of these files of a model (its key) at a commit.
    Download(String, Commit, Sha256),
    /// Of the import of an archive.
    Import(Sha256),
}

/// An entry on a volume: what its folder says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Published {
    pub(crate) model: ModelRef,
    pub(crate) commit: Commit,
    pub(crate) files: Files,
    /// When it was published, in seconds.
    pub(crate) date: i64,
}

impl Published {
    pub(crate) fn key(&self) -> String {
        self.model.key().to_string()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let mut hash = sha2::Sha256::new();
        for (name, digest) in &self.files {
            hash.update(name);
            hash.update(digest.to_be_bytes());
        }
        let bytes = self.files.iter().map(|(name, digest)| size(name, *digest)).sum();
        Manifest { sha256: Sha256::from_bytes(hash.finalize().into()), files: self.files.len() as u64, bytes }
    }

    /// The snapshot in which its files are.
    pub(crate) fn place(&self) -> (RepoId, Commit) {
        (self.model.repo.clone(), self.commit)
    }

    /// Whether it is the same but for its date.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.model, self.commit, &self.files) == (&other.model, other.commit, &other.files)
    }
}

/// What stays of the snapshots that an entry had before.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    pub(crate) older: usize,
    pub(crate) mounted: Vec<Commit>,
}

impl Root {
    fn bytes(&self) -> u64 {
        let files = self.snapshots.values().chain(self.stagings.values()).flatten();
        files.map(|(name, digest)| size(name, *digest)).sum()
    }

    /// Whether every file of an entry is in its snapshot, with the right bytes.
    pub(crate) fn holds(&self, entry: &Published) -> bool {
        let snapshot = self.snapshots.get(&entry.place());
        entry.files.iter().all(|(name, digest)| snapshot.and_then(|files| files.get(name)) == Some(digest))
    }

    /// What a task's source ended in, when it is recorded and whole.
    pub(crate) fn done_before(&self, source: Sha256) -> Option<&Published> {
        let (model, manifest) = self.sources.get(&source)?;
        let entry = self.entries.get(&model.key().to_string())?;
        (entry.manifest().sha256 == *manifest && self.holds(entry)).then_some(entry)
    }

    /// Whether the entry that is there is what this source ended in.
    pub(crate) fn is_made_of(&self, model: &ModelRef, source: Option<&Sha256>) -> bool {
        let recorded = source.and_then(|source| self.sources.get(source));
        let there = self.entries.get(&model.key().to_string()).map(|there| there.manifest().sha256);
        recorded.is_some_and(|(of, manifest)| of == model && there == Some(*manifest))
    }

    /// Removes the download's stagings of a model, but for one.
    pub(crate) fn clear_stagings(&mut self, key: &str, except: Option<&StagingId>) {
        self.stagings.retain(|id, _| !matches!(id, StagingId::Download(of, ..) if of == key) || Some(id) == except);
    }

    /// Every list of files, whoever owns it.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &Published> {
        self.entries.values().chain(self.trash.values()).chain(self.kept.values()).chain(self.begun.values())
    }

    /// Goes on with a deletion that was interrupted, up to the removal of one file; false where there is none.
    pub(crate) fn finish_deletion(&mut self, key: &str) -> bool {
        self.trash.contains_key(key) && self.tidy(key)
    }

    /// Removes what an entry owns whose folder is gone, up to the removal of one file; false when nothing is left.
    pub(crate) fn tidy(&mut self, key: &str) -> bool {
        let is_there = self.entries.contains_key(key);
        if !is_there {
            self.sources.retain(|_, (model, _)| model.key().to_string() != key);
        }
        if let Some(gone) = self.trash.get(key).cloned()
            && self.remove_one(&gone, true)
        {
            return true;
        }
        let own = |(owner, _): &&Owned| owner == key && !is_there;
        if let Some(next) = self.kept.keys().find(own).cloned() {
            let list = self.kept.remove(&next).unwrap();
            self.add_begun(list);
            return true;
        }
        if let Some(next) = self.begun.keys().find(own).cloned() {
            self.forget_begun(&next);
            return true;
        }
        self.trash.remove(key).is_some()
    }

    /// Lets go of what a published entry had before, but for what is kept, up to the removal of one file; false when nothing is
    /// left to do.
    pub(crate) fn settle(&mut self, key: &str, keep: Option<&Keep>) -> bool {
        let Some(now) = self.entries.get(key).map(|entry| entry.commit) else { return false };
        if let Some(next) = self.begun.keys().find(|(owner, _)| owner == key).cloned() {
            self.forget_begun(&next);
            return true;
        }
        let Some(keep) = keep else { return false };
        let mut kept: Vec<_> = self.kept.iter().filter(|((owner, _), _)| owner == key).collect();
        kept.sort_by_key(|((_, commit), list)| std::cmp::Reverse((list.date, commit.to_string())));
        let mut room = keep.older;
        let mut goes = |commit: &Commit| {
            let is_older = *commit != now && room > 0;
            room -= usize::from(is_older);
            !is_older && !keep.mounted.contains(commit)
        };
        let next = kept.into_iter().map(|(owned, _)| owned.clone()).find(|(_, commit)| goes(commit));
        let Some(next) = next else { return false };
        let list = self.kept.remove(&next).unwrap();
        self.add_begun(list);
        true
    }

    /// A list in addition to what is begun of that snapshot already.
    pub(crate) fn add_begun(&mut self, mut list: Published) {
        let place = (list.key(), list.commit);
        if let Some(before) = self.begun.get(&place) {
            list.files.extend(before.files.clone());
        }
        self.begun.insert(place, list);
    }

    /// The entry that is about to be replaced by another one keeps its list.
    pub(crate) fn retire(&mut self, by: &Published) {
        let key = by.key();
        let Some(mut old) = self.entries.get(&key).filter(|old| !old.is_like(by)).cloned() else { return };
        let place = (key, old.commit);
        if let Some(before) = self.kept.get(&place) {
            old.files.extend(before.files.clone());
        }
        self.kept.insert(place, old);
    }

    fn forget_begun(&mut self, at: &Owned) {
        let list = self.begun[at].clone();
        if !self.remove_one(&list, false) {
            self.begun.remove(at);
        }
    }

    /// Removes a file that only lists name which go; false where there is none. A list that is begun goes by itself, and what lies in
    /// the trash goes with all that its entry had beside it, unless it was made again since.
    fn remove_one(&mut self, gone: &Published, is_trash: bool) -> bool {
        let key = gone.key();
        let is_there = self.entries.contains_key(&key);
        let kept = self.kept.values().filter(|list| is_there || list.key() != key);
        let begun = self.begun.values().filter(|list| is_trash && is_there || list.key() != key);
        let keepers: Vec<&Published> = self
            .entries
            .values()
            .chain(kept)
            .chain(begun)
            .filter(|list| list.commit == gone.commit && list.model.repo == gone.model.repo)
            .collect();
        let Some(there) = self.snapshots.get_mut(&gone.place()) else { return false };
        let is_listed = |name: &str| keepers.iter().any(|list| list.files.contains_key(name));
        let next = gone.files.keys().copied().find(|name| there.contains_key(name) && !is_listed(name));
        next.map(|name| there.remove(name));
        if there.is_empty() {
            self.snapshots.remove(&gone.place());
        }
        next.is_some()
    }
}
