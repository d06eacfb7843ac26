//! The export of an entry: from the volume into an archive, every file's bytes compared with the entry's list on their way.
//!
//! A file gets its name when it is whole; a server is told the length or sees the end only when every file was right.

mod block;
mod compose;
mod content;
mod error;
mod upload;

pub(super) use content::Content;
pub use error::ExportError;

use super::entry::{self, Entry};
use super::progress::Progress;
use super::volume::{ArchiveFile, Dir, Standing, Volume, VolumeError};
use super::{EngineError, Finished, Settings, blocking};
use crate::format::layout;
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::{Archive, Done};
use crate::format::task::{ArchiveFormat, ArchivePlace, Export, MountedFile, Task, Usage};
use crate::ident::ModelRef;
use compose::{Destination, compose, container};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Told to threads that nobody waits for any more.
#[derive(Debug, Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Tells the threads when it is dropped: the future that waited for them is gone.
struct StopAtEnd(Stop);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Writes an entry into an archive.
pub async fn run(
    task: &Task,
    export: &Export,
    settings: &Settings,
    progress: &Arc<Progress>,
) -> Result<Finished, EngineError> {
    let (its_task, its_export) = (task.clone(), export.clone());
    let (content, metadata, mut done) = blocking(move || open(&its_task, &its_export)).await?;
    done.archive = Some(write(content, export.format, &export.archive, settings, progress).await?);
    Ok(Finished::with(done, metadata))
}

/// Writes an archive to its place.
pub(super) async fn write(
    mut content: Content,
    format: ArchiveFormat,
    place: &ArchivePlace,
    settings: &Settings,
    progress: &Arc<Progress>,
) -> Result<Archive, EngineError> {
    let stop = Stop::default();
    let _stop_at_end = StopAtEnd(stop.clone());
    content.plan(progress);
    if format == ArchiveFormat::Zip {
        let (progress, stop) = (Arc::clone(progress), stop.clone());
        content = blocking(move || content.find_crcs(&progress, &stop).map(|()| content)).await?;
    }
    let (place, its_progress) = (place.clone(), Arc::clone(progress));
    match place {
        ArchivePlace::Url(url) => upload::run(content, format, &url, settings.limits, progress, &stop).await,
        ArchivePlace::File(file) => {
            blocking(move || {
                let written = to_file(&content, format, &file.path, &its_progress, &stop);
                written.map_err(|error| called(error, &file.origin))
            })
            .await
        }
        ArchivePlace::Stdio => {
            blocking(move || {
                let mut out = Stdout(std::io::stdout());
                let archive = compose(&content, format, &mut out, &its_progress, &stop)?;
                out.0.flush().map_err(|error| EngineError::Export(ExportError::Stdout(error)))?;
                Ok(archive)
            })
            .await
        }
    }
}

/// The entry on the volume, and what is said of it.
fn open(task: &Task, export: &Export) -> Result<(Content, ModelMetadata, Done), EngineError> {
    let volume = Volume::open(&task.volume, task.sub_path.as_ref()).map_err(EngineError::Volume)?;
    if let ArchivePlace::File(file) = &export.archive {
        check_outside(&volume, file)?;
    }
    let name = export.model.entry_name();
    let Some(Entry { mut metadata, sums, commit }) = entry::read(&volume, &layout::entry(&name))? else {
        return Err(not_there(&volume, &export.model)?);
    };
    if let Some(usage) = &export.usage {
        use_latest(&mut metadata, usage);
    }
    let snapshot = layout::snapshot(&export.model.repo, &commit);
    let folder = volume.root().open_dir(&snapshot).map_err(EngineError::Volume)?;
    let folder =
        folder.ok_or_else(|| EngineError::Export(ExportError::Gone { path: volume.root().shown(&snapshot) }))?;
    let content = Content::new(&name, folder, |path| path.as_path().to_owned(), &sums, &metadata, export.seed_strict)?;
    let done = Done {
        path: entry::published_path(task, &name),
        commit: Some(commit),
        manifest: Some(sums.manifest(content.bytes)),
        ..Done::default()
    };
    Ok((content, metadata, done))
}

/// Refuses an archive among what modelcache keeps on the volume: nobody would own it there.
fn check_outside(volume: &Volume, file: &MountedFile) -> Result<(), EngineError> {
    // What is wrong with the place is said when the archive is to be written.
    let Ok(above) = Dir::open_root(folder_of(&file.path)) else { return Ok(()) };
    for folder in [layout::ENTRIES, layout::HUB, layout::VIEWS, layout::STATE] {
        let Some(own) = volume.root().open_dir(Path::new(folder)).map_err(EngineError::Volume)? else { continue };
        if above.is_within(&own).map_err(EngineError::Volume)? {
            return Err(EngineError::Export(ExportError::InLayout { archive: file.origin.clone(), folder }));
        }
    }
    Ok(())
}

/// The folder that an archive lies in.
fn folder_of(archive: &Path) -> &Path {
    archive.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The use that the controller saw last, unless the volume knows of a later one.
fn use_latest(metadata: &mut ModelMetadata, usage: &Usage) {
    if metadata.last_dss_usage.is_none_or(|known| known <= usage.at_ms) {
        metadata.last_dss_usage = Some(usage.at_ms);
        metadata.last_used_by = Some(usage.by.clone());
    }
}

/// The error that names what is there instead.
fn not_there(volume: &Volume, model: &ModelRef) -> Result<EngineError, EngineError> {
    let others = entry::others(volume, model)?.iter().map(|other| other.metadata.key.model().to_string()).collect();
    Ok(EngineError::NotOnVolume { model: model.to_string(), path: volume.root().shown(Path::new("")), others })
}

fn to_file(
    content: &Content,
    format: ArchiveFormat,
    path: &Path,
    progress: &Progress,
    stop: &Stop,
) -> Result<Archive, EngineError> {
    let Some(name) = path.file_name() else {
        return Err(EngineError::Export(ExportError::NoName { path: path.to_owned() }));
    };
    let above = folder_of(path);
    let folder = Dir::open_root(above).map_err(place)?;
    let length = known_length(content, format);
    if let Some(standing) = Standing::open(&folder, name).map_err(place)? {
        return compare(content, format, standing, path, progress, stop);
    }
    // First, as it removes what a killed run left: that may be the room which is missing.
    let mut file = begin(folder, name)?;
    if let (Some(needed), Some(free)) = (length, file.free_bytes().map_err(place)?)
        && needed > free
    {
        return Err(place(VolumeError::TooSmall { path: above.to_owned(), needed, free }));
    }
    let archive = compose(content, format, &mut file, progress, stop)?;
    file.finish().map_err(place)?;
    Ok(archive)
}

fn begin(folder: Dir, name: &OsStr) -> Result<ArchiveFile, EngineError> {
    ArchiveFile::begin(folder, name).map_err(place)
}

/// The archive's length, where it is known before it is made.
fn known_length(content: &Content, format: ArchiveFormat) -> Option<u64> {
    matches!(format, ArchiveFormat::Tar | ArchiveFormat::Zip).then(|| content.archive_bytes(container(format)))
}

/// Makes an archive only to see whether it is there already.
fn compare(
    content: &Content,
    format: ArchiveFormat,
    standing: Standing,
    path: &Path,
    progress: &Progress,
    stop: &Stop,
) -> Result<Archive, EngineError> {
    let other = |why: String| EngineError::Export(ExportError::Other { path: path.to_owned(), why });
    let size = standing.size();
    if let Some(length) = known_length(content, format).filter(|length| *length != size) {
        return Err(other(format!("it has {size} bytes, and the archive would have {length}")));
    }
    let mut known = Known { standing, path, at: 0 };
    let archive = compose(content, format, &mut known, progress, stop)?;
    if archive.size_bytes == size {
        return Ok(archive);
    }
    Err(other(format!("it goes on after the archive's {} bytes", archive.size_bytes)))
}

fn place(source: VolumeError) -> EngineError {
    EngineError::Export(ExportError::Place { archive: String::new(), source })
}

/// Calls the archive as people do: its path is the worker's own.
fn called(error: EngineError, archive: &str) -> EngineError {
    match error {
        EngineError::Export(ExportError::Place { source, .. }) => {
            EngineError::Export(ExportError::Place { archive: archive.to_owned(), source })
        }
        other => other,
    }
}

impl Destination for ArchiveFile {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.write(bytes).map_err(place)
    }
}

/// A file that must hold these bytes.
struct Known<'a> {
    standing: Standing,
    path: &'a Path,
    at: u64,
}

impl Destination for Known<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        if !self.standing.goes_on_with(bytes).map_err(place)? {
            let why = format!("they differ after byte {}", self.at);
            return Err(EngineError::Export(ExportError::Other { path: self.path.to_owned(), why }));
        }
        self.at += bytes.len() as u64;
        Ok(())
    }
}

struct Stdout(std::io::Stdout);

impl Destination for Stdout {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.0.write_all(bytes).map_err(|error| EngineError::Export(ExportError::Stdout(error)))
    }
}
