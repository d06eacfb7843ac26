//! A worker: it reads a real task and does it on the simulated disk, a little at each step, so that it can be stopped anywhere.

use super::dice::Dice;
use super::disk::{Disk, Keep, Published, Root, StagingId};
use super::hub::{Archive, Files, Hub, archive, size};
use modelcache::format::layout::{self, Source};
use modelcache::format::outcome::{Done, Failed, Line, Progress, Resolved, Say, metadata_lines};
use modelcache::format::task::{ArchivePlace, Delete, Download, Import, Resolve, Task, Work};
use modelcache::ident::{ModelRef, Reason, Sha256};
use serde_json::json;

/// A worker at some point of its task.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) task: Task,
    stage: Stage,
    /// How many files it reported last.
    reported: u64,
}

#[derive(Debug)]
enum Stage {
    Begins,
    /// Files arrive in a staging.
    Fetches(Plan),
    /// The source is recorded, and whose files these will be.
    Records(Plan),
    /// They go into the snapshot.
    Places(Plan),
    /// The entry appears, or is replaced.
    Publishes(Plan),
    /// The staging goes, and what is kept no more.
    Tidies(Plan),
    /// Files go, one by one.
    Removes(Vec<Removal>),
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
    /// None: all of what the entry had before.
    keep: Option<Keep>,
}

/// What a deletion removes.
#[derive(Debug, Clone)]
enum Removal {
    /// An entry and everything that is its own.
    Entry(ModelRef),
    /// What was begun, beside an entry that stays.
    Unfinished(ModelRef),
}

/// What a step ended with: an exit code when the worker is at its end.
pub(crate) type Exit = Option<i32>;

/// What a worker finds around it.
pub(crate) struct Around<'a> {
    /// The volume that it mounts, if it mounts one.
    pub(crate) disk: Option<&'a mut Disk>,
    pub(crate) hub: &'a Hub,
    pub(crate) log: &'a mut Vec<String>,
    pub(crate) dice: &'a mut Dice,
    /// In seconds.
    pub(crate) now: i64,
}

impl Worker {
    pub(crate) fn new(task: Task) -> Self {
        Self { task, stage: Stage::Begins, reported: 0 }
    }

    /// What it writes to: the root, and the repo where it knows one. None where it writes nothing.
    pub(crate) fn writes_to(&self) -> Option<(String, Option<String>)> {
        let root = self.task.sub_path.as_ref().map(ToString::to_string).unwrap_or_default();
        let repo = match &self.task.work {
            Work::Download(download) => Some(download.model.repo.to_string()),
            Work::Delete(delete) => delete.model.as_ref().map(|model| model.repo.to_string()),
            Work::Import(import) => import.expected.as_ref().map(|expected| expected.repo.to_string()),
            _ => return None,
        };
        Some((root, repo))
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
    pub(crate) fn step(&mut self, around: Around<'_>) -> Exit {
        let Around { disk, hub, log, dice, now } = around;
        let mut nothing = Disk::default();
        let disk = disk.unwrap_or(&mut nothing);
        let (is_read_only, is_full, left) = (disk.is_read_only, disk.is_full, disk.room());
        let root = self.task.sub_path.as_ref().map(ToString::to_string).unwrap_or_default();
        let root = disk.roots.entry(root).or_default();
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let next = match stage {
            Stage::Begins => self.begins(root, hub, is_read_only, now),
            Stage::Says(mut done, metadata) => {
                for line in metadata.iter().flat_map(|text| metadata_lines(&self.task.nonce, text)) {
                    self.say(log, line.say);
                }
                done.room = done.resolved.is_none().then_some(left);
                self.say(log, Say::Done(*done));
                return Some(0);
            }
            Stage::Ended => return Some(0),
            _ if is_read_only => Err(Reason::VolumeReadOnly),
            Stage::Fetches(_) if is_full && dice.happens(500) => Err(Reason::OutOfSpace),
            Stage::Fetches(plan) => self.fetches(root, hub, log, left.free_bytes, plan),
            Stage::Records(plan) => Ok(records(root, plan)),
            Stage::Places(plan) => places(root, plan),
            Stage::Publishes(plan) => {
                root.retire(&plan.entry);
                root.entries.insert(plan.entry.key(), plan.entry.clone());
                Ok(Stage::Tidies(plan))
            }
            Stage::Tidies(plan) => Ok(self.tidies(root, plan)),
            Stage::Removes(left) => Ok(self.removes(root, left)),
        };
        match next {
            Ok(stage) => {
                self.stage = stage;
                None
            }
            Err(reason) => Some(self.fails(log, reason)),
        }
    }

    fn begins(&self, root: &mut Root, hub: &Hub, is_read_only: bool, now: i64) -> Result<Stage, Reason> {
        match &self.task.work {
            Work::Download(download) => self.begins_download(root, hub, download, is_read_only, now),
            Work::Import(import) => self.begins_import(root, import, is_read_only),
            Work::Delete(_) if is_read_only => Err(Reason::VolumeReadOnly),
            Work::Delete(delete) => Ok(Stage::Removes(removals(root, delete))),
            Work::Resolve(resolve) => resolves(hub, resolve),
            other => panic!("no such task is simulated: {other:?}"),
        }
    }

    fn begins_download(
        &self,
        root: &mut Root,
        hub: &Hub,
        download: &Download,
        is_read_only: bool,
        now: i64,
    ) -> Result<Stage, Reason> {
        let key = download.model.key().to_string();
        let keep = Keep { older: download.keep as usize, mounted: download.mounted.clone() };
        let source = Source::of_download(download).digest();
        if let Some(entry) = root.done_before(source).filter(|entry| entry.model == download.model).cloned() {
            if !is_read_only {
                root.clear_stagings(&key, None);
                if root.settle(&key, Some(&keep)) {
                    return Ok(Stage::Begins);
                }
            }
            if download.seen_at.is_none_or(|seen| seen == entry.commit) {
                return Ok(self.done(&entry));
            }
        }
        if is_read_only {
            return Err(Reason::VolumeReadOnly);
        }
        while root.finish_deletion(&key) {}
        let (commit, files) = hub.resolve(&download.model, &download.files)?;
        let entry = Published { model: download.model.clone(), commit, files, date: now };
        let staging = StagingId::Download(key.clone(), commit, entry.manifest().sha256);
        root.clear_stagings(&key, Some(&staging));
        Ok(fetch(root, staging, Some(source), entry, Some(keep)))
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
        let Archive { model, commit, files } = archive(file_name(&import.archive))?;
        if !fits(&model) {
            return Err(Reason::ModelMismatch);
        }
        let key = model.key().to_string();
        while root.finish_deletion(&key) {}
        let entry = Published { model, commit, files, date: 1 };
        if root.entries.get(&key).is_some_and(|there| !there.is_like(&entry)) {
            return Err(Reason::Conflict);
        }
        Ok(fetch(root, staging, source, entry, None))
    }

    /// One more file arrives.
    fn fetches(
        &mut self,
        root: &mut Root,
        hub: &Hub,
        log: &mut Vec<String>,
        free_bytes: u64,
        plan: Plan,
    ) -> Result<Stage, Reason> {
        let there = root.snapshots.get(&plan.entry.place()).cloned().unwrap_or_default();
        let Some(staged) = root.stagings.get_mut(&plan.staging) else { return Err(Reason::Interrupted) };
        let mut missing =
            plan.entry.files.iter().filter(|(name, _)| !there.contains_key(*name) && !staged.contains_key(*name));
        let all: u64 = missing.clone().map(|(name, digest)| size(name, *digest)).sum();
        let Some((name, digest)) = missing.next() else { return Ok(Stage::Records(plan)) };
        if all > free_bytes {
            return Err(Reason::OutOfSpace);
        }
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
        self.reported += 1;
        let total = plan.entry.files.len() as u64;
        let progress = Progress {
            bytes_done: self.reported.min(total) * 1000,
            bytes_total: total * 1000,
            files_done: self.reported.min(total),
            files_total: total,
            bytes_per_second: 100,
        };
        self.say(log, Say::Progress(progress));
        Ok(Stage::Fetches(plan))
    }

    fn tidies(&self, root: &mut Root, plan: Plan) -> Stage {
        let key = plan.entry.key();
        root.clear_stagings(&key, None);
        if root.settle(&key, plan.keep.as_ref()) {
            return Stage::Tidies(plan);
        }
        root.stagings.remove(&plan.staging);
        self.done(&plan.entry)
    }

    fn removes(&self, root: &mut Root, mut left: Vec<Removal>) -> Stage {
        let goes_on = match left.last() {
            Some(Removal::Entry(model)) => remove_entry(root, &model.key().to_string()),
            Some(Removal::Unfinished(model)) => {
                let key = model.key().to_string();
                if root.entries.contains_key(&key) {
                    root.finish_deletion(&key) || root.settle(&key, None)
                } else {
                    remove_entry(root, &key)
                }
            }
            None => {
                if let Work::Delete(Delete { source: Some(source), .. }) = &self.task.work {
                    root.stagings.remove(&StagingId::Import(*source));
                }
                return Stage::Says(Box::default(), None);
            }
        };
        if !goes_on && let Some(Removal::Entry(model) | Removal::Unfinished(model)) = left.pop() {
            root.clear_stagings(&model.key().to_string(), None);
        }
        Stage::Removes(left)
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
        let metadata =
            json!({"version": 0, "commitHash": entry.commit.to_string(), "modelDefinition": {"key": entry.key()}});
        Stage::Says(Box::new(done), Some(metadata.to_string()))
    }
}

fn file_name(place: &ArchivePlace) -> &str {
    let ArchivePlace::File(file) = place else { panic!("only claims hold archives here") };
    file.path.file_name().unwrap().to_str().unwrap()
}

fn resolves(hub: &Hub, resolve: &Resolve) -> Result<Stage, Reason> {
    let (commit, files) = match resolve {
        Resolve::Hub(question) => {
            let (commit, files) = hub.resolve(&question.model, &question.files)?;
            (Some(commit), files)
        }
        Resolve::Archive(place) => (None, archive(file_name(place))?.files),
    };
    let bytes = files.iter().map(|(name, digest)| size(name, *digest)).sum();
    let resolved = Resolved { commit, files: Some(files.len() as u64), bytes };
    Ok(Stage::Says(Box::new(Done { resolved: Some(Box::new(resolved)), ..Done::default() }), None))
}

fn fetch(root: &mut Root, staging: StagingId, source: Option<Sha256>, entry: Published, keep: Option<Keep>) -> Stage {
    root.stagings.entry(staging.clone()).or_default();
    Stage::Fetches(Plan { staging, source, entry, keep })
}

/// What goes, the last one first.
fn removals(root: &Root, delete: &Delete) -> Vec<Removal> {
    let own = |model: &ModelRef| {
        let is_others = delete.kept.iter().any(|kept| kept.model() == model);
        if !is_others && root.is_made_of(model, delete.source.as_ref()) {
            Removal::Entry(model.clone())
        } else {
            Removal::Unfinished(model.clone())
        }
    };
    let mut all = Vec::new();
    let is_open = delete.model.is_none() || delete.unfinished_only;
    let recorded = delete.source.and_then(|source| root.sources.get(&source)).map(|(model, _)| model);
    all.extend(recorded.filter(|model| is_open && delete.model.as_ref() != Some(*model)).map(own));
    all.extend(
        delete.model.as_ref().map(
            |model| {
                if delete.unfinished_only { own(model) } else { Removal::Entry(model.clone()) }
            },
        ),
    );
    all
}

/// A step of an entry's removal; false when nothing is left of it.
fn remove_entry(root: &mut Root, key: &str) -> bool {
    if root.entries.contains_key(key) {
        if !root.finish_deletion(key) {
            let entry = root.entries.remove(key).unwrap();
            root.trash.insert(key.to_owned(), entry);
        }
        return true;
    }
    root.tidy(key)
}

fn records(root: &mut Root, plan: Plan) -> Stage {
    if let Some(source) = plan.source {
        root.sources.insert(source, (plan.entry.model.clone(), plan.entry.manifest().sha256));
    }
    root.add_begun(plan.entry.clone());
    Stage::Places(plan)
}

/// The staged files go into the snapshot, which never loses or changes one.
fn places(root: &mut Root, plan: Plan) -> Result<Stage, Reason> {
    let Some(staged) = root.stagings.get_mut(&plan.staging) else { return Err(Reason::Interrupted) };
    let staged: Files = std::mem::take(staged);
    let snapshot = root.snapshots.entry(plan.entry.place()).or_default();
    for (name, digest) in staged {
        snapshot.entry(name).or_insert(digest);
    }
    Ok(Stage::Publishes(plan))
}
