//! What lies on a volume, looked at from the host.

use super::volume::Volume;
use super::wait::DEADLINE;
use crate::fakehub::{HubFile, sha256};
use modelcache::api::ModelCacheEntry;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One entry's folder on a volume, whole and right.
#[derive(Debug, PartialEq)]
pub struct Published {
    pub sums: String,
    pub metadata: Value,
    pub files: BTreeMap<String, Vec<u8>>,
}

fn below(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            below(root, &path, found);
        } else if path.is_file() {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
        }
    }
}

/// Every file in a folder, by its path below it.
pub fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    below(folder, folder, &mut found);
    found
}

impl Volume {
    /// An entry's folder below the cache's root `sub_path`.
    pub fn entry(&self, sub_path: &str, entry: &str) -> PathBuf {
        self.folder.join(sub_path).join("entries").join(entry)
    }

    /// The entry that the status speaks of is on the volume, with exactly these files, and every number fits.
    pub fn assert_holds(&self, object: &ModelCacheEntry, expected: &[HubFile]) -> Published {
        let status = object.status.as_ref().unwrap();
        let path = status.volume.as_ref().unwrap().path.as_deref().expect("a published entry has a path");
        let model = self.folder.join(path);
        let folder = model.parent().unwrap();
        let files = files_in(&std::fs::canonicalize(&model).unwrap());
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        let wanted: BTreeMap<_, _> = expected.iter().map(|file| (file.path.clone(), file.bytes.clone())).collect();
        assert_eq!(names(&files), names(&wanted));
        assert!(files == wanted, "the bytes differ from the Hub's");
        let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        let own: String = wanted.iter().map(|(path, bytes)| format!("{}  model/{path}\n", sha256(bytes))).collect();
        assert_eq!(sums, own);
        let bytes: usize = wanted.values().map(Vec::len).sum();
        let manifest = status.manifest.as_ref().unwrap();
        let numbers = (manifest.sha256.clone(), usize::try_from(manifest.files), usize::try_from(manifest.bytes));
        assert_eq!(numbers, (sha256(sums.as_bytes()), Ok(wanted.len()), Ok(bytes)));
        let text = std::fs::read_to_string(folder.join("model_metadata.json")).unwrap();
        let metadata: Value = serde_json::from_str(&text).unwrap();
        let mut told = status.metadata.clone().unwrap();
        if let Some(used) = status.usage.as_ref().filter(|usage| usage.last_used_at.is_some()) {
            assert_eq!(told["lastUsedBy"], json!(used.last_used_by), "the latest use is not in status.metadata");
            // The volume's file has the download's own.
            for key in ["lastDssUsage", "lastUsedBy"] {
                told.insert(key.to_owned(), metadata[key].clone());
            }
        }
        assert_eq!(Value::from(told), metadata, "status.metadata is not the volume's file");
        assert_eq!(metadata["sizeInBytes"], bytes);
        assert_eq!(self.staged(), Vec::<String>::new(), "work is left in the staging");
        Published { sums, metadata, files }
    }

    /// No entry, and no snapshot: nothing that a reader could take for a model.
    pub fn assert_nothing_published(&self) {
        let found = files_in(&self.folder);
        let published: Vec<_> = found.keys().filter(|path| !path.contains(".modelcache/")).collect();
        assert!(published.is_empty(), "half published: {published:?}");
    }

    /// Waits until a worker says in its journal that some of its bytes are on the disk for good: it does every tenth of a second.
    pub async fn until_journaled(&self) {
        let has_line = |(path, bytes): (String, Vec<u8>)| {
            path.ends_with("/journal") && bytes.split(|byte| *byte == b'\n').count() > 2
        };
        let said = async {
            while !files_in(&self.folder).into_iter().any(has_line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, said).await.expect("the worker journals what it has");
    }

    /// The files of unfinished work.
    pub fn staged(&self) -> Vec<String> {
        files_in(&self.folder).into_keys().filter(|path| path.contains(".modelcache/staging/")).collect()
    }
}
