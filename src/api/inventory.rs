//! `ModelCacheInventory`: what is on a volume, held against the entries of its namespace.

use super::job::JobSettings;
use super::rules::SUB_PATH_PATTERN;
use super::status::AttemptsStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most entries that [`ModelCacheInventoryStatus::entries`] lists: an object must stay small enough for the API server.
pub const LISTED_MAX: usize = 500;

/// What is on a volume, held against the entries of its namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "modelcache.dev",
    version = "v1alpha1",
    kind = "ModelCacheInventory",
    plural = "modelcacheinventories",
    namespaced,
    shortname = "mcv",
    category = "modelcache",
    status = "ModelCacheInventoryStatus",
    derive = "PartialEq",
    doc = "What is on a volume, held against the ModelCacheEntries of its namespace.",
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.claimName"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Entries", type_ = "integer", json_path = ".status.totals.entries"),
    printcolumn(name = "Adoptable", type_ = "integer", json_path = ".status.totals.adoptable"),
    printcolumn(name = "Orphans", type_ = "integer", json_path = ".status.totals.orphans"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.display.size"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.display.free"),
    printcolumn(name = "Observed", type_ = "date", json_path = ".status.observedAt"),
    printcolumn(name = "Folder", type_ = "string", json_path = ".spec.subPath", priority = 1),
    printcolumn(name = "Leaked", type_ = "integer", json_path = ".status.totals.leaked", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Complete\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.claimName == oldSelf.claimName && has(self.subPath) == has(oldSelf.subPath) && (!has(self.subPath) || self.subPath == oldSelf.subPath)")
        .message("spec.claimName and spec.subPath are immutable: create another inventory"),
    validation = Rule::new("!has(self.interval) || duration(self.interval) >= duration('1m')")
        .message("spec.interval must be at least 1m")
)]
pub struct ModelCacheInventorySpec {
    /// The claim, in the same namespace. It is mounted for reading.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// The folder of the claim that is the cache's root, as in an entry. Default: the claim's own root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = SUB_PATH_PATTERN))]
    pub sub_path: Option<String>,
    /// How often it is looked again, such as `6h`; at least `1m`. Absent: once, and with each new value of the annotation
    /// `modelcache.dev/retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub interval: Option<String>,
    /// Settings of the worker's Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSettings>,
}

/// What the operator says of an inventory.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCacheInventoryStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the inventory stands, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<InventoryPhase>,
    /// What holds and what does not, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<AttemptsStatus>,
    /// When the volume was looked at; all that follows is of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
    /// What everything comes to, what is not listed below included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<InventoryTotals>,
    /// The entries on the volume, at most 500: those without an object first, then the largest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<InventoryEntry>,
    /// Snapshots with files that no entry lists, at most 100, the largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orphans: Vec<InventoryFolder>,
    /// Partial work, at most 100, the largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stagings: Vec<InventoryFolder>,
    /// The numbers above, as `kubectl get` shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<InventoryDisplay>,
}

/// Where an inventory stands, in one word.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(
    missing_docs,
    reason = "a schema with a description per value is not structural; docs/TROUBLESHOOTING.md has them"
)]
pub enum InventoryPhase {
    #[default]
    Pending,
    Listing,
    Complete,
    Retrying,
    Failed,
}

/// What everything on a volume comes to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryTotals {
    /// How many entries are on the volume.
    pub entries: i64,
    /// How many of those that are listed have no object in this namespace and are whole by names and sizes.
    pub adoptable: i64,
    /// The bytes of all entries' files; what several share counts once.
    pub bytes: i64,
    /// The bytes that more than one entry lists.
    pub shared_bytes: i64,
    /// How many snapshots hold files that no entry lists.
    pub orphans: i64,
    /// The bytes of these files.
    pub orphan_bytes: i64,
    /// How many folders of partial work.
    pub stagings: i64,
    /// Their bytes.
    pub staging_bytes: i64,
    /// How many of those that are listed belong to no entry of this namespace: nobody will go on with them.
    pub leaked: i64,
    /// What can still be written, where the file system says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// The size of the file system, where it says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<i64>,
}

/// An entry on a volume.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryEntry {
    /// The model's repo.
    pub model: String,
    /// The revision that was asked for; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit; absent where the entry cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// SHA-256 of its `SHA256SUMS`; absent where the entry cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<String>,
    /// How many files it lists.
    pub files: i64,
    /// The bytes of those that are there.
    pub bytes: i64,
    /// Those of them that another entry lists too.
    pub shared_bytes: i64,
    /// The `ModelCacheEntry` of this namespace that keeps it here; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Why nobody can use it: it cannot be read, or files are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A folder with files that belong to no entry.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryFolder {
    /// Below the cache's root.
    pub path: String,
    /// How many files.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Of partial work: the `ModelCacheEntry` of this namespace whose work it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

/// Numbers as `kubectl get` shows them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryDisplay {
    /// The bytes of all entries' files: `87.4 MiB`
    pub size: String,
    /// What can still be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
}
