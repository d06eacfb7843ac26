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
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Whole entries pass through memory by the page.
const PAGE: u32 = 100;

/// The watches' memory.
#[derive(Clone)]
pub(super) struct Watches {
    entries: Store<EntrySight>,
    connections: Store<HubConnection>,
    listener: Listener,
}

/// The watches, and whom they tell.
pub(super) struct Watching {
    entries: Writer<EntrySight>,
    connections: Writer<HubConnection>,
    listener: Listener,
}

/// Who is told, once there is somebody: an operator that stands by keeps no news.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Option<UnboundedSender<News>>>>);

impl Listener {
    fn tell(&self, news: News) {
        if let Some(listener) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // One that has ended listens no more.
            let _ = listener.unbounded_send(news);
        }
    }
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
        let listener = Listener::default();
        let watching = Watching { entries: entry_writer, connections: connection_writer, listener: listener.clone() };
        (Self { entries, connections, listener }, watching)
    }

    /// What happens from now on.
    pub(super) fn listen(&self) -> UnboundedReceiver<News> {
        let (sender, receiver) = unbounded();
        *self.listener.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
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
    /// Watches until it is told to stop.
    pub(super) async fn watch(self, client: Client, stop: CancellationToken) {
        let config = watcher::Config::default().page_size(PAGE);
        let entries = watcher(Api::<EntrySight>::all(client.clone()), config.clone());
        let connections = watcher(Api::<HubConnection>::all(client), config);
        let Self { entries: entry_writer, connections: connection_writer, listener } = self;
        tokio::join!(
            follow(entries, entry_writer, &listener, EntrySight::is_like, stop.clone()),
            follow(connections, connection_writer, &listener, |one, other| one.spec == other.spec, stop),
        );
    }
}

async fn follow<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    mut writer: Writer<K>,
    listener: &Listener,
    is_like: impl Fn(&K, &K) -> bool,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
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
        if let Some(news) = news {
            listener.tell(news);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use serde_json::json;

    #[tokio::test]
    async fn who_stands_by_keeps_no_news() {
        let entry = |name: &str| -> EntrySight {
            serde_json::from_value(json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
                "metadata": {"name": name, "namespace": "team-a"}, "spec": {"repo": "org/model"}}))
            .unwrap()
        };
        let (watches, watching) = Watches::new();
        let (sender, events) = unbounded();
        let tell = |name: &str| sender.unbounded_send(Ok(Event::Apply(entry(name)))).unwrap();
        let following =
            follow(events, watching.entries, &watching.listener, EntrySight::is_like, CancellationToken::new());
        let known = |name: &'static str| {
            let store = watches.entries.clone();
            async move {
                while store.get(&ObjectRef::new(name).within("team-a")).is_none() {
                    tokio::task::yield_now().await;
                }
            }
        };
        let story = async {
            sender.unbounded_send(Ok(Event::Init)).unwrap();
            sender.unbounded_send(Ok(Event::InitDone)).unwrap();
            tell("before");
            known("before").await;
            let mut news = watches.listen();
            tell("after");
            known("after").await;
            sender.close_channel();
            assert_eq!(news.next().await, Some(News::In("team-a".into())));
            news
        };
        let ((), mut news) = tokio::join!(following, story);
        let left = news.next().now_or_never();
        assert!(left.is_none(), "what happened before was kept: {left:?}");
    }
}
