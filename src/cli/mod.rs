//! The command line: one file a subcommand.
//!
//! This room turns words into tasks and outcomes into words and exit codes (0 done, 1 may succeed on retry, 2 bad usage,
//! 3 will not succeed until something changes). stdout is for data, stderr for people. It must not know how anything is done.

mod delete;
mod download;
mod lines;
mod local;
mod progress;
mod worker;

use clap::{Parser, Subcommand};

/// The exit code of bad usage, as clap has it too.
const BAD_USAGE: u8 = 2;

/// Keeps verified Hugging Face models in persistent volumes.
#[derive(Debug, Parser)]
#[command(name = "modelcache", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download a model from a Hub into a volume, verified
    Download(download::Args),
    /// Remove a model from a volume
    Delete(delete::Args),
    /// Do the task in `MODELCACHE_TASK` (what a Job's Pod runs)
    #[command(hide = true)]
    Worker(worker::Args),
    // The operator's subcommands, each in a file of its own, behind the feature `operator`: controller, crds, serve.
}

/// Runs a command to its exit code.
pub fn run(cli: Cli) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            local::complain(&format!("failed to start: {error}"));
            return 1;
        }
    };
    let code = match cli.command {
        Command::Download(args) => runtime.block_on(download::run(args)),
        Command::Delete(args) => runtime.block_on(delete::run(args)),
        Command::Worker(args) => runtime.block_on(worker::run(args)),
    };
    // A thread that still waits for a slow disk must not keep a process that has its answer.
    runtime.shutdown_background();
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
