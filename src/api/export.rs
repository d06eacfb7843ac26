//! `ModelCacheExport`: one entry, written into one archive, once.

use super::entry::NameRef;
use super::rules::{ARCHIVE_URL_PATTERN, FILE_PATTERN};
use super::status::{AttemptsStatus, ProgressStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry, written into one archive, once.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "modelcache.dev",
    version = "v1alpha1",
    kind = "ModelCacheExport",
    plural = "modelcacheexports",
    namespaced,
    shortname = "mcx",
    category = "modelcache",
    status = "ModelCacheExportStatus",
    derive = "PartialEq",
    doc = "One ModelCacheEntry, written into one archive, once.",
    printcolumn(name = "Entry", type_ = "string", json_path = ".spec.entryRef.name"),
    printcolumn(name = "Format", type_ = "string", json_path = ".spec.format"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.display.progress"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.display.size"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Location", type_ = "string", json_path = ".status.archive.location", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Complete\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("spec is immutable: create another export"),
    validation = Rule::new("has(self.destination.url) != has(self.destination.claimName) && has(self.destination.claimName) == has(self.destination.path)")
        .message("spec.destination must have either url, or claimName and path"),
    validation = Rule::new("!has(self.destination.path) || !self.destination.path.split('/').exists(name, name == '.' || name == '..')")
        .message("spec.destination.path must not hold the names `.` or `..`"),
    validation = Rule::new("!has(self.destination.authSecretRef) || has(self.destination.url)")
        .message("spec.destination.authSecretRef is for a url")
)]
pub struct ModelCacheExportSpec {
    /// The entry, in the same namespace. The export waits until it is Ready.
    pub entry_ref: NameRef,
    /// Which kind of archive. Default: `Tar`.
    #[serde(default)]
    pub format: ExportFormat,
    /// Where the archive goes.
    pub destination: ExportDestination,
}

/// Which kind of archive is written.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "a schema with a description per value is not structural")]
pub enum ExportFormat {
    #[default]
    Tar,
    TarGz,
    TarZst,
    Zip,
}

/// Where an archive goes: an address, or a file in a claim.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportDestination {
    /// An `https://` address, written by PUT. The CA bundle and the proxies are those of the connection named `default`, else
    /// the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = ARCHIVE_URL_PATTERN))]
    pub url: Option<String>,
    /// A Secret with the key `token`, or with `username` and `password`, for the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<NameRef>,
    /// The claim that takes the archive, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// The archive's path in the claim. Nothing else is overwritten under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = FILE_PATTERN))]
    pub path: Option<String>,
}

/// What the operator says of an export.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCacheExportStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the export stands, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ExportPhase>,
    /// What holds and what does not, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far the transfer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// What was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<AttemptsStatus>,
    /// The archive that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveStatus>,
    /// The numbers above, as `kubectl get` shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<ExportDisplay>,
}

/// Where an export stands, in one word.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(
    missing_docs,
    reason = "a schema with a description per value is not structural; docs/TROUBLESHOOTING.md has them"
)]
pub enum ExportPhase {
    #[default]
    Pending,
    Exporting,
    Complete,
    Retrying,
    Failed,
}

/// An archive that was written.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveStatus {
    /// SHA-256 of all its bytes.
    pub sha256: String,
    /// How many they are.
    pub size_bytes: i64,
    /// Where it is. The query of an address, which may hold a signature, is left out.
    pub location: String,
}

/// Numbers as `kubectl get` shows them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportDisplay {
    /// `45%`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// The archive's size: `87.4 MiB`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}
