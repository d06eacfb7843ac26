//! An entry, trimmed to what matters to a Pod that asks for its model.

use super::super::record::condition_of;
use super::super::storage::storage_of;
use super::super::trimmed::{self, stands_for};
use super::super::wanted::{certain_model, parse_model};
use crate::api::storage::StorageSpec;
use crate::api::{ModelCacheEntry, Phase, condition};
use crate::ident::{ModelRef, RepoId};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// An entry, trimmed on arrival: every operator that answers the API server keeps those of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "ModelCacheEntry")]
pub struct EntrySight {
    /// Name, namespace, uid, version and times; nothing else is kept.
    pub(super) metadata: ObjectMeta,
    /// Its model, where it cannot be another one.
    pub model: Option<ModelRef>,
    /// The repo of which it will have some revision: its archive was not read so far.
    pub unread: Option<RepoId>,
    /// The volume that it says it uses; absent where a default has to say it yet.
    pub volume: Option<Volume>,
    /// The connection that it names.
    pub connection: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// Why, in a word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// The root of a cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volume {
    /// The claim.
    pub claim: String,
    /// The folder below the claim's root; empty for the root.
    pub root: PathBuf,
}

impl Volume {
    /// The volume that an entry of this name has with this storage.
    pub(super) fn of(storage: &StorageSpec, entry: &str) -> Self {
        Self {
            claim: storage.claim_name.clone().unwrap_or_else(|| entry.to_owned()),
            root: storage.sub_path.as_deref().map(|path| Path::new(path).components().collect()).unwrap_or_default(),
        }
    }
}

impl EntrySight {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether it goes.
    pub fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether nothing that is kept of it changed.
    pub fn is_like(&self, other: &Self) -> bool {
        trimmed::is_like(self, other)
    }
}

impl From<ModelCacheEntry> for EntrySight {
    fn from(entry: ModelCacheEntry) -> Self {
        let model = certain_model(&entry);
        let unread = parse_model(&entry.spec).ok().filter(|_| model.is_none()).map(|model| model.repo);
        let name = entry.metadata.name.as_deref().unwrap_or_default();
        let volume = storage_of(&entry).map(|storage| Volume::of(storage, name));
        let status = entry.status.unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        // What is said of a transfer changes every two seconds, and nobody here wants to know.
        let is_final =
            matches!(phase, Phase::Ready | Phase::Retrying | Phase::Failed | Phase::Suspended | Phase::Evicted);
        let ready = condition_of(&status.conditions, condition::READY).filter(|_| is_final).cloned();
        let (reason, message) = ready.map(|ready| (ready.reason, ready.message)).unwrap_or_default();
        Self {
            model,
            unread,
            volume,
            connection: entry.spec.connection_name().map(str::to_owned),
            phase,
            reason,
            message,
            metadata: trimmed::metadata(entry.metadata),
        }
    }
}

stands_for!(EntrySight, ModelCacheEntry);
