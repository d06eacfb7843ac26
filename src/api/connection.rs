//! `HubConnection`: where a Hub is and how to log in.

use super::job::JobSettings;
use super::rules::{ENDPOINT_PATTERN, PERIOD_PATTERN, PROXY_PATTERN};
use super::status::AttemptsStatus;
use super::storage::StorageSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a Hub is and how to log in. The connection named `default` serves the entries of its namespace that name none.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "modelcache.dev",
    version = "v1alpha1",
    kind = "HubConnection",
    namespaced,
    shortname = "hubc",
    category = "modelcache",
    status = "HubConnectionStatus",
    derive = "PartialEq",
    doc = "Where a Hugging Face Hub is, how to log in, and how much of it is kept.",
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.endpoint"),
    printcolumn(name = "Token", type_ = "string", json_path = ".spec.tokenSecretRef.name"),
    printcolumn(
        name = "Reachable",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reachable\")].status"
    ),
    printcolumn(name = "User", type_ = "string", json_path = ".status.authenticatedAs"),
    printcolumn(name = "Entries", type_ = "integer", json_path = ".status.entries"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
// At least 1k: `50m` is a twentieth of a byte, and a slip of the pen.
#[x_kube(
    validation = Rule::new("!has(self.limitBytesPerSecond) || (isQuantity(self.limitBytesPerSecond) && !quantity(self.limitBytesPerSecond).isLessThan(quantity('1k')))")
        .message("spec.limitBytesPerSecond must be a quantity of at least 1k, such as 50M"),
    validation = Rule::new("!has(self.cache) || !has(self.cache.retention) || !has(self.cache.retention.unusedFor) || duration(self.cache.retention.unusedFor) >= duration('1m')")
        .message("spec.cache.retention.unusedFor must be at least 1m"),
    validation = Rule::new("!has(self.cache) || !has(self.cache.retention) || !has(self.cache.retention.maxUsed) || (isQuantity(self.cache.retention.maxUsed) && !quantity(self.cache.retention.maxUsed).isLessThan(quantity('1k')))")
        .message("spec.cache.retention.maxUsed must be a quantity of at least 1k, such as 500Gi"),
    validation = Rule::new("!has(self.cache) || !has(self.cache.retention) || !has(self.cache.retention.minFree) || (isQuantity(self.cache.retention.minFree) && !quantity(self.cache.retention.minFree).isLessThan(quantity('1k')))")
        .message("spec.cache.retention.minFree must be a quantity of at least 1k, such as 50Gi"),
    validation = Rule::new("!has(self.cache) || !has(self.cache.storage) || has(self.cache.storage.claimName) != has(self.cache.storage.volumeClaimTemplate)")
        .message("spec.cache.storage must have exactly one of claimName and volumeClaimTemplate"),
    validation = Rule::new("!has(self.cache) || !has(self.cache.storage) || !has(self.cache.storage.volumeClaimTemplate) || !has(self.cache.storage.volumeClaimTemplate.spec.resources) || !has(self.cache.storage.volumeClaimTemplate.spec.resources.requests) || !('storage' in self.cache.storage.volumeClaimTemplate.spec.resources.requests) || (isQuantity(self.cache.storage.volumeClaimTemplate.spec.resources.requests['storage']) && quantity(self.cache.storage.volumeClaimTemplate.spec.resources.requests['storage']).isGreaterThan(quantity('0')))")
        .message("spec.cache.storage.volumeClaimTemplate.spec.resources.requests.storage must be a positive quantity such as 20Gi")
)]
pub struct HubConnectionSpec {
    /// The Hub's base address. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT_PATTERN))]
    pub endpoint: Option<String>,
    /// The Secret, in this namespace, that holds the Hub's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// CA certificates in PEM that are trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// Proxies on the way to the Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// The most bytes per second that one download takes, over all its connections: `50M`, `20Mi`. Each download has its
    /// own, and at most its part of the operator's limit for the whole Hub. Default: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub limit_bytes_per_second: Option<String>,
    /// The most Jobs of this connection's entries that take from its Hub at the same time; the others are `Queued`. Imports do not
    /// count. Default: no limit but the operator's for each Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_concurrent_jobs: Option<i32>,
    /// What may be kept, from the Hub and from archives that use this connection. What is on a volume already stays. Default:
    /// everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<AllowSpec>,
    /// What holds for the models that come from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
}

/// What may be kept.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowSpec {
    /// Globs of repos: `org/*`, where `*` stands for slashes too. A repo that none of them matches is `PolicyDenied`. Default: every repo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 256)))]
    pub repos: Option<Vec<String>>,
    /// Formats of weights. Files of other formats are left out, and a model that has weights in other formats only is
    /// `PolicyDenied`. `Pytorch` files are pickles, which run code when they are loaded. Default: every format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 7))]
    pub weights: Option<Vec<WeightsFormat>>,
}

/// A format of weights.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "a schema with a description per value is not structural; `Weights` documents them")]
pub enum WeightsFormat {
    Safetensors,
    Pytorch,
    Gguf,
    Onnx,
    Tensorflow,
    Flax,
    Rust,
}

/// What holds for the models of a connection.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheSpec {
    /// Whether a model that a Pod asks for is fetched though nobody made an entry for it. Only of
    /// the connection named `default`. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_populate: Option<bool>,
    /// Where entries without `spec.storage` keep their files. An entry takes it when its first attempt begins, and stays there
    /// whatever is written here later. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Settings of the Jobs of entries that use this connection, where `spec.job` of the entry has none. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSettings>,
    /// When models go by themselves. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<CacheRetention>,
}

/// When models of a connection go by themselves. One that is pinned, in use or wanted never goes.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheRetention {
    /// `unusedFor` of the entries that have none: `720h`, at least `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = PERIOD_PATTERN))]
    pub unused_for: Option<String>,
    /// In each claim that entries share: while less than this is free, the model that was not used for longest goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub min_free: Option<String>,
    /// In each claim that entries share: while the connection's models are larger than this together, the model that was not
    /// used for longest goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub max_used: Option<String>,
}

/// What the operator says of a connection: the models that use it, and which of them would go next.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubConnectionStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The account that the Hub takes the token for, when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated_as: Option<String>,
    /// Who takes from the Hub by way of the connection, and who waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<ConnectionQueue>,
    /// What was tried to find out whether the Hub can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<AttemptsStatus>,
    /// The generation of the spec that the Hub was last checked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_generation: Option<i64>,
    /// How many entries use the connection.
    #[serde(default)]
    pub entries: i64,
    /// The bytes of their models.
    #[serde(default)]
    pub bytes: i64,
    /// What holds and what does not, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The shared claims that hold their models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["claimName"]))]
    pub claims: Vec<ClaimUseStatus>,
}

/// Who takes from a connection's Hub.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionQueue {
    /// How many Jobs take from the Hub now.
    pub running: i64,
    /// How many entries wait for that.
    pub waiting: i64,
}

/// A shared claim, and the connection's models in it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimUseStatus {
    /// The claim.
    pub claim_name: String,
    /// How many of the connection's models are in it.
    pub models: i64,
    /// Their bytes.
    pub used_bytes: i64,
    /// What could still be written, when the newest Job of any entry in the claim ended; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Time>,
    /// Which limit is broken, and by how much; absent while none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<String>,
    /// The entry whose model is going now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub going: Option<String>,
    /// Whose models go next when a limit is broken, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<NextToGo>,
    /// How many do not go, by the reason: `in use: 3, pinned: 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// An entry whose model goes when room is needed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextToGo {
    /// The entry.
    pub entry: String,
    /// The bytes of its model.
    pub bytes: i64,
    /// When it was last used, or published.
    pub unused_since: Time,
}

/// A key in a Secret of the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Where CA certificates are kept.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleRef {
    /// What kind of object holds them.
    pub kind: CaBundleKind,
    /// The object's name, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What kind of object holds CA certificates.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum CaBundleKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl CaBundleKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Proxies by scheme.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxySpec {
    /// For `http://` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = PROXY_PATTERN))]
    pub http: Option<String>,
    /// For `https://` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = PROXY_PATTERN))]
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub no_proxy: Option<String>,
}
