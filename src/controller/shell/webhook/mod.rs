//! The mutating webhook: what the API server asks when a Pod with our label is created.
//!
//! Every operator answers, whether it leads or not, from what it knows already. Only where it knows no entry of a model it looks first
//! whether one, or a connection, was written a moment ago. A request writes nothing.

mod certificate;
mod keeper;
mod server;
mod tls;

use super::health::Health;
use super::known::Watches;
use super::metrics::Metrics;
use crate::controller::config::Config;
use keeper::Keeper;
use kube::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use tls::Served;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How the webhook is run.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// Where it is asked.
    pub listen: SocketAddr,
    /// The Service by which the API server finds it, in the operator's own namespace.
    pub service: String,
    /// The Secret with its certificate, in the operator's own namespace.
    pub secret: String,
    /// The `MutatingWebhookConfiguration`.
    pub configuration: String,
    /// Whether somebody else makes the certificate, such as cert-manager; else the operator does, and tells the API server whom
    /// to trust.
    pub has_external_certificate: bool,
}

/// What the webhook needs besides.
pub(super) struct Surroundings {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) config: Config,
    pub(super) watches: Watches,
    pub(super) metrics: Arc<Metrics>,
}

/// Answers until `stop`; `health` is told when it is able to.
pub(super) async fn run(
    listener: TcpListener,
    options: WebhookOptions,
    around: Surroundings,
    health: Health,
    stop: CancellationToken,
) {
    let served = Arc::new(Served::default());
    let name = format!("{}.{}.svc", options.service, around.namespace);
    let keeper = Keeper::new(around.client.clone(), &around.namespace, name, &options, Arc::clone(&served));
    let ready = async {
        tokio::join!(around.watches.until_whole(), served.until_loaded());
        health.ready();
    };
    tokio::join!(keeper.keep(stop.clone()), server::serve(listener, served.clone(), &around, stop.clone()), async {
        tokio::select! { () = ready => {}, () = stop.cancelled() => {} }
    });
}
