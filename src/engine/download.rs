//! The download of a model, from the task to the published entry.

use super::entry;
use super::fetch::Fetcher;
use super::hash::Hasher;
use super::plan::{Plan, PlannedFile, staging_prefix};
use super::progress::Progress;
use super::publish::{Publication, publish};
use super::select::select;
use super::volume::{Staging, Volume, VolumeError, remove_stagings};
use super::{EngineError, Finished, Settings, blocking, delete};
use crate::format::layout::{self, Source, SourceRecord};
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::Done;
use crate::format::sums::Sums;
use crate::format::task::{Download, Task};
use crate::hub::{Hub, ModelInfo};
use crate::ident::{RelPath, Sha256};
use std::sync::Arc;
use tokio::task::JoinSet;

/// The longest record of a source that is read, in bytes.
const RECORD_MAX_BYTES: u64 = 16 * 1024;

/// What a download would bring, without a volume: the size of a claim is made of it, and a dry run prints it.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What the Hub says of the model.
    pub info: ModelInfo,
    /// The files.
    pub plan: Plan,
}

/// Asks the Hub for the commit and the files, and chooses.
pub async fn survey(hub: &Hub, download: &Download, ignores_case: bool) -> Result<Survey, EngineError> {
    let model = &download.model;
    let revision = model.revision_or_main();
    let info = hub.resolve(&model.repo, &revision).await.map_err(EngineError::Hub)?;
    let listing = hub.tree(&model.repo, &info.commit, &revision).await.map_err(EngineError::Hub)?;
    let chosen = select(listing, &download.files).map_err(EngineError::Select)?;
    let plan = Plan::new(model.clone(), info.commit, chosen, ignores_case).map_err(EngineError::Plan)?;
    Ok(Survey { info, plan })
}

/// Downloads, verifies and publishes a model; without a request where that was done before.
pub async fn run(
    task: &Task,
    download: &Download,
    settings: &Settings,
    progress: &Arc<Progress>,
) -> Result<Finished, EngineError> {
    let volume = {
        let (path, sub_path) = (task.volume.clone(), task.sub_path.clone());
        blocking(move || Volume::open(&path, sub_path.as_ref()).map_err(EngineError::Volume)).await?
    };
    let volume = Arc::new(volume);
    if let Some(finished) = done_before(&volume, task, download, progress).await? {
        return Ok(finished);
    }
    let hub = Hub::new(&download.hub, settings.limits, settings.login.clone()).map_err(EngineError::Access)?;
    let traits = {
        let (volume, model, ignores_case) = (Arc::clone(&volume), download.model.clone(), settings.ignores_case);
        blocking(move || {
            let traits = volume.prepare(ignores_case).map_err(EngineError::Volume)?;
            // A deletion that was interrupted is finished first: its list of files would be out of date afterwards.
            delete::finish(&volume, &model)?;
            entry::check_foreign(&volume, &model.entry_name()).map_err(EngineError::Volume)?;
            Ok(traits)
        })
        .await?
    };
    let Survey { info, plan } = survey(&hub, download, traits.ignores_case).await?;
    progress.plan(plan.files.len() as u64, plan.bytes);
    let url = hub.page(&download.model);
    let (staging, jobs) = {
        let (volume, plan) = (Arc::clone(&volume), plan.clone());
        blocking(move || prepare(&volume, &plan).map_err(EngineError::Volume)).await?
    };
    let fetcher = Arc::new(Fetcher { hub, plan, staging, progress: Arc::clone(progress) });
    let verified = fetch_all(&volume, &fetcher, jobs, settings.parallel_files).await?;
    let metadata = metadata(download, &info, fetcher.plan.bytes, url);
    let source = Source::of_download(download).digest();
    let task = task.clone();
    blocking(move || conclude(&volume, &fetcher, &task, &verified, metadata, source)).await
}

/// The end of a task whose source is recorded and whose entry is whole.
async fn done_before(
    volume: &Arc<Volume>,
    task: &Task,
    download: &Download,
    progress: &Arc<Progress>,
) -> Result<Option<Finished>, EngineError> {
    let (volume, task, download) = (Arc::clone(volume), task.clone(), download.clone());
    let found = blocking(move || {
        let record = layout::source(&Source::of_download(&download).digest());
        let bytes = volume.root().read(&record, RECORD_MAX_BYTES).map_err(EngineError::Volume)?;
        let record = bytes.and_then(|bytes| serde_json::from_slice::<SourceRecord>(&bytes).ok());
        let name = download.model.entry_name();
        let Some(record) = record.filter(|record| record.entry == name) else { return Ok(None) };
        // A damaged entry is downloaded again, not complained about.
        let entry = entry::read(&volume, &layout::entry(&name)).unwrap_or_default();
        let Some(entry) = entry.filter(|entry| entry.sums.digest() == record.manifest) else { return Ok(None) };
        let bytes = entry::complete_bytes(&volume, &download.model, &entry).map_err(EngineError::Volume)?;
        let Some(bytes) = bytes else { return Ok(None) };
        // What a run left that was killed right after its publication. On a read-only volume it may stay.
        let _ = remove_stagings(&volume, &staging_prefix(&download.model), None);
        let done = Done {
            path: entry::published_path(&task, &name),
            commit: Some(entry.commit),
            manifest: Some(entry.sums.manifest(bytes)),
            bytes_fetched: 0,
        };
        Ok(Some(Finished { done, metadata: Some(entry.metadata) }))
    })
    .await?;
    if let Some(manifest) = found.as_ref().and_then(|finished| finished.done.manifest) {
        progress.plan(manifest.files, manifest.bytes);
        progress.found(manifest.bytes);
        (0..manifest.files).for_each(|_| progress.file_done());
    }
    Ok(found)
}

/// One file, and whether the snapshot has it already.
#[derive(Debug, Clone)]
struct Job {
    file: PlannedFile,
    published: bool,
}

/// Opens the staging, sees what is there, and checks that the rest fits.
fn prepare(volume: &Volume, plan: &Plan) -> Result<(Staging, Vec<Job>), VolumeError> {
    let staging = Staging::open(volume, &plan.staging_id(), &staging_prefix(&plan.model))?;
    let snapshot = volume.root().open_dir(&layout::snapshot(&plan.model.repo, &plan.commit))?;
    let mut jobs = Vec::with_capacity(plan.files.len());
    let (mut bytes, mut files) = (0_u64, 0_u64);
    for file in &plan.files {
        let published = match &snapshot {
            Some(snapshot) => snapshot.open_file(file.path.as_path())?.is_some(),
            None => false,
        };
        if !published {
            bytes += file.size.saturating_sub(staging.part_size(&file.path)?);
            files += 1;
        }
        jobs.push(Job { file: file.clone(), published });
    }
    volume.check_space(bytes, files)?;
    // A conflict with published files is seen before a byte is fetched, and the longest file is not started last.
    jobs.sort_by_key(|job| (!job.published, std::cmp::Reverse(job.file.size)));
    Ok((staging, jobs))
}

/// A verified file, and whether it lies in the staging.
type Verified = (RelPath, Sha256, bool);

async fn fetch_all(
    volume: &Arc<Volume>,
    fetcher: &Arc<Fetcher>,
    jobs: Vec<Job>,
    parallel: usize,
) -> Result<Vec<Verified>, EngineError> {
    let mut jobs = jobs.into_iter();
    let mut verified = Vec::new();
    // Dropped on the first failure, and with it all the other files' tasks.
    let mut running = JoinSet::new();
    loop {
        while running.len() < parallel.max(1) {
            let Some(job) = jobs.next() else { break };
            let (volume, fetcher) = (Arc::clone(volume), Arc::clone(fetcher));
            running.spawn(async move {
                let sha256 = if job.published {
                    reuse(volume, &fetcher, job.file.clone()).await?
                } else {
                    fetcher.fetch(&job.file).await?
                };
                Ok::<_, EngineError>((job.file.path, sha256, !job.published))
            });
        }
        match running.join_next().await {
            Some(joined) => verified.push(joined.map_err(|_| EngineError::Crashed)??),
            None => return Ok(verified),
        }
    }
}

/// Hashes a file that the snapshot has already. Its name and commit prove nothing.
async fn reuse(volume: Arc<Volume>, fetcher: &Arc<Fetcher>, file: PlannedFile) -> Result<Sha256, EngineError> {
    let fetcher = Arc::clone(fetcher);
    blocking(move || {
        let below = layout::snapshot(&fetcher.plan.model.repo, &fetcher.plan.commit).join(file.path.as_path());
        let shown = volume.root().shown(&below);
        let opened = volume.root().open_file(&below).map_err(EngineError::Volume)?;
        let mut hasher = Hasher::new(&file.digest, file.size);
        if let Some((open, _)) = opened {
            let read = hasher.read(open);
            read.map_err(|error| EngineError::Volume(VolumeError::new("read", &shown, error)))?;
        }
        let found = hasher.finish();
        if found.digest != file.digest {
            return Err(EngineError::Conflict {
                path: below.display().to_string(),
                expected: file.digest.to_string(),
                found: found.digest.to_string(),
            });
        }
        fetcher.progress.found(file.size);
        fetcher.progress.file_done();
        Ok(found.sha256)
    })
    .await
}

fn metadata(download: &Download, info: &ModelInfo, bytes: u64, url: String) -> ModelMetadata {
    // The one look at the clock: the date of publication.
    let now = jiff::Timestamp::now().as_millisecond();
    ModelMetadata {
        commit_hash: Some(info.commit),
        download_date: Some(now),
        downloaded_by: Some(download.requested_by.clone()),
        last_dss_usage: Some(now),
        last_modified: info.last_modified.clone(),
        last_used_by: Some(download.requested_by.clone()),
        library_name: info.library_name.clone(),
        pipeline_name: info.pipeline_tag.clone(),
        size_in_bytes: Some(bytes),
        tagged_languages: info.languages.clone(),
        tags: info.tags.clone(),
        ..ModelMetadata::new(download.model.key(), url)
    }
}

fn conclude(
    volume: &Volume,
    fetcher: &Fetcher,
    task: &Task,
    verified: &[Verified],
    metadata: ModelMetadata,
    source: Sha256,
) -> Result<Finished, EngineError> {
    let plan = &fetcher.plan;
    let sums: Sums = verified.iter().map(|(path, sha256, _)| (path.clone(), *sha256)).collect();
    let staged: Vec<RelPath> = verified.iter().filter(|(.., staged)| *staged).map(|(path, ..)| path.clone()).collect();
    let publication = Publication { plan, staged: &staged, sums: &sums, metadata: &metadata, source };
    publish(volume, &fetcher.staging, &publication)?;
    let done = Done {
        path: entry::published_path(task, &plan.model.entry_name()),
        commit: Some(plan.commit),
        manifest: Some(sums.manifest(plan.bytes)),
        bytes_fetched: fetcher.progress.bytes_fetched(),
    };
    Ok(Finished { done, metadata: Some(metadata) })
}
