//! What every operator knows of entries and connections, whether it leads or not: the API server asks any of them about Pods.

use super::{WatchPause, reconcile};
use crate::api::HubConnection;
use crate::controller::config::Config;
use crate::controller::plan::inject::{EntrySight, Known};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Stream, StreamExt, pin_mut};
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Whole entries pass through memory by the page.
const PAGE: u32 = 100;

/// The watches' memory.
#[derive(Clone)]
pub(super) struct Watches {
    entries: Store<EntrySight>,
    connections: Store<HubConnection>,
}

/// The watches, and whom they tell.
pub(super) struct Watching {
    entries: Writer<EntrySight>,
    connections: Writer<HubConnection>,
    listener: Option<UnboundedSender<News>>,
}

/// Where something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// In this namespace.
    In(String),
    /// Perhaps anywhere: a watch began anew.
    Anywhere,
}

impl Watches {
    pub(super) fn new() -> (Self, Watching) {
        let ((entries, entry_writer), (connections, connection_writer)) = (reflector::store(), reflector::store());
        let watching = Watching { entries: entry_writer, connections: connection_writer, listener: None };
        (Self { entries, connections }, watching)
    }

    /// What is known of a namespace.
    pub(super) fn of<'a>(&self, namespace: &str, config: &'a Config) -> Known<'a> {
        Known {
            entries: self.entries.state_filter(|entry| entry.meta().namespace.as_deref() == Some(namespace)),
            connections: self
                .connections
                .state_filter(|connection| connection.meta().namespace.as_deref() == Some(namespace)),
            config,
        }
    }

    /// The same, asked of the API server now.
    pub(super) async fn fresh<'a>(
        client: &Client,
        namespace: &str,
        config: &'a Config,
    ) -> Result<Known<'a>, kube::Error> {
        let all = ListParams::default();
        let entries = Api::<EntrySight>::namespaced(client.clone(), namespace);
        let connections = Api::<HubConnection>::namespaced(client.clone(), namespace);
        let (entries, connections) = tokio::try_join!(entries.list(&all), connections.list(&all))?;
        Ok(Known {
            entries: entries.items.into_iter().map(Arc::new).collect(),
            connections: connections.items.into_iter().map(Arc::new).collect(),
            config,
        })
    }

    /// Waits until all is known that there is; it ends with the watches, too.
    pub(super) async fn until_whole(&self) {
        let _ = self.entries.wait_until_ready().await;
        let _ = self.connections.wait_until_ready().await;
    }
}

impl Watching {
    /// What happens from now on.
    pub(super) fn listen(&mut self) -> UnboundedReceiver<News> {
        let (sender, receiver) = unbounded();
        self.listener = Some(sender);
        receiver
    }

    /// Watches until it is told to stop.
    pub(super) async fn watch(self, client: Client, stop: CancellationToken) {
        let config = watcher::Config::default().page_size(PAGE);
        let entries = watcher(Api::<EntrySight>::all(client.clone()), config.clone());
        let connections = watcher(Api::<HubConnection>::all(client), config);
        let Self { entries: entry_writer, connections: connection_writer, listener } = self;
        tokio::join!(
            follow(entries, entry_writer, listener.clone(), EntrySight::is_like, stop.clone()),
            follow(connections, connection_writer, listener, |one, other| one.spec == other.spec, stop),
        );
    }
}

async fn follow<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    mut writer: Writer<K>,
    listener: Option<UnboundedSender<News>>,
    is_like: impl Fn(&K, &K) -> bool,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let tell = |news| {
        // A listener that has ended listens no more.
        listener.as_ref().map(|listener| listener.unbounded_send(news))
    };
    let events = events.backoff(WatchPause).take_until(stop.cancelled_owned());
    pin_mut!(events);
    let store = writer.as_reader();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(error = reconcile::causes(&error), "a watch of entries or connections is started again");
                continue;
            }
        };
        let news = match &event {
            Event::Init | Event::InitApply(_) => None,
            Event::InitDone => Some(News::Anywhere),
            Event::Apply(object) => {
                let known = store.get(&ObjectRef::from_obj(object));
                let is_news = !known.is_some_and(|known| is_like(&known, object));
                is_news.then(|| News::In(object.meta().namespace.clone().unwrap_or_default()))
            }
            Event::Delete(object) => Some(News::In(object.meta().namespace.clone().unwrap_or_default())),
        };
        writer.apply_watcher_event(&event);
        let _ = news.map(tell);
    }
}
