//! The adoption of a model that is on the volume already: it is read whole, and nothing is written or fetched.

use super::entry;
use super::policy::{check_files, check_repo};
use super::progress::Progress;
use super::rehash;
use super::volume::{Dir, Volume, VolumeError};
use super::{EngineError, Finished, before, blocking};
use crate::format::layout;
use crate::format::task::{Adopt, Task};
use crate::ident::{EntryName, Sha256};
use std::path::Path;
use std::sync::Arc;

/// Reads an entry's files again; where all of them are what its list says, the task is done.
pub(super) async fn run(task: &Task, adopt: &Adopt, progress: &Arc<Progress>) -> Result<Finished, EngineError> {
    let (task, adopt, progress) = (task.clone(), adopt.clone(), Arc::clone(progress));
    blocking(move || {
        let volume = rehash::look(&task.volume, task.sub_path.as_ref())?;
        here(&volume, &task, &adopt, &progress)
    })
    .await
}

fn here(volume: &Volume, task: &Task, adopt: &Adopt, progress: &Progress) -> Result<Finished, EngineError> {
    let (model, name) = (&adopt.model, adopt.model.entry_name());
    let policy = task.policy.as_ref();
    check_repo(policy, &model.repo).map_err(EngineError::Policy)?;
    // What is another one, or is not allowed, is told before gigabytes are read.
    if let Some(there) = entry::read(volume, &layout::entry(&name))? {
        let found = there.sums.digest();
        if let Some(wanted) = adopt.manifest.filter(|wanted| *wanted != found) {
            return Err(EngineError::OtherEntry { model: model.to_string(), wanted, found });
        }
        let files = there.sums.iter().map(|(path, _)| path.as_str());
        check_files(policy, &format!("{model} on the volume"), files).map_err(EngineError::Policy)?;
    }
    let verification = rehash::verify(volume, Some(model), progress)?;
    if let Some(reason) = verification.reason() {
        let gravest = verification.problems().find(|(_, problem)| problem.reason() == reason);
        let problem = gravest.map(|(_, problem)| format!("{}: {problem}", problem.kind())).unwrap_or_default();
        let others = verification.problems().count().saturating_sub(1);
        return Err(EngineError::Unfit { model: model.to_string(), problem, others, reason });
    }
    let found = before::finished(volume, task, model, None, |sums| {
        adopt.manifest.is_none_or(|wanted| wanted == sums.digest())
    })?;
    // It was whole a moment ago: somebody removed or replaced it meanwhile.
    let gone = || EngineError::NotOnVolume {
        model: model.to_string(),
        path: volume.root().shown(Path::new("")),
        others: Vec::new(),
    };
    let mut finished = found.ok_or_else(gone)?;
    if let Some(manifest) = finished.done.manifest {
        finished.done.unverified = unverified(volume.root(), &name, &manifest.sha256).map_err(EngineError::Volume)?;
    }
    Ok(finished)
}

/// Why the bytes were not proved when they were published: what every record of a source of this entry says.
fn unverified(root: &Dir, name: &EntryName, manifest: &Sha256) -> Result<Option<String>, VolumeError> {
    let Some(records) = root.open_dir(&layout::sources())? else { return Ok(None) };
    let mut why = None;
    for file in records.list()? {
        // One that cannot be read says nothing.
        let Some(record) = before::record(&records, file.as_ref()).unwrap_or_default() else { continue };
        if record.entry != *name || record.manifest != *manifest {
            continue;
        }
        match record.unverified {
            None => return Ok(None),
            some => why = some,
        }
    }
    Ok(why)
}
