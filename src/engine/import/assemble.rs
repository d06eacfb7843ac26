//! From what lay in an archive to the model that it holds: links followed, lists compared, nothing written.

use super::ImportError;
use super::store::Stored;
use super::unpack::{File, Stop, Unpacked};
use crate::engine::hash::Hashed;
use crate::format::archive::{ArchiveError, Budget, Told, resolve};
use crate::format::layout;
use crate::format::metadata::ModelMetadata;
use crate::format::sums::Sums;
use crate::ident::{COMPONENT_MAX_BYTES, Commit, ModelRef, RelPath};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A file of the model.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Where it lies now.
    pub(super) stored: Stored,
    /// Whether it is another name's file too, and so has to be copied.
    pub(super) is_copy: bool,
    pub(super) size: u64,
    pub(super) hashed: Hashed,
}

/// The model in an archive.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) model: ModelRef,
    /// With the commit and the size that it is published with.
    pub(super) metadata: ModelMetadata,
    pub(super) commit: Commit,
    /// Whether the archive itself names the commit.
    pub(super) names_commit: bool,
    pub(super) files: BTreeMap<RelPath, Kept>,
    pub(super) sums: Sums,
    pub(super) bytes: u64,
    /// Whether the archive's own list proves the files.
    pub(super) is_proved: bool,
    /// What was left out beside the model.
    pub(super) left_out: Told,
}

/// Puts the model together. `origin` is what a person calls the archive.
pub(super) fn assemble(
    unpacked: Unpacked,
    metadata: Option<ModelMetadata>,
    budget: &Budget,
    origin: &str,
) -> Result<Candidate, Stop> {
    let Unpacked { mut contents, files, sums } = unpacked;
    let kept = keep(&contents, &files, budget)?;
    let used: HashSet<&Stored> = kept.values().map(|kept| &kept.stored).collect();
    let spare =
        files.iter().filter(|(file, _)| matches!(file.stored, Stored::Spare(_)) && !used.contains(&file.stored));
    spare.for_each(|(file, _)| contents.leave_out(&file.path));
    let left_out = contents.finish()?;
    // The structure was complete, so the metadata was seen.
    let mut metadata = metadata.ok_or(crate::engine::EngineError::Crashed)?;
    let is_proved = match sums {
        None => false,
        Some(text) => {
            let text = String::from_utf8(text).map_err(|_| ArchiveError::Damaged {
                member: Some(layout::SUMS.to_owned()),
                why: "it is not text".to_owned(),
            })?;
            prove(&Sums::parse(&text).map_err(ArchiveError::Sums)?, &kept, origin)?;
            true
        }
    };
    let sums: Sums = kept.iter().map(|(path, kept)| (path.clone(), kept.hashed.sha256)).collect();
    let bytes = kept.values().map(|kept| kept.size).sum();
    if let Some(said) = metadata.size_in_bytes.filter(|said| *said != bytes) {
        tracing::warn!("the metadata in {origin} says {said} bytes, and the files have {bytes}: the latter is kept");
    }
    let model = metadata.key.model().clone();
    let length = model.entry_name().as_str().len();
    if length > COMPONENT_MAX_BYTES {
        let model = model.to_string();
        return Err(crate::engine::EngineError::Import(ImportError::EntryName { model, length }).into());
    }
    let names_commit = metadata.commit_hash.is_some();
    let commit = metadata.commit_hash.unwrap_or_else(|| derived(&sums));
    metadata.commit_hash = Some(commit);
    metadata.size_in_bytes = Some(bytes);
    Ok(Candidate { model, metadata, commit, names_commit, files: kept, sums, bytes, is_proved, left_out })
}

/// The snapshot's name of a model that was imported without a commit (design 3).
fn derived(sums: &Sums) -> Commit {
    let digest = sums.digest().to_string();
    let mut bytes = [0; 20];
    for (byte, pair) in bytes.iter_mut().zip(digest.as_bytes().chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default().to_le_bytes()[0];
        *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
    Commit::from_bytes(bytes)
}

/// The files of the model by their names in it, links followed.
fn keep(
    contents: &crate::format::archive::Contents,
    files: &[(File, Hashed)],
    budget: &Budget,
) -> Result<BTreeMap<RelPath, Kept>, ArchiveError> {
    let pointer = |path: &RelPath| ArchiveError::Pointer { member: path.to_string() };
    let by_path: HashMap<&RelPath, usize> = files.iter().enumerate().map(|(at, (file, _))| (&file.path, at)).collect();
    let mut kept = BTreeMap::new();
    for (file, hashed) in files {
        if let Stored::Model(path) = &file.stored {
            if file.is_pointer {
                return Err(pointer(&file.path));
            }
            let (stored, size, hashed) = (file.stored.clone(), file.size, *hashed);
            kept.insert(path.clone(), Kept { stored, is_copy: false, size, hashed });
        }
    }
    let mut moved = HashSet::new();
    for (link, to) in resolve(contents, |path| by_path.contains_key(path))? {
        let (Some(path), Some(at)) = (below_model(link), by_path.get(to)) else { continue };
        let (file, hashed) = &files[*at];
        if file.is_pointer {
            return Err(pointer(link));
        }
        budget.unpack(file.size)?;
        // A file beside the model becomes its first name; everything else is a copy.
        let is_copy = matches!(file.stored, Stored::Model(_)) || moved.contains(at);
        moved.insert(*at);
        kept.insert(path, Kept { stored: file.stored.clone(), is_copy, size: file.size, hashed: *hashed });
    }
    Ok(kept)
}

/// A name in the archive as one in the model; none if it is outside of it.
fn below_model(path: &RelPath) -> Option<RelPath> {
    let (_, below) = path.as_str().split_once('/')?;
    below.strip_prefix(layout::MODEL)?.strip_prefix('/')?.parse().ok()
}

/// Holds the archive's own list against its files.
fn prove(listed: &Sums, kept: &BTreeMap<RelPath, Kept>, origin: &str) -> Result<(), Stop> {
    let wrong = |path: &RelPath, what: String| {
        let path = format!("{}/{path}", layout::MODEL);
        let error = ImportError::Sums { origin: origin.to_owned(), path, what };
        Err(crate::engine::EngineError::Import(error).into())
    };
    for (path, kept) in kept {
        let found = kept.hashed.sha256;
        match listed.get(path) {
            None => return wrong(path, "is not in its SHA256SUMS".to_owned()),
            Some(expected) if expected != found => {
                return wrong(path, format!("has sha256 {found}, and its SHA256SUMS says {expected}"));
            }
            Some(_) => {}
        }
    }
    match listed.iter().find(|(path, _)| !kept.contains_key(path) && !crate::format::archive::is_left_out(path)) {
        Some((path, _)) => wrong(path, "is in its SHA256SUMS and is missing".to_owned()),
        None => Ok(()),
    }
}
