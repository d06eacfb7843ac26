//! Where everything lies on a volume: layout version 1 (design 3), as paths relative to the cache's root.
//!
//! Pure names: nothing here opens a file. Who writes to a volume asks this module where.

use super::task::{ArchivePlace, Download, FileChoice, Import, Weights};
use crate::ident::{Commit, Endpoint, EntryName, ModelRef, RepoId, Revision, Sha256, hex};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::path::PathBuf;

/// The version, as the layout file has it.
pub const VERSION: &str = "1";
/// A Hugging Face hub cache without `blobs/`.
pub const HUB: &str = "hub";
/// One folder an entry, exactly an archive's root.
pub const ENTRIES: &str = "entries";
/// One hub cache's `refs` an entry.
pub const VIEWS: &str = "views";
/// What only modelcache reads.
pub const STATE: &str = ".modelcache";
/// The model's link, or folder in an archive, in an entry's folder.
pub const MODEL: &str = "model";
/// The metadata in an entry's folder. The entry exists exactly when this file does.
pub const METADATA: &str = "model_metadata.json";
/// The list of files in an entry's folder.
pub const SUMS: &str = "SHA256SUMS";
/// The folder of snapshots in a hub cache's repo.
pub const SNAPSHOTS: &str = "snapshots";
/// The folder of references in a hub cache's repo and in a view.
pub const REFS: &str = "refs";

/// File systems hand out space in blocks: the size every file is rounded up to, in bytes.
const BLOCK_BYTES: u64 = 4096;
/// What metadata, lists and folders take besides the files, in bytes.
pub const LISTS_BYTES: u64 = 4 * 1024 * 1024;

/// The file that holds [`VERSION`].
pub fn version_file() -> PathBuf {
    PathBuf::from(STATE).join("layout")
}

/// Where partial work lies.
pub fn stagings() -> PathBuf {
    PathBuf::from(STATE).join("staging")
}

/// The partial work of one plan.
pub fn staging(id: &str) -> PathBuf {
    stagings().join(id)
}

/// How the names of all stagings of a model's downloads begin.
pub fn staging_prefix(model: &ModelRef) -> String {
    format!("{}-", hex(&sha2::Sha256::digest(model.to_string())[..8]))
}

/// The staging in which a deleted entry's folder lies until all it lists is gone.
pub fn deleted_staging(model: &ModelRef) -> String {
    format!("deleted-{}", staging_prefix(model).trim_end_matches('-'))
}

/// How the names of all stagings of an archive begin, as its model is known too late; without a source, of what comes
/// through standard input.
pub fn import_staging_prefix(source: Option<Sha256>) -> String {
    let which = source.map_or_else(|| "standard input".to_owned(), |source| source.to_string());
    format!("import-{}-", hex(&sha2::Sha256::digest(which)[..8]))
}

/// Where the records of sources lie.
pub fn sources() -> PathBuf {
    PathBuf::from(STATE).join("sources")
}

/// The record of one source.
pub fn source(digest: &Sha256) -> PathBuf {
    sources().join(digest.to_string())
}

/// What so many files with so many bytes take, besides [`LISTS_BYTES`].
pub fn content_bytes(bytes: u64, files: u64) -> u64 {
    bytes.saturating_add(files.saturating_mul(BLOCK_BYTES))
}

/// The folder of a repo in the hub cache.
pub fn repo(repo: &RepoId) -> PathBuf {
    PathBuf::from(HUB).join(format!("models--{}", repo.as_str().replace('/', "--")))
}

/// The snapshots of a repo.
pub fn snapshots(of: &RepoId) -> PathBuf {
    repo(of).join(SNAPSHOTS)
}

/// One snapshot of a repo.
pub fn snapshot(of: &RepoId, commit: &Commit) -> PathBuf {
    snapshots(of).join(commit.to_string())
}

/// The references of a repo.
pub fn references(of: &RepoId) -> PathBuf {
    repo(of).join(REFS)
}

/// One reference of a repo.
pub fn reference(of: &RepoId, revision: &Revision) -> PathBuf {
    references(of).join(revision.as_str())
}

/// An entry's folder.
pub fn entry(name: &EntryName) -> PathBuf {
    PathBuf::from(ENTRIES).join(name.as_str())
}

/// An entry's view.
pub fn view(name: &EntryName) -> PathBuf {
    PathBuf::from(VIEWS).join(name.as_str())
}

/// Views that an entry had before. A Pod that has one mounted still reads it, so they stay until the entry is deleted.
pub fn retired_views(name: &EntryName) -> PathBuf {
    PathBuf::from(STATE).join("retired").join(name.as_str())
}

/// Lists of the snapshots that entries had before and keep: a folder an entry, and in it one a commit.
pub fn all_kept() -> PathBuf {
    PathBuf::from(STATE).join("kept")
}

/// The list of one snapshot that an entry had before: an entry's own files, without the link.
pub fn kept(name: &EntryName, commit: &Commit) -> PathBuf {
    all_kept().join(name.as_str()).join(commit.to_string())
}

/// The same of what is being published: it is there before the files are, and goes when the entry is there.
pub fn all_begun() -> PathBuf {
    PathBuf::from(STATE).join("begun")
}

/// The list of one publication.
pub fn begun(name: &EntryName, commit: &Commit) -> PathBuf {
    all_begun().join(name.as_str()).join(commit.to_string())
}

/// Where an entry's `model` link points: from the entry's folder to the snapshot.
pub fn model_link(repo: &RepoId, commit: &Commit) -> PathBuf {
    PathBuf::from("../..").join(snapshot(repo, commit))
}

/// The canonical description of where a model comes from: two tasks with the same one need not be done twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// From a Hub.
    Hub {
        /// The Hub's address.
        endpoint: String,
        /// The model's key, which holds the revision that was asked for.
        key: String,
        /// The choice of weights.
        weights: Weights,
        /// The choice of files.
        include: Vec<String>,
        /// The choice of files.
        exclude: Vec<String>,
    },
    /// From an archive.
    Archive {
        /// Where it is; left out where its digest says which bytes are meant, wherever they come from.
        place: Option<String>,
        /// The digest that was asked for.
        sha256: Option<Sha256>,
        /// The model that was asked for.
        expected: Option<String>,
        /// The Hub that its files were compared with.
        verified_against: Option<String>,
    },
}

impl Source {
    /// The source of an import. None where nothing says which bytes will come: standard input without a digest.
    pub fn of_import(import: &Import) -> Option<Self> {
        let Import { archive, sha256, expected, verify_against } = import;
        let place = match (sha256, archive) {
            (Some(_), _) => None,
            // Two claims are mounted at the same path; their names differ.
            (None, ArchivePlace::File(file)) => Some(format!("{} {}", file.origin, file.path.display())),
            (None, ArchivePlace::Url(address)) => Some(address.url.clone()),
            (None, ArchivePlace::Stdio) => return None,
        };
        let expected = expected.as_ref().map(|expected| match &expected.revision {
            Some(revision) => format!("{}@{revision}", expected.repo),
            None => expected.repo.to_string(),
        });
        let verified_against = verify_against.as_ref().map(|hub| hub.endpoint.to_string());
        Some(Self::Archive { place, sha256: *sha256, expected, verified_against })
    }

    /// The source of a download. Who asked, tokens and proxies do not change what arrives.
    pub fn of_download(download: &Download) -> Self {
        Self::of_hub(&download.hub.endpoint, &download.model, &download.files)
    }

    /// The source of a model on a Hub.
    pub fn of_hub(endpoint: &Endpoint, model: &ModelRef, files: &FileChoice) -> Self {
        let FileChoice { weights, include, exclude } = files;
        let tidy = |globs: &[String]| {
            let mut globs = globs.to_vec();
            globs.sort_unstable();
            globs.dedup();
            globs
        };
        Self::Hub {
            endpoint: endpoint.to_string(),
            key: model.key().to_string(),
            weights: *weights,
            include: tidy(include),
            exclude: tidy(exclude),
        }
    }

    /// The SHA-256 of the canonical JSON. The order of the fields is part of the layout.
    pub fn digest(&self) -> Sha256 {
        // `json!` cannot fail for strings; a Value's own text is compact JSON.
        let fields = match self {
            Self::Hub { endpoint, key, weights, include, exclude } => vec![
                serde_json::json!(["kind", "hub"]),
                serde_json::json!(["endpoint", endpoint]),
                serde_json::json!(["exclude", exclude]),
                serde_json::json!(["include", include]),
                serde_json::json!(["key", key]),
                serde_json::json!(["weights", weights]),
            ],
            Self::Archive { place, sha256, expected, verified_against } => vec![
                serde_json::json!(["kind", "archive"]),
                serde_json::json!(["expected", expected]),
                serde_json::json!(["place", place]),
                serde_json::json!(["sha256", sha256]),
                serde_json::json!(["verifiedAgainst", verified_against]),
            ],
        };
        let canonical = serde_json::Value::from(fields).to_string();
        Sha256::from_bytes(sha2::Sha256::digest(canonical).into())
    }
}

/// What a source's record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRecord {
    /// The entry's folder that the source ended in.
    pub entry: EntryName,
    /// The digest of its `SHA256SUMS` at that time: the folder may hold something else by now.
    pub manifest: Sha256,
    /// What the archive's file looked like: under its name there may be another by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileStamp>,
    /// Why the bytes were not proved, where they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unverified: Option<String>,
}

/// What tells a file from another one under the same name, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStamp {
    /// Its size.
    pub size_bytes: u64,
    /// When it was written, in nanoseconds since the epoch; the time that the file system gives.
    pub modified_ns: i128,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(include: &[&str]) -> Download {
        let include: Vec<String> = include.iter().map(|glob| (*glob).to_owned()).collect();
        serde_json::from_value(serde_json::json!({
            "model": {"repo": "org/name"}, "hub": {"endpoint": "http://hub"}, "requestedBy": "ada", "files": {"include": include}
        }))
        .unwrap()
    }

    #[test]
    fn the_designs_paths() {
        let name = "sentence-transformers/all-MiniLM-L6-v2".parse().unwrap();
        let commit = "7dbbc90392e2f80f3d3c277d6e90027e55de9125".parse().unwrap();
        let snapshot =
            "hub/models--sentence-transformers--all-MiniLM-L6-v2/snapshots/7dbbc90392e2f80f3d3c277d6e90027e55de9125";
        assert_eq!(super::snapshot(&name, &commit), PathBuf::from(snapshot));
        assert_eq!(model_link(&name, &commit), PathBuf::from("../..").join(snapshot));
        let model = ModelRef { repo: name, revision: None };
        assert_eq!(entry(&model.entry_name()), PathBuf::from("entries/sentence-transformers_2fall-MiniLM-L6-v2"));
    }

    #[test]
    fn a_source_is_its_meaning() {
        let digest = |globs: &[&str]| Source::of_download(&download(globs)).digest();
        assert_eq!(digest(&["a", "b"]), digest(&["b", "a", "a"]));
        assert_ne!(digest(&["a"]), digest(&["b"]));
        // Part of the layout: a change would make every volume download everything again.
        let digest = digest(&[]).to_string();
        assert_eq!(digest, "6344c9133935f4fb8eea48e693c4f6cfcbd84b942b7214091a1193aa7c100f73");
    }
}
