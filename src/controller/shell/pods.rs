//! All Pods of the cluster, trimmed on arrival: one watch for those who use models, and for workers.

use super::listeners::Listeners;
use super::{WatchPause, reconcile};
use crate::controller::plan::Consumer;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, pin_mut};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Whole Pods pass through memory by the page.
const PAGE: u32 = 100;

/// What happened to Pods.
#[derive(Debug, Clone)]
pub(super) enum Touched {
    /// This one came, went or changed.
    Pod(Arc<Consumer>),
    /// The watch began anew: any may have gone unnoticed.
    Any,
}

/// The watch, and whom it tells.
pub(super) struct Pods {
    writer: Writer<Consumer>,
    listeners: Listeners<Touched>,
}

impl Pods {
    pub(super) fn new() -> (Store<Consumer>, Self) {
        let (store, writer) = reflector::store();
        (store, Self { writer, listeners: Listeners::default() })
    }

    /// What happens from now on.
    pub(super) fn listen(&mut self) -> UnboundedReceiver<Touched> {
        self.listeners.listen()
    }

    /// Watches until it is told to stop.
    pub(super) async fn watch(mut self, client: Client, stop: CancellationToken) {
        let config = watcher::Config::default().page_size(PAGE);
        let events =
            watcher(Api::<Consumer>::all(client), config).backoff(WatchPause).take_until(stop.cancelled_owned());
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(event),
                Err(error) => tracing::warn!(error = reconcile::causes(&error), "the watch of Pods is started again"),
            }
        }
    }

    fn take(&mut self, event: Event<Consumer>) {
        let store = self.writer.as_reader();
        match event {
            Event::Init => self.writer.apply_watcher_event(&Event::Init),
            Event::InitApply(pod) if !pod.matters() => {}
            Event::InitApply(pod) => {
                if pod.worker.is_some() {
                    self.listeners.tell(&Touched::Pod(Arc::new(pod.clone())));
                }
                self.writer.apply_watcher_event(&Event::InitApply(pod));
            }
            Event::InitDone => {
                self.writer.apply_watcher_event(&Event::InitDone);
                self.listeners.tell(&Touched::Any);
            }
            Event::Apply(pod) if pod.matters() => {
                // A worker's state, which is not kept, matters to its own object.
                let known = store.get(&pod.to_object_ref(()));
                let is_news = pod.worker.is_some() || !known.is_some_and(|known| known.is_like(&pod));
                self.writer.apply_watcher_event(&Event::Apply(pod.clone()));
                if is_news {
                    self.listeners.tell(&Touched::Pod(Arc::new(pod)));
                }
            }
            // Most Pods have nothing to do with models. One whose annotation went has no more.
            Event::Apply(pod) | Event::Delete(pod) => {
                if let Some(known) = store.get(&pod.to_object_ref(())) {
                    self.writer.apply_watcher_event(&Event::Delete(pod));
                    self.listeners.tell(&Touched::Pod(known));
                }
            }
        }
    }
}
