//! `modelcache uninstall`: what the chart runs before its release is uninstalled.

use crate::controller::shell::{self, Uninstall, Uninstalled};

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
    let Uninstalled { entries, gated } = tokio::select! {
        done = shell::uninstall(&what) => done?,
        () = super::stopped() => anyhow::bail!("was told to stop before all entries were let go"),
    };
    if !gated.is_empty() {
        tracing::warn!(
            pods = gated.join(", "),
            "these Pods wait for models, and nobody will let them go: delete them, or install the operator again"
        );
    }
    tracing::info!(entries, "the finalizer is off all entries; their files stay where they are");
    Ok(())
}
