//! `modelcache worker`: does the one task that is in its environment, and says so in lines (design 6).

use super::lines::{Lines, LogLayer};
use super::{BAD_USAGE, local, progress};
use crate::engine::progress::Progress;
use crate::engine::{self, EngineError, Settings};
use crate::format::outcome::{Done, Failed, Line, Say, metadata_lines};
use crate::format::task::{TASK_VARIABLE, Task};
use crate::ident::Reason;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// A line of progress at least this often: the contract says two seconds.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    termination: Termination,
}

/// The outcome as the kubelet keeps it.
#[derive(Debug, clap::Args)]
pub(super) struct Termination {
    /// Where the outcome is written for the kubelet, if the file exists
    #[arg(long = "termination-log", env = "MODELCACHE_TERMINATION_LOG", default_value = "/dev/termination-log")]
    file: PathBuf,
}

impl Termination {
    fn write(&self, text: &str) {
        let opened = OpenOptions::new().write(true).truncate(true).open(&self.file);
        // On a laptop there is none, and that is no failure of the task.
        let _ = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    }

    /// The word of a program that has no task.
    pub(super) fn failed(&self, failed: Failed) {
        self.write(&Lines::new("", Box::new(std::io::sink())).termination(Say::Failed(failed)));
    }
}

pub(super) async fn run(args: Args) -> u8 {
    let text = std::env::var(TASK_VARIABLE).unwrap_or_default();
    let out = Box::new(std::io::stdout());
    let task = match serde_json::from_str::<Task>(&text) {
        Ok(task) => task,
        Err(error) => {
            let lines = Lines::new(&nonce_of(&text), out);
            let message = format!(
                "the task in {TASK_VARIABLE} cannot be read ({error}): the worker's image must be the operator's own release"
            );
            let failed = Failed { reason: Reason::UnsupportedVersion, message, retry_after_seconds: None };
            end(&lines, &args.termination, Vec::new(), Say::Failed(failed));
            return BAD_USAGE;
        }
    };
    let lines = Arc::new(Lines::new(&task.nonce, out));
    install(&lines);
    let nonce = task.nonce.clone();
    match work(task, &lines).await {
        Ok((done, text)) => {
            let parts = text.map(|json| metadata_lines(&nonce, &json)).unwrap_or_default();
            end(&lines, &args.termination, parts, Say::Done(done));
            0
        }
        Err(failed) => {
            let code = failed.reason.exit_code();
            end(&lines, &args.termination, Vec::new(), Say::Failed(failed));
            code
        }
    }
}

/// The nonce of a task that cannot be read otherwise, so that its controller hears what is wrong.
fn nonce_of(text: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    value.get("nonce").and_then(|nonce| nonce.as_str()).unwrap_or_default().to_owned()
}

/// Everything that wants to be said goes through the lines: events, and panics, which would print raw text.
fn install(lines: &Arc<Lines>) {
    let targets = Targets::new().with_target("modelcache", LevelFilter::INFO);
    let layer = LogLayer(Arc::clone(lines)).with_filter(targets);
    let _ = tracing_subscriber::registry().with(layer).try_init();
    let hook_lines = Arc::clone(lines);
    std::panic::set_hook(Box::new(move |panic| {
        hook_lines.try_say(Say::Log { level: "error".to_owned(), message: format!("a bug in modelcache: {panic}") });
    }));
}

async fn work(task: Task, lines: &Arc<Lines>) -> Result<(Done, Option<String>), Failed> {
    let counters = Arc::new(Progress::default());
    let teller_lines = Arc::clone(lines);
    let teller = tokio::spawn(progress::tell(Arc::clone(&counters), PROGRESS_EVERY, move |report| {
        teller_lines.say(Say::Progress(report));
    }));
    // A task of its own, so that a panic in it is an outcome.
    let engine_counters = Arc::clone(&counters);
    let interrupted = local::interrupted(&task.work);
    let mut engine = tokio::spawn(async move { engine::run(&task, &Settings::default(), &engine_counters).await });
    let ended = tokio::select! {
        ended = &mut engine => ended.unwrap_or(Err(EngineError::Crashed)).map_err(|error| local::failed(&error)),
        () = super::stopped() => {
            engine.abort();
            Err(interrupted)
        }
    };
    teller.abort();
    let _ = teller.await;
    let finished = ended?;
    lines.say(Say::Progress(counters.report(0)));
    let text = finished.told.to_json();
    Ok((finished.done, text))
}

fn end(lines: &Lines, termination: &Termination, before: Vec<Line>, last: Say) {
    // First the log that the kubelet keeps: after the last line the controller may be quick.
    termination.write(&lines.termination(last.clone()));
    lines.end(before, last);
}
