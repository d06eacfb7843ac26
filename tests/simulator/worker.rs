//! A worker: it reads a real task and does it on the simulated disk, a little at each step, so that it can be stopped anywhere.

use super::dice::Dice;
use super::disk::{Disk, Published, Root, StagingId};
use super::hub::{Archive, Files, Hub, archive};
use modelcache::format::layout::{self, Source};
use modelcache::format::outcome::{Done, Failed, Line, Progress, Say, metadata_lines};
use modelcache::format::task::{ArchivePlace, Delete, Download, Import, Task, Work};
use modelcache::ident::{Commit, ModelRef, Reason, Sha256};
use serde_json::json;

/// A worker at some point of its task.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) task: Task,
    stage: Stage,
    /// How many bytes it reported last.
    reported: u64,
}

#[derive(Debug)]
enum Stage {
    Begins,
    /// Files arrive in a staging.
    Fetches(Plan),
    /// They go into the snapshot.
    Places(Plan),
    /// The source is recorded.
    Records(Plan),
    /// The entry appears.
    Publishes(Plan),
    /// The staging goes.
    Tidies(Plan),
    /// An entry's files go, one by one.
    Removes(ModelRef),
    /// The end is said.
    Says(Box<Done>, Option<String>),
    Ended,
}

/// What shall be published.
#[derive(Debug, Clone)]
struct Plan {
    staging: StagingId,
    source: Option<Sha256>,
    entry: Published,
}

/// What a step ended with: an exit code when the worker is at its end.
pub(crate) type Exit = Option<i32>;

/// What a worker finds around it.
pub(crate) struct Around<'a> {
    pub(crate) disk: &'a mut Disk,
    pub(crate) hub: &'a Hub,
    pub(crate) log: &'a mut Vec<String>,
    pub(crate) dice: &'a mut Dice,
}

impl Worker {
    pub(crate) fn new(task: Task) -> Self {
        Self { task, stage: Stage::Begins, reported: 0 }
    }

    /// What it writes to: the root, and the repo where it knows one.
    pub(crate) fn writes_to(&self) -> (String, Option<String>) {
        let root = self.task.sub_path.as_ref().map(ToString::to_string).unwrap_or_default();
        let repo = match &self.task.work {
            Work::Download(download) => Some(download.model.repo.to_string()),
            Work::Delete(delete) => delete.model.as_ref().map(|model| model.repo.to_string()),
            Work::Import(import) => import.expected.as_ref().map(|expected| expected.repo.to_string()),
            _ => None,
        };
        (root, repo)
    }

    fn say(&self, log: &mut Vec<String>, say: Say) {
        log.push(serde_json::to_string(&Line { nonce: self.task.nonce.clone(), say }).unwrap());
    }

    /// It is told to stop.
    pub(crate) fn is_stopped(&mut self, log: &mut Vec<String>) -> i32 {
        self.fails(log, Reason::Interrupted)
    }

    fn fails(&mut self, log: &mut Vec<String>, reason: Reason) -> i32 {
        self.stage = Stage::Ended;
        let failed = Failed { reason, message: format!("about {reason}"), retry_after_seconds: None };
        self.say(log, Say::Failed(failed));
        i32::from(reason.exit_code())
    }

    /// Does a little of its task.
    pub(crate) fn step(&mut self, around: &mut Around<'_>) -> Exit {
        let root = self.task.sub_path.as_ref().map(ToString::to_string).unwrap_or_default();
        let is_read_only = around.disk.is_read_only;
        let is_full = around.disk.is_full;
        let root = around.disk.roots.entry(root).or_default();
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let next = match stage {
            Stage::Begins => self.begins(root, around.hub, is_read_only),
            Stage::Says(done, metadata) => {
                for line in metadata.iter().flat_map(|text| metadata_lines(&self.task.nonce, text)) {
                    self.say(around.log, line.say);
                }
                self.say(around.log, Say::Done(*done));
                return Some(0);
            }
            Stage::Ended => return Some(0),
            _ if is_read_only => Err(Reason::VolumeReadOnly),
            Stage::Fetches(_) if is_full && around.dice.happens(500) => Err(Reason::OutOfSpace),
            Stage::Fetches(plan) => self.fetches(root, around.hub, around.log, plan),
            Stage::Places(plan) => places(root, plan),
            Stage::Records(plan) => Ok(records(root, plan)),
            Stage::Publishes(plan) => {
                root.entries.insert(plan.entry.model.key().to_string(), plan.entry.clone());
                Ok(Stage::Tidies(plan))
            }
            Stage::Tidies(plan) => Ok(self.tidies(root, &plan)),
            Stage::Removes(model) => Ok(self.removes(root, model)),
        };
        match next {
            Ok(stage) => {
                self.stage = stage;
                None
            }
            Err(reason) => Some(self.fails(around.log, reason)),
        }
    }

    fn begins(&self, root: &mut Root, hub: &Hub, is_read_only: bool) -> Result<Stage, Reason> {
        match &self.task.work {
            Work::Download(download) => self.begins_download(root, hub, download, is_read_only),
            Work::Import(import) => self.begins_import(root, import, is_read_only),
            Work::Delete(delete) if is_read_only => {
                let _ = delete;
                Err(Reason::VolumeReadOnly)
            }
            Work::Delete(delete) => Ok(begins_delete(root, delete)),
            other => panic!("no such task is simulated: {other:?}"),
        }
    }

    fn begins_download(
        &self,
        root: &mut Root,
        hub: &Hub,
        download: &Download,
        is_read_only: bool,
    ) -> Result<Stage, Reason> {
        let key = download.model.key().to_string();
        let source = Source::of_download(download).digest();
        if let Some(entry) = root.done_before(source).filter(|entry| entry.model == download.model).cloned() {
            if !is_read_only {
                root.clear_stagings(&key, None);
            }
            return Ok(self.done(&entry));
        }
        if is_read_only {
            return Err(Reason::VolumeReadOnly);
        }
        while root.finish_deletion(&key) {}
        let (commit, files) = hub.resolve(&download.model, &download.files)?;
        root.clear_stagings(&key, Some(commit));
        let entry = Published { model: download.model.clone(), commit, files };
        Ok(fetch(root, StagingId::Download(key, commit), Some(source), entry))
    }

    fn begins_import(&self, root: &mut Root, import: &Import, is_read_only: bool) -> Result<Stage, Reason> {
        let fits = |model: &ModelRef| {
            import.expected.as_ref().is_none_or(|expected| {
                expected.repo == model.repo && (expected.revision.is_none() || expected.revision == model.revision)
            })
        };
        let source = Source::of_import(import).map(|source| source.digest());
        let found = source.and_then(|source| root.done_before(source)).filter(|entry| fits(&entry.model)).cloned();
        let staging = StagingId::Import(source.unwrap_or(Sha256::from_bytes([0; 32])));
        if let Some(entry) = found {
            if !is_read_only {
                root.stagings.remove(&staging);
            }
            return Ok(self.done(&entry));
        }
        if is_read_only {
            return Err(Reason::VolumeReadOnly);
        }
        root.stagings.remove(&staging);
        let ArchivePlace::File(file) = &import.archive else { panic!("only claims hold archives here") };
        let Archive { model, commit, files } = archive(file.path.file_name().unwrap().to_str().unwrap())?;
        if !fits(&model) {
            return Err(Reason::ModelMismatch);
        }
        let key = model.key().to_string();
        while root.finish_deletion(&key) {}
        let entry = Published { model, commit, files };
        if root.entries.get(&key).is_some_and(|there| *there != entry) {
            return Err(Reason::Conflict);
        }
        Ok(fetch(root, staging, source, entry))
    }

    /// One more file arrives.
    fn fetches(&mut self, root: &mut Root, hub: &Hub, log: &mut Vec<String>, plan: Plan) -> Result<Stage, Reason> {
        let there = published(root, &plan.entry.model, plan.entry.commit);
        let Some(staged) = root.stagings.get_mut(&plan.staging) else { return Err(Reason::Interrupted) };
        let missing =
            plan.entry.files.iter().find(|(name, _)| !there.contains_key(*name) && !staged.contains_key(*name));
        let Some((name, digest)) = missing else { return Ok(Stage::Places(plan)) };
        if matches!(plan.staging, StagingId::Download(..)) {
            if let Some(reason) = hub.trouble {
                return Err(reason);
            }
            // What it sent is compared with what it promised, and is not kept.
            if hub.lies {
                return Err(Reason::ChecksumMismatch);
            }
        }
        staged.insert(name, *digest);
        self.reported += 1000;
        let total = plan.entry.files.len() as u64;
        let progress = Progress {
            bytes_done: self.reported.min(total * 1000),
            bytes_total: total * 1000,
            files_done: (self.reported / 1000).min(total),
            files_total: total,
            bytes_per_second: 100,
        };
        self.say(log, Say::Progress(progress));
        Ok(Stage::Fetches(plan))
    }

    fn tidies(&self, root: &mut Root, plan: &Plan) -> Stage {
        root.clear_stagings(&plan.entry.model.key().to_string(), None);
        root.stagings.remove(&plan.staging);
        self.done(&plan.entry)
    }

    fn removes(&self, root: &mut Root, model: ModelRef) -> Stage {
        let key = model.key().to_string();
        if root.finish_deletion(&key) {
            return Stage::Removes(model);
        }
        if let Some(entry) = root.entries.remove(&key) {
            root.trash.insert(key, entry);
            return Stage::Removes(model);
        }
        root.clear_stagings(&key, None);
        if let Work::Delete(Delete { source: Some(source), .. }) = &self.task.work {
            root.stagings.remove(&StagingId::Import(*source));
        }
        Stage::Says(Box::default(), None)
    }

    fn done(&self, entry: &Published) -> Stage {
        let name = entry.model.entry_name();
        let path = layout::entry(&name).join(layout::MODEL);
        let path = self.task.sub_path.as_ref().map_or_else(|| path.clone(), |root| root.as_path().join(&path));
        let done = Done {
            path: path.to_str().unwrap().parse().ok(),
            commit: Some(entry.commit),
            manifest: Some(entry.manifest()),
            ..Done::default()
        };
        let key = entry.model.key().to_string();
        let metadata = json!({"version": 0, "commitHash": entry.commit.to_string(), "modelDefinition": {"key": key}});
        Stage::Says(Box::new(done), Some(metadata.to_string()))
    }
}

fn fetch(root: &mut Root, staging: StagingId, source: Option<Sha256>, entry: Published) -> Stage {
    root.stagings.entry(staging.clone()).or_default();
    Stage::Fetches(Plan { staging, source, entry })
}

fn begins_delete(root: &mut Root, delete: &Delete) -> Stage {
    let is_made_of = |root: &Root, model: &ModelRef| {
        let recorded = delete.source.and_then(|source| root.sources.get(&source));
        let there = root.entries.get(&model.key().to_string()).map(|there| there.manifest().sha256);
        recorded.is_some_and(|(of, manifest)| of == model && there == Some(*manifest))
    };
    match &delete.model {
        Some(model) if !delete.unfinished_only || is_made_of(root, model) => return Stage::Removes(model.clone()),
        Some(model) => root.clear_stagings(&model.key().to_string(), None),
        None => {}
    }
    if let Some(source) = delete.source {
        root.stagings.remove(&StagingId::Import(source));
    }
    Stage::Says(Box::default(), None)
}

/// The files that a snapshot has.
fn published(root: &Root, model: &ModelRef, commit: Commit) -> Files {
    root.snapshots.get(&(model.repo.clone(), commit)).cloned().unwrap_or_default()
}

/// The staged files go into the snapshot, which never loses or changes one.
fn places(root: &mut Root, plan: Plan) -> Result<Stage, Reason> {
    let Some(staged) = root.stagings.get_mut(&plan.staging) else { return Err(Reason::Interrupted) };
    let staged = std::mem::take(staged);
    let snapshot = root.snapshots.entry((plan.entry.model.repo.clone(), plan.entry.commit)).or_default();
    for (name, digest) in staged {
        snapshot.entry(name).or_insert(digest);
    }
    Ok(Stage::Records(plan))
}

fn records(root: &mut Root, plan: Plan) -> Stage {
    if let Some(source) = plan.source {
        root.sources.insert(source, (plan.entry.model.clone(), plan.entry.manifest().sha256));
    }
    Stage::Publishes(plan)
}
