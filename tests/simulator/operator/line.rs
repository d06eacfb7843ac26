//! Who takes from Hubs and who waits for that, by the watches' memories: `src/controller/shell/slots.rs`.

use super::{Operator, Surroundings};
use kube::ResourceExt;
use modelcache::api::ModelCacheEntry;
use modelcache::controller::config::Config;
use modelcache::controller::plan::queue::{self, Queue, Running};
use modelcache::controller::plan::{ConnectionSight, room};
use std::sync::Arc;

impl Operator {
    pub(super) fn at_work(&self) -> Vec<Running> {
        queue::running(self.jobs.values().map(AsRef::as_ref))
    }

    pub(super) fn queue(&self, config: &Config) -> Queue {
        let gated: Vec<_> =
            self.consumers.values().filter(|pod| pod.is_gated && !pod.is_over).map(Arc::clone).collect();
        let entries = self.known.values().map(AsRef::as_ref);
        let waiting = queue::waiting(entries, |entry| self.connection_of(entry), &gated, config);
        Queue { running: self.at_work(), waiting }
    }

    fn connection_of(&self, entry: &ModelCacheEntry) -> ConnectionSight {
        let named = entry.spec.connection_name();
        let found = self.connections.get(named.unwrap_or(room::DEFAULT_CONNECTION));
        ConnectionSight::of(named, found.map(|connection| (**connection).clone()))
    }

    /// The names of those who wait and whose turn it is.
    pub(super) fn next(&self, config: &Config) -> Vec<String> {
        let next = queue::next(&self.queue(config), config);
        let is_next = |entry: &&Arc<ModelCacheEntry>| entry.uid().is_some_and(|uid| next.contains(&uid));
        self.known.values().filter(is_next).map(|entry| entry.name_any()).collect()
    }
}

/// Whether an entry with this connection may have to wait.
pub(super) fn is_limited(connection: &ConnectionSight, around: &Surroundings<'_>) -> bool {
    around.config.max_concurrent_jobs.is_some() || connection.found().and_then(queue::limit_of).is_some()
}
