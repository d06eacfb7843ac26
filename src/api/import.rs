//! `ModelCacheImport`: a folder or a list of archives, each of which becomes an entry.

use super::entry::{NameRef, ReclaimPolicy};
use super::job::JobSettings;
use super::rules::{ARCHIVE_URL_PATTERN, FILE_PATTERN, unsupported};
use super::status::{AttemptsStatus, Phase};
use super::storage::StorageSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most archives that [`ModelCacheImportStatus::archives`] lists: an object must stay small enough for the API server.
pub const LISTED_MAX: usize = 200;

/// A folder or a list of archives, each of which becomes an entry.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "modelcache.dev",
    version = "v1alpha1",
    kind = "ModelCacheImport",
    plural = "modelcacheimports",
    namespaced,
    shortname = "mci",
    category = "modelcache",
    status = "ModelCacheImportStatus",
    derive = "PartialEq",
    doc = "A folder or a list of archives, each of which becomes a ModelCacheEntry.",
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source"),
    printcolumn(name = "Found", type_ = "integer", json_path = ".status.found"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Complete\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.source.urls) != has(self.source.claimName)")
        .message("spec.source must have exactly one of claimName and urls"),
    validation = Rule::new("!has(self.source.path) || has(self.source.claimName)").message("spec.source.path is for a claim"),
    validation = Rule::new("!has(self.source.path) || !self.source.path.split('/').exists(name, name == '.' || name == '..')")
        .message("spec.source.path must not hold the names `.` or `..`"),
    validation = Rule::new("!has(self.source.authSecretRef) || has(self.source.urls)")
        .message("spec.source.authSecretRef is for urls"),
    validation = Rule::new("has(self.storage.claimName) != has(self.storage.volumeClaimTemplate)")
        .message("spec.storage must have exactly one of claimName and volumeClaimTemplate"),
    validation = Rule::new("!has(self.storage.volumeClaimTemplate) || !has(self.storage.volumeClaimTemplate.spec.resources) || !has(self.storage.volumeClaimTemplate.spec.resources.requests) || !('storage' in self.storage.volumeClaimTemplate.spec.resources.requests) || (isQuantity(self.storage.volumeClaimTemplate.spec.resources.requests['storage']) && quantity(self.storage.volumeClaimTemplate.spec.resources.requests['storage']).isGreaterThan(quantity('0')))")
        .message("spec.storage.volumeClaimTemplate.spec.resources.requests.storage must be a positive quantity such as 20Gi"),
    validation = unsupported!("!has(self.storage.volumeClaimTemplate) || (has(self.storage.volumeClaimTemplate.spec.resources) && has(self.storage.volumeClaimTemplate.spec.resources.requests) && 'storage' in self.storage.volumeClaimTemplate.spec.resources.requests)", "a volumeClaimTemplate without spec.resources.requests.storage (sizing)"),
    validation = Rule::new("self.source == oldSelf.source && self.storage == oldSelf.storage && has(self.reclaimPolicy) == has(oldSelf.reclaimPolicy) && (!has(self.reclaimPolicy) || self.reclaimPolicy == oldSelf.reclaimPolicy)")
        .message("spec.source, spec.storage and spec.reclaimPolicy are immutable: create another import")
)]
pub struct ModelCacheImportSpec {
    /// Where the archives are.
    pub source: ImportSource,
    /// Where each entry keeps its files, as in an entry. With a template each entry has a claim of its own.
    pub storage: StorageSpec,
    /// Whether an entry's files go when the entry is deleted. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<ReclaimPolicy>,
    /// Settings of the Jobs, for the list and in each entry. A change holds for what is made after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSettings>,
}

/// Where archives are: in one folder of a claim, or at addresses.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportSource {
    /// The claim that holds the archives, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// The folder in the claim; folders in it are not looked into. Default: the claim's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 768), regex(pattern = FILE_PATTERN))]
    pub path: Option<String>,
    /// The archives' `https://` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 200),
        inner(length(max = 2048), regex(pattern = ARCHIVE_URL_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub urls: Option<Vec<String>>,
    /// A Secret with the key `token`, or with `username` and `password`, for all of the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<NameRef>,
}

/// What the operator says of an import.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCacheImportStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the import stands, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ImportPhase>,
    /// What holds and what does not, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The folder or the addresses, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How many archives there are: those that have an entry, and those that got none. Absent until they were listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<i64>,
    /// How many entries are Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<i64>,
    /// How many failed: entries that are Failed, and archives that got no entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<i64>,
    /// How many archives got no entry when they were listed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<i64>,
    /// How many files of the folder are no archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<i64>,
    /// The archives, at most 200: those that failed first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<ImportedArchive>,
    /// How the archives were listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<AttemptsStatus>,
}

/// Where an import stands, in one word.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(
    missing_docs,
    reason = "a schema with a description per value is not structural; docs/TROUBLESHOOTING.md has them"
)]
pub enum ImportPhase {
    #[default]
    Pending,
    Listing,
    Importing,
    Complete,
    Retrying,
    Failed,
}

/// One archive of an import.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportedArchive {
    /// The file's name, or the address without its query, which may hold a signature.
    pub name: String,
    /// The entry.
    pub entry: String,
    /// The entry's phase; `Failed` where there is no entry.
    pub phase: Phase,
    /// Why the entry is not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why there is no entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}
