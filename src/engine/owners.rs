//! Who lists a file: the one place that knows it, and the removal of what nobody lists.
//!
//! An entry lists its files. Besides, it owns lists in `.modelcache`, each in the form of an entry's folder: of snapshots that it
//! had before and keeps, and of what is being published. So a file in a snapshot is listed by somebody from before it is there
//! until after it is gone, whatever is killed in between.

use super::EngineError;
use super::entry::{self, Entry};
use super::publish::{point_at, references};
use super::volume::{Dir, Kind, Volume, VolumeError};
use crate::format::layout;
use crate::format::metadata::ModelMetadata;
use crate::format::sums::Sums;
use crate::ident::{Commit, EntryName, ModelRef, RepoId};
use std::path::{Path, PathBuf};

/// The longest reference that is read, in bytes.
const REFERENCE_MAX_BYTES: u64 = 16 * 1024;

/// What a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The entry itself.
    Entry,
    /// A snapshot that the entry had before.
    Kept,
    /// What is not whole: it is being published or removed, or was when the worker was killed.
    Begun,
}

/// A list of a snapshot's files, and whose it is.
#[derive(Debug, Clone)]
pub(super) struct List {
    pub(super) model: ModelRef,
    pub(super) role: Role,
    pub(super) folder: PathBuf,
    pub(super) entry: Entry,
}

/// What stays of the snapshots that an entry had before.
#[derive(Debug, Clone)]
pub(super) struct Keep {
    /// How many of them, the newest first.
    pub(super) older: u32,
    /// Which of them in any case.
    pub(super) mounted: Vec<Commit>,
}

/// All lists of a repo's files. One that cannot be read is an error, except a damaged one of `own`, which says nothing.
pub(super) fn of_repo(volume: &Volume, repo: &RepoId, own: Option<&ModelRef>) -> Result<Vec<List>, EngineError> {
    let mut found = Vec::new();
    let is_ours = |model: &ModelRef| model.repo == *repo;
    for (name, model) in names(volume, Path::new(layout::ENTRIES), is_ours)? {
        let folder = layout::entry(&name);
        let read = entry::read(volume, &folder);
        let read = if own == Some(&model) { undamaged(read)? } else { read? };
        found.extend(read.map(|entry| List { model, role: Role::Entry, folder, entry }));
    }
    for parent in [layout::all_kept(), layout::all_begun()] {
        for (_, model) in names(volume, &parent, is_ours)? {
            found.extend(beside(volume, &parent, &model, own == Some(&model))?);
        }
    }
    Ok(found)
}

/// The lists that an entry owns beside its own.
pub(super) fn beside_entry(volume: &Volume, model: &ModelRef) -> Result<Vec<List>, EngineError> {
    let mut found = beside(volume, &layout::all_kept(), model, false)?;
    found.extend(beside(volume, &layout::all_begun(), model, false)?);
    Ok(found)
}

fn beside(volume: &Volume, parent: &Path, model: &ModelRef, or_damaged: bool) -> Result<Vec<List>, EngineError> {
    let role = if parent == layout::all_kept() { Role::Kept } else { Role::Begun };
    let parent = parent.join(model.entry_name().as_str());
    let mut found = Vec::new();
    for name in list(volume, &parent)? {
        let folder = parent.join(name);
        let read = entry::read(volume, &folder);
        let read = if or_damaged { undamaged(read)? } else { read? };
        found.extend(read.map(|entry| List { model: model.clone(), role, folder, entry }));
    }
    Ok(found)
}

/// None where an entry is damaged: what it listed is not known any more.
pub(super) fn undamaged(read: Result<Option<Entry>, EngineError>) -> Result<Option<Entry>, EngineError> {
    match read {
        Err(EngineError::Damaged { .. }) => Ok(None),
        other => other,
    }
}

fn names(
    volume: &Volume,
    parent: &Path,
    is_meant: impl Fn(&ModelRef) -> bool,
) -> Result<Vec<(EntryName, ModelRef)>, EngineError> {
    let parse = |name: std::ffi::OsString| {
        // What has no entry's name is nobody's.
        let name = name.to_str()?.parse::<EntryName>().ok()?;
        let model = name.model().ok().filter(&is_meant)?;
        Some((name, model))
    };
    Ok(list(volume, parent)?.into_iter().filter_map(parse).collect())
}

fn list(volume: &Volume, folder: &Path) -> Result<Vec<std::ffi::OsString>, EngineError> {
    let folder = volume.root().open_dir(folder).map_err(EngineError::Volume)?;
    folder.map_or(Ok(Vec::new()), |folder| folder.list().map_err(EngineError::Volume))
}

/// Writes a list in addition to what it says already.
pub(super) fn add(volume: &Volume, folder: &Path, sums: &Sums, metadata: &ModelMetadata) -> Result<(), EngineError> {
    let before = undamaged(entry::read(volume, folder))?;
    let both = before.iter().flat_map(|before| before.sums.iter()).chain(sums.iter());
    let both: Sums = both.map(|(path, sha256)| (path.clone(), *sha256)).collect();
    let steps = || -> Result<(), VolumeError> {
        volume.root().write(&folder.join(layout::SUMS), both.to_string().as_bytes())?;
        // The last one: only with it the list is one.
        volume.root().write(&folder.join(layout::METADATA), metadata.to_json().as_bytes())
    };
    steps().map_err(EngineError::Volume)
}

/// Keeps the list of an entry that is about to be replaced by another commit or another choice of files.
pub(super) fn retire(volume: &Volume, model: &ModelRef, commit: &Commit, sums: &Sums) -> Result<(), EngineError> {
    let name = model.entry_name();
    match undamaged(entry::read(volume, &layout::entry(&name)))? {
        Some(old) if old.commit != *commit || old.sums.digest() != sums.digest() => {
            add(volume, &layout::kept(&name, &old.commit), &old.sums, &old.metadata)
        }
        _ => Ok(()),
    }
}

/// Brings in order what a published entry owns beside its list: what was begun and is no more, and the snapshots that it had
/// before, of which only some stay, or all.
pub(super) fn settle(volume: &Volume, model: &ModelRef, keep: Option<&Keep>) -> Result<(), EngineError> {
    let name = model.entry_name();
    let (kept, begun) = (layout::all_kept().join(name.as_str()), layout::all_begun().join(name.as_str()));
    let is_there = |folder| volume.root().kind(folder).map(|kind| kind.is_some()).map_err(EngineError::Volume);
    if !is_there(&kept)? && !is_there(&begun)? {
        return Ok(());
    }
    let mut lists = of_repo(volume, &model.repo, Some(model))?;
    let Some(now) = lists.iter().find(|list| list.role == Role::Entry && list.model == *model) else { return Ok(()) };
    let now = now.entry.commit;
    if lists.iter().any(|list| list.role == Role::Begun && list.model == *model && list.entry.commit != now) {
        // Somebody was killed after the references were switched, and before the entry was.
        point_at(volume, model, &now).map_err(EngineError::Volume)?;
    }
    // The newest first.
    lists.sort_by_key(|list| std::cmp::Reverse((list.entry.metadata.download_date, list.entry.commit.to_string())));
    let mut room = keep.map_or(0, |keep| keep.older);
    let goes = |list: &List| {
        let commit = list.entry.commit;
        match (list.role, keep) {
            _ if list.model != *model => false,
            (Role::Entry, _) | (Role::Kept, None) => false,
            (Role::Begun, _) => true,
            (Role::Kept, Some(keep)) => {
                let is_older = commit != now && room > 0;
                room -= u32::from(is_older);
                !is_older && !keep.mounted.contains(&commit)
            }
        }
    };
    let (gone, stay): (Vec<List>, Vec<List>) = lists.into_iter().partition(goes);
    let gone = gone.into_iter().map(|list| let_go(volume, list)).collect::<Result<Vec<List>, EngineError>>()?;
    release(volume, &gone, &stay)?;
    let stays = |folder: &Path| stay.iter().any(|list| list.folder == folder);
    for parent in [begun, kept] {
        for folder in list(volume, &parent)?.into_iter().map(|name| parent.join(name)) {
            // What is left is damaged, or never was whole.
            let is_known = stays(&folder) || (keep.is_none() && parent.starts_with(layout::all_kept()));
            if !is_known {
                forget(volume.root(), &folder).map_err(EngineError::Volume)?;
            }
        }
        volume.root().remove_empty(&parent).map_err(EngineError::Volume)?;
    }
    Ok(())
}

/// Removes everything that an entry owns which does not exist any more: `itself`, and what it had beside it.
pub(super) fn disown(volume: &Volume, model: &ModelRef, itself: Option<Entry>) -> Result<(), EngineError> {
    let (own, others): (Vec<List>, Vec<List>) =
        of_repo(volume, &model.repo, Some(model))?.into_iter().partition(|list| list.model == *model);
    // The same entry may have been made again since.
    let (again, mut own): (Vec<List>, Vec<List>) = own.into_iter().partition(|list| list.role == Role::Entry);
    let mut others = others;
    if !again.is_empty() {
        others.extend(again);
        others.append(&mut own);
    }
    let is_again = others.iter().any(|list| list.model == *model);
    if let Some(entry) = itself {
        // Its folder is its owner's to remove, when all is done.
        let folder = PathBuf::new();
        own.push(List { model: model.clone(), role: Role::Entry, folder, entry });
    }
    release(volume, &own, &others)?;
    if is_again {
        return Ok(());
    }
    let name = model.entry_name();
    for parent in [layout::all_begun(), layout::all_kept()] {
        for folder in list(volume, &parent.join(name.as_str()))? {
            let folder = parent.join(name.as_str()).join(folder);
            forget(volume.root(), &folder).map_err(EngineError::Volume)?;
        }
        volume.root().remove_empty(&parent.join(name.as_str())).map_err(EngineError::Volume)?;
    }
    Ok(())
}

/// A snapshot that goes is kept no more before its first file goes: if this is killed, the next run must not take it for whole.
fn let_go(volume: &Volume, list: List) -> Result<List, EngineError> {
    if list.role != Role::Kept {
        return Ok(list);
    }
    let folder = layout::begun(&list.model.entry_name(), &list.entry.commit);
    add(volume, &folder, &list.entry.sums, &list.entry.metadata)?;
    forget(volume.root(), &list.folder).map_err(EngineError::Volume)?;
    Ok(List { role: Role::Begun, folder, ..list })
}

/// Removes the files that only lists name which are going, each list after its files.
fn release(volume: &Volume, gone: &[List], stay: &[List]) -> Result<(), EngineError> {
    let steps = || -> Result<(), VolumeError> {
        for list in gone {
            remove_files(volume, &list.model.repo, &list.entry, stay)?;
        }
        for list in gone.iter().filter(|list| list.role != Role::Entry) {
            forget(volume.root(), &list.folder)?;
        }
        Ok(())
    };
    steps().map_err(EngineError::Volume)
}

/// Removes a list. Without its metadata it is none, so that goes first.
fn forget(root: &Dir, folder: &Path) -> Result<(), VolumeError> {
    root.remove_file(&folder.join(layout::METADATA))?;
    root.remove_all(folder)
}

/// Removes the files that only the list that goes names, and what then is empty.
fn remove_files(volume: &Volume, repo: &RepoId, gone: &Entry, stay: &[List]) -> Result<(), VolumeError> {
    let root = volume.root();
    let snapshot = layout::snapshot(repo, &gone.commit);
    let same: Vec<&Entry> = stay.iter().map(|list| &list.entry).filter(|entry| entry.commit == gone.commit).collect();
    for (path, _) in gone.sums.iter() {
        if same.iter().any(|keeper| keeper.sums.get(path).is_some()) {
            continue;
        }
        root.remove_file(&snapshot.join(path.as_path()))?;
        for folder in path.as_path().ancestors().skip(1) {
            if folder.as_os_str().is_empty() || !root.remove_empty(&snapshot.join(folder))? {
                break;
            }
        }
    }
    if same.is_empty() {
        let folder = layout::references(repo);
        if let Some(folder) = root.open_dir(&folder)? {
            remove_references(&folder, &gone.commit)?;
        }
        restore_references(root, stay)?;
        root.remove_empty(&snapshot)?;
        root.remove_empty(&layout::snapshots(repo))?;
        root.remove_empty(&folder)?;
        root.remove_empty(&layout::repo(repo))?;
    }
    Ok(())
}

/// Removes the references to a commit, and the folders in which none is left.
fn remove_references(folder: &Dir, commit: &Commit) -> Result<(), VolumeError> {
    for name in folder.list()? {
        let name = Path::new(&name);
        match folder.kind(name)? {
            Some(Kind::Folder) => {
                if let Some(inner) = folder.open_dir(name)? {
                    remove_references(&inner, commit)?;
                }
                folder.remove_empty(name)?;
            }
            Some(Kind::File) => {
                let text = folder.read(name, REFERENCE_MAX_BYTES)?.unwrap_or_default();
                // No reference begins with a dot: that is what a killed writer left.
                let is_partial = name.to_string_lossy().starts_with('.');
                if is_partial || String::from_utf8_lossy(&text).trim() == commit.to_string() {
                    folder.remove_file(name)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A reference that several entries gave in turn falls back to the newest entry that is left.
fn restore_references(root: &Dir, stay: &[List]) -> Result<(), VolumeError> {
    let mut entries: Vec<&List> = stay.iter().filter(|list| list.role == Role::Entry).collect();
    entries.sort_by_key(|list| std::cmp::Reverse(list.entry.metadata.download_date));
    for List { model, entry, .. } in entries {
        for revision in references(model, false) {
            let place = layout::reference(&model.repo, &revision);
            if root.kind(&place)?.is_none() {
                root.write(&place, entry.commit.to_string().as_bytes())?;
            }
        }
    }
    Ok(())
}
