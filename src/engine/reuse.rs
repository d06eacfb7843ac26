//! What a download need not fetch: files that the snapshot has already, and those of other snapshots of the repo.
//!
//! A name, a list and a commit prove nothing: every file is hashed before it is used.

use super::download::Ready;
use super::hash::{Hashed, Hasher};
use super::owners;
use super::plan::{Plan, PlannedFile};
use super::volume::{Staging, Volume, VolumeError};
use super::{EngineError, verify};
use crate::format::layout;
use crate::ident::{FileDigest, Sha256};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;

/// The digests of some files, by their numbers in the plan.
pub(super) type Digests = HashMap<usize, Sha256>;

/// Hashes the files that the snapshot has already. A conflict with them is seen before a byte is fetched.
pub(super) async fn published(ready: &Ready) -> Result<Digests, EngineError> {
    let (volume, plan) = (Arc::clone(&ready.volume), Arc::clone(&ready.plan));
    each(ready, &ready.published, move |number| check(&volume, &plan, &plan.files[number]).map(Some)).await
}

/// Brings what other snapshots have into the staging; it is not missing any more. Checks that the rest fits.
pub(super) async fn bring(ready: &mut Ready) -> Result<Digests, EngineError> {
    let mut numbers: Vec<usize> = ready.elsewhere.keys().copied().collect();
    numbers.sort_unstable();
    let (volume, plan, staging) = (Arc::clone(&ready.volume), Arc::clone(&ready.plan), Arc::clone(&ready.staging));
    let elsewhere = std::mem::take(&mut ready.elsewhere);
    let brought = each(ready, &numbers, move |number| {
        let places = elsewhere.get(&number).map(Vec::as_slice).unwrap_or_default();
        bring_one(&volume, &staging, &plan.files[number], places)
    });
    let brought = brought.await?;
    ready.missing.retain(|number| !brought.contains_key(number));
    ready.rooms.retain(|number, _| !brought.contains_key(number));
    ready.check_space(|_| true).map_err(EngineError::Volume)?;
    Ok(brought)
}

/// Does something with each of some files, on several threads, and counts those that it gives a digest of.
async fn each(
    ready: &Ready,
    numbers: &[usize],
    work: impl Fn(usize) -> Result<Option<Sha256>, EngineError> + Send + Sync + 'static,
) -> Result<Digests, EngineError> {
    let work = Arc::new(work);
    let mut digests = Digests::new();
    // Dropped on the first failure, and with it all the other files' tasks.
    let mut running = JoinSet::new();
    let mut numbers = numbers.iter().copied();
    loop {
        while running.len() < verify::threads() {
            let Some(number) = numbers.next() else { break };
            let work = Arc::clone(&work);
            running.spawn_blocking(move || Ok::<_, EngineError>((number, work(number)?)));
        }
        let Some(joined) = running.join_next().await else { return Ok(digests) };
        let (number, sha256) = joined.map_err(|_| EngineError::Crashed)??;
        let Some(sha256) = sha256 else { continue };
        digests.insert(number, sha256);
        ready.progress.done(ready.plan.files[number].size);
        ready.progress.file_done();
    }
}

/// Hashes a file that the snapshot has already.
fn check(volume: &Volume, plan: &Plan, file: &PlannedFile) -> Result<Sha256, EngineError> {
    let below = layout::snapshot(&plan.model.repo, &plan.commit).join(file.path.as_path());
    let found = hash(volume, &below, file).map_err(EngineError::Volume)?;
    if found.digest == file.digest {
        return Ok(found.sha256);
    }
    Err(EngineError::Conflict {
        path: below.display().to_string(),
        expected: file.digest.to_string(),
        found: found.digest.to_string(),
    })
}

fn hash(volume: &Volume, below: &Path, file: &PlannedFile) -> Result<Hashed, VolumeError> {
    let mut hasher = Hasher::new(&file.digest, file.size);
    if let Some((open, _)) = volume.root().open_file(below)? {
        let read = hasher.read(open);
        read.map_err(|error| VolumeError::new("read", &volume.root().shown(below), error))?;
    }
    Ok(hasher.finish())
}

/// Where other snapshots of the repo may have some of a plan's files. The Hub promises a SHA-256 of large files, which lists have
/// too; of a small one a file of the same name and size will do, as it is hashed in no time.
pub(super) fn places(
    volume: &Volume,
    plan: &Plan,
    numbers: impl Iterator<Item = usize>,
) -> HashMap<usize, Vec<PathBuf>> {
    // Whatever is wrong with what is there, it is no failure of this download.
    let lists = owners::of_repo(volume, &plan.model.repo, Some(&plan.model)).unwrap_or_default();
    let mut by_digest: HashMap<Sha256, Vec<PathBuf>> = HashMap::new();
    for list in &lists {
        let snapshot = layout::snapshot(&plan.model.repo, &list.entry.commit);
        for (path, sha256) in list.entry.sums.iter() {
            by_digest.entry(*sha256).or_default().push(snapshot.join(path.as_path()));
        }
    }
    let commits: HashSet<_> =
        lists.iter().map(|list| list.entry.commit).filter(|commit| *commit != plan.commit).collect();
    let of_size = |size: u64| move |place: &PathBuf| matches!(volume.root().open_file(place), Ok(Some((_, found))) if found == size);
    let found = numbers.filter_map(|number| {
        let file = &plan.files[number];
        let mut places = match &file.digest {
            FileDigest::Sha256(sha256) => by_digest.get(sha256).cloned().unwrap_or_default(),
            FileDigest::GitBlob(_) => {
                let snapshots = commits.iter().map(|commit| layout::snapshot(&plan.model.repo, commit));
                snapshots.map(|snapshot| snapshot.join(file.path.as_path())).collect()
            }
        };
        places.sort_unstable();
        places.dedup();
        places.retain(of_size(file.size));
        // An empty file costs no request.
        (file.size > 0 && !places.is_empty()).then_some((number, places))
    });
    found.collect()
}

/// Brings a file from the first place that has its bytes; none if no place has.
fn bring_one(
    volume: &Volume,
    staging: &Staging,
    file: &PlannedFile,
    places: &[PathBuf],
) -> Result<Option<Sha256>, EngineError> {
    for place in places {
        match hash(volume, place, file) {
            Ok(found) if found.digest == file.digest => {
                staging.bring(volume, place, &file.path, file.size).map_err(EngineError::Volume)?;
                return Ok(Some(found.sha256));
            }
            // The file of the same name in another commit is another one, as a rule; one with a list's digest should be it.
            Ok(_) if matches!(file.digest, FileDigest::GitBlob(_)) => {}
            Ok(_) => {
                tracing::warn!("{} has other bytes than its entry lists: {} is fetched", place.display(), file.path);
            }
            Err(error) => tracing::warn!("{error}: {} is fetched", file.path),
        }
    }
    Ok(None)
}
