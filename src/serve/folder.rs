//! A plain folder as a model: what is in it, hashed once at the start.

use super::catalog::{Card, Offer, ServedFile};
use super::digest;
use super::root::Root;
use crate::format::layout;
use crate::format::metadata::{MetadataError, ModelMetadata};
use crate::ident::{Commit, FileDigest, InvalidIdent, ModelRef, RelPath};
use sha2::Digest;
use std::collections::BTreeMap;
use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What tools keep in a model's folder beside the model.
const FOREIGN: [&str; 2] = [".git", ".cache/huggingface"];

/// A folder to serve as a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The model.
    pub model: ModelRef,
    /// The folder that holds its files.
    pub path: PathBuf,
    /// The metadata to tell of it; where none is named, a `model_metadata.json` beside the folder, if it is this repo's.
    pub metadata: Option<PathBuf>,
}

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something in it cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file whose name no client should be offered.
    #[error("failed to serve a file in {}", folder.display())]
    Name {
        /// The folder it is in.
        folder: PathBuf,
        /// The rule.
        source: InvalidIdent,
    },
    /// A link out of the folder.
    #[error("failed to serve {}: it is a link to something that is no file in the model's folder; copy the folder with `cp -rL` first", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A device, a socket, …
    #[error("failed to serve {}: it is not a regular file", path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// Nothing in it.
    #[error("failed to serve {}: it holds no file", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The metadata is not metadata.
    #[error("failed to read the metadata {}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: MetadataError,
    },
}

impl Folder {
    /// Finds and hashes the folder's files. Blocks.
    pub(super) fn offer(&self) -> Result<Offer, FolderError> {
        let real = self.path.canonicalize().map_err(|source| read_error(&self.path, source))?;
        let root = Arc::new(Root::open(&real).map_err(|source| read_error(&real, source))?);
        let mut found = Vec::new();
        walk(&real, &real, &mut found)?;
        if found.is_empty() {
            return Err(FolderError::Empty { path: self.path.clone() });
        }
        tracing::info!("hashing the {} files of {}", found.len(), self.model);
        let mut files = BTreeMap::new();
        for hashed in digest::in_parallel(&found, |(path, place)| hashed(&root, path, place)) {
            let (path, file) = hashed?;
            files.insert(path, Arc::new(file));
        }
        let metadata = self.read_metadata()?;
        let commit = metadata.as_ref().and_then(|metadata| metadata.commit_hash).unwrap_or_else(|| commit(&files));
        Ok(Offer { model: self.model.clone(), commit, rank: i64::MAX, card: card(metadata.as_ref(), &files), files })
    }

    fn read_metadata(&self) -> Result<Option<ModelMetadata>, FolderError> {
        let path = match &self.metadata {
            Some(path) => path.clone(),
            // By name, not by `..`: the folder may be an entry's `model` link.
            None => {
                match std::path::absolute(&self.path).ok().and_then(|path| Some(path.parent()?.join(layout::METADATA)))
                {
                    Some(path) if path.exists() => path,
                    _ => return Ok(None),
                }
            }
        };
        let text = std::fs::read_to_string(&path).map_err(|source| read_error(&path, source))?;
        let metadata = ModelMetadata::parse(&text).map_err(|source| FolderError::Metadata { path, source })?;
        let meant = self.metadata.is_some() || metadata.key.model().repo == self.model.repo;
        Ok(meant.then_some(metadata))
    }
}

fn read_error(path: &Path, source: io::Error) -> FolderError {
    FolderError::Read { path: path.to_owned(), source }
}

/// Every file below a folder: its name for clients, and its real place, which differs for links.
fn walk(root: &Path, folder: &Path, found: &mut Vec<(RelPath, PathBuf)>) -> Result<(), FolderError> {
    let entries = std::fs::read_dir(folder).map_err(|source| read_error(folder, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| read_error(folder, source))?;
        let path = entry.path();
        let below = path.strip_prefix(root).unwrap_or(&path);
        if FOREIGN.iter().any(|foreign| below == Path::new(foreign)) {
            continue;
        }
        let kind = entry.file_type().map_err(|source| read_error(&path, source))?;
        if kind.is_dir() {
            walk(root, &path, found)?;
            continue;
        }
        let name = below
            .to_string_lossy()
            .parse()
            .map_err(|source| FolderError::Name { folder: folder.to_owned(), source })?;
        found.push((name, place(root, &path, kind)?));
    }
    Ok(())
}

/// Where a file is opened: links are followed now, once, and must stay in the folder.
fn place(root: &Path, path: &Path, kind: FileType) -> Result<PathBuf, FolderError> {
    let link = || FolderError::Link { path: path.to_owned() };
    if kind.is_file() {
        return Ok(path.strip_prefix(root).unwrap_or(path).to_owned());
    }
    if !kind.is_symlink() {
        return Err(FolderError::NotAFile { path: path.to_owned() });
    }
    let target = path.canonicalize().map_err(|_| link())?;
    if !target.is_file() {
        return Err(link());
    }
    target.strip_prefix(root).map(Path::to_owned).map_err(|_| link())
}

fn hashed(root: &Arc<Root>, path: &RelPath, place: &Path) -> Result<(RelPath, ServedFile), FolderError> {
    let unread = |source| read_error(&root.shown(place), source);
    let file = root.file(place).map_err(unread)?;
    let (digest, stamp) = digest::promised(path, &file).map_err(unread)?;
    Ok((path.clone(), ServedFile { root: Arc::clone(root), place: place.to_owned(), stamp, digest }))
}

/// A commit for files that have none: the same files, the same commit.
fn commit(files: &BTreeMap<RelPath, Arc<ServedFile>>) -> Commit {
    let mut hash = sha2::Sha256::new();
    for (path, file) in files {
        let digest: &FileDigest = &file.digest;
        hash.update(format!("{path}\0{digest}\n"));
    }
    let digest: [u8; 32] = hash.finalize().into();
    Commit::from_bytes(std::array::from_fn(|index| digest[index]))
}

/// What is told of a model: what its metadata says, and of the rest what the files say.
pub(super) fn card(metadata: Option<&ModelMetadata>, files: &BTreeMap<RelPath, Arc<ServedFile>>) -> Card {
    let newest = || files.values().filter_map(|file| file.stamp.modified).max().and_then(as_text);
    let Some(metadata) = metadata else { return Card { last_modified: newest(), ..Card::default() } };
    Card {
        last_modified: metadata.last_modified.clone().or_else(newest),
        library_name: metadata.library_name.clone(),
        pipeline_tag: metadata.pipeline_name.clone(),
        tags: metadata.tags.clone().unwrap_or_default(),
        languages: metadata.tagged_languages.clone().unwrap_or_default(),
    }
}

/// A time as the Hub writes it.
fn as_text(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("model");
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let model = ModelRef { repo: "a/b".parse().unwrap(), revision: None };
        (home, Folder { model, path, metadata: None })
    }

    fn names(offer: &Offer) -> Vec<&str> {
        offer.files.keys().map(RelPath::as_str).collect()
    }

    #[test]
    fn a_folder_without_metadata() {
        let (_home, plain) =
            folder(&[("b/c.txt", "hello\n"), ("a.bin", "x"), (".git/HEAD", ""), (".cache/huggingface/x", "")]);
        let offer = plain.offer().unwrap();
        assert_eq!(names(&offer), ["a.bin", "b/c.txt"]);
        assert!(offer.card.last_modified.as_ref().unwrap().contains(".000Z"));
        let (_home, same) = folder(&[("a.bin", "x"), ("b/c.txt", "hello\n")]);
        assert_eq!(same.offer().unwrap().commit, offer.commit);
        let (_home, other) = folder(&[("a.bin", "y"), ("b/c.txt", "hello\n")]);
        assert_ne!(other.offer().unwrap().commit, offer.commit);
    }

    #[test]
    fn metadata_beside_the_folder_counts_if_it_is_this_repos() {
        let text = |repo: &str| {
            format!("{{\"version\":0,\"url\":\"u\",\"modelDefinition\":{{\"key\":\"hf@{repo}\"}},\"tags\":[\"t\"]}}")
        };
        let (home, folder) = folder(&[("a", "x")]);
        std::fs::write(home.path().join("model_metadata.json"), text("a/b")).unwrap();
        assert_eq!(folder.offer().unwrap().card.tags, ["t"]);
        std::fs::write(home.path().join("model_metadata.json"), text("c/d")).unwrap();
        assert!(folder.offer().unwrap().card.tags.is_empty());
        let named = Folder { metadata: Some(home.path().join("model_metadata.json")), ..folder };
        assert_eq!(named.offer().unwrap().card.tags, ["t"]);
    }

    #[test]
    fn links_are_served_only_when_they_stay_inside() {
        let (home, folder) = folder(&[("blobs/x", "x")]);
        std::os::unix::fs::symlink("blobs/x", folder.path.join("y")).unwrap();
        let offer = folder.offer().unwrap();
        assert_eq!(offer.files[&"y".parse::<RelPath>().unwrap()].place, Path::new("blobs/x"));
        std::fs::write(home.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", folder.path.join("z")).unwrap();
        assert!(matches!(folder.offer(), Err(FolderError::Link { .. })));
    }

    #[test]
    fn a_folder_that_cannot_be_served_says_why() {
        let (_home, empty) = folder(&[]);
        assert!(matches!(empty.offer(), Err(FolderError::Read { .. })));
        std::fs::create_dir_all(&empty.path).unwrap();
        assert!(matches!(empty.offer(), Err(FolderError::Empty { .. })));
        std::fs::write(empty.path.join("a\\b"), "").unwrap();
        assert!(matches!(empty.offer(), Err(FolderError::Name { .. })));
    }
}
