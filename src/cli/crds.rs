//! `modelcache crds`: the custom resource definitions, as the chart installs them.

use crate::api;
use anyhow::Context;
use std::io::Write;

/// Prints the custom resource definitions as YAML, or writes each to a file.
#[derive(Debug, clap::Args)]
pub(super) struct CrdsArgs {
    /// Write one file for each definition into this folder instead of printing them.
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &CrdsArgs) -> anyhow::Result<()> {
    for crd in api::crds() {
        let yaml = serde_yaml::to_string(&crd).context("a definition does not become YAML")?;
        let name = format!("{}.yaml", crd.spec.names.plural);
        match &args.dir {
            Some(dir) => {
                let path = dir.join(name);
                std::fs::write(&path, yaml).with_context(|| format!("failed to write {}", path.display()))?;
            }
            None => write!(std::io::stdout(), "---\n{yaml}")?,
        }
    }
    Ok(())
}
