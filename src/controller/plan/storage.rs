//! Where an entry keeps its files: what its spec says, else the default that its first attempt began with.
//!
//! A default is written into `status.effective.storage` before anything is done, in a round of its own, and everything that asks
//! where an entry is asks [`storage_of`]. Until an attempt begins it follows the connection and the operator; after that it
//! stays, whatever they say.

use super::decide::has_finalizer;
use super::observed::{ConnectionSight, Observed};
use super::status::{Draft, finish};
use super::{Action, Plan, Why};
use crate::api::storage::StorageSpec;
use crate::api::{ModelCacheEntry, Phase};
use crate::controller::config::Config;
use crate::ident::Reason;

/// Where an entry keeps its files; none while nobody says.
pub fn storage_of(entry: &ModelCacheEntry) -> Option<&StorageSpec> {
    let recorded = || entry.status.as_ref()?.effective.as_ref()?.storage.as_ref();
    entry.spec.storage.as_ref().or_else(recorded)
}

/// The default for an entry that does not say, and who says it.
pub(super) fn default_of<'a>(connection: &'a ConnectionSight, config: &'a Config) -> Option<(&'a StorageSpec, String)> {
    let of_connection = match connection {
        ConnectionSight::Found(connection) => connection.spec.cache.as_ref().and_then(|cache| cache.storage.as_ref()),
        // What it would say is not known.
        ConnectionSight::Missing(_) => return None,
        ConnectionSight::Defaults => None,
    };
    if let (Some(storage), ConnectionSight::Found(connection)) = (of_connection, connection) {
        let name = connection.metadata.name.as_deref().unwrap_or_default();
        return Some((storage, format!("HubConnection {name:?}")));
    }
    Some((config.storage.default.as_ref()?, "the operator's configuration".to_owned()))
}

/// Takes the default, where the entry has none yet, or none that anything was begun with, and there is another one now.
pub(super) fn settle(observed: &Observed, actions: &[Action]) -> Option<Plan> {
    if observed.entry.spec.storage.is_some() || has_begun(observed) {
        return None;
    }
    let default = default_of(&observed.connection, &observed.config);
    if default.as_ref().map(|(storage, _)| *storage) == storage_of(&observed.entry) {
        return None;
    }
    let mut draft = Draft::of(observed);
    // Without a default the next round says what is missing.
    draft.keeps_in(default.as_ref().map(|(storage, _)| (*storage).clone()));
    if let Some((storage, who)) = default {
        let place = match &storage.claim_name {
            Some(claim) => format!("claim {claim:?}"),
            None => "a claim of its own".to_owned(),
        };
        draft.phase(Phase::Pending, "Pending", &format!("the files go into {place}, as {who} says"));
    }
    // The change of the status is what brings the next round.
    Some(finish(observed, draft, actions.to_vec(), None))
}

impl Draft {
    /// The default for where the files are.
    fn keeps_in(&mut self, storage: Option<StorageSpec>) -> &mut Self {
        self.status.effective.get_or_insert_default().storage = storage;
        self
    }
}

/// Whether there may be something of the entry where it was to be kept.
pub(super) fn has_begun(observed: &Observed) -> bool {
    let ended = observed.attempts().is_some_and(|attempts| attempts.last_job.is_some());
    ended
        || observed.has_files()
        || !observed.scene.jobs.is_empty()
        || observed.claim_is_own()
        || has_finalizer(observed)
}

/// What is missing where nobody says where an entry is kept.
pub(super) fn nowhere(observed: &Observed) -> Why {
    let connection = match &observed.connection {
        ConnectionSight::Found(connection) => connection.metadata.name.as_deref().unwrap_or_default(),
        ConnectionSight::Missing(_) | ConnectionSight::Defaults => super::room::DEFAULT_CONNECTION,
    };
    let message = format!(
        "nothing says where the files are kept: create the entry anew with spec.storage, or set spec.cache.storage of HubConnection {connection:?}, or the chart's value storage.default"
    );
    Why::new(Reason::PVCPending, message)
}
