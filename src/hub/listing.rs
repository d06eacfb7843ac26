//! One page of the Hub's listing of files, read. Pure.

use crate::ident::FileDigest;
use serde::Deserialize;

/// A file in the Hub's listing. Its name is the Hub's: nobody has looked yet whether it is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// What its bytes must hash to.
    pub digest: FileDigest,
}

/// One page, as the Hub sends it.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Page(Vec<TreeAnswer>);

#[derive(Debug, Deserialize)]
struct TreeAnswer {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<LfsAnswer>,
}

#[derive(Debug, Deserialize)]
struct LfsAnswer {
    // Some mirrors use the name of the `?blobs=true` form.
    #[serde(alias = "sha256")]
    oid: String,
    size: u64,
}

impl Page {
    /// The page's files, in its order; what is wrong with the first that makes no sense.
    pub fn files(self) -> Result<Vec<Listed>, String> {
        self.0.into_iter().filter(|entry| entry.kind == "file").map(listed).collect()
    }
}

/// One entry. `xetHash` is not read: it may be redacted, and the digest is there without it.
fn listed(entry: TreeAnswer) -> Result<Listed, String> {
    let shown: String = entry.path.chars().take(200).collect();
    let bad = |what: &str| format!("it lists {shown:?} {what}");
    let lower = |oid: &str| oid.trim_start_matches("sha256:").to_ascii_lowercase();
    let (digest, size) = if let Some(lfs) = entry.lfs {
        let digest = lower(&lfs.oid).parse().map_err(|_| bad("with an LFS digest that is no SHA-256"))?;
        (FileDigest::Sha256(digest), lfs.size)
    } else {
        let oid = entry.oid.ok_or_else(|| bad("without a digest"))?;
        let digest = lower(&oid).parse().map_err(|_| bad("with a digest that is no git blob's"))?;
        (FileDigest::GitBlob(digest), entry.size.ok_or_else(|| bad("without a size"))?)
    };
    Ok(Listed { path: entry.path, size, digest })
}
