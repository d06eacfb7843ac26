//! Whole objects, made from values alone: what the operator creates in the cluster.
//!
//! Pure, and snapshot-tested: a reader sees the objects in `snapshots/`.

mod claim;
mod entry;
mod job;
mod tasks;
#[cfg(test)]
mod tests;

pub use claim::{ca_config_map, claim};
pub use entry::{awaited_entry, imported_entry, seeded_entry, seeded_import};
pub use tasks::{
    archive_source, check_job, delete_job, export_job, inventory_job, list_job, resolve_job, transfer_job,
};

use crate::api::label;
use crate::controller::plan::Observed;
use crate::controller::plan::connection::ObservedConnection;
use crate::controller::plan::export::ObservedExport;
use crate::controller::plan::import::ObservedImport;
use crate::controller::plan::inventory::ObservedInventory;
use crate::ident::hex;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The longest value of a label.
const LABEL_MAX_BYTES: usize = 63;

/// The object that others are made for: what it owns goes when it goes.
#[derive(Debug, Clone)]
pub struct Owner {
    name: String,
    namespace: String,
    uid: String,
    generation: String,
    /// The labels of everything that is made for it.
    labels: BTreeMap<String, String>,
    reference: Vec<OwnerReference>,
    /// The Job whose end is recorded already.
    recorded: Option<String>,
}

impl Owner {
    /// An entry as owner.
    pub fn of(observed: &Observed) -> Self {
        Self::named(&observed.entry, [label::ENTRY, label::ENTRY_UID], observed.recorded_job())
    }

    /// An export as owner.
    pub fn of_export(observed: &ObservedExport) -> Self {
        Self::named(&observed.export, [label::EXPORT, label::EXPORT_UID], observed.recorded_job())
    }

    /// An import as owner: of its Jobs, and not of the entries.
    pub fn of_import(observed: &ObservedImport) -> Self {
        Self::named(&observed.import, [label::IMPORT, label::IMPORT_UID], observed.recorded_job())
    }

    /// A connection as owner, of the Job that checks it.
    pub fn of_connection(observed: &ObservedConnection) -> Self {
        Self::named(&observed.connection, [label::CHECK, label::CHECK_UID], observed.recorded_job())
    }

    /// An inventory as owner.
    pub fn of_inventory(observed: &ObservedInventory) -> Self {
        Self::named(&observed.inventory, [label::INVENTORY, label::INVENTORY_UID], observed.recorded_job())
    }

    /// An object as owner; the labels tell its name and its uid.
    fn named(
        object: &impl Resource<DynamicType = ()>,
        [name_label, uid_label]: [&str; 2],
        recorded: Option<&str>,
    ) -> Self {
        let metadata = object.meta();
        let (name, uid) = (metadata.name.clone().unwrap_or_default(), metadata.uid.clone().unwrap_or_default());
        let labels = BTreeMap::from([
            (label::MANAGED_BY.to_owned(), label::MANAGED_BY_VALUE.to_owned()),
            (name_label.to_owned(), label_of(&name)),
            (uid_label.to_owned(), uid.clone()),
        ]);
        Self {
            name,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            uid,
            generation: metadata.generation.unwrap_or_default().to_string(),
            labels,
            reference: object.controller_owner_ref(&()).into_iter().collect(),
            recorded: recorded.map(str::to_owned),
        }
    }

    /// A name of an object that belongs to it: its own, cut, and ten digits of a digest of what makes it unique.
    fn derived_name(&self, parts: &[&str]) -> String {
        // Job names end up in a label of its Pods, with five more characters for the Pod's own name.
        const NAME_MAX_BYTES: usize = 45;
        let mut name = self.name.clone();
        name.truncate(NAME_MAX_BYTES);
        format!("{}-{}", name.trim_end_matches(['-', '.']), short_digest(parts))
    }
}

/// A name, cut to what a label may hold.
fn label_of(name: &str) -> String {
    let mut name = name.to_owned();
    name.truncate(LABEL_MAX_BYTES);
    name.trim_end_matches(['-', '.']).to_owned()
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
