//! What the operator says of an entry.

use super::connection::ProxySpec;
use super::entry::RetentionSpec;
use super::storage::StorageSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the operator says of an entry: `phase` is for people, `conditions` are for machines.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCacheEntryStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the entry stands, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What holds and what does not, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The commit that the revision resolved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The Hub that the entry uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Where the model is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStatus>,
    /// Where the entry stands in the line for a Hub; only there while it waits in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// What holds for the entry with every default filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveStatus>,
    /// How far the transfer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// What the model was found to be before a claim of its size was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedStatus>,
    /// What was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<AttemptsStatus>,
    /// Who used the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageStatus>,
    /// What is known of newer commits; absent under the policy `Pinned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// When the model goes, or went, because it was not used or room was needed; absent while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction: Option<EvictionStatus>,
    /// The published files in three numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestStatus>,
    /// `model_metadata.json`, as it is on the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub metadata: Option<Map<String, Value>>,
    /// The numbers above, as `kubectl get` shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<DisplayStatus>,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "description": "`model_metadata.json`, as it is on the volume.",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Where an entry stands, in one word.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(
    missing_docs,
    reason = "a schema with a description per value is not structural; docs/TROUBLESHOOTING.md has them"
)]
pub enum Phase {
    #[default]
    Pending,
    Queued,
    Resolving,
    Provisioning,
    Downloading,
    Importing,
    Ready,
    Retrying,
    Failed,
    Suspended,
    Evicted,
    Deleting,
}

impl Phase {
    /// Every phase, for what tells of all of them.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Queued,
        Self::Resolving,
        Self::Provisioning,
        Self::Downloading,
        Self::Importing,
        Self::Ready,
        Self::Retrying,
        Self::Failed,
        Self::Suspended,
        Self::Evicted,
        Self::Deleting,
    ];
}

/// A place in the line for a Hub.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// The place, from 1 on.
    pub position: i64,
    /// How many wait for the same.
    pub waiting: i64,
    /// When this was written: at most every ten seconds.
    pub updated_at: Time,
}

/// What holds for an entry with every default filled in.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveStatus {
    /// The connection; absent where there is none, and the operator's defaults hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The Hub's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The Secret with the Hub's token. The operator never reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<String>,
    /// Where CA certificates come from that are trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The proxies, without logins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// The most bytes per second that one download takes: what its connection says, or its part in what all of the Hub's may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second: Option<String>,
    /// The most Jobs that take from the Hub by way of the connection at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_jobs: Option<i64>,
    /// The most Jobs of the whole cluster that take from the Hub at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_jobs_of_hub: Option<i64>,
    /// The most bytes per second that the Jobs of the whole cluster together take from the Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second_of_hub: Option<String>,
    /// Where the files are kept. Of an entry without `spec.storage` it is the default that its first attempt began with, and no
    /// other default changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// When the model goes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
}

/// What the model was found to be before there was a claim for it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedStatus {
    /// The commit that the revision was at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How many files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
    /// The room that they take, at most.
    pub bytes: i64,
}

/// Where the model is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// The claim.
    pub claim_name: String,
    /// The claim's uid when the model was published: another claim of the same name does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_uid: Option<String>,
    /// The model's folder below the claim's root; usable as a `subPath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What could still be written, when the last Job of this entry ended; absent where the file system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// How large the volume was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<i64>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Time>,
}

/// What is known of newer commits.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStatus {
    /// When the Hub was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Time>,
    /// The commit that the revision was at then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_commit: Option<String>,
    /// The commit that is being downloaded, while the old one stays usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updating_to: Option<String>,
    /// The commits that updates replaced, the newest first: Pods that started before may still read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<ReplacedCommit>,
}

/// A commit that an update replaced.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplacedCommit {
    /// The commit.
    pub commit: String,
    /// Until when it was the entry's.
    pub until: Time,
    /// When the Job of the update began: Pods may have the newer commit since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_began: Option<Time>,
}

/// When and why a model goes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvictionStatus {
    /// When it goes if nobody uses it before; when it went, in the phase `Evicted`.
    pub at: Time,
    /// Why.
    pub why: String,
}

/// How far the transfer is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// Bytes that arrived.
    pub bytes_done: i64,
    /// Bytes of the whole plan.
    pub bytes_total: i64,
    /// Files that are complete and verified.
    pub files_done: i64,
    /// Files of the whole plan.
    pub files_total: i64,
    /// The rate over the last seconds.
    pub bytes_per_second: i64,
    /// The time left at this rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<i64>,
    /// When this was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
}

/// What was tried.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptsStatus {
    /// Attempts that ended, since the last success, change of the spec or retry.
    pub count: i64,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reason: Option<String>,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
    /// When the next one starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_at: Option<Time>,
    /// The value of the annotation `modelcache.dev/retry` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_retry: Option<String>,
    /// A digest of how the last attempt reached its Hub; with another one, a failed entry starts anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hub: Option<String>,
    /// What the claim had when the last attempt ran out of space; with another capacity, a failed entry starts anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_room: Option<String>,
    /// The Job of the last attempt whose end is recorded here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job: Option<String>,
}

/// Who used the model.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageStatus {
    /// When a Pod last began or stopped to use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
    /// By whom: namespace, service account, and what controls the Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_by: Option<String>,
    /// How many Pods use it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<i32>,
}

/// The published files in three numbers.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestStatus {
    /// SHA-256 of the entry's `SHA256SUMS`.
    pub sha256: String,
    /// How many files.
    pub files: i64,
    /// Their sizes' sum.
    pub bytes: i64,
}

/// Numbers as `kubectl get` shows them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisplayStatus {
    /// `sentence-transformers/all-MiniLM-L6-v2`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The Hub's address, or the archive's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `main@7dbbc90`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// `45%`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// `87.4 MiB`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}
