//! A cache volume's entries as models. They come and go while they are served.

use super::catalog::{Offer, ServedFile, Stamp};
use super::digest;
use super::explain;
use super::folder::card;
use super::root::{Root, if_there};
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
/// The longest layout file that is read, in bytes.
const VERSION_MAX_BYTES: u64 = 64;
/// A folder that changed so short before it was read may have changed again within the same tick of its clock.
const SETTLED: Duration = Duration::from_secs(2);

/// Why a volume cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Something of it cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A layout that this release does not know.
    #[error("{} has layout version {found:?}, and this release knows {} only: use a newer release", path.display(), layout::VERSION)]
    Version {
        /// The volume.
        path: PathBuf,
        /// The version that was found.
        found: String,
    },
}

/// Why one entry is not served. The others are.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error("failed to read its {name}")]
    Own { name: &'static str, source: io::Error },
    #[error("its metadata is invalid")]
    Metadata(#[source] MetadataError),
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
    root: Arc<Root>,
    entries: PathBuf,
    known: BTreeMap<EntryName, (Seal, Arc<Offer>)>,
    /// The folder's time of change that was last read, if it can be relied on.
    read_at: Option<SystemTime>,
}

impl Shelf {
    /// Opens a volume, and reads nothing but its version. An empty folder is an empty volume.
    pub(super) fn open(path: &Path) -> Result<Self, VolumeError> {
        let unread = |below: &Path| {
            let path = path.join(below);
            move |source| VolumeError::Read { path, source }
        };
        let root = Arc::new(Root::open(path).map_err(unread(Path::new("")))?);
        let version = layout::version_file();
        let found = root.text(&version, VERSION_MAX_BYTES).map_err(unread(&version))?;
        if let Some(found) = found.filter(|found| found.trim() != layout::VERSION) {
            return Err(VolumeError::Version { path: path.to_owned(), found: found.trim().to_owned() });
        }
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
        let listed = self.root.names(Path::new(layout::ENTRIES));
        let listed = listed.map_err(|source| VolumeError::Read { path: self.entries.clone(), source })?;
        let names: Vec<EntryName> = listed.iter().filter_map(|name| name.parse().ok()).collect();
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
        let Some(metadata_stamp) = self.stamp(&folder, layout::METADATA)? else { return Ok(None) };
        let sums_stamp = self.stamp(&folder, layout::SUMS)?.ok_or(EntryError::NoSums)?;
        let seal = (metadata_stamp, sums_stamp);
        if let Some((before, offer)) = self.known.get(name)
            && *before == seal
        {
            return Ok(Some((seal, Arc::clone(offer))));
        }
        let metadata = self.text(&folder, layout::METADATA, METADATA_MAX_BYTES)?;
        let sums = self.text(&folder, layout::SUMS, SUMS_MAX_BYTES as u64)?;
        let (Some(metadata), Some(sums)) = (metadata, sums) else { return Ok(None) };
        let metadata = ModelMetadata::parse(&metadata).map_err(EntryError::Metadata)?;
        let sums = Sums::parse(&sums).map_err(EntryError::Sums)?;
        Ok(Some((seal, Arc::new(self.offer(&metadata, &sums)?))))
    }

    fn stamp(&self, folder: &Path, name: &'static str) -> Result<Option<Stamp>, EntryError> {
        let own = |source| EntryError::Own { name, source };
        let file = if_there(self.root.file(&folder.join(name))).map_err(own)?;
        file.map(|file| Stamp::of(&file)).transpose().map_err(own)
    }

    fn text(&self, folder: &Path, name: &'static str, max_bytes: u64) -> Result<Option<String>, EntryError> {
        self.root.text(&folder.join(name), max_bytes).map_err(|source| EntryError::Own { name, source })
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
        let read = |source| EntryError::Read { path: path.clone(), source };
        let file = if_there(self.root.file(&place)).map_err(read)?;
        let file = file.ok_or_else(|| EntryError::Missing { path: path.clone() })?;
        let root = Arc::clone(&self.root);
        if digest::in_lfs(path, file.metadata().map_err(read)?.len()) {
            let stamp = Stamp::of(&file).map_err(read)?;
            return Ok(ServedFile { root, place, stamp, digest: FileDigest::Sha256(listed) });
        }
        let (found, git, stamp) = digest::both(&file).map_err(read)?;
        if found != listed {
            return Err(EntryError::Damaged { path: path.clone(), found, listed });
        }
        Ok(ServedFile { root, place, stamp, digest: FileDigest::GitBlob(git) })
    }
}

/// The snapshot's name of a model that was imported without a commit (design 3).
fn commit_of(sums: &Sums) -> Commit {
    let digest = sums.digest().to_string();
    // The digest is 64 hex digits, so its first 40 are a commit.
    digest.get(..40).and_then(|text| text.parse().ok()).unwrap_or_else(|| Commit::from_bytes([0; 20]))
}
