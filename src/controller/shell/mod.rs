//! The controller's shell: it observes, applies and patches, and it alone talks to Kubernetes.
//!
//! Every write is in `write`; every decision is made in [`super::plan`].

mod connections;
mod health;
mod known;
mod leader;
mod listeners;
mod metrics;
mod observe;
mod pods;
mod preseed;
mod reconcile;
mod scene;
mod slots;
mod uninstall;
mod waiting;
mod webhook;
mod write;

pub use uninstall::{Uninstall, Uninstalled, uninstall};
pub use webhook::WebhookOptions;

use crate::api::{HubConnection, ModelCacheEntry, ModelCacheExport, ModelCacheImport, ModelCacheInventory, label};
use crate::controller::config::Config;
use crate::controller::plan::connection::counts_anew;
use crate::controller::plan::{Consumer, archive_claim, usage, wanted_claim};
use connections::{Concerns, Heard};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt, stream};
use health::Health;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use known::Watches;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{Controller, controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use metrics::{Metrics, Watched};
use pods::{Pods, Touched};
use reconcile::{Context, Round};
use slots::{Line, Slots};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use webhook::Surroundings;
use write::Subject;

/// How the operator's process is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What holds for entries that do not say otherwise.
    pub config: Config,
    /// Where health is asked for.
    pub health_listen: SocketAddr,
    /// The namespace of the Lease.
    pub lease_namespace: String,
    /// This process's name in the Lease.
    pub identity: String,
    /// How the webhook is run; absent: it is not.
    pub webhook: Option<WebhookOptions>,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// No way to the cluster.
    #[error("failed to find the cluster: run it in a Pod, or set KUBECONFIG")]
    Connect(#[source] kube::Error),
    /// No way to the cluster's address.
    #[error("failed to read the kubeconfig")]
    Kubeconfig(#[source] kube::config::InferConfigError),
    /// An address is taken.
    #[error("failed to listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Another operator may lead now: this one must stop.
    #[error("lost the lease: another operator may lead now")]
    LostLease,
    /// The operator's Deployment was not scaled.
    #[error("failed to end the operator's Pods: scale Deployment {0:?} to 0, and try again")]
    Scale(String, #[source] kube::Error),
    /// An entry still has our finalizer.
    #[error("failed to take the finalizer off the entries")]
    LetGo(#[source] kube::Error),
}

/// At most so many entries are worked on at a time.
const CONCURRENCY: u16 = 8;
/// What happens to several models at once is told of a connection once.
const GATHERED: Duration = Duration::from_millis(200);
/// A watch is ended by the server before this time (290 s): what is silent for longer is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(305);

async fn connect() -> Result<Client, ShellError> {
    let mut cluster = kube::Config::infer().await.map_err(ShellError::Kubeconfig)?;
    cluster.read_timeout = Some(READ_TIMEOUT);
    Client::try_from(cluster).map_err(ShellError::Connect)
}

/// Runs the operator until `stop` is cancelled.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ShellError> {
    let client = connect().await?;
    let health = Health::of(if options.webhook.is_some() { 2 } else { 1 });
    let listener = listen(options.health_listen).await?;
    let server = tokio::spawn(health::serve(listener, health.clone(), stop.clone()));
    let (watches, watching) = Watches::new();
    tokio::spawn(watching.watch(client.clone(), stop.clone()));
    let webhook = ask(&client, &options, &watches, &health, &stop).await?;
    let mut lease = leader::Leader::new(client.clone(), &options.lease_namespace, &options.identity);
    health.ready();
    if lease.acquire(&stop).await {
        tracing::info!(identity = options.identity, "leads");
        // Not a child of `stop`: the work must not end before the lease's keeper does, since what has ended cannot be awaited.
        let working = CancellationToken::new();
        let work = control(client, options, watches, health.metrics(), working.clone());
        tokio::pin!(work);
        let lost = tokio::select! {
            // It ends when it is told to. An end of its own is no reason to keep the Lease.
            () = &mut work => true,
            lost = lease.keep(&stop) => lost,
        };
        // The reconciles that are under way come to their end before anybody else may lead.
        working.cancel();
        if lost {
            return Err(ShellError::LostLease);
        }
        work.await;
        lease.release().await;
    }
    let _ = server.await;
    let _ = webhook.await;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ShellError> {
    TcpListener::bind(address).await.map_err(|error| ShellError::Listen(address, error))
}

/// Starts the webhook, where there is to be one.
async fn ask(
    client: &Client,
    options: &Options,
    watches: &Watches,
    health: &Health,
    stop: &CancellationToken,
) -> Result<JoinHandle<()>, ShellError> {
    let Some(webhook) = options.webhook.clone() else { return Ok(tokio::spawn(async {})) };
    let listener = listen(webhook.listen).await?;
    let around = Surroundings {
        client: client.clone(),
        namespace: options.lease_namespace.clone(),
        config: options.config.clone(),
        watches: watches.clone(),
        metrics: health.metrics(),
    };
    Ok(tokio::spawn(webhook::run(listener, webhook, around, health.clone(), stop.clone())))
}

/// The pause after an error of a watch. All watches share it, and each has errors of its own when the API server was
/// restarted: with the library's pauses, which double up to 30 s, the operator would hear nothing for minutes.
struct WatchPause;

impl Iterator for WatchPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for WatchPause {
    fn reset(&mut self) {}
}

/// A watch of what was made for objects of one kind, which this label tells.
fn made_for(uid_label: &str) -> watcher::Config {
    watcher::Config::default().labels(uid_label)
}

async fn control(client: Client, options: Options, watches: Watches, metrics: Arc<Metrics>, stop: CancellationToken) {
    let (consumers, mut pods) = Pods::new();
    let entries = all::<ModelCacheEntry>(&client, &mut pods);
    let preseed = Box::pin(preseed::run(client.clone(), options.config.preseed.clone(), stop.clone()));
    let inventories = of_inventories(&client, &mut pods);
    metrics.watch(Watched { entries: entries.store(), consumers: consumers.clone(), inventories: inventories.store() });
    let connections = Controller::new(Api::<HubConnection>::all(client.clone()), watcher::Config::default());
    let (jobs, mut slots) = Slots::new();
    let line = Line {
        jobs,
        entries: entries.store(),
        connections: connections.store(),
        consumers,
        config: options.config.clone(),
    };
    let context = Arc::new(Context::new(client.clone(), options.config, options.identity, line.clone(), metrics));
    let entries = of_entries(entries, &client, &mut pods).reconcile_on(whose_turn_it_is(slots.listen(), line));
    let (exports, imports) = (of_exports(&client, &mut pods), of_imports(&client, &mut pods));
    let connections = of_connections(connections, &client, &mut pods, slots.listen());
    let waiting = waiting::run(Arc::clone(&context), watches, pods.listen(), stop.clone());
    tokio::join!(
        Box::pin(waiting),
        Box::pin(pods.watch(client.clone(), stop.clone())),
        Box::pin(slots.watch(client, stop.clone())),
        Box::pin(run_loop(entries, &context, &stop)),
        Box::pin(run_loop(exports, &context, &stop)),
        Box::pin(run_loop(imports, &context, &stop)),
        Box::pin(run_loop(inventories, &context, &stop)),
        Box::pin(run_loop(connections, &context, &stop)),
        preseed
    );
}

/// All objects of a kind, with the Jobs that they own and the Pods of these, which are workers.
fn all<K: Round>(client: &Client, pods: &mut Pods) -> Controller<K> {
    let objects = Controller::new(Api::<K>::all(client.clone()), watcher::Config::default());
    let store = objects.store();
    objects
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(WatchPause)
        .owns(Api::<Job>::all(client.clone()), made_for(K::UID_LABEL))
        .reconcile_on(touched_by(pods.listen(), store, |pod, object: &K| {
            pod.worker.is_some() && pod.worker == object.meta().uid
        }))
}

fn of_entries(entries: Controller<ModelCacheEntry>, client: &Client, pods: &mut Pods) -> Controller<ModelCacheEntry> {
    let heard = Heard::default();
    let store = entries.store();
    let (of_pod, of_claim) = (store.clone(), store.clone());
    entries
        .reconcile_on(touched_by(pods.listen(), of_pod, |pod, entry| {
            (pod.worker.is_none() || pod.is_export)
                && entry.namespace() == pod.namespace()
                && usage::concerns(entry, pod)
        }))
        .watches(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default(), move |claim| {
            those_where(&of_claim, move |entry| {
                let names = [wanted_claim(entry), archive_claim(entry)];
                entry.namespace() == claim.namespace() && names.contains(&claim.metadata.name)
            })
        })
        .watches(Api::<HubConnection>::all(client.clone()), watcher::Config::default(), move |connection| {
            let concerns = heard.concerns(&connection);
            those_where(&store, move |entry| {
                entry.namespace() == connection.namespace()
                    && match &concerns {
                        Concerns::Everybody => true,
                        Concerns::Only(names) => names.contains(&entry.name_any()),
                    }
            })
        })
}

/// The entries whose turn it is when something happened to Jobs that take from Hubs.
fn whose_turn_it_is(
    jobs: UnboundedReceiver<slots::Touched>,
    line: Line,
) -> impl Stream<Item = ObjectRef<ModelCacheEntry>> + Send + 'static {
    jobs.flat_map(move |_| stream::iter(line.next()))
}

fn of_connections(
    connections: Controller<HubConnection>,
    client: &Client,
    pods: &mut Pods,
    jobs: UnboundedReceiver<slots::Touched>,
) -> Controller<HubConnection> {
    let (of_pod, of_job, store) = (connections.store(), connections.store(), connections.store());
    connections
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(GATHERED))
        .trigger_backoff(WatchPause)
        .reconcile_on(touched_by(pods.listen(), of_pod, |pod, connection: &HubConnection| {
            let is_of_check = pod.worker.is_some() && pod.worker == connection.metadata.uid;
            is_of_check || ((pod.worker.is_none() || pod.is_export) && connection.namespace() == pod.namespace())
        }))
        .owns(Api::<Job>::all(client.clone()), made_for(HubConnection::UID_LABEL))
        .reconcile_on(jobs.flat_map(move |touched| {
            stream::iter(those_where(&of_job, |connection| touched.concerns(connection.metadata.uid.as_ref())))
        }))
        .watches(Api::<ModelCacheEntry>::all(client.clone()), watcher::Config::default(), move |entry| {
            those_where(&store, |connection| counts_anew(&entry) && connection.namespace() == entry.namespace())
        })
}

fn of_exports(client: &Client, pods: &mut Pods) -> Controller<ModelCacheExport> {
    let exports = all::<ModelCacheExport>(client, pods);
    let heard = Heard::default();
    let store = exports.store();
    let of_entry = store.clone();
    exports
        .watches(Api::<ModelCacheEntry>::all(client.clone()), watcher::Config::default(), move |entry| {
            those_where(&of_entry, move |export| {
                export.namespace() == entry.namespace()
                    && Some(&export.spec.entry_ref.name) == entry.metadata.name.as_ref()
            })
        })
        .watches(Api::<HubConnection>::all(client.clone()), watcher::Config::default(), move |connection| {
            let is_for_all = matches!(heard.concerns(&connection), Concerns::Everybody);
            those_where(&store, move |export| is_for_all && export.namespace() == connection.namespace())
        })
}

fn of_imports(client: &Client, pods: &mut Pods) -> Controller<ModelCacheImport> {
    let imports = all::<ModelCacheImport>(client, pods);
    let store = imports.store();
    imports.watches(Api::<ModelCacheEntry>::all(client.clone()), made_for(label::IMPORT_UID), move |entry| {
        let uid = entry.labels().get(label::IMPORT_UID).cloned();
        those_where(&store, move |import| import.metadata.uid == uid)
    })
}

fn of_inventories(client: &Client, pods: &mut Pods) -> Controller<ModelCacheInventory> {
    let inventories = all::<ModelCacheInventory>(client, pods);
    let store = inventories.store();
    inventories.watches(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default(), move |claim| {
        those_where(&store, move |inventory| {
            inventory.namespace() == claim.namespace()
                && Some(&inventory.spec.claim_name) == claim.metadata.name.as_ref()
        })
    })
}

/// Works on all objects of a kind until `stop` is cancelled.
async fn run_loop<K: Round>(objects: Controller<K>, context: &Arc<Context>, stop: &CancellationToken) {
    objects
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile::reconcile, reconcile::after_error, Arc::clone(context))
        .for_each(|result| async move { tell(result) })
        .await;
}

/// What is said of a round, or of a watch.
fn tell<K, E, W>(result: Result<(ObjectRef<K>, controller::Action), controller::Error<E, W>>)
where
    K: Resource<DynamicType = ()>,
    E: std::error::Error + 'static,
    W: std::error::Error + 'static,
{
    match result {
        // Told by `reconcile::after_error` already, or nobody's loss: the object is gone.
        Ok(_) | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!(%error, "a watch does not work and is started again; are the CRDs installed?"),
    }
}

/// The objects that are to be looked at because of what happened to Pods.
fn touched_by<K>(
    pods: UnboundedReceiver<Touched>,
    store: Store<K>,
    concerns: impl Fn(&Consumer, &K) -> bool + Send + 'static,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    pods.flat_map(move |touched| {
        stream::iter(those_where(&store, |object| match &touched {
            Touched::Pod(pod) => concerns(pod, object),
            Touched::Any => true,
        }))
    })
}

/// The objects of which this holds.
fn those_where<K>(store: &Store<K>, matches: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let all = store.state();
    all.iter().filter(|object| matches(object)).map(|object| ObjectRef::from_obj(object.as_ref())).collect()
}
