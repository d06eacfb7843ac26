//! `modelcache delete REPO --volume DIR`

use super::local::{self, Output};
use crate::engine::Settings;
use crate::format::task::{Delete, Task, Work};
use crate::ident::{ModelRef, RepoId, Revision};
use std::path::PathBuf;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The repo, as on the Hub
    repo: RepoId,
    /// The folder that is the volume
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// The revision that was asked for at the download, if one was
    #[arg(long)]
    revision: Option<Revision>,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { repo, volume, revision, output } = args;
    let model = Some(ModelRef { repo, revision });
    let work = Work::Delete(Delete { model, unfinished_only: false, source: None, kept: Vec::new() });
    let task = Task { nonce: String::new(), volume, sub_path: None, policy: None, work };
    local::run(&task, &Settings::default(), output).await
}
