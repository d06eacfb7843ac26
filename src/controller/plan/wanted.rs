//! What an entry asks for, with every default filled in and every name parsed.

use super::Why;
use super::observed::{ConnectionSight, Observed};
use super::storage::{nowhere, storage_of};
use crate::api::connection::{AllowSpec, CaBundleRef, ProxySpec, SecretKeyRef, WeightsFormat};
use crate::api::entry::{ArchiveSource, FilesSpec, ReclaimPolicy, WeightsSpec};
use crate::api::job::JobSettings;
use crate::api::storage::{StorageSpec, VolumeClaimTemplate};
use crate::api::{FIELD_MANAGER, HubConnection, ModelCacheEntry, ModelCacheEntrySpec, annotation};
use crate::controller::config::Config;
use crate::format::task::{FileChoice, Policy, Weights};
use crate::ident::{ByteRate, Endpoint, ModelKey, ModelRef, Reason, RelPath, Sha256, hex};
use serde::Serialize;
use sha2::Digest;

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where the bytes come from.
    pub origin: Origin,
    /// The claim's name.
    pub claim_name: String,
    /// How to make the claim, when it is the entry's own.
    pub template: Option<VolumeClaimTemplate>,
    /// The cache's root below the claim's root.
    pub sub_path: Option<RelPath>,
    /// Whether the files go with the entry.
    pub reclaim: ReclaimPolicy,
    /// How to reach the Hub, and whatever else is not in the cluster.
    pub hub: HubView,
    /// Settings of the worker's Job.
    pub job: JobSettings,
    /// Who asked.
    pub requested_by: String,
}

/// Where the bytes of a model come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A Hub.
    Hub {
        /// The model.
        model: ModelRef,
        /// Which of its files.
        files: FileChoice,
    },
    /// An archive.
    Archive {
        /// Where it is.
        place: ArchiveSpot,
        /// Its digest, where somebody knows it.
        sha256: Option<Sha256>,
        /// The model that it must hold, where somebody says.
        expected: Option<ModelRef>,
    },
    /// The volume, on which it is already.
    Volume {
        /// The model.
        model: ModelRef,
        /// The digest of its `SHA256SUMS`, where somebody says.
        manifest: Option<Sha256>,
    },
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq)]
pub enum ArchiveSpot {
    /// A file in a claim.
    Claim {
        /// The claim.
        name: String,
        /// The file below its root.
        path: RelPath,
    },
    /// An address.
    Url {
        /// The address.
        url: String,
        /// The Secret with the login.
        auth: Option<String>,
    },
}

impl ArchiveSpot {
    /// Where the archive is, for people. An address's query may hold a signature, and is left out.
    pub fn shown(&self) -> String {
        match self {
            Self::Claim { name, path } => format!("{path} in claim {name}"),
            Self::Url { url, .. } => without_query(url).to_owned(),
        }
    }
}

/// An address as it may be shown.
pub fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// How to reach a Hub.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HubView {
    /// The Hub.
    pub endpoint: Endpoint,
    /// The Secret with the token.
    pub token: Option<SecretKeyRef>,
    /// The CA certificates.
    pub ca: Option<CaSource>,
    /// The proxies.
    pub proxy: Option<ProxySpec>,
    /// What may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// How fast one download may be: what the connection says, and the part in what all of them may take. Another rate mends
    /// nothing.
    #[serde(skip)]
    pub limit: Option<ByteRate>,
}

impl HubView {
    /// Ten hex digits that are others when anything about the way to the Hub, or what may be kept, is: a failed entry need not wait then.
    pub fn digest(&self) -> String {
        hex(&sha2::Sha256::digest(serde_json::json!(self).to_string())[..5])
    }
}

/// Where CA certificates come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum CaSource {
    /// An object that a connection names.
    Object(CaBundleRef),
    /// The operator's own, in PEM; a ConfigMap is made of them.
    Operator(String),
}

impl Wanted {
    /// What the entry asks for, or why it cannot be had.
    pub fn of(observed: &Observed) -> Result<Self, Why> {
        let spec = &observed.entry.spec;
        let hub = hub_view(&observed.connection, &observed.config)?;
        let storage = storage_of(&observed.entry).ok_or_else(|| nowhere(observed))?;
        let (claim_name, template) = claim(observed.name(), storage).ok_or_else(|| nowhere(observed))?;
        let sub_path = storage.sub_path.as_deref().map(str::parse).transpose();
        let origin = origin(spec)?;
        if let Some(why) = denied(&origin, hub.policy.as_ref()) {
            return Err(why);
        }
        Ok(Self {
            origin,
            claim_name,
            template,
            sub_path: sub_path
                .map_err(|error| Why::new(Reason::PermissionDenied, format!("spec.storage.subPath: {error}")))?,
            reclaim: spec.reclaim_policy.unwrap_or_default(),
            hub,
            job: settings(&observed.entry, &observed.connection, &observed.config),
            requested_by: requested_by(observed),
        })
    }

    /// Where the bytes come from, for people.
    pub fn source_shown(&self) -> String {
        match &self.origin {
            Origin::Hub { .. } => self.hub.endpoint.to_string(),
            Origin::Archive { place, .. } => place.shown(),
            Origin::Volume { .. } => "the volume".to_owned(),
        }
    }
}

/// Why the connection does not allow it, as far as that can be told before anything is fetched.
pub(super) fn denied(origin: &Origin, policy: Option<&Policy>) -> Option<Why> {
    let policy = policy?;
    let (repo, weights) = match origin {
        Origin::Hub { model, files } => (Some(&model.repo), files.weights),
        Origin::Archive { expected, .. } => (expected.as_ref().map(|model| &model.repo), Weights::All),
        Origin::Volume { model, .. } => (Some(&model.repo), Weights::All),
    };
    let refused = repo.and_then(|repo| policy.refuses_repo(repo)).or_else(|| policy.refuses_weights(weights))?;
    Some(Why::new(Reason::PolicyDenied, format!("{refused}: ask for another model, or have the policy changed")))
}

/// Whether the way to the Hub is another one than that of the last attempt that failed: that counts as a change of the spec.
pub(super) fn is_mended(observed: &Observed, wanted: &Wanted) -> bool {
    let last_hub = observed.attempts().and_then(|attempts| attempts.last_hub.as_ref());
    last_hub.is_some_and(|hub| *hub != wanted.hub.digest())
}

/// Whether files stay in somebody else's claim when the entry goes, and so need a finalizer to be removed.
pub(super) fn leaves_files(entry: &ModelCacheEntry) -> bool {
    let shared = storage_of(entry).is_some_and(|storage| storage.volume_claim_template.is_none());
    shared && entry.spec.reclaim_policy.unwrap_or_default() == ReclaimPolicy::Delete
}

/// The name of the claim that an entry uses.
pub fn wanted_claim(entry: &ModelCacheEntry) -> Option<String> {
    let storage = storage_of(entry)?;
    storage.claim_name.clone().or_else(|| entry.metadata.name.clone())
}

/// The name of the claim that holds the entry's archive, where one does.
pub fn archive_claim(entry: &ModelCacheEntry) -> Option<String> {
    entry.spec.source.as_ref()?.archive.as_ref()?.claim_name.clone()
}

/// The volume that an entry uses: claim and folder. Two entries with the same, and one model, are twins.
pub fn volume_of(entry: &ModelCacheEntry) -> Option<(String, Option<String>)> {
    let sub_path = storage_of(entry)?.sub_path.clone();
    Some((wanted_claim(entry)?, sub_path))
}

/// The model of an entry, as far as it is known: what an archive held, else what the spec names.
pub fn known_model(entry: &ModelCacheEntry) -> Option<ModelRef> {
    imported_model(entry).or_else(|| parse_model(&entry.spec).ok())
}

/// The model of an entry, where it cannot be another one: an archive that was not read yet may hold any revision of its repo.
pub fn certain_model(entry: &ModelCacheEntry) -> Option<ModelRef> {
    let is_open = is_of_archive(entry) && entry.spec.revision.is_none();
    imported_model(entry).or_else(|| parse_model(&entry.spec).ok().filter(|_| !is_open))
}

fn imported_model(entry: &ModelCacheEntry) -> Option<ModelRef> {
    let metadata = entry.status.as_ref().filter(|_| is_of_archive(entry))?.metadata.as_ref()?;
    let key: ModelKey = metadata.get("modelDefinition")?.get("key")?.as_str()?.parse().ok()?;
    Some(key.model().clone())
}

fn is_of_archive(entry: &ModelCacheEntry) -> bool {
    entry.spec.source.as_ref().is_some_and(|source| source.archive.is_some())
}

/// Where the bytes of an entry come from.
pub fn origin(spec: &ModelCacheEntrySpec) -> Result<Origin, Why> {
    if let Some(volume) = spec.source.as_ref().and_then(|source| source.volume.as_ref()) {
        let manifest = volume.manifest_sha256.as_deref().map(str::parse).transpose();
        let manifest = manifest
            .map_err(|error| Why::new(Reason::Conflict, format!("spec.source.volume.manifestSha256: {error}")))?;
        return Ok(Origin::Volume { model: parse_model(spec)?, manifest });
    }
    let Some(archive) = spec.source.as_ref().and_then(|source| source.archive.as_ref()) else {
        return Ok(Origin::Hub { model: parse_model(spec)?, files: files(spec.files.as_ref()) });
    };
    let sha256 = archive.sha256.as_deref().map(str::parse).transpose();
    Ok(Origin::Archive {
        place: archive_spot(archive)?,
        sha256: sha256
            .map_err(|error| Why::new(Reason::ArchiveInvalid, format!("spec.source.archive.sha256: {error}")))?,
        expected: spec.repo.as_ref().map(|_| parse_model(spec)).transpose()?,
    })
}

fn archive_spot(archive: &ArchiveSource) -> Result<ArchiveSpot, Why> {
    match (&archive.url, &archive.claim_name, &archive.path) {
        (Some(url), None, None) => Ok(ArchiveSpot::Url {
            url: url.clone(),
            auth: archive.auth_secret_ref.as_ref().map(|secret| secret.name.clone()),
        }),
        (None, Some(name), Some(path)) => {
            let path = path
                .parse()
                .map_err(|error| Why::new(Reason::ArchiveNotFound, format!("spec.source.archive.path: {error}")))?;
            Ok(ArchiveSpot::Claim { name: name.clone(), path })
        }
        _ => Err(Why::new(Reason::ArchiveNotFound, "spec.source.archive must have either url, or claimName and path")),
    }
}

/// The model that an entry names.
pub(super) fn parse_model(spec: &ModelCacheEntrySpec) -> Result<ModelRef, Why> {
    let repo = spec.repo.as_deref().unwrap_or_default();
    let repo = repo.parse().map_err(|error| Why::new(Reason::RepoNotFound, format!("spec.repo: {error}")))?;
    let revision = spec.revision.as_deref().map(str::parse).transpose();
    let revision = revision.map_err(|error| Why::new(Reason::RevisionNotFound, format!("spec.revision: {error}")))?;
    Ok(ModelRef { repo, revision })
}

fn claim(entry_name: &str, storage: &StorageSpec) -> Option<(String, Option<VolumeClaimTemplate>)> {
    match (&storage.claim_name, &storage.volume_claim_template) {
        (Some(name), None) => Some((name.clone(), None)),
        (None, Some(template)) => Some((entry_name.to_owned(), Some(template.clone()))),
        _ => None,
    }
}

fn files(spec: Option<&FilesSpec>) -> FileChoice {
    let Some(spec) = spec else { return FileChoice::default() };
    FileChoice {
        weights: weights(spec.weights.unwrap_or_default()),
        include: spec.include.clone().unwrap_or_default(),
        exclude: spec.exclude.clone().unwrap_or_default(),
    }
}

fn weights(spec: WeightsSpec) -> Weights {
    match spec {
        WeightsSpec::Auto => Weights::Auto,
        WeightsSpec::All => Weights::All,
        WeightsSpec::Safetensors => Weights::Safetensors,
        WeightsSpec::Pytorch => Weights::Pytorch,
        WeightsSpec::Gguf => Weights::Gguf,
        WeightsSpec::Onnx => Weights::Onnx,
        WeightsSpec::Tensorflow => Weights::Tensorflow,
        WeightsSpec::Flax => Weights::Flax,
        WeightsSpec::Rust => Weights::Rust,
    }
}

/// The connection's fields, each with the operator's default behind it. A token and a CA belong to an endpoint: the
/// operator's token never goes to a Hub that a connection names.
pub fn hub_view(sight: &ConnectionSight, config: &Config) -> Result<HubView, Why> {
    let connection = match sight {
        ConnectionSight::Missing(name) => {
            let message =
                format!("HubConnection {name:?} does not exist in this namespace: create it, or name another");
            return Err(Why::new(Reason::ConnectionNotFound, message));
        }
        ConnectionSight::Defaults => None,
        ConnectionSight::Found(connection) => Some(&connection.spec),
    };
    let named = connection.and_then(|spec| spec.endpoint.as_deref());
    let endpoint = match named {
        Some(text) => text
            .parse()
            .map_err(|error| Why::new(Reason::ConnectionNotFound, format!("the HubConnection's {error}")))?,
        None => config.endpoint.clone(),
    };
    let limit = connection.and_then(|spec| spec.limit_bytes_per_second.as_deref()).map(str::parse).transpose();
    let limit = limit.map_err(|error| {
        Why::new(Reason::ConnectionNotFound, format!("the HubConnection's limitBytesPerSecond: {error}"))
    })?;
    let same_hub = endpoint == config.endpoint;
    let token = connection.and_then(|spec| spec.token_secret_ref.clone());
    let ca = connection.and_then(|spec| spec.ca_bundle_ref.clone()).map(CaSource::Object);
    Ok(HubView {
        token: token.or_else(|| config.token_secret.clone().filter(|_| same_hub)),
        ca: ca.or_else(|| config.ca_bundle.clone().map(CaSource::Operator)),
        proxy: connection.and_then(|spec| spec.proxy.clone()).or_else(|| config.proxy.clone()),
        policy: sight.found().and_then(policy),
        limit: [limit, config.limit_of_job()].into_iter().flatten().min(),
        endpoint,
    })
}

/// What a connection allows; none where that is everything.
fn policy(connection: &HubConnection) -> Option<Policy> {
    let AllowSpec { repos, weights } = connection.spec.allow.clone()?;
    let (repos, weights) = (repos.unwrap_or_default(), weights.unwrap_or_default());
    let weights: Vec<_> = weights.into_iter().map(format).collect();
    let name = connection.metadata.name.as_deref().unwrap_or_default();
    (!repos.is_empty() || !weights.is_empty()).then(|| Policy {
        origin: format!("HubConnection {name:?}"),
        repos,
        weights,
    })
}

fn format(format: WeightsFormat) -> Weights {
    match format {
        WeightsFormat::Safetensors => Weights::Safetensors,
        WeightsFormat::Pytorch => Weights::Pytorch,
        WeightsFormat::Gguf => Weights::Gguf,
        WeightsFormat::Onnx => Weights::Onnx,
        WeightsFormat::Tensorflow => Weights::Tensorflow,
        WeightsFormat::Flax => Weights::Flax,
        WeightsFormat::Rust => Weights::Rust,
    }
}

/// The settings of an entry's Jobs: its own, each with the connection's and then the operator's behind it.
pub fn settings(entry: &ModelCacheEntry, connection: &ConnectionSight, config: &Config) -> JobSettings {
    let own = entry.spec.job.clone().unwrap_or_default();
    let of_connection = connection.found().and_then(|connection| connection.spec.cache.as_ref()?.job.as_ref());
    merge(of_connection.map_or(own.clone(), |job| merge(own, job)), &config.job)
}

/// Settings, each with a default behind it.
pub fn merge(own: JobSettings, default: &JobSettings) -> JobSettings {
    let JobSettings {
        resources,
        node_selector,
        tolerations,
        affinity,
        priority_class_name,
        image_pull_secrets,
        service_account_name,
        labels,
        annotations,
        active_deadline_seconds,
        security_context,
    } = own;
    JobSettings {
        resources: resources.or_else(|| default.resources.clone()),
        node_selector: node_selector.or_else(|| default.node_selector.clone()),
        tolerations: tolerations.or_else(|| default.tolerations.clone()),
        affinity: affinity.or_else(|| default.affinity.clone()),
        priority_class_name: priority_class_name.or_else(|| default.priority_class_name.clone()),
        image_pull_secrets: image_pull_secrets.or_else(|| default.image_pull_secrets.clone()),
        service_account_name: service_account_name.or_else(|| default.service_account_name.clone()),
        labels: labels.or_else(|| default.labels.clone()),
        annotations: annotations.or_else(|| default.annotations.clone()),
        active_deadline_seconds: active_deadline_seconds.or(default.active_deadline_seconds),
        security_context: security_context.or_else(|| default.security_context.clone()),
    }
}

/// The annotation that the admission policy guards; without it, the client that wrote the entry first.
fn requested_by(observed: &Observed) -> String {
    if let Some(user) = observed.annotation(annotation::CREATED_BY) {
        return user.to_owned();
    }
    // Ours come in the same second, and first by name.
    let managers = observed
        .entry
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|field| !field.manager.as_deref().is_some_and(|manager| manager.starts_with(FIELD_MANAGER)));
    let first =
        managers.min_by_key(|field| field.time.as_ref().map(|time| time.0)).and_then(|field| field.manager.clone());
    first.unwrap_or_else(|| "unknown".to_owned())
}
