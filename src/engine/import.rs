//! The import of an archive, from the task to the published entry.
//!
//! The archive is read once (`unpack`), what was in it is judged (`assemble`), compared with a Hub where that is wanted
//! (`against`), and published by the same `publish` as a download. Until then nothing but a staging is written.

mod against;
mod assemble;
mod error;
mod measure;
mod source;
mod store;
mod unpack;

pub use error::ImportError;
pub(super) use measure::measure;

use super::policy::{check_files, check_repo};
use super::progress::Progress;
use super::publish::{Publication, publish, record};
use super::volume::{Staging, Volume, VolumeError, remove_stagings};
use super::{EngineError, Finished, Settings, before, blocking, delete, entry};
use crate::format::archive::{ArchiveError, Budget, Container, PREFIX_BYTES, Reader, detect};
use crate::format::layout::{self, FileStamp, SourceRecord};
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::Done;
use crate::format::task::{Expected, Import, Policy, Task};
use crate::hub::Hub;
use crate::ident::{ModelRef, RelPath, Sha256};
use assemble::{Candidate, Kept, assemble};
use source::{Digesting, Seekable, Source, Watched};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;
use store::{Store, Stored, place};
use unpack::{Stop, Wishes, unpack};

/// A model that an archive holds, looked at and not imported.
#[derive(Debug)]
pub struct Inspection {
    /// What an import would end with, but for what is on a volume.
    pub finished: Finished,
    /// Which kind of archive it is.
    pub container: Container,
    /// The model's files, their sizes and digests.
    pub files: Vec<(RelPath, u64, Sha256)>,
    /// The names of what would be left out beside the model, or the first few of them.
    pub left_out: Vec<String>,
}

/// Imports an archive; without opening it where that was done before.
pub async fn run(
    task: &Task,
    import: &Import,
    settings: &Settings,
    progress: &Arc<Progress>,
) -> Result<Finished, EngineError> {
    let volume = {
        let (path, sub_path) = (task.volume.clone(), task.sub_path.clone());
        Arc::new(blocking(move || Volume::open(&path, sub_path.as_ref()).map_err(EngineError::Volume)).await?)
    };
    let origin = Origin::of(import);
    if let Some(source) = origin.source {
        let expected = import.expected.clone();
        let fits = move |model: &ModelRef| expected.as_ref().is_none_or(|expected| is_expected(expected, model));
        let found = before::find_where(&volume, task, source, origin.file, progress, fits).await?;
        if let Some(finished) = found {
            // What a run left that was killed right after its publication.
            tidy(&volume, &origin).await;
            return Ok(finished);
        }
    }
    let hub = import.verify_against.as_ref();
    let hub = hub.map(|hub| Hub::new(hub, settings.limits, settings.login.clone()).map_err(EngineError::Access));
    let hub = hub.transpose()?;
    let opened = Source::open(&import.archive, import.sha256.is_some(), settings).await?;
    let by_network = opened.is_remote;
    let (ignores_case, staging) = {
        let (volume, prefix, ignores_case) = (Arc::clone(&volume), origin.prefix.clone(), settings.ignores_case);
        blocking(move || {
            let traits = volume.prepare(ignores_case, &prefix).map_err(EngineError::Volume)?;
            let staging = Staging::create(&volume, &prefix).map_err(EngineError::Volume)?;
            Ok((traits.ignores_case, Arc::new(staging)))
        })
        .await?
    };
    let ended = {
        let store = Store::staging(&volume, &staging);
        let read = read(opened, import, task.policy.clone(), ignores_case, store, progress).await;
        match read {
            Ok((candidate, _)) => {
                let place = Target { volume: Arc::clone(&volume), staging, task: task.clone(), origin: origin.clone() };
                finish(place, candidate, import, hub.as_ref(), progress, by_network).await
            }
            Err(error) => Err(error),
        }
    };
    // Nobody goes on with it: an archive is read from its beginning.
    tidy(&volume, &origin).await;
    ended
}

/// Removes all stagings of an archive. What cannot be removed now, the next run removes.
async fn tidy(volume: &Arc<Volume>, origin: &Origin) {
    let (volume, prefix) = (Arc::clone(volume), origin.prefix.clone());
    let _ = blocking(move || remove_stagings(&volume, &prefix, None).map_err(EngineError::Volume)).await;
}

/// Looks at an archive and imports nothing: the outcome is that of an import into an empty volume.
pub async fn inspect(
    import: &Import,
    settings: &Settings,
    progress: &Arc<Progress>,
) -> Result<Inspection, EngineError> {
    let hub = import.verify_against.as_ref();
    let hub = hub.map(|hub| Hub::new(hub, settings.limits, settings.login.clone()).map_err(EngineError::Access));
    let hub = hub.transpose()?;
    let opened = Source::open(&import.archive, import.sha256.is_some(), settings).await?;
    let ignores_case = settings.ignores_case.unwrap_or(false);
    let (candidate, container) = read(opened, import, None, ignores_case, Store::nowhere(), progress).await?;
    if let (Some(hub), Some(access)) = (&hub, &import.verify_against) {
        against::compare(hub, &access.endpoint, &candidate, &Origin::of(import).name).await?;
    }
    let name = candidate.model.entry_name();
    let done = Done {
        path: layout::entry(&name).join(layout::MODEL).to_str().and_then(|path| path.parse().ok()),
        commit: Some(candidate.commit),
        manifest: Some(candidate.sums.manifest(candidate.bytes)),
        unverified: unverified(&candidate, hub.is_some()),
        ..Done::default()
    };
    let files = candidate.files.into_iter().map(|(path, kept)| (path, kept.size, kept.hashed.sha256)).collect();
    let finished = Finished::with(done, candidate.metadata);
    Ok(Inspection { finished, container, files, left_out: candidate.left_out.names })
}

/// What is known of an archive before it is opened.
#[derive(Debug, Clone)]
struct Origin {
    name: String,
    source: Option<Sha256>,
    file: Option<FileStamp>,
    /// How the names of all of its stagings begin.
    prefix: String,
}

impl Origin {
    fn of(import: &Import) -> Self {
        let source = layout::Source::of_import(import).map(|source| source.digest());
        let prefix = layout::import_staging_prefix(source);
        // A digest says more than a file's size and time.
        let file = if import.sha256.is_some() { None } else { source::stamp(&import.archive) };
        Self { name: source::origin(&import.archive), source, file, prefix }
    }
}

/// Where a model goes.
struct Target {
    volume: Arc<Volume>,
    staging: Arc<Staging>,
    task: Task,
    origin: Origin,
}

/// Reads everything, on threads that may wait.
async fn read(
    opened: Source,
    import: &Import,
    policy: Option<Policy>,
    ignores_case: bool,
    store: Store,
    progress: &Arc<Progress>,
) -> Result<(Candidate, Container), EngineError> {
    progress.plan(0, opened.length.unwrap_or(0));
    let (import, progress) = (import.clone(), Arc::clone(progress));
    blocking(move || {
        let origin = opened.origin.clone();
        read_here(opened, &import, policy.as_ref(), ignores_case, &store, &progress).map_err(|stop| stop.of(&origin))
    })
    .await
}

fn read_here(
    opened: Source,
    import: &Import,
    policy: Option<&Policy>,
    ignores_case: bool,
    store: &Store,
    progress: &Arc<Progress>,
) -> Result<(Candidate, Container), Stop> {
    let Source { origin, length, bytes, file, is_remote: _ } = opened;
    let (mut bytes, mut digesting) = if import.sha256.is_some() {
        let (bytes, digesting) = Watched::hashed(bytes, Arc::clone(progress));
        (bytes, Some(digesting))
    } else {
        (Watched::new(bytes, Arc::clone(progress)), None)
    };
    let budget = Budget::default();
    let mut prefix = Vec::new();
    let begun = bytes.by_ref().take(PREFIX_BYTES as u64).read_to_end(&mut prefix);
    begun.map_err(ArchiveError::Source)?;
    let container = detect(&prefix)?;
    let mut reader = match (container, file) {
        (Container::Zip, Some(file)) => {
            drop(bytes);
            if digesting.is_some() {
                let again = file.try_clone().map_err(ArchiveError::Source)?;
                digesting = Some(Digesting::of_file(again));
            }
            Reader::zip(Seekable { file, progress: Some(Arc::clone(progress)) }, &budget)?
        }
        (Container::Zip, None) => {
            store.check_space(length.unwrap_or(0), 1).map_err(EngineError::Volume)?;
            let file = spool(Cursor::new(prefix).chain(bytes), store)?;
            Reader::zip(Seekable { file, progress: None }, &budget)?
        }
        // What is left out of it takes no room: each file is compared with what is free when its turn comes.
        _ => Reader::tar(container, Cursor::new(prefix).chain(bytes), length, &budget)?,
    };
    let mut metadata = None;
    let mut files = 0;
    let wishes = Wishes {
        ignores_case,
        git: import.verify_against.is_some(),
        metadata: &mut |text| {
            metadata = Some(checked_metadata(text, import, policy, &origin)?);
            Ok(())
        },
        file_done: &mut || files += 1,
    };
    let unpacked = unpack(&mut reader, store, wishes)?;
    drop(reader);
    if let (Some(expected), Some(digesting)) = (import.sha256, digesting) {
        let found = digesting.finish(&origin)?;
        if found != expected {
            return Err(EngineError::Import(ImportError::Digest { origin, expected, found }).into());
        }
    }
    let candidate = assemble(unpacked, metadata, &budget, &origin)?;
    let files = candidate.files.keys().map(RelPath::as_str);
    check_files(policy, &format!("the archive {origin}"), files).map_err(EngineError::Policy)?;
    let told = &candidate.left_out;
    if told.count > 0 {
        tracing::warn!(
            "{} files of {origin} are not of the model and are left out: {}",
            told.count,
            told.names.join(", ")
        );
    }
    Ok((candidate, container))
}

/// Keeps an archive whose end must be known first.
fn spool(mut bytes: impl Read, store: &Store) -> Result<std::fs::File, Stop> {
    let part = store.spool().map_err(EngineError::Volume)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => {
                part.write_at(&buffer[..got], at).map_err(EngineError::Volume)?;
                at += got as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Source(error).into()),
        }
    }
    Ok(part.reader().map_err(EngineError::Volume)?)
}

/// Reads the metadata, and sees that it is of the model that was asked for, and of one that is allowed.
fn checked_metadata(
    text: Vec<u8>,
    import: &Import,
    policy: Option<&Policy>,
    origin: &str,
) -> Result<ModelMetadata, Stop> {
    let text = String::from_utf8(text).map_err(|_| ArchiveError::Damaged {
        member: Some(layout::METADATA.to_owned()),
        why: "it is not text in UTF-8".to_owned(),
    })?;
    let metadata = ModelMetadata::parse(&text).map_err(ArchiveError::Metadata)?;
    let model = metadata.key.model();
    check_repo(policy, &model.repo).map_err(EngineError::Policy)?;
    match &import.expected {
        Some(expected) if !is_expected(expected, model) => {
            let Expected { repo, revision } = expected.clone();
            let expected = ModelRef { repo, revision }.to_string();
            let (origin, found) = (origin.to_owned(), model.to_string());
            Err(EngineError::Import(ImportError::Model { origin, expected, found }).into())
        }
        _ => Ok(metadata),
    }
}

fn is_expected(expected: &Expected, model: &ModelRef) -> bool {
    let Expected { repo, revision } = expected;
    *repo == model.repo && (revision.is_none() || *revision == model.revision)
}

/// Why the published bytes are not proved, where they are not.
fn unverified(candidate: &Candidate, is_compared: bool) -> Option<String> {
    let is_proved = candidate.is_proved || is_compared;
    (!is_proved).then(|| format!("the archive has no {}, so nothing says what its bytes should be", layout::SUMS))
}

/// Everything between a candidate and its entry.
async fn finish(
    target: Target,
    candidate: Candidate,
    import: &Import,
    hub: Option<&Hub>,
    progress: &Arc<Progress>,
    by_network: bool,
) -> Result<Finished, EngineError> {
    let checked = {
        let (volume, model) = (Arc::clone(&target.volume), candidate.model.clone());
        blocking(move || {
            // A deletion that was interrupted is finished first: its list of files would be out of date afterwards.
            delete::finish(&volume, &model)?;
            entry::check_place(&volume, &model).map_err(EngineError::Volume)
        })
    };
    checked.await?;
    let mut unproved = unverified(&candidate, false);
    if let (Some(hub), Some(access)) = (hub, &import.verify_against) {
        against::compare(hub, &access.endpoint, &candidate, &target.origin.name).await?;
        unproved = None;
    }
    let files = candidate.files.len() as u64;
    let mut finished = blocking(move || conclude(&target, candidate, unproved)).await?;
    let report = progress.report(0);
    progress.plan(files, report.bytes_done.max(report.bytes_total));
    (0..files).for_each(|_| progress.file_done());
    finished.done.bytes_fetched = if by_network { progress.bytes_fetched() } else { 0 };
    Ok(finished)
}

/// Publishes, unless the same is there already.
fn conclude(target: &Target, mut candidate: Candidate, unverified: Option<String>) -> Result<Finished, EngineError> {
    let Target { volume, staging, task, origin } = target;
    let name = candidate.model.entry_name();
    let manifest = candidate.sums.digest();
    if let Some(there) = entry::read(volume, &layout::entry(&name))? {
        let is_same = there.sums.digest() == manifest && (!candidate.names_commit || there.commit == candidate.commit);
        if !is_same {
            let shown = |commit, digest| format!("commit {commit} with SHA256SUMS {digest}");
            return Err(EngineError::Import(ImportError::Conflict {
                origin: origin.name.clone(),
                model: candidate.model.to_string(),
                there: shown(there.commit, there.sums.digest()),
                given: shown(candidate.commit, manifest),
            }));
        }
        if let Some(mut finished) =
            before::finished(volume, task, &candidate.model, None, |sums| sums.digest() == manifest)?
        {
            finished.done.unverified.clone_from(&unverified);
            let known = SourceRecord { entry: name, manifest, file: origin.file, unverified };
            record(volume, staging, origin.source, &known).map_err(EngineError::Volume)?;
            return Ok(finished);
        }
        // The entry lost a file: it is made whole, under the commit that it has.
        candidate.commit = there.commit;
        candidate.metadata.commit_hash = Some(there.commit);
    }
    let staged = gather(volume, staging, &candidate)?;
    let publication = Publication {
        model: &candidate.model,
        commit: candidate.commit,
        staged: &staged,
        sums: &candidate.sums,
        metadata: &candidate.metadata,
        source: origin.source,
        file: origin.file,
        unverified: unverified.clone(),
        keep: None,
    };
    publish(volume, staging, &publication)?;
    let done = Done {
        path: entry::published_path(task, &name),
        commit: Some(candidate.commit),
        manifest: Some(candidate.sums.manifest(candidate.bytes)),
        unverified,
        ..Done::default()
    };
    Ok(Finished::with(done, candidate.metadata))
}

/// Puts each file where the model has it, in the staging; gives those that the snapshot does not have yet.
fn gather(volume: &Volume, staging: &Staging, candidate: &Candidate) -> Result<Vec<RelPath>, EngineError> {
    let snapshot = layout::snapshot(&candidate.model.repo, &candidate.commit);
    let mut staged = Vec::new();
    for (path, kept) in &candidate.files {
        let below = snapshot.join(path.as_path());
        match entry::digest(volume, &below)? {
            None => staged.push(path.clone()),
            Some(found) if found == kept.hashed.sha256 => {}
            Some(found) => {
                return Err(EngineError::Conflict {
                    path: below.display().to_string(),
                    expected: kept.hashed.sha256.to_string(),
                    found: found.to_string(),
                });
            }
        }
    }
    let copies = candidate.files.values().filter(|kept| kept.is_copy);
    let (bytes, files) = copies.fold((0_u64, 0), |(bytes, files), kept| (bytes.saturating_add(kept.size), files + 1));
    volume.check_space(bytes, files).map_err(EngineError::Volume)?;
    follow_links(volume, staging, candidate).map_err(EngineError::Volume)?;
    Ok(staged)
}

/// Moves what lies beside the model to its first name, then copies it to the others.
fn follow_links(volume: &Volume, staging: &Staging, candidate: &Candidate) -> Result<(), VolumeError> {
    let mut moved: HashMap<PathBuf, PathBuf> = HashMap::new();
    let spare = |kept: &Kept| matches!(kept.stored, Stored::Spare(_));
    for (path, kept) in candidate.files.iter().filter(|(_, kept)| spare(kept) && !kept.is_copy) {
        let (from, to) = (place(staging, &kept.stored), staging.file(path));
        volume.root().rename(&from, &to)?;
        moved.insert(from, to);
    }
    for (path, kept) in candidate.files.iter().filter(|(_, kept)| kept.is_copy) {
        let from = place(staging, &kept.stored);
        staging.copy(volume, moved.get(&from).unwrap_or(&from), path)?;
    }
    Ok(())
}
