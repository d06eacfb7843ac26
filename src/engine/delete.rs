//! The removal of an entry and of what no other entry lists.
//!
//! The entry's folder goes first, by a rename into a staging of its own, so that a deletion that is killed knows what it
//! was doing. Another entry's bytes are never touched, and neither is what modelcache did not make.

use super::entry;
use super::volume::{Dir, Kind, Volume, VolumeError, remove_stagings};
use super::{EngineError, Finished, Told, before, blocking, owners};
use crate::format::layout::{self, SourceRecord};
use crate::format::outcome::Done;
use crate::format::task::{Delete, Task};
use crate::ident::{ModelRef, Sha256};
use std::path::{Path, PathBuf};

/// Removes an entry. One that is not there is removed already.
pub async fn run(task: &Task, delete: &Delete) -> Result<Finished, EngineError> {
    let (path, sub_path, delete) = (task.volume.clone(), task.sub_path.clone(), delete.clone());
    blocking(move || {
        let volume = Volume::open(&path, sub_path.as_ref()).map_err(EngineError::Volume)?;
        // Read before anything goes: the record goes with its entry.
        let recorded = delete.source.as_ref().map(|source| model_of(&volume, source)).transpose()?.flatten();
        match &delete.model {
            Some(model) if delete.unfinished_only => remove_own(&volume, model, &delete)?,
            Some(model) => remove_entry(&volume, model)?,
            None => {}
        }
        if let Some(source) = &delete.source {
            // Which model an archive holds may be known from here only.
            let is_open = delete.model.is_none() || delete.unfinished_only;
            if let Some(model) = recorded.filter(|model| is_open && delete.model.as_ref() != Some(model)) {
                remove_own(&volume, &model, &delete)?;
            }
            remove_stagings(&volume, &layout::import_staging_prefix(Some(*source)), None)
                .map_err(EngineError::Volume)?;
        }
        Ok(Finished { done: Done::default(), told: Told::Nothing })
    })
    .await
}

fn remove_entry(volume: &Volume, model: &ModelRef) -> Result<(), EngineError> {
    let folder = layout::entry(&model.entry_name());
    // Read before anything goes: other entries that cannot be read must stop this while nothing is lost.
    owners::of_repo(volume, &model.repo, Some(model))?;
    if volume.root().kind(&folder).map_err(EngineError::Volume)?.is_some() {
        // A deletion that was interrupted is finished first.
        finish(volume, model)?;
        entry::check_place(volume, model).map_err(EngineError::Volume)?;
        volume.root().rename(&folder, &trash(model)).map_err(EngineError::Volume)?;
        sync(volume.root(), layout::ENTRIES).map_err(EngineError::Volume)?;
    }
    tidy(volume, model)?;
    remove_stagings(volume, &layout::staging_prefix(model), None).map_err(EngineError::Volume)
}

/// Removes what the task's source ended in, unless others have it; else only what was begun and not finished.
fn remove_own(volume: &Volume, model: &ModelRef, delete: &Delete) -> Result<(), EngineError> {
    let is_others = delete.kept.iter().any(|kept| kept.model() == model);
    if !is_others && is_made_of(volume, model, delete.source.as_ref())? {
        remove_entry(volume, model)
    } else {
        remove_unfinished(volume, model)
    }
}

/// Removes what was begun and not finished. An entry that is there stays as it is.
fn remove_unfinished(volume: &Volume, model: &ModelRef) -> Result<(), EngineError> {
    match volume.root().kind(&layout::entry(&model.entry_name())) {
        Ok(None) => remove_entry(volume, model),
        Ok(Some(_)) => {
            finish(volume, model)?;
            owners::settle(volume, model, None)?;
            remove_stagings(volume, &layout::staging_prefix(model), None).map_err(EngineError::Volume)
        }
        Err(error) => Err(EngineError::Volume(error)),
    }
}

/// Whether the entry that is there is what this source ended in. Nobody may have heard that its worker came so far.
fn is_made_of(volume: &Volume, model: &ModelRef, source: Option<&Sha256>) -> Result<bool, EngineError> {
    let Some(source) = source else { return Ok(false) };
    let Some(record) = record_of(volume, source)? else { return Ok(false) };
    let name = model.entry_name();
    let there = owners::undamaged(entry::read(volume, &layout::entry(&name)))?;
    Ok(record.entry == name && there.is_some_and(|there| there.sums.digest() == record.manifest))
}

/// The model that an archive turned out to hold, where its publication was begun.
fn model_of(volume: &Volume, source: &Sha256) -> Result<Option<ModelRef>, EngineError> {
    Ok(record_of(volume, source)?.and_then(|record| record.entry.model().ok()))
}

fn record_of(volume: &Volume, source: &Sha256) -> Result<Option<SourceRecord>, EngineError> {
    before::record(volume.root(), &layout::source(source)).map_err(EngineError::Volume)
}

/// Where a deleted entry's folder lies until all it lists is gone.
fn trash(model: &ModelRef) -> PathBuf {
    layout::staging(&layout::deleted_staging(model))
}

/// Finishes the deletion of an entry whose folder is gone already; does nothing if there is none.
pub(super) fn finish(volume: &Volume, model: &ModelRef) -> Result<(), EngineError> {
    match volume.root().kind(&trash(model)).map_err(EngineError::Volume)? {
        None => Ok(()),
        Some(_) => tidy(volume, model),
    }
}

/// Removes everything of an entry whose folder is not in its place any more, or never was.
fn tidy(volume: &Volume, model: &ModelRef) -> Result<(), EngineError> {
    let trash = trash(model);
    let name = model.entry_name();
    // An entry without metadata never existed, and one that is damaged says nothing of what is its own.
    let gone = owners::undamaged(entry::read(volume, &trash))?;
    let steps = || -> Result<(), VolumeError> {
        if volume.root().kind(&layout::entry(&name))?.is_none() {
            volume.root().remove_all(&layout::view(&name))?;
            volume.root().remove_all(&layout::retired_views(&name))?;
            forget_sources(volume, model)?;
        }
        Ok(())
    };
    steps().map_err(EngineError::Volume)?;
    owners::disown(volume, model, gone)?;
    volume.root().remove_all(&trash).map_err(EngineError::Volume)
}

/// Removes the records of sources that ended in this entry.
fn forget_sources(volume: &Volume, model: &ModelRef) -> Result<(), VolumeError> {
    let Some(sources) = volume.root().open_dir(&layout::sources())? else { return Ok(()) };
    for name in sources.list()? {
        let name = Path::new(&name);
        if sources.kind(name)? != Some(Kind::File) {
            continue;
        }
        if before::record(&sources, name)?.is_some_and(|record| record.entry == model.entry_name()) {
            sources.remove_file(name)?;
        }
    }
    Ok(())
}

fn sync(root: &Dir, folder: &str) -> Result<(), VolumeError> {
    root.open_dir(Path::new(folder))?.map_or(Ok(()), |folder| folder.sync())
}
