//! Whole objects, made from values alone: what the operator creates in the cluster.
//!
//! Pure, and snapshot-tested: a reader sees the objects in `snapshots/`.

mod claim;
mod job;
#[cfg(test)]
mod tests;

pub use claim::{ca_config_map, claim};
pub use job::{delete_job, download_job};

use crate::api::{ModelCacheEntry, label};
use crate::controller::plan::Observed;
use crate::ident::hex;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The longest value of a label.
const LABEL_MAX_BYTES: usize = 63;

/// The labels of everything that is made for an entry.
fn labels(observed: &Observed) -> BTreeMap<String, String> {
    let mut entry = observed.name().to_owned();
    entry.truncate(LABEL_MAX_BYTES);
    BTreeMap::from([
        (label::MANAGED_BY.to_owned(), label::MANAGED_BY_VALUE.to_owned()),
        (label::ENTRY.to_owned(), entry.trim_end_matches(['-', '.']).to_owned()),
        (label::ENTRY_UID.to_owned(), observed.uid().to_owned()),
    ])
}

/// The entry as owner: what it owns goes when it goes.
fn owner(entry: &ModelCacheEntry) -> Vec<OwnerReference> {
    entry.controller_owner_ref(&()).into_iter().collect()
}

/// A name of an object that belongs to an entry: the entry's own, cut, and eight digits of a digest of what makes it unique.
fn derived_name(observed: &Observed, parts: &[&str]) -> String {
    // Job names end up in a label of its Pods, with five more characters for the Pod's own name.
    const ENTRY_MAX_BYTES: usize = 45;
    let mut entry = observed.name().to_owned();
    entry.truncate(ENTRY_MAX_BYTES);
    format!("{}-{}", entry.trim_end_matches(['-', '.']), short_digest(parts))
}

/// Ten hex digits of SHA-256 over parts that cannot run into each other.
fn short_digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..5])
}
