//! What is on a volume: its entries, and what takes its room. Nothing is written.

use super::rehash::{self, Known};
use super::volume::{Dir, Kind, Volume, VolumeError};
use super::{EngineError, blocking, entry};
use crate::format::layout;
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::Manifest;
use crate::format::sums::Sums;
use crate::ident::{Commit, EntryName, ModelRef};
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

/// What takes a volume's room.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// The entries, in the order of their folders.
    pub entries: Vec<Room>,
    /// The bytes of all their files; what several share counts once.
    pub bytes: u64,
    /// The bytes that more than one entry lists.
    pub shared_bytes: u64,
    /// Partial work: of tasks that run, or what killed ones left for the next run of the same model.
    pub stagings: Vec<Leftover>,
    /// Snapshots with files that no entry lists.
    pub orphans: Vec<Leftover>,
    /// What can still be written, where the file system says it.
    pub free_bytes: Option<u64>,
}

/// The room of one entry.
#[derive(Debug, Clone)]
pub struct Room {
    /// The entry's folder.
    pub entry: EntryName,
    /// The model, as the folder's name says.
    pub model: ModelRef,
    /// The bytes of its files that are there, with those of the snapshots that it keeps; none if the entry cannot be read.
    pub bytes: Option<u64>,
    /// Those of them that another entry lists too, and that stay when this one is deleted.
    pub shared_bytes: u64,
}

/// A folder with files that belong to no entry.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// Below the cache's root.
    pub path: PathBuf,
    /// How many files.
    pub files: u64,
    /// Their sizes' sum.
    pub bytes: u64,
}

/// Lists the entries of a volume.
pub async fn list(volume: &Path) -> Result<Vec<Item>, EngineError> {
    let path = volume.to_owned();
    blocking(move || {
        let (volume, known) = open(&path)?;
        known.into_iter().map(|one| item(&volume, one)).collect()
    })
    .await
}

/// Counts what takes a volume's room.
pub async fn usage(volume: &Path) -> Result<Usage, EngineError> {
    let path = volume.to_owned();
    blocking(move || {
        let (volume, known) = open(&path)?;
        count(&volume, &known)
    })
    .await
}

fn open(path: &Path) -> Result<(Volume, Vec<Known>), EngineError> {
    let volume = Volume::open(path, None).map_err(EngineError::Volume)?;
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

fn count(volume: &Volume, known: &[Known]) -> Result<Usage, EngineError> {
    // Each listed file once, with its size and how many entries list it.
    let mut files: BTreeMap<PathBuf, (u64, u32)> = BTreeMap::new();
    for place in known.iter().flat_map(places) {
        let found = match files.get(&place) {
            Some((size, listed)) => (*size, listed + 1),
            None => (size(volume.root(), &place).map_err(EngineError::Volume)?, 1),
        };
        files.insert(place, found);
    }
    let entries = known.iter().map(|one| {
        let (mut bytes, mut shared_bytes) = (0, 0);
        for (size, listed) in places(one).iter().filter_map(|place| files.get(place)) {
            bytes += size;
            shared_bytes += if *listed > 1 { *size } else { 0 };
        }
        let bytes = one.entry.is_ok().then_some(bytes);
        Room { entry: one.name.clone(), model: one.model.clone(), bytes, shared_bytes }
    });
    let is_shared = |(size, listed): &(u64, u32)| if *listed > 1 { *size } else { 0 };
    Ok(Usage {
        entries: entries.collect(),
        bytes: files.values().map(|(size, _)| size).sum(),
        shared_bytes: files.values().map(is_shared).sum(),
        stagings: stagings(volume.root()).map_err(EngineError::Volume)?,
        orphans: orphans(volume, known).map_err(EngineError::Volume)?,
        free_bytes: volume.root().room().map_err(EngineError::Volume)?.map(|room| room.free_bytes),
    })
}

/// Where the files are that an entry lists, in its own snapshot and in those that it keeps; each once.
fn places(known: &Known) -> BTreeSet<PathBuf> {
    let in_one = |(snapshot, sums): (PathBuf, &Sums)| {
        sums.iter().map(|(path, _)| snapshot.join(path.as_path())).collect::<Vec<_>>()
    };
    known.lists().flat_map(in_one).collect()
}

/// A file's size; 0 if it is not there, or cannot be opened: `verify` says more.
fn size(root: &Dir, place: &Path) -> Result<u64, VolumeError> {
    match root.open_file(place) {
        Ok(found) => Ok(found.map_or(0, |(_, size)| size)),
        Err(VolumeError::Occupied { .. } | VolumeError::Denied { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

fn stagings(root: &Dir) -> Result<Vec<Leftover>, VolumeError> {
    let mut found = Vec::new();
    for name in names(root, &layout::stagings())? {
        let path = layout::staging(&name.to_string_lossy());
        let (files, bytes) = all_below(root, &path)?;
        found.push(Leftover { path, files, bytes });
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
                bytes += size(root, &path.join(file))?;
            }
            found.push(Leftover { path, files: extra.len() as u64, bytes });
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
                    bytes += size(root, &path)?;
                }
                _ => {}
            }
        }
    }
    Ok((files, bytes))
}
