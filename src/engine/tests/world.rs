//! What must be on the volume, and the look whether it is.

use super::hub::{self, BRANCHES, Hub, REPOS};
use crate::engine::entry::{self, Entry};
use crate::engine::volume::{Volume, crash};
use crate::engine::{before, owners};
use crate::format::layout;
use crate::ident::{Commit, ModelRef, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which files of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Choice {
    All,
    Json,
    NoReadme,
}

impl Choice {
    pub(super) fn takes(self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Json => path.rsplit('.').next() == Some("json"),
            Self::NoReadme => path != "README.md",
        }
    }
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) version: u32,
    pub(super) choice: Choice,
    pub(super) date: Option<i64>,
}

/// One snapshot that an entry had before: its files and when it was the entry's.
pub(super) type Kept = BTreeMap<u32, (BTreeSet<String>, Option<i64>)>;

/// An entry, and what it has beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    pub(super) now: Option<State>,
    pub(super) kept: Kept,
}

pub(super) struct World {
    pub(super) hub: Arc<Hub>,
    pub(super) endpoint: String,
    pub(super) place: tempfile::TempDir,
    pub(super) held: BTreeMap<Key, Held>,
    /// What was done so far, and how it ended. It is said of a failure, and how to see that again.
    pub(super) history: Vec<String>,
    replay: String,
    processes: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        crash::forget(self.place.path());
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.history.join("\n"), self.replay);
        }
    }
}

pub(super) type Key = (String, Option<String>);

pub(super) fn model((repo, revision): &Key) -> ModelRef {
    ModelRef { repo: repo.parse().unwrap(), revision: revision.as_ref().map(|text| text.parse().unwrap()) }
}

/// All models that there may be.
pub(super) fn keys() -> Vec<Key> {
    let revisions = |repo: &str| {
        let named = BRANCHES.map(|branch| (repo.to_owned(), Some(branch.to_owned())));
        [(repo.to_owned(), None)].into_iter().chain(named).collect::<Vec<_>>()
    };
    REPOS.iter().flat_map(|repo| revisions(repo)).collect()
}

pub(super) fn paths(repo: &str, version: u32, choice: Choice) -> BTreeSet<String> {
    hub::files(repo, version).into_keys().filter(|path| choice.takes(path)).collect()
}

impl World {
    pub(super) fn new(replay: String) -> Self {
        // In memory, where there is such a folder: what a kill leaves is the same, and a sync costs nothing.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        std::fs::create_dir(place.path().join("volume")).unwrap();
        let (hub, endpoint) = (Arc::default(), String::new());
        Self { hub, endpoint, place, held: BTreeMap::new(), history: Vec::new(), replay, processes: 0 }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.place.path().join("volume")
    }

    /// The volume as a new process sees it, which may do so many writes.
    pub(super) fn process(&mut self, writes: usize) -> PathBuf {
        self.processes += 1;
        let link = self.place.path().join(format!("process-{}", self.processes));
        std::os::unix::fs::symlink(self.root(), &link).unwrap();
        crash::arm(&link, writes);
        link
    }

    pub(super) fn held(&self, key: &Key) -> Held {
        self.held.get(key).cloned().unwrap_or_default()
    }

    fn volume(&self) -> Volume {
        Volume::open(&self.root(), None).unwrap()
    }

    /// What an entry is on the volume now.
    pub(super) fn state(&self, key: &Key) -> Option<State> {
        let model = model(key);
        let entry = entry::read(&self.volume(), &layout::entry(&model.entry_name())).unwrap()?;
        let version = hub::version(&key.0, &entry.commit.to_string()).unwrap();
        let listed: BTreeSet<String> = entry.sums.iter().map(|(path, _)| path.to_string()).collect();
        let choices = [Choice::All, Choice::Json, Choice::NoReadme];
        let choice = choices.into_iter().find(|choice| paths(&key.0, version, *choice) == listed);
        let choice = choice.unwrap_or_else(|| panic!("{key:?} lists {listed:?}, which nobody asked for"));
        Some(State { version, choice, date: entry.metadata.download_date })
    }

    /// Whether an entry is what a source is recorded to have ended in.
    pub(super) fn is_made_of(&self, source: &Sha256, key: &Key) -> bool {
        let (volume, name) = (self.volume(), model(key).entry_name());
        let record = before::record(volume.root(), &layout::source(source)).unwrap();
        let there = entry::read(&volume, &layout::entry(&name)).unwrap();
        record.zip(there).is_some_and(|(record, there)| record.entry == name && there.sums.digest() == record.manifest)
    }

    /// What an entry keeps on the volume now.
    pub(super) fn kept(&self, key: &Key) -> Kept {
        let lists = owners::beside_entry(&self.volume(), &model(key)).unwrap();
        let kept = lists.into_iter().filter(|list| list.role == owners::Role::Kept);
        kept.map(|list| {
            let version = hub::version(&key.0, &list.entry.commit.to_string()).unwrap();
            let listed = list.entry.sums.iter().map(|(path, _)| path.to_string()).collect();
            (version, (listed, list.entry.metadata.download_date))
        })
        .collect()
    }

    /// The snapshots of a repo, of which a Pod may mount any.
    pub(super) fn commits(&self, repo: &str) -> Vec<Commit> {
        let folder = self.root().join(layout::snapshots(&repo.parse().unwrap()));
        let names = std::fs::read_dir(folder).into_iter().flatten().map(|found| found.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort_unstable();
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Every entry is exactly what it must be, and nothing that is published is anything else than the Hub's.
    pub(super) fn check(&self, settled: Option<&Key>) {
        for key in keys() {
            let held = self.held(&key);
            assert_eq!(self.state(&key), held.now, "the entry {key:?}");
            if let Some(State { version, choice, .. }) = held.now {
                self.check_files(&key, version, &paths(&key.0, version, choice));
                let link = self.root().join(layout::entry(&model(&key).entry_name())).join(layout::MODEL);
                let snapshot =
                    layout::snapshot(&key.0.parse().unwrap(), &hub::commit(&key.0, version).parse().unwrap());
                assert!(std::fs::read_link(link).unwrap().ends_with(snapshot));
                self.check_view(&key, version, settled == Some(&key));
            }
            for (version, (listed, _)) in held.kept.iter().filter(|_| held.now.is_some()) {
                self.check_files(&key, *version, listed);
            }
            let kept = self.kept(&key);
            for (version, (listed, date)) in &held.kept {
                let on_volume = kept.get(version).unwrap_or_else(|| panic!("{key:?} does not keep {version}"));
                assert!(
                    on_volume.0.is_superset(listed) && on_volume.1 == *date,
                    "{key:?} keeps of {version} {on_volume:?}"
                );
            }
            if settled == Some(&key) {
                let others = kept.keys().filter(|version| held.now.map(|now| now.version) != Some(**version));
                let others: Vec<_> = others.filter(|version| !held.kept.contains_key(version)).collect();
                assert!(others.is_empty(), "{key:?} keeps {others:?} besides");
            }
        }
        self.check_hub();
    }

    fn check_files(&self, key: &Key, version: u32, listed: &BTreeSet<String>) {
        let files = hub::files(&key.0, version);
        let commit = hub::commit(&key.0, version).parse().unwrap();
        let snapshot = self.root().join(layout::snapshot(&key.0.parse().unwrap(), &commit));
        for path in listed {
            let found = std::fs::read(snapshot.join(path));
            let found = found.unwrap_or_else(|error| panic!("{key:?} lost {path} of version {version}: {error}"));
            assert!(found == files[path].0, "{key:?} has other bytes in {path} of version {version}");
        }
    }

    /// A view says its entry's commit; between two others whatever is said is there.
    fn check_view(&self, key: &Key, version: u32, is_settled: bool) {
        let view = self.root().join(layout::view(&model(key).entry_name())).join(layout::REFS);
        let revision = key.1.clone().unwrap_or_else(|| "main".to_owned());
        let said = std::fs::read_to_string(view.join(revision)).unwrap();
        if is_settled {
            assert_eq!(said, hub::commit(&key.0, version), "the view of {key:?}");
        }
        assert!(self.commits(&key.0).contains(&said.parse().unwrap()), "the view of {key:?} leads nowhere");
    }

    /// Every file in a snapshot has the bytes that the Hub has, and is listed by somebody; every reference leads somewhere.
    fn check_hub(&self) {
        let volume = self.volume();
        for repo in REPOS {
            let mut owned: Vec<Entry> = owners::of_repo(&volume, &repo.parse().unwrap(), None)
                .unwrap()
                .into_iter()
                .map(|list| list.entry)
                .collect();
            owned.extend(self.going(&volume, repo));
            for commit in self.commits(repo) {
                let files = hub::files(repo, hub::version(repo, &commit.to_string()).unwrap());
                let snapshot = self.root().join(layout::snapshot(&repo.parse().unwrap(), &commit));
                for path in below(&snapshot) {
                    let name = path.to_str().unwrap();
                    let bytes = std::fs::read(snapshot.join(&path)).unwrap();
                    assert!(
                        files.get(name).is_some_and(|(there, _)| *there == bytes),
                        "{name} of {commit} is published"
                    );
                    let name = name.parse().unwrap();
                    let is_owned = owned.iter().any(|entry| entry.commit == commit && entry.sums.get(&name).is_some());
                    assert!(is_owned, "nobody owns {name} of {commit} of {repo}");
                }
            }
            let has_entry = |key: &Key| key.0 == repo && self.held(key).now.is_some();
            for key in keys().into_iter().filter(has_entry) {
                let revision = model(&key).revision_or_main();
                let place = self.root().join(layout::reference(&repo.parse().unwrap(), &revision));
                let Ok(said) = std::fs::read_to_string(&place) else { continue };
                assert!(self.commits(repo).contains(&said.parse().unwrap()), "{revision} of {repo} leads nowhere");
            }
        }
    }

    /// What is being deleted lies in the trash until all that it lists is gone.
    fn going(&self, volume: &Volume, repo: &str) -> Vec<Entry> {
        let folder = self.root().join(layout::stagings());
        let names = std::fs::read_dir(folder).into_iter().flatten().map(|found| found.unwrap().file_name());
        let trash = names.filter(|name| name.to_string_lossy().starts_with("deleted-"));
        let entries = trash.filter_map(|name| entry::read(volume, &layout::stagings().join(name)).ok().flatten());
        entries.filter(|entry| entry.metadata.key.model().repo.as_str() == repo).collect()
    }

    /// Nothing is left of anything.
    pub(super) fn check_empty(&self) {
        let mut left = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for found in std::fs::read_dir(self.root().join(&folder)).unwrap() {
                let found = found.unwrap();
                let path = folder.join(found.file_name());
                if found.file_type().unwrap().is_dir() {
                    folders.push(path.clone());
                }
                left.push(path);
            }
        }
        let mut may: Vec<PathBuf> =
            [layout::HUB, layout::ENTRIES, layout::VIEWS, layout::STATE].map(PathBuf::from).into();
        may.extend([
            layout::version_file(),
            layout::stagings(),
            layout::sources(),
            layout::all_kept(),
            layout::all_begun(),
        ]);
        may.push(layout::retired_views(&model(&keys()[0]).entry_name()).parent().unwrap().to_owned());
        left.retain(|path| !may.contains(path));
        assert!(left.is_empty(), "left on the volume: {left:?}");
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(at) = folders.pop() {
        for found in std::fs::read_dir(folder.join(&at)).unwrap() {
            let found = found.unwrap();
            let path = at.join(found.file_name());
            if found.file_type().unwrap().is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
