//! What should be done for one entry, decided from everything that was observed, and nothing else.
//!
//! Pure: no client, no clock, no environment, nothing async. Decisions are data; waiting is a value with a reason and a
//! time, never an error.

pub mod attempt;
pub mod backoff;
pub mod connection;
pub mod consumer;
mod decide;
mod deletion;
mod draft;
mod effective;
mod eviction;
pub mod export;
mod figures;
pub mod import;
pub mod inject;
pub mod inventory;
pub mod lease;
pub mod observed;
pub mod placement;
pub mod queue;
mod record;
pub mod room;
pub mod sizing;
pub mod status;
mod storage;
#[cfg(test)]
mod tests;
mod trimmed;
mod update;
pub mod usage;
mod wanted;
pub mod warnings;
pub mod writers;

pub use consumer::Consumer;
pub use decide::decide;
pub use deletion::{FILES_LEFT_BEHIND, may_remove_files};
pub use figures::{Figures, VolumeFigures};
pub use observed::{ConnectionSight, Observed, Peer, PeerStanding, Scene, Warning, peers};
pub use record::newly_failed;
pub use status::{Obstacle, obstructed};
pub use storage::storage_of;
pub use update::Freshness;
pub use usage::Usage;
pub use wanted::{
    ArchiveSpot, CaSource, HubView, Origin, Wanted, archive_claim, certain_model, hub_view, known_model, merge, origin,
    settings, volume_of, wanted_claim, without_query,
};

use crate::api::{ModelCacheEntry, ModelCacheEntryStatus};
use crate::ident::Reason;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::time::Duration;

/// What should be done for one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<S = ModelCacheEntryStatus> {
    /// In this order; the first obstacle ends the round, unless the action says otherwise.
    pub actions: Vec<Action>,
    /// What the status says when the actions went well.
    pub status: S,
    /// What is told to people who watch events.
    pub notices: Vec<Notice>,
    /// When to look again though nothing happened; absent: only when something happens.
    pub again: Option<Duration>,
}

/// One change in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Put our finalizer on the entry.
    AddFinalizer,
    /// Take our finalizer off the entry.
    RemoveFinalizer,
    /// Create the entry's own claim.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Make the entry the owner of its own claim, or stop that.
    SetClaimOwned {
        /// The claim.
        name: String,
        /// The claim's uid.
        uid: String,
        /// Whether the claim goes with the entry.
        owned: bool,
    },
    /// Let the entry's own claim ask for more.
    GrowClaim {
        /// The claim.
        name: String,
        /// The claim's uid.
        uid: String,
        /// What it is to ask for.
        to: Quantity,
    },
    /// Delete the entry's own claim, and what is in it.
    DeleteClaim {
        /// The claim.
        name: String,
        /// The claim's uid: a newer one of the same name stays.
        uid: String,
    },
    /// Create the ConfigMap with the operator's CA certificates.
    CreateConfigMap(Box<ConfigMap>),
    /// Create the entry of an archive. Where it is refused, the actions after it are done all the same.
    CreateEntry(Box<ModelCacheEntry>),
    /// Create a worker's Job, unless another one writes to the same repo of the same volume.
    CreateJob(Box<Job>),
    /// Delete a Job, and its Pods in the background.
    DeleteJob {
        /// The Job.
        name: String,
        /// The Job's uid: a newer one of the same name stays.
        uid: String,
    },
}

impl Action {
    /// Whether the actions after it are done though the cluster does not allow this one.
    pub fn may_be_refused(&self) -> bool {
        matches!(self, Self::CreateEntry(_) | Self::GrowClaim { .. })
    }
}

/// An action that the cluster does not allow now.
#[derive(Debug)]
pub struct Met<'a> {
    /// The action.
    pub action: &'a Action,
    /// Why not.
    pub obstacle: Obstacle,
}

/// An event for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether something is wrong.
    pub warning: bool,
    /// A reason, or a phase.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// Why something waits or failed, in a word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The word.
    pub reason: Reason,
    /// The sentence: the thing, the cause, the next step.
    pub message: String,
}

impl Why {
    /// A reason with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
