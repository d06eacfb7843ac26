//! `modelcache controller`: the operator's process.

use crate::controller::config::Config;
use crate::controller::shell::{self, Options, WebhookOptions};
use anyhow::Context;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs the operator.
#[derive(Debug, clap::Args)]
pub(super) struct ControllerArgs {
    /// The configuration file (YAML); the chart writes it from its values.
    #[arg(long, value_name = "FILE", env = "MODELCACHE_CONFIG")]
    config: PathBuf,
    /// Where `/healthz`, `/readyz` and `/metrics` are answered.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8081")]
    health_listen: SocketAddr,
    /// The namespace of the Lease.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// This process's name in the Lease.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value_t = default_identity())]
    identity: String,
    #[command(flatten)]
    webhook: WebhookArgs,
}

/// The webhook that gives Pods their models.
#[derive(Debug, clap::Args)]
struct WebhookArgs {
    /// Where the webhook is asked, such as 0.0.0.0:8443. Default: there is none.
    #[arg(long = "webhook-listen", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The webhook's Service, in the namespace of the Lease.
    #[arg(long = "webhook-service", value_name = "NAME", default_value = "modelcache-webhook")]
    service: String,
    /// The Secret with the webhook's certificate, in the namespace of the Lease.
    #[arg(long = "webhook-secret", value_name = "NAME", default_value = "modelcache-webhook")]
    secret: String,
    /// The name of the configuration by which the API server knows the webhook.
    #[arg(long = "webhook-configuration", value_name = "NAME", default_value = "modelcache")]
    configuration: String,
    /// Only read the certificate, which somebody else makes.
    #[arg(long = "webhook-external-certificate")]
    external_certificate: bool,
}

impl WebhookArgs {
    fn options(self) -> Option<WebhookOptions> {
        Some(WebhookOptions {
            listen: self.listen?,
            service: self.service,
            secret: self.secret,
            configuration: self.configuration,
            has_external_certificate: self.external_certificate,
        })
    }
}

pub(super) fn default_identity() -> String {
    format!("modelcache-{}", std::process::id())
}

/// Runs the operator until it is told to stop.
pub(super) async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let path = &args.config;
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let config = Config::parse(&text).with_context(|| format!("{} is not a configuration", path.display()))?;
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stops");
        stopper.cancel();
    });
    let options = Options {
        config,
        health_listen: args.health_listen,
        lease_namespace: args.lease_namespace,
        identity: args.identity,
        webhook: args.webhook.options(),
    };
    Ok(shell::run(options, stop).await?)
}
