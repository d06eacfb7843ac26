//! A folder (a git clone, a hub cache's snapshot, a model of one's own) into an archive.

mod survey;

use super::export::{self, Content};
use super::progress::Progress;
use super::rehash::{Found, read_all};
use super::volume::VolumeError;
use super::{EngineError, Finished, Settings, blocking};
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::Done;
use crate::format::sums::Sums;
use crate::format::task::{ArchiveFormat, ArchivePlace, HubAccess};
use crate::hub::{Hub, ModelInfo};
use crate::ident::{Commit, ModelRef, RelPath, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use survey::{Survey, survey};

/// What is packed.
#[derive(Debug, Clone)]
pub struct Pack {
    /// The folder with the model's files.
    pub folder: PathBuf,
    /// The model that it is.
    pub model: ModelRef,
    /// Which kind of archive.
    pub format: ArchiveFormat,
    /// Where it goes.
    pub archive: ArchivePlace,
    /// The Hub that is asked what it says of the model.
    pub hub: HubAccess,
    /// What is said of the model whatever the Hub says.
    pub about: About,
    /// Goes into `downloadedBy` and `lastUsedBy`.
    pub packed_by: String,
}

/// What a person says of a model.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The commit that the files are of.
    pub commit: Option<Commit>,
    /// `libraryName`.
    pub library: Option<String>,
    /// `pipelineName`.
    pub pipeline: Option<String>,
    /// `tags`.
    pub tags: Vec<String>,
}

/// Packs a folder.
pub async fn run(pack: &Pack, settings: &Settings, progress: &Arc<Progress>) -> Result<Finished, EngineError> {
    let (folder, archive, counters) = (pack.folder.clone(), pack.archive.clone(), Arc::clone(progress));
    let (survey, sums, bytes) = blocking(move || {
        check_outside(&folder, &archive)?;
        let survey = survey(&folder)?;
        let (sums, bytes) = hash(&survey, &counters)?;
        Ok((survey, sums, bytes))
    })
    .await?;
    let metadata = metadata(pack, survey.commit, bytes, settings).await?;
    let (commit, manifest) = (metadata.commit_hash, sums.manifest(bytes));
    let content = {
        let (name, metadata) = (pack.model.entry_name(), metadata.clone());
        blocking(move || {
            let Survey { base, files, commit: _ } = survey;
            let place = |path: &RelPath| files.get(path).cloned().unwrap_or_default();
            Content::new(&name, base, place, &sums, &metadata, false)
        })
        .await?
    };
    let archive = export::write(content, pack.format, &pack.archive, settings, progress).await?;
    let done = Done { commit, manifest: Some(manifest), archive: Some(archive), ..Done::default() };
    Ok(Finished::with(done, metadata))
}

/// The next run would pack the archive itself.
fn check_outside(folder: &Path, archive: &ArchivePlace) -> Result<(), EngineError> {
    let ArchivePlace::File(file) = archive else { return Ok(()) };
    let above = file.path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (std::fs::canonicalize(folder), std::fs::canonicalize(above)) {
        (Ok(folder), Ok(above)) if above.starts_with(&folder) => {
            let why = "it would lie in the folder that is packed: choose a file outside of it".to_owned();
            Err(EngineError::Export(export::ExportError::Unpackable { path: file.path.clone(), why }))
        }
        // What is not there is reported where it is opened.
        _ => Ok(()),
    }
}

/// The list of a folder's files. They are read again for the archive, and must be the same then.
fn hash(survey: &Survey, progress: &Progress) -> Result<(Sums, u64), EngineError> {
    let targets = survey.files.values().map(|place| (place.clone(), 0)).collect::<BTreeMap<_, _>>();
    let found = read_all(&survey.base, targets, progress);
    let mut bytes = 0;
    let digest = |place: &PathBuf| -> Result<(Sha256, u64), EngineError> {
        let missing = || VolumeError::new("read", &survey.base.shown(place), std::io::ErrorKind::NotFound.into());
        match found.get(place) {
            Some(Found::Hashed { sha256, bytes }) => Ok((*sha256, *bytes)),
            Some(Found::Unreadable(error)) => Err(EngineError::Unreadable(Arc::clone(error))),
            Some(Found::Missing) | None => Err(EngineError::Volume(missing())),
        }
    };
    let mut files = Vec::new();
    for (path, place) in &survey.files {
        let (sha256, size) = digest(place)?;
        bytes += size;
        files.push((path.clone(), sha256));
    }
    progress.begin_again();
    Ok((files.into_iter().collect(), bytes))
}

/// What the Hub says, if it can be asked, and what the person says above that.
async fn metadata(
    pack: &Pack,
    found: Option<Commit>,
    bytes: u64,
    settings: &Settings,
) -> Result<ModelMetadata, EngineError> {
    let hub = Hub::new(&pack.hub, settings.limits, settings.login.clone()).map_err(EngineError::Access)?;
    let commit = pack.about.commit.or(found);
    let revision = match commit.and_then(|commit| commit.to_string().parse().ok()) {
        Some(revision) => revision,
        None => pack.model.revision_or_main(),
    };
    let info = match hub.resolve(&pack.model.repo, &revision).await {
        Ok(info) => Some(info),
        Err(error) => {
            tracing::warn!("the archive's metadata has what the command line says only: {error}");
            None
        }
    };
    let About { commit: _, library, pipeline, tags } = pack.about.clone();
    let tags = Some(tags).filter(|tags| !tags.is_empty());
    // The one look at the clock.
    let now = jiff::Timestamp::now().as_millisecond();
    let of_hub = |field: fn(ModelInfo) -> Option<String>| info.clone().and_then(field);
    Ok(ModelMetadata {
        // That of the Hub's revision proves nothing of these files.
        commit_hash: commit,
        download_date: Some(now),
        downloaded_by: Some(pack.packed_by.clone()),
        last_dss_usage: Some(now),
        last_modified: of_hub(|info| info.last_modified),
        last_used_by: Some(pack.packed_by.clone()),
        library_name: library.or_else(|| of_hub(|info| info.library_name)),
        pipeline_name: pipeline.or_else(|| of_hub(|info| info.pipeline_tag)),
        size_in_bytes: Some(bytes),
        tagged_languages: info.clone().and_then(|info| info.languages),
        tags: tags.or_else(|| info.clone().and_then(|info| info.tags)),
        ..ModelMetadata::new(pack.model.key(), hub.page(&pack.model))
    })
}
