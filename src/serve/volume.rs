//! A cache volume's entries as models. They come and go while they are served.

use super::catalog::{Offer, ServedFile, Stamp};
use super::digest;
use super::explain;
use super::folder::card;
use crate::engine::volume::{Dir, Volume, VolumeError};
use crate::format::layout;
use crate::format::metadata::{MetadataError, ModelMetadata};
use crate::format::sums::{SUMS_MAX_BYTES, Sums, SumsError};
use crate::ident::{Commit, EntryName, FileDigest, ModelKey, RelPath, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest metadata that is read, in bytes.
const METADATA_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// A folder that changed so short before it was read may have changed again within the same tick of its clock.
const SETTLED: Duration = Duration::from_secs(2);

/// Why one entry is not served. The others are.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error("its files cannot be opened")]
    Volume(#[source] VolumeError),
    #[error("its metadata is invalid")]
    Metadata(#[source] MetadataError),
    #[error("its metadata is not UTF-8")]
    NotText,
    #[error("its SHA256SUMS is missing")]
    NoSums,
    #[error("its list of files is invalid")]
    Sums(#[source] SumsError),
    #[error("{path} is listed, but not there")]
    Missing { path: RelPath },
    #[error("failed to read {path}")]
    Read { path: RelPath, source: io::Error },
    #[error("{path} is damaged: its SHA-256 is {found}, and SHA256SUMS says {listed}")]
    Damaged { path: RelPath, found: Sha256, listed: Sha256 },
}

/// The state of an entry's two files, by which a republication is noticed.
type Seal = (Stamp, Stamp);

/// The entries of a volume, as they were last seen.
#[derive(Debug)]
pub(super) struct Shelf {
    root: Arc<Dir>,
    entries: PathBuf,
    known: BTreeMap<EntryName, (Seal, Arc<Offer>)>,
    /// The folder's time of change that was last read, if it can be relied on.
    read_at: Option<SystemTime>,
}

impl Shelf {
    /// Opens a volume, and reads nothing yet.
    pub(super) fn open(path: &Path) -> Result<Self, VolumeError> {
        let volume = Volume::open(path, None)?;
        let root =
            Arc::new(volume.root().open_dir(Path::new(""))?.ok_or(VolumeError::Missing { path: path.to_owned() })?);
        Ok(Self { root, entries: path.join(layout::ENTRIES), known: BTreeMap::new(), read_at: None })
    }

    /// Looks whether entries came or went; true if it read them anew. Blocks.
    pub(super) fn refresh(&mut self, now: SystemTime) -> Result<bool, VolumeError> {
        let changed = std::fs::metadata(&self.entries).and_then(|metadata| metadata.modified()).ok();
        if changed.is_some() && changed == self.read_at {
            return Ok(false);
        }
        self.read()?;
        let settled = |changed: &SystemTime| now.duration_since(*changed).is_ok_and(|age| age > SETTLED);
        self.read_at = changed.filter(settled);
        Ok(true)
    }

    /// What the entries offer.
    pub(super) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.known.values().map(|(_, offer)| offer.as_ref())
    }

    fn read(&mut self) -> Result<(), VolumeError> {
        let listed = match self.root.open_dir(Path::new(layout::ENTRIES))? {
            Some(folder) => folder.list()?,
            None => Vec::new(),
        };
        let names: Vec<EntryName> = listed.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
        let loaded = digest::in_parallel(&names, |name| self.load(name));
        let mut known = BTreeMap::new();
        for (name, loaded) in names.into_iter().zip(loaded) {
            match loaded {
                Ok(Some(sealed)) => {
                    known.insert(name, sealed);
                }
                Ok(None) => {}
                // Not remembered, so that it is looked at again when anything in the folder changes.
                Err(error) => tracing::warn!("the entry {name} is not served: {}", explain(&error)),
            }
        }
        self.known = known;
        Ok(())
    }

    /// Reads an entry, unless it is as it was; none if it does not exist.
    fn load(&self, name: &EntryName) -> Result<Option<(Seal, Arc<Offer>)>, EntryError> {
        let folder = layout::entry(name);
        let Some(metadata_stamp) = self.stamp(&folder.join(layout::METADATA))? else { return Ok(None) };
        let sums_stamp = self.stamp(&folder.join(layout::SUMS))?.ok_or(EntryError::NoSums)?;
        let seal = (metadata_stamp, sums_stamp);
        if let Some((before, offer)) = self.known.get(name)
            && *before == seal
        {
            return Ok(Some((seal, Arc::clone(offer))));
        }
        let metadata = self.text(&folder.join(layout::METADATA), METADATA_MAX_BYTES)?;
        let sums = self.text(&folder.join(layout::SUMS), SUMS_MAX_BYTES as u64)?;
        let (Some(metadata), Some(sums)) = (metadata, sums) else { return Ok(None) };
        let metadata = ModelMetadata::parse(&metadata).map_err(EntryError::Metadata)?;
        let sums = Sums::parse(&sums).map_err(EntryError::Sums)?;
        Ok(Some((seal, Arc::new(self.offer(&metadata, &sums)?))))
    }

    fn offer(&self, metadata: &ModelMetadata, sums: &Sums) -> Result<Offer, EntryError> {
        let commit = metadata.commit_hash.unwrap_or_else(|| commit_of(sums));
        let model = ModelKey::model(&metadata.key).clone();
        let snapshot = layout::snapshot(&model.repo, &commit);
        let mut files = BTreeMap::new();
        for (path, sha256) in sums.iter() {
            let file = self.file(path, snapshot.join(path.as_path()), *sha256)?;
            files.insert(path.clone(), Arc::new(file));
        }
        let card = card(Some(metadata), &files);
        Ok(Offer { model, commit, rank: metadata.download_date.unwrap_or(0), card, files })
    }

    /// A listed file. Big ones are taken at their list's word: whoever downloads them hashes them anyway. Small ones must be
    /// read for git's digest, and are checked on the way.
    fn file(&self, path: &RelPath, place: PathBuf, listed: Sha256) -> Result<ServedFile, EntryError> {
        let opened = self.root.open_file(&place).map_err(EntryError::Volume)?;
        let (file, size) = opened.ok_or_else(|| EntryError::Missing { path: path.clone() })?;
        let read = |source| EntryError::Read { path: path.clone(), source };
        let root = Arc::clone(&self.root);
        if digest::in_lfs(path, size) {
            let stamp = Stamp::of(&file).map_err(read)?;
            return Ok(ServedFile { root, place, stamp, digest: FileDigest::Sha256(listed) });
        }
        let (found, git, stamp) = digest::both(&file).map_err(read)?;
        if found != listed {
            return Err(EntryError::Damaged { path: path.clone(), found, listed });
        }
        Ok(ServedFile { root, place, stamp, digest: FileDigest::GitBlob(git) })
    }

    fn stamp(&self, place: &Path) -> Result<Option<Stamp>, EntryError> {
        let opened = self.root.open_file(place).map_err(EntryError::Volume)?;
        // A file that was opened can be looked at; if not, it is as good as gone.
        Ok(opened.and_then(|(file, _)| Stamp::of(&file).ok()))
    }

    fn text(&self, place: &Path, max_bytes: u64) -> Result<Option<String>, EntryError> {
        let bytes = self.root.read(place, max_bytes).map_err(EntryError::Volume)?;
        bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| EntryError::NotText)).transpose()
    }
}

/// The snapshot's name of a model that was imported without a commit (design 3).
fn commit_of(sums: &Sums) -> Commit {
    let digest = sums.digest().to_string();
    // The digest is 64 hex digits, so its first 40 are a commit.
    digest.get(..40).and_then(|text| text.parse().ok()).unwrap_or_else(|| Commit::from_bytes([0; 20]))
}
