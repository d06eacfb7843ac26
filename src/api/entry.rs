//! `ModelCacheEntry`: one model at one revision in one volume.

use super::job::JobSettings;
use super::rules::{
    ARCHIVE_URL_PATTERN, FILE_PATTERN, GROWTH_RULE, PERIOD_PATTERN, REPO_PATTERN, REVISION_PATTERN, SHA256_PATTERN,
    STORAGE_RULE, immutable, unsupported,
};
use super::status::ModelCacheEntryStatus;
use super::storage::StorageSpec;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One model at one revision in one volume.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "modelcache.dev",
    version = "v1alpha1",
    kind = "ModelCacheEntry",
    plural = "modelcacheentries",
    namespaced,
    shortname = "mce",
    category = "modelcache",
    status = "ModelCacheEntryStatus",
    derive = "PartialEq",
    selectable = ".spec.repo",
    doc = "One Hugging Face model, kept and verified in one volume.",
    printcolumn(name = "Model", type_ = "string", json_path = ".status.display.model"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.display.revision"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.display.progress"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.display.size"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.display.source", priority = 1),
    printcolumn(name = "Claim", type_ = "string", json_path = ".status.volume.claimName", priority = 1),
    printcolumn(name = "Last used", type_ = "date", json_path = ".status.usage.lastUsedAt", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.repo) || (has(self.source) && has(self.source.archive))").message("spec.repo is required"),
    validation = Rule::new("!has(self.repo) || !(self.repo.contains('--') || self.repo.contains('..') || self.repo.lowerAscii().endsWith('.git'))")
        .message("spec.repo must not hold `--` or `..` or end with `.git`"),
    validation = Rule::new("!has(self.revision) || !(self.revision.contains('..') || self.revision.contains('//') || self.revision.contains('/.') || self.revision.contains('./') || self.revision.endsWith('/') || self.revision.endsWith('.') || self.revision.lowerAscii().endsWith('.lock') || self.revision.lowerAscii().contains('.lock/'))")
        .message("spec.revision is not a name that git allows"),
    validation = Rule::new("!has(self.source) || [has(self.source.hub), has(self.source.archive), has(self.source.upload), has(self.source.volume)].filter(x, x).size() == 1")
        .message("spec.source must have exactly one of hub, archive, upload and volume"),
    validation = Rule::new("!has(self.storage) || has(self.storage.claimName) != has(self.storage.volumeClaimTemplate)")
        .message("spec.storage must have exactly one of claimName and volumeClaimTemplate"),
    validation = Rule::new("!has(self.storage) || !has(self.storage.volumeClaimTemplate) || !has(self.storage.volumeClaimTemplate.spec.resources) || !has(self.storage.volumeClaimTemplate.spec.resources.requests) || !('storage' in self.storage.volumeClaimTemplate.spec.resources.requests) || (isQuantity(self.storage.volumeClaimTemplate.spec.resources.requests['storage']) && quantity(self.storage.volumeClaimTemplate.spec.resources.requests['storage']).isGreaterThan(quantity('0')))")
        .message("spec.storage.volumeClaimTemplate.spec.resources.requests.storage must be a positive quantity such as 20Gi"),
    validation = immutable!("repo"),
    validation = immutable!("revision"),
    validation = immutable!("source"),
    validation = immutable!("files"),
    validation = Rule::new(STORAGE_RULE).message("spec.storage is immutable but for the size of a volumeClaimTemplate: delete the entry and create it anew"),
    validation = Rule::new(GROWTH_RULE).message("spec.storage.volumeClaimTemplate.spec.resources.requests.storage may only be raised"),
    validation = Rule::new("!has(self.revision) || has(self.repo)").message("spec.revision needs spec.repo"),
    validation = Rule::new("!has(self.source) || !has(self.source.archive) || (has(self.source.archive.url) != has(self.source.archive.claimName) && has(self.source.archive.claimName) == has(self.source.archive.path))")
        .message("spec.source.archive must have either url, or claimName and path"),
    validation = Rule::new("!has(self.source) || !has(self.source.archive) || !has(self.source.archive.path) || !self.source.archive.path.split('/').exists(name, name == '.' || name == '..')")
        .message("spec.source.archive.path must not hold the names `.` or `..`"),
    validation = Rule::new("!has(self.source) || !has(self.source.archive) || !has(self.source.archive.authSecretRef) || has(self.source.archive.url)")
        .message("spec.source.archive.authSecretRef is for a url"),
    validation = Rule::new("!has(self.source) || !has(self.source.archive) || !has(self.files)")
        .message("spec.files is for a Hub: the files of an archive are taken whole"),
    validation = Rule::new("!has(self.source) || !has(self.source.volume) || !has(self.files)")
        .message("spec.files is for a Hub: what is on a volume is taken whole"),
    validation = Rule::new("!has(self.source) || !has(self.source.volume) || (has(self.storage) && has(self.storage.claimName))")
        .message("spec.source.volume needs spec.storage.claimName: the model is in an existing claim"),
    validation = unsupported!("!has(self.source) || !has(self.source.upload)", "spec.source.upload"),
    validation = Rule::new("!has(self.update) || !has(self.update.policy) || self.update.policy == 'Pinned' || !has(self.source) || has(self.source.hub)")
        .message("spec.update.policy must be Pinned for a model from an archive or a volume: only a Hub has newer commits"),
    validation = Rule::new("!has(self.update) || !has(self.update.policy) || self.update.policy == 'Pinned' || !has(self.revision) || !self.revision.matches('^[0-9a-f]{40}$')")
        .message("spec.update.policy must be Pinned where spec.revision is a commit, which never moves"),
    validation = Rule::new("!has(self.update) || !has(self.update.interval) || (has(self.update.policy) && self.update.policy != 'Pinned')")
        .message("spec.update.interval is for the policies Notify and Track"),
    validation = Rule::new("!has(self.update) || !has(self.update.keep) || (has(self.update.policy) && self.update.policy != 'Pinned')")
        .message("spec.update.keep is for the policies Notify and Track"),
    validation = Rule::new("!has(self.update) || !has(self.update.interval) || duration(self.update.interval) >= duration('1m')")
        .message("spec.update.interval must be at least 1m"),
    validation = Rule::new("!has(self.retention) || !has(self.retention.unusedFor) || duration(self.retention.unusedFor) >= duration('1m')")
        .message("spec.retention.unusedFor must be at least 1m"),
    validation = Rule::new("!has(self.retention) || !has(self.retention.unusedFor) || !has(self.reclaimPolicy) || self.reclaimPolicy == 'Delete'")
        .message("spec.retention.unusedFor removes the model, which spec.reclaimPolicy Retain forbids"),
    validation = Rule::new("!has(self.retention) || !has(self.retention.unusedFor) || !has(self.source) || !has(self.source.volume)")
        .message("spec.retention.unusedFor is for models that can come back, and one from spec.source.volume could not")
)]
pub struct ModelCacheEntrySpec {
    /// The repo on the Hub: `org/name`. It may be left out for an archive, which names its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 96), regex(pattern = REPO_PATTERN))]
    pub repo: Option<String>,
    /// A branch, tag or commit. Default: the branch `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255), regex(pattern = REVISION_PATTERN))]
    pub revision: Option<String>,
    /// Where the bytes come from. Default: the Hub of the connection named `default`, else the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Which of the model's files. Default: one format of weights, and every other file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSpec>,
    /// Where the files are kept. Default: `spec.cache.storage` of the connection, else the operator's. What the first attempt began
    /// with is in `status.effective.storage`, and holds from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Whether the files go when the entry is deleted. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<ReclaimPolicy>,
    /// What happens when the revision moves on the Hub. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateSpec>,
    /// When the model may go by itself. Default: what the connection says, else never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// Settings of the worker's Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSettings>,
    /// Stops the work on this entry; what is on the volume stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Where the bytes come from: exactly one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubSource>,
    /// An archive with the model's files and its `model_metadata.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveSource>,
    /// Bytes that come through `kubectl modelcache import`. (Not supported yet.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadSource>,
    /// The volume, on which the model is already: all of it is read and compared with its `SHA256SUMS`, and nothing is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSource>,
}

/// A model that is on the entry's volume already.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSource {
    /// SHA-256 of its `SHA256SUMS`. Another one is `Conflict`. Absent: whatever was published there last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = SHA256_PATTERN))]
    pub manifest_sha256: Option<String>,
}

/// A Hub.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubSource {
    /// The `HubConnection` in this namespace. Default: the one named `default`, else the operator's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<NameRef>,
}

/// The name of an object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct NameRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An archive: an address, or a file in a claim.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveSource {
    /// An `https://` address. The CA bundle and the proxies are those of the connection named `default`, else the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = ARCHIVE_URL_PATTERN))]
    pub url: Option<String>,
    /// A Secret with the key `token`, or with `username` and `password`, for the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<NameRef>,
    /// The claim that holds the archive, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// The archive's path in the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = FILE_PATTERN))]
    pub path: Option<String>,
    /// SHA-256 of the archive. Another one is `ChecksumMismatch`, and nothing is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = SHA256_PATTERN))]
    pub sha256: Option<String>,
    /// The bytes of the unpacked model, for a claim without a size: where the archive does not tell (a compressed tar), or to
    /// do without the Job that looks. For a zip behind a url add the zip's own size: it lies beside the files for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub unpacked_bytes: Option<i64>,
}

/// Bytes that a person sends.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadSource {
    /// SHA-256 of what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size_bytes: Option<i64>,
}

/// Which of the model's files.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesSpec {
    /// Which weights. `Auto` keeps the first format the model has of safetensors, PyTorch, GGUF, ONNX, TensorFlow, Flax, Rust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsSpec>,
    /// Globs; where any are given, only what one of them matches is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub include: Option<Vec<String>>,
    /// Globs; what one of them matches is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub exclude: Option<Vec<String>>,
}

/// Which weights.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "a schema with a description per value is not structural; `Weights` documents them")]
pub enum WeightsSpec {
    #[default]
    Auto,
    All,
    Safetensors,
    Pytorch,
    Gguf,
    Onnx,
    Tensorflow,
    Flax,
    Rust,
}

/// Whether the files go when the entry is deleted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "a schema with a description per value is not structural")]
pub enum ReclaimPolicy {
    #[default]
    Delete,
    Retain,
}

/// What happens when the revision moves on the Hub.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSpec {
    /// `Pinned` (default): nothing. `Notify`: the condition `Drifted` says that there is a newer commit. `Track`: the newer
    /// commit is downloaded, and replaces the old one when it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<UpdatePolicy>,
    /// How often the Hub is asked: at least `1m`. Default: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = PERIOD_PATTERN))]
    pub interval: Option<String>,
    /// How many older snapshots stay on the volume after an update. Default: 1. One that a Pod mounts stays in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub keep: Option<i32>,
}

/// What happens when the revision moves on the Hub.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "a schema with a description per value is not structural")]
pub enum UpdatePolicy {
    #[default]
    Pinned,
    Notify,
    Track,
}

/// When the model may go by itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionSpec {
    /// Never evicted, whatever the other limits say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// Evicted after this long without use, such as `720h`: at least `1m`. Default: the connection's
    /// `cache.retention.unusedFor`, else never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = PERIOD_PATTERN))]
    pub unused_for: Option<String>,
}

impl ModelCacheEntrySpec {
    /// The name of the connection that the entry names.
    pub fn connection_name(&self) -> Option<&str> {
        Some(&self.source.as_ref()?.hub.as_ref()?.connection_ref.as_ref()?.name)
    }
}
