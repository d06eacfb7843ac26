//! The proof that a volume still holds what its entries list: every listed file is read and hashed again.
//!
//! Nothing is written, so a read-only mount will do. Files that several entries share are read once. Meant for a volume that
//! nobody writes to: an entry that is replaced meanwhile may be told as damaged, and is good at the next look.

mod read;

use super::entry::{self, Entry};
use super::owners::{self, List};
use super::progress::Progress;
use super::volume::{Kind, Volume, VolumeError};
use super::{EngineError, blocking};
use crate::format::layout;
use crate::format::sums::Sums;
use crate::ident::{Commit, EntryName, ModelRef, Reason, RelPath, RepoId, Sha256};
pub(super) use read::{Found, read_all};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verification {
    /// The entries that were looked at, in the order of their folders.
    pub entries: Vec<Checked>,
    /// How many files were read; one that several entries share counts once.
    pub files: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

/// One entry, looked at.
#[derive(Debug)]
pub struct Checked {
    /// The entry's folder.
    pub entry: EntryName,
    /// The model, as the folder's name says.
    pub model: ModelRef,
    /// The commit, if the entry could be read.
    pub commit: Option<Commit>,
    /// How many files the entry lists.
    pub files: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Files in the entry's snapshot that no entry lists: they do no harm, and nothing else is known of them.
    pub extra: Vec<String>,
}

/// Something that is wrong with an entry.
#[derive(Debug)]
pub enum Problem {
    /// A listed file holds other bytes.
    Changed {
        /// The file, below the model's folder.
        path: RelPath,
        /// What is listed.
        expected: Sha256,
        /// What its bytes are.
        found: Sha256,
        /// How many bytes there are.
        bytes: u64,
    },
    /// A listed file is not there.
    Missing {
        /// The file, below the model's folder.
        path: RelPath,
    },
    /// A listed file is there and cannot be read.
    Unreadable {
        /// The file, below the model's folder.
        path: RelPath,
        /// Why.
        error: Arc<VolumeError>,
    },
    /// The entry's own files are not in order.
    Metadata {
        /// What is wrong with them.
        why: String,
    },
}

impl Problem {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Changed { .. } => Reason::ChecksumMismatch,
            Self::Missing { .. } => Reason::FileNotFound,
            Self::Unreadable { error, .. } => error.reason(),
            Self::Metadata { .. } => Reason::Conflict,
        }
    }

    /// In one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::Missing { .. } => "missing",
            Self::Unreadable { .. } => "unreadable",
            Self::Metadata { .. } => "metadata",
        }
    }

    /// The file that is meant, below the model's folder.
    pub fn path(&self) -> Option<&RelPath> {
        match self {
            Self::Changed { path, .. } | Self::Missing { path } | Self::Unreadable { path, .. } => Some(path),
            Self::Metadata { .. } => None,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed { path, expected, found, bytes } => {
                write!(f, "{path}: expected sha256 {expected}, found {found} ({bytes} bytes)")
            }
            Self::Missing { path } => write!(f, "{path}"),
            Self::Unreadable { path, error } => write!(f, "{path}: {error}"),
            Self::Metadata { why } => f.write_str(why),
        }
    }
}

impl Verification {
    /// Everything that is wrong.
    pub fn problems(&self) -> impl Iterator<Item = (&Checked, &Problem)> {
        self.entries.iter().flat_map(|checked| checked.problems.iter().map(move |problem| (checked, problem)))
    }

    /// The gravest reason: wrong bytes before absent ones, and what may pass by itself last. None if all is well.
    pub fn reason(&self) -> Option<Reason> {
        let gravity = |reason: &Reason| match reason {
            Reason::ChecksumMismatch => 0,
            Reason::FileNotFound => 1,
            other if other.exit_code() != 1 => 2,
            _ => 3,
        };
        self.problems().map(|(_, problem)| problem.reason()).min_by_key(gravity)
    }
}

/// Verifies one entry of a volume, or all of them.
pub async fn run(
    volume: &Path,
    model: Option<&ModelRef>,
    progress: &Arc<Progress>,
) -> Result<Verification, EngineError> {
    let (path, model, progress) = (volume.to_owned(), model.cloned(), Arc::clone(progress));
    blocking(move || {
        let volume = Volume::open(&path, None).map_err(EngineError::Volume)?;
        verify(&volume, model.as_ref(), &progress)
    })
    .await
}

pub(super) fn verify(
    volume: &Volume,
    wanted: Option<&ModelRef>,
    progress: &Progress,
) -> Result<Verification, EngineError> {
    let known = entries(volume, wanted.map(|model| &model.repo))?;
    let chosen = |one: &&Known| wanted.is_none_or(|model| *model == one.model);
    if known.iter().filter(chosen).count() == 0 {
        nothing_to_verify(volume, wanted, &known)?;
    }
    let targets = targets(volume, known.iter().filter(chosen));
    let files = targets.len() as u64;
    progress.plan(files, targets.values().sum());
    let found = read_all(volume.root(), targets, progress);
    let bytes = found.values().map(Found::bytes).sum();
    let listed = listed(&known);
    let entries = known.iter().filter(chosen).map(|one| check(volume, one, &found, &listed)).collect();
    Ok(Verification { entries, files, bytes })
}

/// An entry's folder, read as far as it could be.
pub(super) struct Known {
    pub(super) name: EntryName,
    pub(super) model: ModelRef,
    pub(super) entry: Result<Entry, EngineError>,
    /// What it lists besides: snapshots that it had before, and what is being published.
    pub(super) beside: Result<Vec<List>, EngineError>,
}

impl Known {
    pub(super) fn snapshot(&self) -> Option<PathBuf> {
        self.entry.as_ref().ok().map(|entry| layout::snapshot(&self.model.repo, &entry.commit))
    }

    /// Whether all that it lists is known.
    pub(super) fn is_clear(&self) -> bool {
        self.entry.is_ok() && self.beside.is_ok()
    }

    /// All that it lists, each with the snapshot that it lies in.
    pub(super) fn lists(&self) -> impl Iterator<Item = (PathBuf, &Sums)> {
        let beside = self.beside.iter().flatten().map(|list| &list.entry);
        let all = self.entry.iter().chain(beside);
        all.map(|entry| (layout::snapshot(&self.model.repo, &entry.commit), &entry.sums))
    }
}

/// Reads the entries of a repo, or of all of them: what one lists may be in another's snapshot.
pub(super) fn entries(volume: &Volume, repo: Option<&RepoId>) -> Result<Vec<Known>, EngineError> {
    let folder = volume.root().open_dir(Path::new(layout::ENTRIES)).map_err(EngineError::Volume)?;
    let names = folder.map(|folder| folder.list()).transpose().map_err(EngineError::Volume)?.unwrap_or_default();
    let mut known = Vec::new();
    for name in names {
        // What has no entry's name is nobody's entry.
        let Some(name) = name.to_str().and_then(|name| name.parse::<EntryName>().ok()) else { continue };
        let Ok(model) = name.model() else { continue };
        if repo.is_some_and(|repo| *repo != model.repo) {
            continue;
        }
        if let Some(entry) = entry_in(volume, &name).transpose() {
            let beside = owners::beside_entry(volume, &model);
            known.push(Known { name, model, entry, beside });
        }
    }
    Ok(known)
}

/// One entry; none if the folder is none, as one that is empty or whose metadata was never written.
fn entry_in(volume: &Volume, name: &EntryName) -> Result<Option<Entry>, EngineError> {
    let folder = layout::entry(name);
    if let Some(entry) = entry::read(volume, &folder)? {
        return Ok(Some(entry));
    }
    // An entry appears and goes as a whole: a list without metadata is what is left of a damaged one.
    match volume.root().kind(&folder.join(layout::SUMS)).map_err(EngineError::Volume)? {
        None => Ok(None),
        Some(_) => Err(EngineError::Damaged {
            entry: folder.display().to_string(),
            why: format!("{} is missing", layout::METADATA),
        }),
    }
}

/// Nothing wrong was found because nothing was found: that must not pass for a proof, except on an empty cache.
fn nothing_to_verify(volume: &Volume, wanted: Option<&ModelRef>, known: &[Known]) -> Result<(), EngineError> {
    let path = volume.root().shown(Path::new(""));
    if let Some(model) = wanted {
        let others = known.iter().map(|one| one.model.to_string()).collect();
        return Err(EngineError::NotOnVolume { model: model.to_string(), path, others });
    }
    check_cache(volume)
}

/// Opens a cache to read it. Nothing is made: where its root is not there, that is an error.
pub(super) fn look(path: &Path, sub_path: Option<&RelPath>) -> Result<Volume, EngineError> {
    let missing =
        || EngineError::NoCache { path: sub_path.map_or(path.to_owned(), |below| path.join(below.as_path())) };
    Volume::look(path, sub_path).map_err(EngineError::Volume)?.ok_or_else(missing)
}

/// An error where there is neither a layout file nor an entry: a wrong path must not pass for an empty cache.
pub(super) fn check_cache(volume: &Volume) -> Result<(), EngineError> {
    match volume.root().kind(&layout::version_file()).map_err(EngineError::Volume)? {
        Some(_) => Ok(()),
        None => Err(EngineError::NoCache { path: volume.root().shown(Path::new("")) }),
    }
}

/// The files to read, by their place below the root, and their sizes. What cannot be opened is told when it is read.
fn targets<'a>(volume: &Volume, known: impl Iterator<Item = &'a Known>) -> BTreeMap<PathBuf, u64> {
    let mut targets = BTreeMap::new();
    for one in known {
        let (Some(snapshot), Ok(entry)) = (one.snapshot(), &one.entry) else { continue };
        for (path, _) in entry.sums.iter() {
            let place = snapshot.join(path.as_path());
            let opened = volume.root().open_file(&place);
            targets.insert(place, opened.ok().flatten().map_or(0, |(_, size)| size));
        }
    }
    targets
}

/// What the entries list, by snapshot. A snapshot of an entry that cannot be read is left out with its whole repo: nobody
/// knows what that entry lists.
pub(super) fn listed(known: &[Known]) -> BTreeMap<PathBuf, BTreeSet<&Path>> {
    let unclear: BTreeSet<_> = known.iter().filter(|one| !one.is_clear()).map(|one| one.model.repo.as_str()).collect();
    let mut listed: BTreeMap<PathBuf, BTreeSet<&Path>> = BTreeMap::new();
    for one in known.iter().filter(|one| !unclear.contains(one.model.repo.as_str())) {
        for (snapshot, sums) in one.lists() {
            listed.entry(snapshot).or_default().extend(sums.iter().map(|(path, _)| path.as_path()));
        }
    }
    listed
}

fn check(
    volume: &Volume,
    one: &Known,
    found: &BTreeMap<PathBuf, Found>,
    listed: &BTreeMap<PathBuf, BTreeSet<&Path>>,
) -> Checked {
    let (entry, snapshot) = match (&one.entry, one.snapshot()) {
        (Ok(entry), Some(snapshot)) => (entry, snapshot),
        (read, _) => {
            let why = match read {
                Err(EngineError::Damaged { why, .. }) => why.clone(),
                read => read.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            };
            let problems = vec![Problem::Metadata { why }];
            let (entry, model) = (one.name.clone(), one.model.clone());
            return Checked { entry, model, commit: None, files: 0, problems, extra: Vec::new() };
        }
    };
    let mut problems = own_files(volume, one, entry);
    let mut bytes = 0;
    for (path, expected) in entry.sums.iter() {
        let found = found.get(&snapshot.join(path.as_path())).unwrap_or(&Found::Missing);
        bytes += found.bytes();
        problems.extend(found.against(path, *expected));
    }
    if problems.is_empty() && entry.metadata.size_in_bytes.is_some_and(|size| size != bytes) {
        let size = entry.metadata.size_in_bytes.unwrap_or_default();
        let why = format!("{} says {size} bytes, and the files have {bytes}", layout::METADATA);
        problems.push(Problem::Metadata { why });
    }
    let extra = match listed.get(&snapshot) {
        Some(listed) => extra(volume, &snapshot, listed),
        None => Ok(Vec::new()),
    };
    let extra = extra.unwrap_or_else(|error| {
        problems.push(Problem::Metadata { why: error.to_string() });
        Vec::new()
    });
    Checked {
        entry: one.name.clone(),
        model: one.model.clone(),
        commit: Some(entry.commit),
        files: entry.sums.len() as u64,
        problems,
        extra,
    }
}

/// What is wrong with an entry's own files, though they can be read.
fn own_files(volume: &Volume, one: &Known, entry: &Entry) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut complain = |why: String| problems.push(Problem::Metadata { why });
    if *entry.metadata.key.model() != one.model {
        complain(format!("{} is of {}, and the folder of another model", layout::METADATA, entry.metadata.key));
    }
    if entry.sums.is_empty() {
        complain(format!("{} lists nothing", layout::SUMS));
    }
    // A Pod that mounts the model's folder goes by this link. Where the file system has none, it is left out.
    let link = layout::entry(&one.name).join(layout::MODEL);
    match volume.root().read_link(&link) {
        Ok(None) => {}
        Ok(Some(target)) if target == layout::model_link(&one.model.repo, &entry.commit) => {}
        Ok(Some(target)) => complain(format!("{} leads to {}", link.display(), target.display())),
        Err(error) => complain(error.to_string()),
    }
    problems
}

/// The files in a snapshot that no entry lists.
pub(super) fn extra(volume: &Volume, snapshot: &Path, listed: &BTreeSet<&Path>) -> Result<Vec<String>, VolumeError> {
    let Some(root) = volume.root().open_dir(snapshot)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Some(open) = root.open_dir(&folder)? else { continue };
        for name in open.list()? {
            let path = folder.join(&name);
            match open.kind(Path::new(&name))? {
                Some(Kind::Folder) => folders.push(path),
                Some(_) if !listed.contains(path.as_path()) => found.push(path.to_string_lossy().into_owned()),
                _ => {}
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}
