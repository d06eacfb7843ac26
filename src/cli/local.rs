//! A task on a laptop: a folder is the volume, a person reads the outcome.

use super::progress;
use crate::engine::progress::Progress;
use crate::engine::{self, EngineError, Finished, Settings};
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::{Archive, Done, Failed, MESSAGE_MAX_BYTES, Manifest, Say, shorten};
use crate::format::task::{ArchivePlace, Task, Work};
use crate::ident::{ModelRef, Reason};
use clap::ValueEnum;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use tracing_subscriber::{EnvFilter, fmt};

/// How the outcome is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// One JSON object, as a worker prints it.
    Json,
}

/// Warnings go to stderr, above the progress.
pub(super) fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("MODELCACHE_LOG").unwrap_or_else(|_| EnvFilter::new("modelcache=warn"));
    // An error means that a subscriber is there already.
    let colours = std::io::stderr().is_terminal();
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let _ = log.without_time().with_target(false).try_init();
}

/// Runs a task to its exit code.
pub(super) async fn run(task: &Task, settings: &Settings, output: Output) -> u8 {
    let counters = Arc::new(Progress::default());
    let ended = watched(&counters, engine::run(task, settings, &counters), || interrupted(&task.work)).await;
    let place = match &task.work {
        Work::Export(export) => Some(&export.archive),
        Work::Download(_)
        | Work::Import(_)
        | Work::List(_)
        | Work::Inventory
        | Work::Check(_)
        | Work::Adopt(_)
        | Work::Delete(_)
        | Work::Resolve(_) => None,
    };
    conclude(ended, place, output, |finished| text(task, finished))
}

/// Prints how a task ended; gives its exit code. Where the archive goes to standard output, the words go to stderr.
pub(super) fn conclude(
    ended: Result<Finished, Failed>,
    archive: Option<&ArchivePlace>,
    output: Output,
    text: impl FnOnce(&Finished) -> String,
) -> u8 {
    let is_taken = archive == Some(&ArchivePlace::Stdio);
    let say = |text: &str| if is_taken { aside(text) } else { print(text) };
    match ended {
        Ok(finished) => {
            match output {
                Output::Text => say(&text(&finished)),
                Output::Json => {
                    let metadata = finished.metadata().map(ModelMetadata::to_value);
                    say(&json(&Say::Done(finished.done), metadata));
                }
            }
            0
        }
        Err(failed) if is_taken => {
            let code = failed.reason.exit_code();
            match output {
                Output::Text => complain(&format!("{}: {}", failed.reason, failed.message)),
                Output::Json => aside(&json(&Say::Failed(failed), None)),
            }
            code
        }
        Err(failed) => fail(failed, output),
    }
}

/// Waits for work while its progress is shown. `stopped` is what is said when somebody stops it.
pub(super) async fn watched<T>(
    counters: &Arc<Progress>,
    work: impl Future<Output = Result<T, EngineError>>,
    stopped: impl FnOnce() -> Failed,
) -> Result<T, Failed> {
    log_to_stderr();
    let teller = tokio::spawn(progress::tell(Arc::clone(counters), progress::interval(), |report| {
        progress::show(&report);
    }));
    let ended = tokio::select! {
        ended = work => ended.map_err(|error| failed(&error)),
        () = super::stopped() => Err(stopped()),
    };
    teller.abort();
    let _ = teller.await;
    progress::clear();
    ended
}

/// Prints a failure; gives its exit code.
pub(super) fn fail(failed: Failed, output: Output) -> u8 {
    let code = failed.reason.exit_code();
    complain(&format!("{}: {}", failed.reason, failed.message));
    if output == Output::Json {
        print(&json(&Say::Failed(failed), None));
    }
    code
}

/// What a worker says of an error.
pub(super) fn failed(error: &EngineError) -> Failed {
    Failed {
        reason: error.reason(),
        message: shorten(&error.to_string(), MESSAGE_MAX_BYTES),
        retry_after_seconds: error.retry_after().map(|pause| pause.as_secs()),
    }
}

/// What is said when somebody stops the work.
pub(super) fn interrupted(work: &Work) -> Failed {
    let message = match work {
        Work::Export(_) => "stopped by a signal: the archive is not whole, and has not got its name; run it again",
        Work::Import(_) => "stopped by a signal: nothing was published, and the next run begins again",
        Work::Resolve(_) | Work::Check(_) => "stopped by a signal: nothing was fetched, and the next run asks again",
        Work::List(_) | Work::Inventory | Work::Adopt(_) => {
            "stopped by a signal before everything was read: run it again"
        }
        Work::Download(_) | Work::Delete(_) => {
            "stopped by a signal: what was verified is kept, and the next run goes on from there"
        }
    };
    Failed { reason: Reason::Interrupted, message: message.to_owned(), retry_after_seconds: None }
}

/// An archive for people: what to compare, and what is in it.
pub(super) fn archive_text(place: &ArchivePlace, archive: &Archive, model: &ModelRef, manifest: &Manifest) -> String {
    let name = match place {
        ArchivePlace::File(file) => file.path.display().to_string(),
        // The address may be signed.
        ArchivePlace::Url(_) => "uploaded".to_owned(),
        ArchivePlace::Stdio => "standard output".to_owned(),
    };
    format!(
        "{name}\nsha256 {}, {}: {model}, {} files, {}",
        archive.sha256,
        progress::bytes(archive.size_bytes),
        manifest.files,
        progress::bytes(manifest.bytes)
    )
}

fn text(task: &Task, finished: &Finished) -> String {
    let volume = &task.volume;
    if let (Work::Export(export), Some(archive), Some(manifest)) =
        (&task.work, &finished.done.archive, &finished.done.manifest)
    {
        return archive_text(&export.archive, archive, &export.model, manifest);
    }
    let Done { path, commit, manifest, bytes_fetched, unverified, .. } = &finished.done;
    let (Some(path), Some(commit), Some(manifest)) = (path, commit, manifest) else { return "removed".to_owned() };
    let fetched = if *bytes_fetched == 0 {
        "nothing was fetched".to_owned()
    } else {
        format!("{} fetched", progress::bytes(*bytes_fetched))
    };
    let path = volume.join(path.as_path());
    let verified = match unverified {
        None => "verified".to_owned(),
        Some(why) => format!("not verified: {why}"),
    };
    format!(
        "{}\ncommit {commit}, {} files, {}, {verified} ({fetched})",
        path.display(),
        manifest.files,
        progress::bytes(manifest.bytes)
    )
}

pub(super) fn json(say: &Say, metadata: Option<Value>) -> String {
    let mut value = serde_json::json!(say);
    if let (Some(fields), Some(metadata)) = (value.as_object_mut(), metadata) {
        fields.insert("metadata".to_owned(), metadata);
    }
    value.to_string()
}

/// Data on stdout. A closed pipe is no failure.
pub(super) fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Rows on stdout, their columns below each other.
pub(super) fn print_table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS).map(width).collect();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        print(cells.join("  ").trim_end());
    }
}

/// Data on stderr, where stdout is taken.
fn aside(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A sentence on stderr.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "modelcache: {text}");
}
