//! The Jobs that take from Hubs: one watch, which says how many there are, and wakes who waits for one to end.

use super::listeners::Listeners;
use super::{WatchPause, made_for, reconcile};
use crate::api::{HubConnection, ModelCacheEntry, label};
use crate::controller::config::Config;
use crate::controller::plan::queue::{self, Queue, Running};
use crate::controller::plan::{ConnectionSight, Consumer, room};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

/// What happened to Jobs.
#[derive(Debug, Clone)]
pub(super) enum Touched {
    /// One came, went or changed; the uid of its connection.
    Job { connection: Option<String> },
    /// The watch began anew: any may have gone unnoticed.
    Any,
}

impl Touched {
    /// Whether it may concern this connection.
    pub(super) fn concerns(&self, uid: Option<&String>) -> bool {
        match self {
            Self::Job { connection } => connection.as_ref() == uid,
            Self::Any => true,
        }
    }
}

/// The watch, and whom it tells.
pub(super) struct Slots {
    writer: Writer<Job>,
    listeners: Listeners<Touched>,
}

impl Slots {
    pub(super) fn new() -> (Store<Job>, Self) {
        let (store, writer) = reflector::store();
        (store, Self { writer, listeners: Listeners::default() })
    }

    /// What happens from now on.
    pub(super) fn listen(&mut self) -> UnboundedReceiver<Touched> {
        self.listeners.listen()
    }

    /// Watches until it is told to stop.
    pub(super) async fn watch(mut self, client: Client, stop: CancellationToken) {
        let events = watcher(Api::<Job>::all(client), made_for(label::HUB))
            .backoff(WatchPause)
            .take_until(stop.cancelled_owned());
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    self.writer.apply_watcher_event(&event);
                    let touched = match event {
                        Event::Apply(job) | Event::Delete(job) => {
                            Touched::Job { connection: job.labels().get(label::CONNECTION_UID).cloned() }
                        }
                        Event::InitDone => Touched::Any,
                        Event::Init | Event::InitApply(_) => continue,
                    };
                    self.listeners.tell(&touched);
                }
                Err(error) => tracing::warn!(error = reconcile::causes(&error), "the watch of Jobs is started again"),
            }
        }
    }
}

/// Everything that tells who is at work and who waits.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) jobs: Store<Job>,
    pub(super) entries: Store<ModelCacheEntry>,
    pub(super) connections: Store<HubConnection>,
    pub(super) consumers: Store<Consumer>,
    pub(super) config: Config,
}

impl Line {
    /// Who is at work and who waits, once the watches know.
    pub(super) async fn queue(&self) -> Queue {
        // They end with the operator: then the round that asks ends too.
        let _ = self.jobs.wait_until_ready().await;
        let _ = self.connections.wait_until_ready().await;
        self.seen()
    }

    /// Who is at work, once the watch knows.
    pub(super) async fn running(&self) -> Vec<Running> {
        let _ = self.jobs.wait_until_ready().await;
        let jobs = self.jobs.state();
        queue::running(jobs.iter().map(AsRef::as_ref))
    }

    fn seen(&self) -> Queue {
        let entries = self.entries.state();
        let gated = self.consumers.state_filter(|pod| pod.is_gated && !pod.is_over);
        let waiting =
            queue::waiting(entries.iter().map(AsRef::as_ref), |entry| self.connection_of(entry), &gated, &self.config);
        let jobs = self.jobs.state();
        Queue { running: queue::running(jobs.iter().map(AsRef::as_ref)), waiting }
    }

    fn connection_of(&self, entry: &ModelCacheEntry) -> ConnectionSight {
        let named = entry.spec.connection_name();
        let reference = ObjectRef::<HubConnection>::new(named.unwrap_or(room::DEFAULT_CONNECTION))
            .within(&entry.namespace().unwrap_or_default());
        ConnectionSight::of(named, self.connections.get(&reference).map(|connection| (*connection).clone()))
    }

    /// Those who wait and whose turn it is.
    pub(super) fn next(&self) -> Vec<ObjectRef<ModelCacheEntry>> {
        let is_waiting = |entry: &ModelCacheEntry| entry.status.as_ref().is_some_and(|status| status.queue.is_some());
        let waiting = self.entries.state_filter(is_waiting);
        if waiting.is_empty() {
            return Vec::new();
        }
        let next = queue::next(&self.seen(), &self.config);
        let is_next = |entry: &&std::sync::Arc<ModelCacheEntry>| entry.uid().is_some_and(|uid| next.contains(&uid));
        waiting.iter().filter(is_next).map(|entry| ObjectRef::from_obj(entry.as_ref())).collect()
    }
}
