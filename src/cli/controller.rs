//! `modelcache controller`: the operator's process.

use crate::controller::config::Config;
use crate::controller::shell::{self, Options};
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
}

pub(super) fn default_identity() -> String {
    format!("modelcache-{}", std::process::id())
}

/// Runs the operator until it is told to stop.
pub(super) async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let path = &args.config;
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let config: Config =
        serde_yaml::from_str(&text).with_context(|| format!("{} is not a configuration", path.display()))?;
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
    };
    Ok(shell::run(options, stop).await?)
}
