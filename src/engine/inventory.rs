//! What is on a volume: its entries, and what takes its room. Nothing is written.

use super::entry::Entry;
use super::rehash::{self, Known};
use super::volume::{Dir, Kind, Volume, VolumeError};
use super::{EngineError, Finished, Told, blocking, entry};
use crate::format::inventory::{Inventory, Kept, Leftover, Totals};
use crate::format::layout;
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::{Done, Manifest};
use crate::format::sums::Sums;
use crate::format::task::Task;
use crate::ident::{Commit, EntryName, ModelRef, RelPath};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One entry.
#[derive(Debug, Clone)]
pub struct Item {
    /// The entry's folder.
    pub entry: EntryName,
    /// The model, as the folder's name says.
    pub model: ModelRef,
    /// What the entry says, or why it cannot be read.
    pub said: Result<Said, String>,
}

/// What an entry says of itself.
#[derive(Debug, Clone)]
pub struct Said {
    /// The commit.
    pub commit: Commit,
    /// Its files.
    pub manifest: Manifest,
    /// Whether all of them are there, by name and size. Only `verify` looks at their bytes.
    pub is_complete: bool,
    /// Its metadata.
    pub metadata: ModelMetadata,
}

/// Lists the entries of a volume.
pub async fn list(volume: &Path) -> Result<Vec<Item>, EngineError> {
    let path = volume.to_owned();
    blocking(move || {
        let (volume, known) = open(&path, None)?;
        known.into_iter().map(|one| item(&volume, one)).collect()
    })
    .await
}

/// Tells what is on a volume, and what takes its room.
pub async fn survey(volume: &Path) -> Result<Inventory, EngineError> {
    let path = volume.to_owned();
    blocking(move || {
        let (volume, known) = open(&path, None)?;
        count(&volume, &known)
    })
    .await
}

/// The same for a task: as much of it as a worker may say.
pub async fn run(task: &Task) -> Result<Finished, EngineError> {
    let (path, sub_path) = (task.volume.clone(), task.sub_path.clone());
    blocking(move || {
        let (volume, known) = open(&path, sub_path.as_ref())?;
        let inventory = count(&volume, &known)?.cut();
        Ok(Finished { done: Done::default(), told: Told::Inventory(inventory) })
    })
    .await
}

fn open(path: &Path, sub_path: Option<&RelPath>) -> Result<(Volume, Vec<Known>), EngineError> {
    let volume = rehash::look(path, sub_path)?;
    let known = rehash::entries(&volume, None)?;
    if known.is_empty() {
        rehash::check_cache(&volume)?;
    }
    Ok((volume, known))
}

fn item(volume: &Volume, known: Known) -> Result<Item, EngineError> {
    let Known { name, model, entry, beside: _ } = known;
    let said = match entry {
        Err(error) => Err(error.to_string()),
        Ok(entry) => {
            let bytes = entry::complete_bytes(volume, &model, &entry).map_err(EngineError::Volume)?;
            let manifest = entry.sums.manifest(bytes.or(entry.metadata.size_in_bytes).unwrap_or_default());
            Ok(Said { commit: entry.commit, manifest, is_complete: bytes.is_some(), metadata: entry.metadata })
        }
    };
    Ok(Item { entry: name, model, said })
}

fn count(volume: &Volume, known: &[Known]) -> Result<Inventory, EngineError> {
    // Each listed file once, with its size, if it is there, and how many entries list it.
    let mut files: BTreeMap<PathBuf, (Option<u64>, u32)> = BTreeMap::new();
    for place in known.iter().flat_map(places) {
        let found = match files.get(&place) {
            Some((size, listed)) => (*size, listed + 1),
            None => (size(volume.root(), &place).map_err(EngineError::Volume)?, 1),
        };
        files.insert(place, found);
    }
    let root = volume.root();
    let orphans = orphans(volume, known).map_err(EngineError::Volume)?;
    let stagings = stagings(root).map_err(EngineError::Volume)?;
    let sum = |leftovers: &[Leftover]| leftovers.iter().map(|leftover| leftover.bytes).sum();
    let bytes =
        |is: fn(u32) -> bool| files.values().filter(|(_, listed)| is(*listed)).filter_map(|(size, _)| *size).sum();
    let totals = Totals {
        entries: known.len() as u64,
        bytes: bytes(|_| true),
        shared_bytes: bytes(|listed| listed > 1),
        orphans: orphans.len() as u64,
        orphan_bytes: sum(&orphans),
        stagings: stagings.len() as u64,
        staging_bytes: sum(&stagings),
        room: root.room().map_err(EngineError::Volume)?,
    };
    let entries = known.iter().map(|one| kept(one, &files)).collect();
    Ok(Inventory { entries, orphans, stagings, totals })
}

/// One entry, with what was found of its files.
fn kept(known: &Known, files: &BTreeMap<PathBuf, (Option<u64>, u32)>) -> Kept {
    let (mut bytes, mut shared_bytes) = (0, 0);
    for (size, listed) in places(known).iter().filter_map(|place| files.get(place)) {
        let size = size.unwrap_or_default();
        bytes += size;
        shared_bytes += if *listed > 1 { size } else { 0 };
    }
    let kept =
        Kept { key: known.model.key(), commit: None, manifest: None, files: 0, bytes, shared_bytes, trouble: None };
    match &known.entry {
        Err(error) => Kept { trouble: Some(error.to_string()), ..kept },
        Ok(entry) => Kept {
            commit: Some(entry.commit),
            manifest: Some(entry.sums.digest()),
            files: entry.sums.len() as u64,
            trouble: trouble(known, entry, files),
            ..kept
        },
    }
}

/// Why an entry's own files are not all there, by names and sizes.
fn trouble(known: &Known, entry: &Entry, files: &BTreeMap<PathBuf, (Option<u64>, u32)>) -> Option<String> {
    let snapshot = known.snapshot()?;
    let sizes =
        entry.sums.iter().map(|(path, _)| files.get(&snapshot.join(path.as_path())).and_then(|(size, _)| *size));
    let sizes: Vec<_> = sizes.collect();
    let missing = sizes.iter().filter(|size| size.is_none()).count();
    let bytes: u64 = sizes.into_iter().flatten().sum();
    match entry.metadata.size_in_bytes {
        _ if entry.sums.is_empty() => Some(format!("{} lists nothing", layout::SUMS)),
        _ if missing > 0 => Some(format!("{missing} of its files are missing")),
        Some(size) if size == bytes => None,
        Some(size) => Some(format!("{} says {size} bytes, and the files have {bytes}", layout::METADATA)),
        None => Some(format!("{} does not say how many bytes there are", layout::METADATA)),
    }
}

/// Where the files are that an entry lists, in its own snapshot and in those that it keeps; each once.
fn places(known: &Known) -> BTreeSet<PathBuf> {
    let in_one = |(snapshot, sums): (PathBuf, &Sums)| {
        sums.iter().map(|(path, _)| snapshot.join(path.as_path())).collect::<Vec<_>>()
    };
    known.lists().flat_map(in_one).collect()
}

/// A file's size; none if it is not there, or cannot be opened: `verify` says more.
fn size(root: &Dir, place: &Path) -> Result<Option<u64>, VolumeError> {
    match root.open_file(place) {
        Ok(found) => Ok(found.map(|(_, size)| size)),
        Err(VolumeError::Occupied { .. } | VolumeError::Denied { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn stagings(root: &Dir) -> Result<Vec<Leftover>, VolumeError> {
    let mut found = Vec::new();
    for name in names(root, &layout::stagings())? {
        let path = layout::staging(&name.to_string_lossy());
        let (files, bytes) = all_below(root, &path)?;
        found.push(Leftover { path: shown(&path), files, bytes });
    }
    Ok(found)
}

/// The snapshots that hold files which no entry lists. Those of a repo with an entry that cannot be read are left out: nobody
/// knows what it lists.
fn orphans(volume: &Volume, known: &[Known]) -> Result<Vec<Leftover>, VolumeError> {
    let root = volume.root();
    let listed = rehash::listed(known);
    let unclear: Vec<PathBuf> =
        known.iter().filter(|one| !one.is_clear()).map(|one| layout::repo(&one.model.repo)).collect();
    let mut found = Vec::new();
    for repo in names(root, Path::new(layout::HUB))? {
        let repo = Path::new(layout::HUB).join(repo);
        if unclear.contains(&repo) {
            continue;
        }
        let snapshots = repo.join(layout::SNAPSHOTS);
        for name in names(root, &snapshots)? {
            let path = snapshots.join(name);
            let none = BTreeSet::new();
            let extra = rehash::extra(volume, &path, listed.get(&path).unwrap_or(&none))?;
            if extra.is_empty() {
                continue;
            }
            let mut bytes = 0;
            for file in &extra {
                bytes += size(root, &path.join(file))?.unwrap_or_default();
            }
            found.push(Leftover { path: shown(&path), files: extra.len() as u64, bytes });
        }
    }
    Ok(found)
}

/// The names in a folder; none if it is no folder.
fn names(root: &Dir, folder: &Path) -> Result<Vec<OsString>, VolumeError> {
    match root.kind(folder)? {
        Some(Kind::Folder) => root.open_dir(folder)?.map_or(Ok(Vec::new()), |folder| folder.list()),
        _ => Ok(Vec::new()),
    }
}

/// How many files are below a folder, and their sizes' sum.
fn all_below(root: &Dir, folder: &Path) -> Result<(u64, u64), VolumeError> {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names(root, &folder)? {
            let path = folder.join(name);
            match root.kind(&path)? {
                Some(Kind::Folder) => folders.push(path),
                Some(Kind::File) => {
                    files += 1;
                    bytes += size(root, &path)?.unwrap_or_default();
                }
                _ => {}
            }
        }
    }
    Ok((files, bytes))
}
