//! Reading the entries that are on a volume. An entry exists exactly when its metadata does.

use super::EngineError;
use super::hash::Hasher;
use super::volume::{Kind, Volume, VolumeError};
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::METADATA_MAX_BYTES;
use crate::format::sums::{SUMS_MAX_BYTES, Sums};
use crate::format::{layout, task::Task};
use crate::ident::{Commit, EntryName, ModelRef, RelPath, Sha256};
use std::path::Path;

/// An entry as it is on the volume.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) metadata: ModelMetadata,
    pub(super) sums: Sums,
    pub(super) commit: Commit,
}

/// Reads the entry in a folder; none if there is no entry.
pub(super) fn read(volume: &Volume, folder: &Path) -> Result<Option<Entry>, EngineError> {
    let damaged = |why: String| EngineError::Damaged { entry: folder.display().to_string(), why };
    let file = |name: &str, max_bytes: usize| {
        let bytes = volume.root().read(&folder.join(name), max_bytes as u64).map_err(EngineError::Volume)?;
        let text = bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| damaged(format!("{name} is not text"))));
        text.transpose()
    };
    let Some(text) = file(layout::METADATA, METADATA_MAX_BYTES)? else { return Ok(None) };
    let metadata = ModelMetadata::parse(&text).map_err(|error| damaged(format!("{}: {error}", layout::METADATA)))?;
    let text = file(layout::SUMS, SUMS_MAX_BYTES)?.ok_or_else(|| damaged(format!("{} is missing", layout::SUMS)))?;
    let sums = Sums::parse(&text).map_err(|error| damaged(error.to_string()))?;
    let commit = metadata.commit_hash.ok_or_else(|| damaged("its metadata names no commit".to_owned()))?;
    Ok(Some(Entry { metadata, sums, commit }))
}

/// The bytes of an entry whose files are all there with the right sum of sizes; none if something is missing.
pub(super) fn complete_bytes(volume: &Volume, model: &ModelRef, entry: &Entry) -> Result<Option<u64>, VolumeError> {
    let snapshot = layout::snapshot(&model.repo, &entry.commit);
    let Some(folder) = volume.root().open_dir(&snapshot)? else { return Ok(None) };
    let mut bytes = 0;
    for (path, _) in entry.sums.iter() {
        match folder.open_file(path.as_path())? {
            Some((_, size)) => bytes += size,
            None => return Ok(None),
        }
    }
    Ok((entry.metadata.size_in_bytes == Some(bytes) && !entry.sums.is_empty()).then_some(bytes))
}

/// The digest of a file in a snapshot; none if it is not there. Its name and commit prove nothing.
pub(super) fn digest(volume: &Volume, below: &Path) -> Result<Option<Sha256>, EngineError> {
    let Some((open, _)) = volume.root().open_file(below).map_err(EngineError::Volume)? else { return Ok(None) };
    let mut hasher = Hasher::plain();
    let read = hasher.read(open);
    read.map_err(|error| EngineError::Volume(VolumeError::new("read", &volume.root().shown(below), error)))?;
    Ok(Some(hasher.finish().sha256))
}

/// The other entries of the same repo, each with what it lists.
pub(super) fn others(volume: &Volume, model: &ModelRef) -> Result<Vec<Entry>, EngineError> {
    let Some(entries) = volume.root().open_dir(Path::new(layout::ENTRIES)).map_err(EngineError::Volume)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for name in entries.list().map_err(EngineError::Volume)? {
        // What has no entry's name is nobody's entry.
        let Some(name) = name.to_str().and_then(|name| name.parse::<EntryName>().ok()) else { continue };
        if name == model.entry_name() || name.model().is_ok_and(|other| other.repo != model.repo) {
            continue;
        }
        found.extend(read(volume, &layout::entry(&name))?);
    }
    Ok(found)
}

/// Refuses what a publication of the model could not be done with: folders that this user may not write into, and an entry's folder
/// or view that holds what modelcache did not put there, as a publication replaces both.
pub(super) fn check_place(volume: &Volume, model: &ModelRef) -> Result<(), VolumeError> {
    let name = &model.entry_name();
    // A folder that changes its place is written to itself.
    for folder in [layout::repo(&model.repo), layout::snapshots(&model.repo), layout::references(&model.repo)]
        .into_iter()
        .chain([layout::entry(name), layout::view(name)])
    {
        volume.root().check_writable(&folder)?;
    }
    let known = |folder: &Path, names: &[&str]| -> Result<(), VolumeError> {
        let Some(dir) = volume.root().open_dir(folder)? else { return Ok(()) };
        for found in dir.list()? {
            let below = folder.join(&found);
            let is_model_folder = found == layout::MODEL && volume.root().kind(&below)? == Some(Kind::Folder);
            if is_model_folder || !found.to_str().is_some_and(|found| names.contains(&found)) {
                let why = "it would be lost when the entry is replaced".to_owned();
                return Err(VolumeError::Occupied { verb: "keep", path: volume.root().shown(&below), why });
            }
        }
        Ok(())
    };
    known(&layout::entry(name), &[layout::MODEL, layout::METADATA, layout::SUMS])?;
    known(&layout::view(name), &[layout::REFS])
}

/// The model's folder below the volume's root, `subPath` included.
pub(super) fn published_path(task: &Task, name: &EntryName) -> Option<RelPath> {
    let path = layout::entry(name).join(layout::MODEL);
    let path = task.sub_path.as_ref().map_or_else(|| path.clone(), |sub_path| sub_path.as_path().join(&path));
    path.to_str().and_then(|path| path.parse().ok())
}
