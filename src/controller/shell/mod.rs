//! The controller's shell: it observes, applies and patches, and it alone talks to Kubernetes.
//!
//! Every write is in `write`; every decision is made in [`super::plan`].

mod health;
mod leader;
mod observe;
mod reconcile;
mod scene;
mod write;

use crate::api::{HubConnection, ModelCacheEntry, label};
use crate::controller::config::Config;
use crate::controller::plan::wanted_claim;
use futures::StreamExt;
use health::Health;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{Controller, controller, watcher};
use kube::{Api, Client, ResourceExt};
use reconcile::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

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
    /// The address for health is taken.
    #[error("failed to listen on {0} for health checks")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Another operator may lead now: this one must stop.
    #[error("lost the lease: another operator may lead now")]
    LostLease,
}

/// At most so many entries are worked on at a time.
const CONCURRENCY: u16 = 8;
/// A watch is ended by the server before this time (290 s): what is silent for longer is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(305);

/// Runs the operator until `stop` is cancelled.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ShellError> {
    let mut cluster = kube::Config::infer().await.map_err(ShellError::Kubeconfig)?;
    cluster.read_timeout = Some(READ_TIMEOUT);
    let client = Client::try_from(cluster).map_err(ShellError::Connect)?;
    let health = Health::default();
    let listener = tokio::net::TcpListener::bind(options.health_listen)
        .await
        .map_err(|error| ShellError::Listen(options.health_listen, error))?;
    let server = tokio::spawn(health::serve(listener, health.clone(), stop.clone()));
    let mut lease = leader::Leader::new(client.clone(), &options.lease_namespace, &options.identity);
    health.ready();
    if lease.acquire(&stop).await {
        tracing::info!(identity = options.identity, "leads");
        let working = stop.child_token();
        let work = control(client, options, working.clone());
        tokio::pin!(work);
        let lost = tokio::select! {
            () = &mut work => false,
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
    Ok(())
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

async fn control(client: Client, options: Options, stop: CancellationToken) {
    let ours = watcher::Config::default().labels(&format!("{}={}", label::MANAGED_BY, label::MANAGED_BY_VALUE));
    let entries = Controller::new(Api::<ModelCacheEntry>::all(client.clone()), watcher::Config::default());
    let store = entries.store();
    let (of_pod, of_claim, of_connection) = (store.clone(), store.clone(), store.clone());
    let context = Arc::new(Context::new(client.clone(), options.config, options.identity, store));
    let quiet = async move { stop.cancelled_owned().await };
    entries
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(WatchPause)
        .owns(Api::<Job>::all(client.clone()), ours.clone())
        .watches(Api::<Pod>::all(client.clone()), ours, move |pod| {
            let uid = pod.labels().get(label::ENTRY_UID).cloned();
            entries_where(&of_pod, move |entry| entry.metadata.uid == uid)
        })
        .watches(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default(), move |claim| {
            entries_where(&of_claim, move |entry| {
                entry.namespace() == claim.namespace() && wanted_claim(entry) == claim.metadata.name
            })
        })
        .watches(Api::<HubConnection>::all(client), watcher::Config::default(), move |connection| {
            entries_where(&of_connection, move |entry| entry.namespace() == connection.namespace())
        })
        .graceful_shutdown_on(quiet)
        .run(reconcile::reconcile, reconcile::after_error, context)
        .for_each(|result| async move {
            match result {
                // Told by `reconcile::after_error` already, or nobody's loss: the object is gone.
                Ok(_) | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, "a watch does not work and is started again; are the CRDs installed?");
                }
            }
        })
        .await;
}

fn entries_where(
    store: &Store<ModelCacheEntry>,
    matches: impl Fn(&ModelCacheEntry) -> bool,
) -> Vec<ObjectRef<ModelCacheEntry>> {
    let all = store.state();
    all.iter().filter(|entry| matches(entry)).map(|entry| ObjectRef::from_obj(entry.as_ref())).collect()
}
