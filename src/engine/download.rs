//! The download of a model, from the task to the published entry.

use super::connection::{Answers, Connections};
use super::entry;
use super::fetch::Leader;
use super::journal::{self, JOURNAL_MAX_BYTES};
use super::owners::Keep;
use super::pace::Allowance;
use super::plan::Plan;
use super::policy::check_repo;
use super::progress::Progress;
use super::publish::{Publication, publish};
use super::ranges::Coverage;
use super::reuse::{self, Digests};
use super::schedule::Schedule;
use super::select::select;
use super::threads::{Place, Threads};
use super::volume::{Staging, Volume, VolumeError};
use super::{EngineError, Finished, Settings, before, blocking, delete};
use crate::format::layout::{self, Source};
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::Done;
use crate::format::sums::Sums;
use crate::format::task::{Download, FileChoice, Policy, Task};
use crate::hub::{Hub, ModelInfo};
use crate::ident::{ModelRef, RelPath, Sha256};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What a download would bring, without a volume: the size of a claim is made of it, and a dry run prints it.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What the Hub says of the model.
    pub info: ModelInfo,
    /// The files.
    pub plan: Plan,
}

/// Asks the Hub for the commit and the files, and chooses.
pub async fn survey(
    hub: &Hub,
    model: &ModelRef,
    files: &FileChoice,
    policy: Option<&Policy>,
    ignores_case: bool,
) -> Result<Survey, EngineError> {
    check_repo(policy, &model.repo).map_err(EngineError::Policy)?;
    let revision = model.revision_or_main();
    let info = hub.resolve(&model.repo, &revision).await.map_err(EngineError::Hub)?;
    let listing = hub.tree(&model.repo, &info.commit, &revision).await.map_err(EngineError::Hub)?;
    let chosen = select(listing, files, policy).map_err(EngineError::Select)?;
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
    let source = Source::of_download(download).digest();
    if let Some(finished) = before::find(&volume, task, download, source, progress).await? {
        return Ok(finished);
    }
    let hub = Hub::new(&download.hub, settings.limits, settings.login.clone()).map_err(EngineError::Access)?;
    let traits = {
        let (volume, model, ignores_case) = (Arc::clone(&volume), download.model.clone(), settings.ignores_case);
        blocking(move || {
            let traits = volume.prepare(ignores_case, &layout::staging_prefix(&model)).map_err(EngineError::Volume)?;
            // A deletion that was interrupted is finished first: its list of files would be out of date afterwards.
            delete::finish(&volume, &model)?;
            entry::check_place(&volume, &model).map_err(EngineError::Volume)?;
            Ok(traits)
        })
        .await?
    };
    let Survey { info, plan } =
        survey(&hub, &download.model, &download.files, task.policy.as_ref(), traits.ignores_case).await?;
    progress.plan(plan.files.len() as u64, plan.bytes);
    let url = hub.page(&download.model);
    let mut ready = {
        let (volume, plan, progress) = (Arc::clone(&volume), Arc::new(plan), Arc::clone(progress));
        blocking(move || prepare(volume, plan, progress).map_err(EngineError::Volume)).await?
    };
    let reused = reuse::published(&ready).await?;
    let brought = reuse::bring(&mut ready).await?;
    let fetched = fetch_all(&ready, hub, download, settings).await?;
    let metadata = metadata(download, &info, ready.plan.bytes, url);
    let (task, download) = (task.clone(), download.clone());
    blocking(move || conclude(&ready, &task, &download, &[reused, brought, fetched], &metadata, source)).await
}

/// Everything that the rest of a download needs, once the volume was looked at.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) volume: Arc<Volume>,
    pub(super) plan: Arc<Plan>,
    pub(super) staging: Arc<Staging>,
    pub(super) progress: Arc<Progress>,
    /// Files that the snapshot has already.
    pub(super) published: Vec<usize>,
    /// Files that are fetched, the first one first.
    pub(super) missing: Vec<usize>,
    /// Where missing files may be found in other snapshots.
    pub(super) elsewhere: HashMap<usize, Vec<PathBuf>>,
    /// What an earlier attempt left of them.
    there: HashMap<usize, Coverage>,
    /// How much room each of them still takes from the disk.
    pub(super) rooms: HashMap<usize, u64>,
}

impl Ready {
    /// Refuses what does not fit, of the missing files that are meant.
    pub(super) fn check_space(&self, is_meant: impl Fn(&usize) -> bool) -> Result<(), VolumeError> {
        let meant = || self.missing.iter().filter(|number| is_meant(number));
        let bytes = meant().filter_map(|number| self.rooms.get(number)).sum();
        self.volume.check_space(bytes, meant().count() as u64)
    }
}

/// Opens the staging, sees what is there, and checks that what nobody else has fits.
fn prepare(volume: Arc<Volume>, plan: Arc<Plan>, progress: Arc<Progress>) -> Result<Ready, VolumeError> {
    let staging = Arc::new(Staging::open(&volume, &plan.staging_id(), &layout::staging_prefix(&plan.model))?);
    let snapshot = volume.root().open_dir(&layout::snapshot(&plan.model.repo, &plan.commit))?;
    let size_of = |file: usize| plan.files.get(file).map(|file| file.size);
    let mut journal = journal::parse(&staging.journal(JOURNAL_MAX_BYTES)?, size_of);
    let (mut published, mut missing) = (Vec::new(), Vec::new());
    let (mut there, mut rooms) = (HashMap::new(), HashMap::new());
    for (number, file) in plan.files.iter().enumerate() {
        let is_published = match &snapshot {
            Some(snapshot) => snapshot.open_file(file.path.as_path())?.is_some(),
            None => false,
        };
        if is_published {
            published.push(number);
            continue;
        }
        let (size, room) = staging.part_state(&file.path, file.size)?;
        missing.push(number);
        rooms.insert(number, room);
        // A journal that outlived its file says nothing.
        there.extend(journal.remove(&number).filter(|there| there.end() <= size).map(|there| (number, there)));
    }
    // The longest file is not started last.
    missing.sort_by_key(|number| std::cmp::Reverse(plan.files[*number].size));
    // What was begun is gone on with.
    let anew = missing.iter().copied().filter(|number| !there.contains_key(number));
    let elsewhere = reuse::places(&volume, &plan, anew);
    let ready = Ready { volume, plan, staging, progress, published, missing, elsewhere, there, rooms };
    ready.check_space(|number| !ready.elsewhere.contains_key(number))?;
    Ok(ready)
}

/// Fetches the files that are missing. After a failure too, what arrived is in the journal.
async fn fetch_all(ready: &Ready, hub: Hub, download: &Download, settings: &Settings) -> Result<Digests, EngineError> {
    let Ready { volume, plan, staging, progress, missing, there, rooms, .. } = ready;
    if missing.is_empty() {
        return Ok(Digests::new());
    }
    let place = Place {
        volume: Arc::clone(volume),
        staging: Arc::clone(staging),
        plan: Arc::clone(plan),
        progress: Arc::clone(progress),
        there: there.clone(),
        rooms: rooms.clone(),
    };
    let mut threads = Threads::start(place).await?;
    let files = missing.iter().map(|number| {
        let there = there.get(number).cloned().unwrap_or_default();
        (*number, plan.files[*number].size, there)
    });
    let allowance = download.hub.limit_bytes_per_second;
    let connections = Connections {
        hub,
        plan: Arc::clone(plan),
        schedule: Mutex::new(Schedule::new(settings.cut, files)),
        places: Mutex::default(),
        allowance: allowance.map(|limit| Mutex::new(Allowance::new(limit, Instant::now()))),
        answers: Answers::default(),
        progress: Arc::clone(progress),
    };
    let resumed = there.keys().copied().collect();
    let leader = Leader::new(Arc::new(connections), settings.connections_max, &threads, resumed);
    let led = leader.lead(missing.len(), &mut threads).await;
    match (led, threads.finish().await) {
        (Ok(digests), Ok(())) => Ok(digests),
        // The leader only saw that a thread was gone.
        (Err(EngineError::Crashed) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
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
    ready: &Ready,
    task: &Task,
    download: &Download,
    [reused, brought, fetched]: &[Digests; 3],
    metadata: &ModelMetadata,
    source: Sha256,
) -> Result<Finished, EngineError> {
    let plan = &ready.plan;
    let of = |(number, sha256): (&usize, &Sha256)| (plan.files[*number].path.clone(), *sha256);
    let sums: Sums = reused.iter().chain(brought).chain(fetched).map(of).collect();
    let staged: Vec<RelPath> = brought.iter().chain(fetched).map(of).map(|(path, _)| path).collect();
    let (model, commit, source) = (&plan.model, plan.commit, Some(source));
    let (staged, sums) = (&staged, &sums);
    let keep = Some(Keep { older: download.keep, mounted: download.mounted.clone() });
    let publication = Publication { model, commit, staged, sums, metadata, source, file: None, unverified: None, keep };
    publish(&ready.volume, &ready.staging, &publication)?;
    let done = Done {
        path: entry::published_path(task, &plan.model.entry_name()),
        commit: Some(plan.commit),
        manifest: Some(sums.manifest(plan.bytes)),
        bytes_fetched: ready.progress.bytes_fetched(),
        ..Done::default()
    };
    Ok(Finished::with(done, metadata.clone()))
}
