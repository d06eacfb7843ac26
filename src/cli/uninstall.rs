//! `modelcache uninstall`: what the chart runs before its release is uninstalled.

use crate::controller::shell::{self, Uninstall};

/// Ends the operator and takes its finalizer off all entries.
#[derive(Debug, clap::Args)]
pub(super) struct UninstallArgs {
    /// The operator's namespace.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    namespace: String,
    /// The operator's Deployment.
    #[arg(long, value_name = "NAME")]
    deployment: String,
    /// This process's name in the Lease.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value_t = super::controller::default_identity())]
    identity: String,
}

/// Runs the command.
pub(super) async fn run(args: UninstallArgs) -> anyhow::Result<()> {
    let UninstallArgs { namespace, deployment, identity } = args;
    let what = Uninstall { namespace, deployment, identity };
    let count = tokio::select! {
        count = shell::uninstall(&what) => count?,
        () = super::stopped() => anyhow::bail!("was told to stop before all entries were let go"),
    };
    tracing::info!(entries = count, "the finalizer is off all entries; their files stay where they are");
    Ok(())
}
