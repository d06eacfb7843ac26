//! The cluster's models in numbers, counted from what is watched.

use super::record::counted;
use super::{Consumer, Usage};
use crate::api::{ModelCacheEntry, ModelCacheInventory, Phase};
use kube::Resource;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The cluster's models in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many entries are in each phase; every phase is there.
    pub entries: Vec<(Phase, i64)>,
    /// The bytes of the models that entries keep. Each entry counts whole, whatever files it shares with others.
    pub model_bytes: i64,
    /// How many Pods use a model.
    pub pods: i64,
    /// How many Pods wait at our scheduling gate.
    pub gated_pods: i64,
    /// How many Pods ask for models and got none.
    pub not_injected_pods: i64,
    /// What the newest inventory of each cache told.
    pub volumes: Vec<VolumeFigures>,
}

/// A cache at the time of its newest inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFigures {
    /// The namespace.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// The folder of the claim; empty for its root.
    pub sub_path: String,
    /// The bytes of all entries' files.
    pub bytes: i64,
    /// The bytes of files that no entry lists.
    pub orphan_bytes: i64,
    /// The bytes of partial work.
    pub staging_bytes: i64,
    /// What can still be written, where the file system says it.
    pub free_bytes: Option<i64>,
}

impl Figures {
    /// Counts.
    pub fn of(
        entries: &[Arc<ModelCacheEntry>],
        consumers: &[Arc<Consumer>],
        inventories: &[Arc<ModelCacheInventory>],
    ) -> Self {
        let in_phase = |wanted| entries.iter().filter(|entry| phase(entry) == wanted).count();
        let kept = entries.iter().filter(|entry| phase(entry) != Phase::Evicted);
        let sizes = kept.filter_map(|entry| Some(entry.status.as_ref()?.manifest.as_ref()?.bytes));
        Self {
            entries: Phase::ALL.into_iter().map(|phase| (phase, counted(in_phase(phase)))).collect(),
            model_bytes: sizes.sum(),
            pods: counted(users(entries, consumers)),
            gated_pods: counted(consumers.iter().filter(|pod| pod.waits()).count()),
            not_injected_pods: counted(consumers.iter().filter(|pod| pod.got_nothing()).count()),
            volumes: volumes(inventories),
        }
    }
}

fn phase(entry: &ModelCacheEntry) -> Phase {
    entry.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

/// How many Pods use a model, or several.
fn users(entries: &[Arc<ModelCacheEntry>], consumers: &[Arc<Consumer>]) -> usize {
    let mut by_namespace = BTreeMap::<&str, Vec<Arc<Consumer>>>::new();
    for pod in consumers {
        by_namespace.entry(pod.meta().namespace.as_deref().unwrap_or_default()).or_default().push(Arc::clone(pod));
    }
    let mut found = BTreeSet::new();
    for entry in entries {
        let namespace = entry.metadata.namespace.as_deref().unwrap_or_default();
        let Some(pods) = by_namespace.get(namespace) else { continue };
        found.extend(Usage::of(entry, pods).users.iter().map(|pod| (namespace, pod.name().to_owned())));
    }
    found.len()
}

/// Two inventories of one cache would be one line twice: the newer one counts.
fn volumes(inventories: &[Arc<ModelCacheInventory>]) -> Vec<VolumeFigures> {
    let mut newest = BTreeMap::new();
    for inventory in inventories {
        let Some(status) = &inventory.status else { continue };
        let (Some(totals), Some(at)) = (&status.totals, &status.observed_at) else { continue };
        let volume = VolumeFigures {
            namespace: inventory.metadata.namespace.clone().unwrap_or_default(),
            claim: inventory.spec.claim_name.clone(),
            sub_path: inventory.spec.sub_path.clone().unwrap_or_default(),
            bytes: totals.bytes,
            orphan_bytes: totals.orphan_bytes,
            staging_bytes: totals.staging_bytes,
            free_bytes: totals.free_bytes,
        };
        let place = (volume.namespace.clone(), volume.claim.clone(), volume.sub_path.clone());
        let known = newest.entry(place).or_insert((at.0, volume.clone()));
        if at.0 > known.0 {
            *known = (at.0, volume);
        }
    }
    newest.into_values().map(|(_, volume)| volume).collect()
}
