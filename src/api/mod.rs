//! The custom resources: what people write and what they read.
//!
//! This room owns the shapes of `modelcache.dev/v1alpha1`, the rules that the API server checks (CEL), and the names of
//! labels, annotations, conditions and phases. It knows `ident`; it must not know how anything is done.

#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive repeats the struct inside a function, and a resource has many columns"
)]
pub mod connection;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive repeats the struct inside a function, and a resource has many columns"
)]
pub mod entry;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive repeats the struct inside a function, and a resource has many columns"
)]
pub mod export;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive repeats the struct inside a function, and a resource has many columns"
)]
pub mod import;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive repeats the struct inside a function, and a resource has many columns"
)]
pub mod inventory;
pub mod job;
mod rules;
pub mod status;
pub mod storage;

pub use connection::{HubConnection, HubConnectionSpec, HubConnectionStatus};
pub use entry::{ModelCacheEntry, ModelCacheEntrySpec};
pub use export::{ModelCacheExport, ModelCacheExportSpec, ModelCacheExportStatus};
pub use import::{ModelCacheImport, ModelCacheImportSpec, ModelCacheImportStatus};
pub use inventory::{ModelCacheInventory, ModelCacheInventorySpec, ModelCacheInventoryStatus};
pub use status::{ModelCacheEntryStatus, Phase};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group.
pub const GROUP: &str = "modelcache.dev";
/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "modelcache";
/// The finalizer of entries whose files in a shared claim must be removed.
pub const FINALIZER: &str = "modelcache.dev/files";
/// The scheduling gate of Pods that wait for their models.
pub const GATE: &str = "modelcache.dev/ready";

/// Labels on the objects that the operator creates.
pub mod label {
    /// Who made the object.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The value of [`MANAGED_BY`].
    pub const MANAGED_BY_VALUE: &str = "modelcache";
    /// The name of the entry, for people; it is cut to 63 characters.
    pub const ENTRY: &str = "modelcache.dev/entry";
    /// The uid of the entry, for the operator.
    pub const ENTRY_UID: &str = "modelcache.dev/entry-uid";
    /// The name of the export, for people; it is cut to 63 characters.
    pub const EXPORT: &str = "modelcache.dev/export";
    /// The uid of the export, for the operator.
    pub const EXPORT_UID: &str = "modelcache.dev/export-uid";
    /// The name of the import, for people; it is cut to 63 characters.
    pub const IMPORT: &str = "modelcache.dev/import";
    /// The uid of the import, for the operator; on its Jobs, and on the entries that it made.
    pub const IMPORT_UID: &str = "modelcache.dev/import-uid";
    /// On the Job of an export: the uid of the entry that it reads.
    pub const READS: &str = "modelcache.dev/reads";
    /// The name of the inventory, for people; it is cut to 63 characters.
    pub const INVENTORY: &str = "modelcache.dev/inventory";
    /// The uid of the inventory, for the operator.
    pub const INVENTORY_UID: &str = "modelcache.dev/inventory-uid";
    /// A digest of the repo that a Job writes to, or [`ANY_REPO`]: at most one unfinished Job writes to a repo of a volume.
    pub const WRITER: &str = "modelcache.dev/writer";
    /// The value of [`WRITER`] where only the archive knows the repo.
    pub const ANY_REPO: &str = "any";
    /// A digest of the volume (claim, subPath) that a Job writes to.
    pub const VOLUME: &str = "modelcache.dev/volume";
    /// `"true"` on a Pod: the models that [`super::annotation::MODELS`] names are mounted into it, and it waits for them.
    pub const INJECT: &str = "modelcache.dev/inject";
    /// On the Job that checks a connection: its name, for people; it is cut to 63 characters.
    pub const CHECK: &str = "modelcache.dev/check";
    /// On the Job that checks a connection: its uid, for the operator.
    pub const CHECK_UID: &str = "modelcache.dev/check-uid";
    /// On a Job that takes from a Hub: a digest of the Hub's host and port, for counting.
    pub const HUB: &str = "modelcache.dev/hub-host";
    /// On a Job that takes from a Hub: the uid of the connection that it goes by, for counting.
    pub const CONNECTION_UID: &str = "modelcache.dev/connection-uid";
}

/// Annotations that people or the operator set.
pub mod annotation {
    /// The user that created an entry or an import; an admission policy guards it.
    pub const CREATED_BY: &str = "modelcache.dev/created-by";
    /// Any new value makes a failed entry try again now, an evicted one come back, and a drifted one take the newer commit; a
    /// connection is checked again.
    pub const RETRY: &str = "modelcache.dev/retry";
    /// On a Job: the generation of the entry's spec that it was made for.
    pub const GENERATION: &str = "modelcache.dev/generation";
    /// On a Job: how many Jobs its connection let run at a time when it was made.
    pub const MAX_CONCURRENT_JOBS: &str = "modelcache.dev/max-concurrent-jobs";
    /// On a Job: a digest of how its worker reaches the Hub.
    pub const HUB: &str = "modelcache.dev/hub";
    /// On the Job of a removal: the uids of Pods on lost nodes that are waited for no more, separated by commas.
    pub const GIVEN_UP: &str = "modelcache.dev/given-up";
    /// `"true"` lets a deletion end though files stay behind.
    pub const FORCE_DELETE: &str = "modelcache.dev/force-delete";
    /// On a Pod: the models (`repo` or `repo@revision`) or entries of its namespace that it uses, separated by commas or spaces.
    pub const MODELS: &str = "modelcache.dev/models";
    /// On a Pod, set by the webhook: the entries whose models it mounts, separated by commas.
    pub const INJECTED: &str = "modelcache.dev/injected";
}

/// The condition types of an entry.
pub mod condition {
    /// The model is in the volume, whole.
    pub const READY: &str = "Ready";
    /// The claim is there and a worker can use it.
    pub const STORAGE_READY: &str = "StorageReady";
    /// The claim was made as large as the spec asks; only there when that was refused.
    pub const STORAGE_GROWN: &str = "StorageGrown";
    /// Every byte arrived.
    pub const TRANSFERRED: &str = "Transferred";
    /// Every byte was checked against what the Hub promises.
    pub const VERIFIED: &str = "Verified";
    /// Pods use the model.
    pub const IN_USE: &str = "InUse";
    /// The revision moved on the Hub, and the entry has an older commit.
    pub const DRIFTED: &str = "Drifted";
    /// The archive of an export is whole, under its final name; every archive of an import is in; an inventory says what is
    /// on its volume.
    pub const COMPLETE: &str = "Complete";
    /// The models of a connection keep its `cache.retention`.
    pub const WITHIN_LIMITS: &str = "WithinLimits";
    /// A connection's Hub answers.
    pub const REACHABLE: &str = "Reachable";
    /// A connection's Hub takes its token.
    pub const AUTHENTICATED: &str = "Authenticated";
    /// Something keeps the deletion from ending.
    pub const DELETION_BLOCKED: &str = "DeletionBlocked";
}

/// The CRDs, in the order they are installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        HubConnection::crd(),
        ModelCacheEntry::crd(),
        ModelCacheExport::crd(),
        ModelCacheImport::crd(),
        ModelCacheInventory::crd(),
    ]
}
