//! What is on a volume, held against its entries: what a worker says after it looked.

use super::outcome::{Room, shorten};
use crate::ident::{Commit, ModelKey, Sha256};
use serde::{Deserialize, Serialize};

/// So many entries are named, the largest; with their longest names they fit what a worker may say.
const ENTRIES_MAX: usize = 1000;
/// So many folders that belong to no entry are named, the largest.
const LEFTOVERS_MAX: usize = 100;
/// The longest trouble or path that is told, in bytes.
const TEXT_MAX_BYTES: usize = 256;

/// What is on a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The entries, in the order of their folders.
    pub entries: Vec<Kept>,
    /// Snapshots with files that no entry lists.
    pub orphans: Vec<Leftover>,
    /// Partial work: of tasks that run, or what killed ones left for the next run of the same model.
    pub stagings: Vec<Leftover>,
    /// What all of them come to, those that are not named too.
    pub totals: Totals,
}

/// What everything on a volume comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// How many entries.
    pub entries: u64,
    /// The bytes of all their files; what several share counts once.
    pub bytes: u64,
    /// The bytes that more than one entry lists.
    pub shared_bytes: u64,
    /// How many snapshots hold files that no entry lists.
    pub orphans: u64,
    /// The bytes of these files.
    pub orphan_bytes: u64,
    /// How many folders of partial work.
    pub stagings: u64,
    /// Their bytes.
    pub staging_bytes: u64,
    /// The volume's room, where the file system says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
}

/// An entry on a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The model, as the folder's name says.
    pub key: ModelKey,
    /// The commit; absent where the entry cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// SHA-256 of its `SHA256SUMS`; absent where the entry cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Sha256>,
    /// How many files it lists.
    pub files: u64,
    /// The bytes of those that are there, with those of the snapshots that it keeps.
    pub bytes: u64,
    /// Those of them that another entry lists too, and that stay when this one is deleted.
    pub shared_bytes: u64,
    /// Why nobody can use it: it cannot be read, or files are missing. Only reading all of it would say that it is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A folder with files that belong to no entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// Below the cache's root; bytes that are no text are replaced.
    pub path: String,
    /// How many files.
    pub files: u64,
    /// Their sizes' sum.
    pub bytes: u64,
}

impl Inventory {
    /// What may be said of it, however much there is: the largest of each, the largest first.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.entries.sort_by(|one, other| {
            other.bytes.cmp(&one.bytes).then_with(|| one.key.to_string().cmp(&other.key.to_string()))
        });
        self.entries.truncate(ENTRIES_MAX);
        for entry in &mut self.entries {
            entry.trouble = entry.trouble.as_deref().map(|trouble| shorten(trouble, TEXT_MAX_BYTES));
        }
        for leftovers in [&mut self.orphans, &mut self.stagings] {
            leftovers.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.path.cmp(&other.path)));
            leftovers.truncate(LEFTOVERS_MAX);
            for leftover in leftovers {
                leftover.path = shorten(&leftover.path, TEXT_MAX_BYTES);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::outcome::METADATA_MAX_BYTES;

    #[test]
    fn however_much_there_is_it_can_be_said() {
        let kept = |number: u64| Kept {
            key: format!("hf@{}/{number:047}@{}", "o".repeat(48), "r".repeat(255)).parse().unwrap(),
            commit: Some("7dbbc90392e2f80f3d3c277d6e90027e55de9125".parse().unwrap()),
            manifest: Some(Sha256::from_bytes([7; 32])),
            files: u64::MAX,
            bytes: number,
            shared_bytes: u64::MAX,
            trouble: number.is_multiple_of(2).then(|| "x".repeat(5000)),
        };
        let left = |number: u64| Leftover { path: "\"".repeat(9000), files: number, bytes: number };
        let inventory = Inventory {
            entries: (0..5000).map(kept).collect(),
            orphans: (0..5000).map(left).collect(),
            stagings: (0..5000).map(left).collect(),
            totals: Totals::default(),
        };
        let cut = inventory.cut();
        assert_eq!((cut.entries.len(), cut.orphans.len()), (ENTRIES_MAX, LEFTOVERS_MAX));
        assert_eq!((cut.entries[0].bytes, cut.stagings[0].bytes), (4999, 4999));
        assert!(serde_json::json!(cut).to_string().len() <= METADATA_MAX_BYTES);
    }
}
