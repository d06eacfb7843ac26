//! The removal of an entry and of what no other entry lists.
//!
//! The entry's folder goes first, by a rename into a staging of its own, so that a deletion that is killed knows what it
//! was doing. Another entry's bytes are never touched, and neither is what modelcache did not make.

use super::entry::{self, Entry};
use super::plan::staging_prefix;
use super::volume::{Dir, Kind, Volume, VolumeError, remove_stagings};
use super::{EngineError, Finished, blocking, import};
use crate::format::layout::{self, SourceRecord};
use crate::format::outcome::Done;
use crate::format::task::{Delete, Task};
use crate::ident::{Commit, ModelRef, RepoId};
use std::path::{Path, PathBuf};

/// The longest reference or record that is read, in bytes.
const SMALL_MAX_BYTES: u64 = 16 * 1024;

/// Removes an entry. One that is not there is removed already.
pub async fn run(task: &Task, delete: &Delete) -> Result<Finished, EngineError> {
    let (path, sub_path, delete) = (task.volume.clone(), task.sub_path.clone(), delete.clone());
    blocking(move || {
        let volume = Volume::open(&path, sub_path.as_ref()).map_err(EngineError::Volume)?;
        match &delete.model {
            Some(model) if delete.unfinished_only => {
                remove_stagings(&volume, &staging_prefix(model), None).map_err(EngineError::Volume)?;
            }
            Some(model) => remove_entry(&volume, model)?,
            None => {}
        }
        if delete.source.is_some() {
            remove_stagings(&volume, &import::staging_prefix(delete.source), None).map_err(EngineError::Volume)?;
        }
        Ok(Finished { done: Done::default(), metadata: None, listing: None })
    })
    .await
}

fn remove_entry(volume: &Volume, model: &ModelRef) -> Result<(), EngineError> {
    finish(volume, model)?;
    let folder = layout::entry(&model.entry_name());
    // Read before it goes: other entries that cannot be read must stop this while nothing is lost.
    entry::others(volume, model)?;
    if volume.root().kind(&folder).map_err(EngineError::Volume)?.is_some() {
        entry::check_foreign(volume, &model.entry_name()).map_err(EngineError::Volume)?;
        volume.root().rename(&folder, &trash(model)).map_err(EngineError::Volume)?;
        sync(volume.root(), layout::ENTRIES).map_err(EngineError::Volume)?;
        finish(volume, model)?;
    }
    remove_stagings(volume, &staging_prefix(model), None).map_err(EngineError::Volume)
}

/// Where a deleted entry's folder lies until all it lists is gone.
fn trash(model: &ModelRef) -> PathBuf {
    layout::staging(&format!("deleted-{}", staging_prefix(model).trim_end_matches('-')))
}

/// Finishes the deletion of an entry whose folder is gone already; does nothing if there is none.
pub(super) fn finish(volume: &Volume, model: &ModelRef) -> Result<(), EngineError> {
    let trash = trash(model);
    if volume.root().kind(&trash).map_err(EngineError::Volume)?.is_none() {
        return Ok(());
    }
    // An entry without metadata never existed, and one that cannot be read says nothing of what is its own.
    let gone = entry::read(volume, &trash).unwrap_or_default();
    let mut keepers = entry::others(volume, model)?;
    // The same entry may have been made again since.
    keepers.extend(entry::read(volume, &layout::entry(&model.entry_name())).unwrap_or_default());
    let steps = || -> Result<(), VolumeError> {
        if volume.root().kind(&layout::entry(&model.entry_name()))?.is_none() {
            volume.root().remove_all(&layout::view(&model.entry_name()))?;
            volume.root().remove_all(&layout::retired_views(&model.entry_name()))?;
            forget_sources(volume, model)?;
        }
        if let Some(gone) = gone {
            remove_files(volume, &model.repo, &gone, &keepers)?;
        }
        volume.root().remove_all(&trash)
    };
    steps().map_err(EngineError::Volume)
}

/// Removes the files that only the entry that goes lists, and what then is empty.
fn remove_files(volume: &Volume, repo: &RepoId, gone: &Entry, keepers: &[Entry]) -> Result<(), VolumeError> {
    let root = volume.root();
    let snapshot = layout::snapshot(repo, &gone.commit);
    let same: Vec<&Entry> = keepers.iter().filter(|keeper| keeper.commit == gone.commit).collect();
    for (path, _) in gone.sums.iter() {
        if same.iter().any(|keeper| keeper.sums.get(path).is_some()) {
            continue;
        }
        root.remove_file(&snapshot.join(path.as_path()))?;
        for folder in path.as_path().ancestors().skip(1) {
            if folder.as_os_str().is_empty() || !root.remove_empty(&snapshot.join(folder))? {
                break;
            }
        }
    }
    if same.is_empty() {
        let references = layout::references(repo);
        if let Some(folder) = root.open_dir(&references)? {
            remove_references(&folder, &gone.commit)?;
        }
        root.remove_empty(&snapshot)?;
        root.remove_empty(&layout::snapshots(repo))?;
        root.remove_empty(&references)?;
        root.remove_empty(&layout::repo(repo))?;
    }
    Ok(())
}

/// Removes the references to a commit, and the folders in which none is left.
fn remove_references(folder: &Dir, commit: &Commit) -> Result<(), VolumeError> {
    for name in folder.list()? {
        let name = Path::new(&name);
        match folder.kind(name)? {
            Some(Kind::Folder) => {
                if let Some(inner) = folder.open_dir(name)? {
                    remove_references(&inner, commit)?;
                }
                folder.remove_empty(name)?;
            }
            Some(Kind::File) => {
                let text = folder.read(name, SMALL_MAX_BYTES)?.unwrap_or_default();
                if String::from_utf8_lossy(&text).trim() == commit.to_string() {
                    folder.remove_file(name)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes the records of sources that ended in this entry.
fn forget_sources(volume: &Volume, model: &ModelRef) -> Result<(), VolumeError> {
    let Some(sources) = volume.root().open_dir(&layout::sources())? else { return Ok(()) };
    for name in sources.list()? {
        let name = Path::new(&name);
        if sources.kind(name)? != Some(Kind::File) {
            continue;
        }
        let bytes = sources.read(name, SMALL_MAX_BYTES)?.unwrap_or_default();
        if serde_json::from_slice::<SourceRecord>(&bytes).is_ok_and(|record| record.entry == model.entry_name()) {
            sources.remove_file(name)?;
        }
    }
    Ok(())
}

fn sync(root: &Dir, folder: &str) -> Result<(), VolumeError> {
    root.open_dir(Path::new(folder))?.map_or(Ok(()), |folder| folder.sync())
}
