//! Publication, in the order that makes it atomic (design 3): whoever is killed at any instant leaves either no entry or a
//! whole one, and nothing that was verified is lost.

use super::EngineError;
use super::entry;
use super::owners::{self, Keep};
use super::volume::{Dir, Kind, Staging, Volume, VolumeError, remove_stagings};
use crate::format::layout::{self, FileStamp, SourceRecord};
use crate::format::metadata::ModelMetadata;
use crate::format::sums::Sums;
use crate::ident::{Commit, ModelRef, RelPath, Revision, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The longest reference that is read, in bytes.
const REFERENCE_MAX_BYTES: u64 = 4096;

/// What is published.
pub(super) struct Publication<'a> {
    pub(super) model: &'a ModelRef,
    pub(super) commit: Commit,
    /// The files that lie in the staging; the others are in the snapshot already.
    pub(super) staged: &'a [RelPath],
    pub(super) sums: &'a Sums,
    pub(super) metadata: &'a ModelMetadata,
    /// What need not be done again; none where nobody can tell what that was.
    pub(super) source: Option<Sha256>,
    /// The file that it was.
    pub(super) file: Option<FileStamp>,
    /// Why the bytes are not proved, where they are not.
    pub(super) unverified: Option<String>,
    /// What stays of the snapshots that the entry had before; none: all of them.
    pub(super) keep: Option<Keep>,
}

/// Publishes. Every step may be done a second time.
pub(super) fn publish(volume: &Volume, staging: &Staging, publication: &Publication<'_>) -> Result<(), EngineError> {
    let name = publication.model.entry_name();
    entry::check_place(volume, publication.model).map_err(EngineError::Volume)?;
    let Publication { model, commit, sums, metadata, source, file, ref unverified, ref keep, staged: _ } = *publication;
    // First of all, so that who never comes back for it can still be tidied up after: whose work this source is …
    let known = SourceRecord { entry: name.clone(), manifest: sums.digest(), file, unverified: unverified.clone() };
    record(volume, staging, source, &known).map_err(EngineError::Volume)?;
    // … and whose files these are.
    owners::add(volume, &layout::begun(&name, &commit), sums, metadata)?;
    let steps = || -> Result<(), VolumeError> {
        place_files(volume, staging, publication)?;
        write_references(volume, model, &commit)?;
        place_view(volume, &staging.path("view"), model, &commit)
    };
    steps().map_err(EngineError::Volume)?;
    owners::retire(volume, model, &commit, sums)?;
    place_entry(volume, staging, publication).map_err(EngineError::Volume)?;
    remove_stagings(volume, &layout::staging_prefix(model), None).map_err(EngineError::Volume)?;
    owners::settle(volume, model, keep.as_ref())
}

/// Remembers where a source ended.
pub(super) fn record(
    volume: &Volume,
    staging: &Staging,
    source: Option<Sha256>,
    record: &SourceRecord,
) -> Result<(), VolumeError> {
    let Some(source) = source else { return Ok(()) };
    let text = serde_json::json!(record).to_string();
    volume.root().write_by_way_of(&staging.path("record"), &layout::source(&source), text.as_bytes())
}

/// Moves the staged files into the snapshot: the folder as a whole, or one by one where the snapshot exists.
fn place_files(volume: &Volume, staging: &Staging, publication: &Publication<'_>) -> Result<(), VolumeError> {
    let Publication { model, commit, .. } = publication;
    let snapshot = layout::snapshot(&model.repo, commit);
    let snapshots = volume.root().make_dir(&layout::snapshots(&model.repo))?;
    let paths: Vec<&RelPath> = publication.staged.iter().collect();
    if volume.root().kind(&snapshot)?.is_none() {
        // Somebody may have taken the staging away: what is left must not become a model without its files.
        for path in &paths {
            let place = staging.file(path);
            if volume.root().kind(&place)? != Some(Kind::File) {
                let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(VolumeError::new("find", &volume.root().shown(&place), gone));
            }
        }
        sync_folders(volume.root(), &staging.files(), &paths)?;
        volume.root().rename(&staging.files(), &snapshot)?;
    } else {
        for path in &paths {
            volume.root().rename(&staging.file(path), &snapshot.join(path.as_path()))?;
        }
        sync_folders(volume.root(), &snapshot, &paths)?;
    }
    snapshots.sync()
}

/// Makes durable the names in every folder that one of the paths lies in, from `base` on.
fn sync_folders(root: &Dir, base: &Path, paths: &[&RelPath]) -> Result<(), VolumeError> {
    let mut folders = BTreeSet::from([PathBuf::new()]);
    for path in paths {
        folders.extend(path.as_path().ancestors().skip(1).map(Path::to_owned));
    }
    // The deepest first: a folder is on the disk before its name is.
    for folder in folders.iter().rev() {
        let dir = root.make_dir(&base.join(folder))?;
        dir.set_mode()?;
        dir.sync()?;
    }
    Ok(())
}

/// The names under which an entry's commit can be asked for. A commit needs none: its snapshot is found by it.
pub(super) fn references(model: &ModelRef, with_main: bool) -> Vec<Revision> {
    let mut references = Vec::new();
    let asked = model.revision_or_main();
    if with_main && asked.as_str() != Revision::DEFAULT {
        references.push(Revision::main());
    }
    if asked.as_commit().is_none() {
        references.push(asked);
    }
    references
}

fn write_references(volume: &Volume, model: &ModelRef, commit: &Commit) -> Result<(), VolumeError> {
    for revision in references(model, false) {
        volume.root().write(&layout::reference(&model.repo, &revision), commit.to_string().as_bytes())?;
    }
    Ok(())
}

/// Points the references and the view at the commit that the entry has.
pub(super) fn point_at(volume: &Volume, model: &ModelRef, commit: &Commit) -> Result<(), VolumeError> {
    write_references(volume, model, commit)?;
    let folder = layout::staging(&format!("{}view", layout::staging_prefix(model)));
    place_view(volume, &folder.join("view"), model, commit)?;
    volume.root().remove_all(&folder)
}

/// The view is replaced as a whole, and what was there is retired and not removed: a Pod that has it mounted keeps what it
/// started with, which would be nothing if its files were unlinked.
fn place_view(volume: &Volume, staged: &Path, model: &ModelRef, commit: &Commit) -> Result<(), VolumeError> {
    let root = volume.root();
    let name = model.entry_name();
    let place = layout::view(&name);
    let commit = commit.to_string();
    let references = references(model, true);
    let mut up_to_date = root.kind(&place)?.is_some();
    for revision in &references {
        let path = place.join(layout::REFS).join(revision.as_str());
        up_to_date = up_to_date && root.read(&path, REFERENCE_MAX_BYTES)?.as_deref() == Some(commit.as_bytes());
    }
    if up_to_date {
        return Ok(());
    }
    root.remove_all(staged)?;
    for revision in &references {
        root.write(&staged.join(layout::REFS).join(revision.as_str()), commit.as_bytes())?;
    }
    if root.kind(&place)?.is_none() {
        return replace(root, staged, &place, staged);
    }
    // The new one waits in the retired one's place, so that changing places retires the old one in the same instant.
    let retired = root.make_dir(&layout::retired_views(&name))?.list()?.len();
    let slot = layout::retired_views(&name).join(format!("{retired:06}"));
    root.rename(staged, &slot)?;
    replace(root, &slot, &place, &slot.with_extension("old"))
}

/// The entry's folder, last of all: with its name on the disk the entry exists.
fn place_entry(volume: &Volume, staging: &Staging, publication: &Publication<'_>) -> Result<(), VolumeError> {
    let Publication { model, commit, .. } = publication;
    let staged = staging.path("entry");
    volume.root().remove_all(&staged)?;
    let folder = volume.root().make_dir(&staged)?;
    folder.link_new(OsStr::new(layout::MODEL), &layout::model_link(&model.repo, commit))?;
    folder.write_new(OsStr::new(layout::SUMS), publication.sums.to_string().as_bytes())?;
    folder.write_new(OsStr::new(layout::METADATA), publication.metadata.to_json().as_bytes())?;
    folder.sync()?;
    replace(volume.root(), &staged, &layout::entry(&model.entry_name()), &staging.path("old-entry"))
}

/// Puts a staged folder in a place. What was there ends where the staged one was, or under `old`.
fn replace(root: &Dir, staged: &Path, place: &Path, old: &Path) -> Result<(), VolumeError> {
    if root.kind(place)?.is_none() {
        root.rename(staged, place)?;
    } else if !root.exchange(staged, place)? {
        replace_in_two_steps(root, staged, place, old)?;
    }
    match root.open_dir(place.parent().unwrap_or(Path::new("")))? {
        Some(parent) => parent.sync(),
        None => Ok(()),
    }
}

/// Where two folders cannot change places. A kill between the two steps leaves nothing in the place, and the next run
/// publishes again without fetching a file.
fn replace_in_two_steps(root: &Dir, staged: &Path, place: &Path, old: &Path) -> Result<(), VolumeError> {
    root.remove_all(old)?;
    root.rename(place, old)?;
    root.rename(staged, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_with_and_without_exchange() {
        for step in [replace, replace_in_two_steps] {
            let volume = tempfile::tempdir().unwrap();
            let root = Dir::open_root(volume.path()).unwrap();
            root.write(Path::new("new/x"), b"new").unwrap();
            root.write(Path::new("place/x"), b"old").unwrap();
            root.write(Path::new("old/y"), b"older").unwrap();
            step(&root, Path::new("new"), Path::new("place"), Path::new("old")).unwrap();
            assert_eq!(root.read(Path::new("place/x"), 9).unwrap().unwrap(), b"new");
        }
    }

    #[test]
    fn a_staging_that_was_taken_away_is_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let volume = Volume::open(folder.path(), None).unwrap();
        volume.prepare(Some(false), "p-").unwrap();
        let staging = Staging::open(&volume, "p-1", "p-").unwrap();
        let path: RelPath = "sub/config.json".parse().unwrap();
        staging.open_part(&path, 1).unwrap().0.write_at(b"a", 0).unwrap();
        remove_stagings(&volume, "p-", None).unwrap();
        let model = ModelRef { repo: "org/tiny".parse().unwrap(), revision: None };
        let sums: Sums = [(path.clone(), Sha256::from_bytes([7; 32]))].into_iter().collect();
        let commit = "7dbbc90392e2f80f3d3c277d6e90027e55de9125".parse().unwrap();
        let publication = Publication {
            model: &model,
            commit,
            staged: &[path],
            sums: &sums,
            metadata: &ModelMetadata { commit_hash: Some(commit), ..ModelMetadata::new(model.key(), String::new()) },
            source: None,
            file: None,
            unverified: None,
            keep: None,
        };
        let error = publish(&volume, &staging, &publication).unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        assert!(!folder.path().join("entries/org_2ftiny").exists());
    }
}
