//! What an entry asks for, with every default filled in and every name parsed.

use super::Why;
use super::observed::{ConnectionSight, Observed};
use crate::api::connection::{CaBundleRef, ProxySpec, SecretKeyRef};
use crate::api::entry::{FilesSpec, ReclaimPolicy, WeightsSpec};
use crate::api::job::JobSettings;
use crate::api::storage::{StorageSpec, VolumeClaimTemplate};
use crate::api::{ModelCacheEntry, ModelCacheEntrySpec, annotation};
use crate::format::task::{FileChoice, Weights};
use crate::ident::{ByteRate, Endpoint, ModelRef, Reason, RelPath};

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The model.
    pub model: ModelRef,
    /// Which of its files.
    pub files: FileChoice,
    /// The claim's name.
    pub claim_name: String,
    /// How to make the claim, when it is the entry's own.
    pub template: Option<VolumeClaimTemplate>,
    /// The cache's root below the claim's root.
    pub sub_path: Option<RelPath>,
    /// Whether the files go with the entry.
    pub reclaim: ReclaimPolicy,
    /// How to reach the Hub.
    pub hub: HubView,
    /// Settings of the worker's Job.
    pub job: JobSettings,
    /// Who asked.
    pub requested_by: String,
}

/// How to reach a Hub.
#[derive(Debug, Clone, PartialEq)]
pub struct HubView {
    /// The Hub.
    pub endpoint: Endpoint,
    /// The Secret with the token.
    pub token: Option<SecretKeyRef>,
    /// The CA certificates.
    pub ca: Option<CaSource>,
    /// The proxies.
    pub proxy: Option<ProxySpec>,
    /// How fast one download may be.
    pub limit: Option<ByteRate>,
}

/// Where CA certificates come from.
#[derive(Debug, Clone, PartialEq)]
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
        let storage = spec.storage.as_ref().ok_or_else(no_storage)?;
        let (claim_name, template) = claim(observed.name(), storage)?;
        let sub_path = storage.sub_path.as_deref().map(str::parse).transpose();
        Ok(Self {
            model: parse_model(spec)?,
            files: files(spec.files.as_ref()),
            claim_name,
            template,
            sub_path: sub_path
                .map_err(|error| Why::new(Reason::PermissionDenied, format!("spec.storage.subPath: {error}")))?,
            reclaim: spec.reclaim_policy.unwrap_or_default(),
            hub: hub(observed)?,
            job: merge(spec.job.clone().unwrap_or_default(), &observed.config.job),
            requested_by: requested_by(observed),
        })
    }

    /// Whether files stay in somebody else's claim when the entry goes, and so need a finalizer to be removed.
    pub fn leaves_files(&self) -> bool {
        self.template.is_none() && self.reclaim == ReclaimPolicy::Delete
    }
}

/// The name of the claim that an entry uses.
pub fn wanted_claim(entry: &ModelCacheEntry) -> Option<String> {
    let storage = entry.spec.storage.as_ref()?;
    storage.claim_name.clone().or_else(|| entry.metadata.name.clone())
}

/// The volume that an entry uses (claim and folder), and the key of its model; two entries with the same are twins.
pub fn volume_and_key(entry: &ModelCacheEntry) -> Option<((String, Option<String>), String)> {
    let model = parse_model(&entry.spec).ok()?;
    let sub_path = entry.spec.storage.as_ref()?.sub_path.clone();
    Some(((wanted_claim(entry)?, sub_path), model.key().to_string()))
}

fn no_storage() -> Why {
    Why::new(Reason::PVCPending, "spec.storage is missing: name a claim or give a volumeClaimTemplate")
}

/// The model that an entry names.
pub fn parse_model(spec: &ModelCacheEntrySpec) -> Result<ModelRef, Why> {
    let repo = spec.repo.as_deref().unwrap_or_default();
    let repo = repo.parse().map_err(|error| Why::new(Reason::RepoNotFound, format!("spec.repo: {error}")))?;
    let revision = spec.revision.as_deref().map(str::parse).transpose();
    let revision = revision.map_err(|error| Why::new(Reason::RevisionNotFound, format!("spec.revision: {error}")))?;
    Ok(ModelRef { repo, revision })
}

fn claim(entry_name: &str, storage: &StorageSpec) -> Result<(String, Option<VolumeClaimTemplate>), Why> {
    match (&storage.claim_name, &storage.volume_claim_template) {
        (Some(name), None) => Ok((name.clone(), None)),
        (None, Some(template)) => Ok((entry_name.to_owned(), Some(template.clone()))),
        _ => Err(no_storage()),
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
fn hub(observed: &Observed) -> Result<HubView, Why> {
    let config = &observed.config;
    let connection = match &observed.connection {
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
        limit,
        endpoint,
    })
}

/// The entry's settings, each with the operator's default behind it.
fn merge(own: JobSettings, default: &JobSettings) -> JobSettings {
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
    let managers = observed.entry.metadata.managed_fields.iter().flatten();
    let first =
        managers.min_by_key(|field| field.time.as_ref().map(|time| time.0)).and_then(|field| field.manager.clone());
    first.unwrap_or_else(|| "unknown".to_owned())
}
