//! What was done before: a task whose source is recorded and whose entry is whole needs nothing but a look.

use super::entry;
use super::owners::{self, Keep};
use super::policy::{check_files, check_repo};
use super::progress::Progress;
use super::volume::{Dir, Volume, VolumeError, remove_stagings};
use super::{EngineError, Finished, blocking};
use crate::format::layout::{self, FileStamp, SourceRecord};
use crate::format::outcome::Done;
use crate::format::sums::Sums;
use crate::format::task::{Download, Task};
use crate::ident::{ModelRef, Sha256};
use std::path::Path;
use std::sync::Arc;

/// The longest record of a source that is read, in bytes.
const RECORD_MAX_BYTES: u64 = 16 * 1024;

/// What a record says; none where there is none, or one that nobody can read.
pub(super) fn record(folder: &Dir, place: &Path) -> Result<Option<SourceRecord>, VolumeError> {
    let bytes = folder.read(place, RECORD_MAX_BYTES)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The end of a download that was done before. One that is known to be out of date was not.
pub(super) async fn find(
    volume: &Arc<Volume>,
    task: &Task,
    download: &Download,
    source: Sha256,
    progress: &Arc<Progress>,
) -> Result<Option<Finished>, EngineError> {
    let model = download.model.clone();
    let keep = Keep { older: download.keep, mounted: download.mounted.clone() };
    let found = look(volume, task, source, None, Some(keep), move |other| *other == model).await?;
    let found = found.filter(|found| download.seen_at.is_none() || download.seen_at == found.done.commit);
    tell(found.as_ref(), progress);
    Ok(found)
}

/// The same of a source whose model only its record names. `file` is the archive as it is now, where it can be seen.
pub(super) async fn find_where(
    volume: &Arc<Volume>,
    task: &Task,
    source: Sha256,
    file: Option<FileStamp>,
    progress: &Arc<Progress>,
    fits: impl Fn(&ModelRef) -> bool + Send + 'static,
) -> Result<Option<Finished>, EngineError> {
    let found = look(volume, task, source, file, None, fits).await?;
    tell(found.as_ref(), progress);
    Ok(found)
}

/// Nothing is left to do of what was found.
fn tell(found: Option<&Finished>, progress: &Progress) {
    if let Some(manifest) = found.and_then(|finished| finished.done.manifest) {
        progress.plan(manifest.files, manifest.bytes);
        progress.done(manifest.bytes);
        (0..manifest.files).for_each(|_| progress.file_done());
    }
}

async fn look(
    volume: &Arc<Volume>,
    task: &Task,
    source: Sha256,
    file: Option<FileStamp>,
    keep: Option<Keep>,
    fits: impl Fn(&ModelRef) -> bool + Send + 'static,
) -> Result<Option<Finished>, EngineError> {
    let (volume, task) = (Arc::clone(volume), task.clone());
    blocking(move || {
        let found = record(volume.root(), &layout::source(&source)).map_err(EngineError::Volume)?;
        let Some(record) = found.filter(|record| record.file.is_none() || file.is_none() || record.file == file) else {
            return Ok(None);
        };
        let Some(model) = record.entry.model().ok().filter(fits) else { return Ok(None) };
        // What is not allowed now, though it was then, is no work that is done.
        let policy = task.policy.as_ref();
        let is_allowed = |sums: &Sums| {
            check_repo(policy, &model.repo).is_ok()
                && check_files(policy, "", sums.iter().map(|(path, _)| path.as_str())).is_ok()
        };
        let fits = |sums: &Sums| sums.digest() == record.manifest && is_allowed(sums);
        let found = finished(&volume, &task, &model, keep.as_ref(), fits)?;
        Ok(found.map(|mut finished| {
            finished.done.unverified = record.unverified;
            finished
        }))
    })
    .await
}

/// The end of a task whose entry is there, is whole, and lists what it shall.
pub(super) fn finished(
    volume: &Volume,
    task: &Task,
    model: &ModelRef,
    keep: Option<&Keep>,
    fits: impl Fn(&Sums) -> bool,
) -> Result<Option<Finished>, EngineError> {
    let name = model.entry_name();
    // A damaged entry is made again, not complained about.
    let entry = entry::read(volume, &layout::entry(&name)).unwrap_or_default();
    let Some(entry) = entry.filter(|entry| fits(&entry.sums)) else { return Ok(None) };
    let bytes = entry::complete_bytes(volume, model, &entry).map_err(EngineError::Volume)?;
    let Some(bytes) = bytes else { return Ok(None) };
    // What a run left that was killed right after its publication. On a read-only volume it may stay.
    let _ = remove_stagings(volume, &layout::staging_prefix(model), None);
    if let Err(error) = owners::settle(volume, model, keep) {
        tracing::warn!("what {model} had before stays on the volume for now: {error}");
    }
    let done = Done {
        path: entry::published_path(task, &name),
        commit: Some(entry.commit),
        manifest: Some(entry.sums.manifest(bytes)),
        ..Done::default()
    };
    Ok(Some(Finished::with(done, entry.metadata)))
}
