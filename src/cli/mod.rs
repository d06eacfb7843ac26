//! The command line: one file a subcommand.
//!
//! This room turns words into tasks and outcomes into words and exit codes (0 done, 1 may succeed on retry, 2 bad usage,
//! 3 will not succeed until something changes). stdout is for data, stderr for people. It must not know how anything is done.

#[cfg(feature = "operator")]
mod controller;
#[cfg(feature = "operator")]
mod crds;
mod delete;
mod download;
mod export;
mod import;
mod inspect;
#[cfg(feature = "operator")]
mod kubectl;
mod lines;
mod list;
mod local;
mod own;
mod pack;
mod progress;
#[cfg(feature = "operator")]
mod serve;
#[cfg(feature = "operator")]
mod uninstall;
mod usage;
mod verify;
mod worker;

use clap::{Parser, Subcommand};
#[cfg(feature = "operator")]
use std::ffi::OsStr;
use std::ffi::OsString;
#[cfg(feature = "operator")]
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of bad usage, as clap has it too.
const BAD_USAGE: u8 = 2;
/// The most threads that wait for the network. Hashing and disks have threads of their own.
const THREADS_MAX: usize = 8;
/// The most threads of a server that read files. Each has a stack, and hundreds of clients take turns.
#[cfg(feature = "operator")]
const READING_THREADS_MAX: usize = 16;
/// How long the end of the process waits for what its threads still do.
const TIDY_UP: Duration = Duration::from_millis(500);

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
    /// Publish the model that an archive holds in a volume, verified
    Import(import::Args),
    /// Tell what is in an archive, and whether it would be imported
    Inspect(inspect::Args),
    /// Write a model from a volume into an archive
    Export(export::Args),
    /// Make an archive of a folder, such as a git clone
    Pack(pack::Args),
    /// List the models on a volume
    List(list::Args),
    /// Tell what takes a volume's room
    Usage(usage::Args),
    /// Remove a model from a volume
    Delete(delete::Args),
    /// Read everything on a volume again, and compare it with what was verified when it was published
    Verify(verify::Args),
    /// Do the task in `MODELCACHE_TASK` (what a Job's Pod runs)
    #[command(hide = true)]
    Worker(worker::Args),
    /// Give a cache to the user of its workers (what the ownership init of a Job's Pod runs)
    #[command(hide = true)]
    Own(own::Args),
    // The operator's subcommands, each in a file of its own.
    /// Serve folders or a volume as a read-only Hub
    #[cfg(feature = "operator")]
    Serve(serve::ServeArgs),
    /// Run the operator
    #[cfg(feature = "operator")]
    Controller(controller::ControllerArgs),
    /// End the operator and take its finalizer off all entries (what the chart's hook runs)
    #[cfg(feature = "operator")]
    #[command(hide = true)]
    Uninstall(uninstall::UninstallArgs),
    /// Print the custom resource definitions
    #[cfg(feature = "operator")]
    Crds(crds::CrdsArgs),
}

/// What was typed, by the name under which the program was called: `kubectl modelcache` calls `kubectl-modelcache`.
#[derive(Debug)]
pub enum Called {
    /// `modelcache`
    Modelcache(Cli),
    /// `kubectl modelcache`
    #[cfg(feature = "operator")]
    Kubectl(kubectl::Kubectl),
}

impl Called {
    /// Reads the words of the command line.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<_> = words.collect();
        #[cfg(feature = "operator")]
        if words.first().is_some_and(|name| Path::new(name).file_stem() == Some(OsStr::new("kubectl-modelcache"))) {
            return kubectl::Kubectl::try_parse_from(words).map(Self::Kubectl);
        }
        Cli::try_parse_from(words).map(Self::Modelcache)
    }
}

/// Runs a command to its exit code.
pub fn run(called: Called) -> u8 {
    match called {
        Called::Modelcache(cli) => run_modelcache(cli),
        #[cfg(feature = "operator")]
        Called::Kubectl(kubectl) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_or_else(not_started, |runtime| runtime.block_on(kubectl::run(kubectl)))
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what failed is handed over")]
fn not_started(error: std::io::Error) -> u8 {
    local::complain(&format!("failed to start: {error}"));
    1
}

fn run_modelcache(cli: Cli) -> u8 {
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => return not_started(error),
    };
    let code = match cli.command {
        Command::Download(args) => runtime.block_on(download::run(args)),
        Command::Import(args) => runtime.block_on(import::run(args)),
        Command::Inspect(args) => runtime.block_on(inspect::run(args)),
        Command::Export(args) => runtime.block_on(export::run(args)),
        Command::Pack(args) => runtime.block_on(pack::run(args)),
        Command::List(args) => runtime.block_on(list::run(args)),
        Command::Usage(args) => runtime.block_on(usage::run(args)),
        Command::Delete(args) => runtime.block_on(delete::run(args)),
        Command::Verify(args) => runtime.block_on(verify::run(args)),
        Command::Worker(args) => runtime.block_on(worker::run(args)),
        Command::Own(args) => own::run(&args),
        #[cfg(feature = "operator")]
        Command::Serve(args) => runtime.block_on(serve::run(args)),
        #[cfg(feature = "operator")]
        Command::Controller(args) => {
            log_as_json();
            code_of(runtime.block_on(controller::run(args)))
        }
        #[cfg(feature = "operator")]
        Command::Uninstall(args) => {
            log_as_json();
            code_of(runtime.block_on(uninstall::run(args)))
        }
        #[cfg(feature = "operator")]
        Command::Crds(args) => code_of(crds::run(&args)),
    };
    // A thread that is told to stop may tidy up; one that waits for a slow disk must not keep a process that has its answer.
    runtime.shutdown_timeout(TIDY_UP);
    code
}

/// Returns when the kubelet (or a person) wants the work to stop.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    match command {
        // The operator waits nearly always, and what one thread frees another's arena would not get.
        #[cfg(feature = "operator")]
        Command::Controller(_) | Command::Uninstall(_) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        }
        #[cfg(feature = "operator")]
        Command::Serve(_) => many_threads().max_blocking_threads(READING_THREADS_MAX).build(),
        #[cfg(feature = "operator")]
        Command::Crds(_) => many_threads().build(),
        Command::Download(_)
        | Command::Import(_)
        | Command::Export(_)
        | Command::Inspect(_)
        | Command::Pack(_)
        | Command::List(_)
        | Command::Usage(_)
        | Command::Delete(_)
        | Command::Verify(_)
        | Command::Worker(_)
        | Command::Own(_) => many_threads().build(),
    }
}

fn many_threads() -> tokio::runtime::Builder {
    // A worker's memory is counted, and a node may have a hundred cores: more threads would only be more arenas.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, THREADS_MAX));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all();
    builder
}

/// The exit code of a server or a printer: whatever went wrong may be right next time.
#[cfg(feature = "operator")]
fn code_of(ended: anyhow::Result<()>) -> u8 {
    match ended {
        Ok(()) => 0,
        Err(error) => {
            local::complain(&format!("{error:#}"));
            1
        }
    }
}

/// A server's log: JSON on stderr, for machines first.
#[cfg(feature = "operator")]
fn log_as_json() {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_env("MODELCACHE_LOG").unwrap_or_else(|_| EnvFilter::new("warn,modelcache=info"));
    // An error means that a subscriber is there already.
    let _ = fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        #[cfg(feature = "operator")]
        kubectl::Kubectl::command().debug_assert();
    }

    #[cfg(feature = "operator")]
    #[test]
    fn the_name_of_the_program_says_which_commands_it_has() {
        let called = |words: &[&str]| Called::parse(words.iter().map(OsString::from));
        let adopt = ["adopt", "--claim", "models", "org/name@v1"];
        assert!(matches!(called(&[&["/opt/kubectl-modelcache"], &adopt[..]].concat()), Ok(Called::Kubectl(_))));
        assert!(called(&[&["modelcache"], &adopt[..]].concat()).is_err());
        assert!(called(&["kubectl-modelcache", "usage", "--sub-path", "a"]).is_err(), "a folder of which claim?");
    }
}
