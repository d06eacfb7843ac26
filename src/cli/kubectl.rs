//! `kubectl modelcache`: the cluster-side commands, which people have with their own kubeconfig and rights.

mod adopt;
mod usage;

use super::local;
use crate::kubectl::{KubectlError, Session};
use clap::{Parser, Subcommand};

/// Looks after Hugging Face models that a cluster keeps in persistent volumes.
#[derive(Debug, Parser)]
#[command(name = "kubectl modelcache", bin_name = "kubectl modelcache", version, about, max_term_width = 100)]
pub struct Kubectl {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what is on a volume, or what the entries of a namespace take
    Usage(usage::Args),
    /// Make entries for the models on a volume that have none
    Adopt(adopt::Args),
}

/// Where in the cluster.
#[derive(Debug, clap::Args)]
struct Place {
    /// The namespace; that of the kubeconfig's context if not given
    #[arg(short = 'n', long, value_name = "NS")]
    namespace: Option<String>,
}

impl Place {
    async fn connect(&self) -> Result<Session, KubectlError> {
        Session::connect(self.namespace.as_deref()).await
    }
}

pub(super) async fn run(kubectl: Kubectl) -> u8 {
    local::log_to_stderr();
    tokio::select! {
        code = async {
            match kubectl.command {
                Command::Usage(args) => usage::run(args).await,
                Command::Adopt(args) => adopt::run(args).await,
            }
        } => code,
        () = super::stopped() => {
            local::complain("stopped by a signal: what was asked of the operator goes on; run it again to see");
            1
        }
    }
}
