//! What every operator knows of entries and connections, whether it leads or not: the API server asks any of them about Pods.

use super::listeners::Listeners;
use super::{WatchPause, reconcile};
use crate::api::HubConnection;
use crate::controller::config::Config;
use crate::controller::plan::inject::{EntrySight, Known};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt, pin_mut};
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Whole entries pass through memory by the page.
const PAGE: u32 = 100;
/// So many namespaces are listed at a time, however many Pods are created.
const QUESTIONS: usize = 4;

/// The watches' memory.
#[derive(Clone)]
pub(super) struct Watches {
    entries: Store<EntrySight>,
    connections: Store<HubConnection>,
    told: Told,
    questions: Arc<Semaphore>,
}

/// The watches, and whom they tell.
pub(super) struct Watching {
    entries: Writer<EntrySight>,
    connections: Writer<HubConnection>,
    told: Told,
}

/// Who is told, once there is somebody: an operator that stands by keeps no news.
type Told = Arc<Mutex<Listeners<News>>>;

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
        let told = Told::default();
        let watching = Watching { entries: entry_writer, connections: connection_writer, told: Arc::clone(&told) };
        (Self { entries, connections, told, questions: Arc::new(Semaphore::new(QUESTIONS)) }, watching)
    }

    /// What happens from now on.
    pub(super) fn listen(&self) -> UnboundedReceiver<News> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).listen()
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
        &self,
        client: &Client,
        namespace: &str,
        config: &'a Config,
    ) -> Result<Known<'a>, kube::Error> {
        let _turn = self.turn().await;
        let entries = Api::<EntrySight>::namespaced(client.clone(), namespace);
        let connections = Api::<HubConnection>::namespaced(client.clone(), namespace);
        let (entries, connections) = tokio::try_join!(by_page(&entries), by_page(&connections))?;
        Ok(Known { entries, connections, config })
    }

    /// A turn to list a namespace, until the end of the value.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.questions).acquire_owned().await.ok()
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
        let Self { entries: entry_writer, connections: connection_writer, told } = self;
        tokio::join!(
            follow(entries, entry_writer, &told, EntrySight::is_like, stop.clone()),
            follow(connections, connection_writer, &told, |one, other| one.spec == other.spec, stop),
        );
    }
}

/// All objects; of the whole ones there is a page in memory at a time.
async fn by_page<K: Clone + DeserializeOwned + Debug>(api: &Api<K>) -> Result<Vec<Arc<K>>, kube::Error> {
    let (mut all, mut how) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = api.list(&how).await?;
        all.extend(page.items.into_iter().map(Arc::new));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => how = how.continue_token(&token),
            None => return Ok(all),
        }
    }
}

async fn follow<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    mut writer: Writer<K>,
    told: &Told,
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
            told.lock().unwrap_or_else(PoisonError::into_inner).tell(&news);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Query;
    use axum::routing::get;
    use axum::{Json, Router};
    use futures::FutureExt;
    use futures::channel::mpsc::unbounded;
    use serde_json::json;
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

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
        let following = follow(events, watching.entries, &watching.told, EntrySight::is_like, CancellationToken::new());
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

    #[tokio::test]
    async fn a_namespace_is_listed_by_the_page_and_a_few_at_a_time() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let full = Arc::new(Notify::new());
        let (counted, highest, awaited) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&full));
        let entries = move |Query(query): Query<HashMap<String, String>>| {
            let (now, most, full) = (Arc::clone(&counted), Arc::clone(&highest), Arc::clone(&awaited));
            async move {
                let is_second = query.contains_key("continue");
                if is_second {
                    now.fetch_sub(1, Ordering::SeqCst);
                } else {
                    let count = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(count, Ordering::SeqCst);
                    // As many as may come together do.
                    if count >= QUESTIONS {
                        full.notify_waiters();
                    } else if most.load(Ordering::SeqCst) < QUESTIONS {
                        full.notified().await;
                    }
                }
                let name = if is_second { "two" } else { "one" };
                assert_eq!(query["limit"], PAGE.to_string());
                Json(json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntryList",
                    "metadata": {"continue": if is_second { "" } else { "more" }},
                    "items": [{"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
                        "metadata": {"name": name, "namespace": "team-a"}, "spec": {"repo": "org/model"}}]}))
            }
        };
        let connections = || async {
            Json(
                json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "HubConnectionList", "metadata": {}, "items": []}),
            )
        };
        let of_namespace = "/apis/modelcache.dev/v1alpha1/namespaces/team-a";
        let router = Router::new()
            .route(&format!("{of_namespace}/modelcacheentries"), get(entries))
            .route(&format!("{of_namespace}/hubconnections"), get(connections));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(kube::Config::new(format!("http://{address}").parse().unwrap())).unwrap();
        let config: Config = serde_yaml::from_str("image: registry.example/modelcache:1").unwrap();
        let (watches, _) = Watches::new();
        let asked = (0..4 * QUESTIONS).map(|_| watches.fresh(&client, "team-a", &config));
        for known in futures::future::join_all(asked).await {
            let names: Vec<_> = known.unwrap().entries.iter().map(|entry| entry.name().to_owned()).collect();
            assert_eq!(names, ["one", "two"]);
        }
        assert_eq!(most.load(Ordering::SeqCst), QUESTIONS);
        server.abort();
    }
}
