//! `modelcache verify [REPO] --volume DIR`

use super::local::{self, Output};
use super::progress;
use crate::engine::progress::Progress;
use crate::engine::rehash::{self, Checked, Problem, Verification};
use crate::format::outcome::Failed;
use crate::ident::{ModelRef, Reason, RepoId, Revision};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The repo, as on the Hub; without it, everything on the volume
    repo: Option<RepoId>,
    /// The folder that is the volume; nothing is written to it
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// The revision that was asked for at the download, if one was
    #[arg(long, requires = "repo")]
    revision: Option<Revision>,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { repo, volume, revision, output } = args;
    let model = repo.map(|repo| ModelRef { repo, revision });
    let counters = Arc::new(Progress::default());
    let found = match local::watched(&counters, rehash::run(&volume, model.as_ref(), &counters), stopped).await {
        Ok(found) => found,
        Err(failed) => return local::fail(failed, output),
    };
    let reason = found.reason();
    match output {
        Output::Text => print_text(&found),
        Output::Json => local::print(&json_of(&found, reason).to_string()),
    }
    let Some(reason) = reason else { return 0 };
    local::complain(&format!("{reason}: {}", summary(&found)));
    reason.exit_code()
}

fn stopped() -> Failed {
    let message = "stopped by a signal before everything was read: run it again".to_owned();
    Failed { reason: Reason::Interrupted, message, retry_after_seconds: None }
}

/// A line a problem, a line a file that nobody lists, and the sum of it all if it is good.
fn print_text(found: &Verification) {
    for checked in &found.entries {
        for problem in &checked.problems {
            local::print(&format!("{:<10}  {}  {problem}", problem.kind(), checked.model));
        }
        for path in &checked.extra {
            local::print(&format!("{:<10}  {}  {path:?}", "extra", checked.model));
        }
    }
    if found.reason().is_none() {
        local::print(&summary(found));
    }
}

fn summary(found: &Verification) -> String {
    let Verification { entries, files, bytes } = found;
    let read = format!(
        "{}, {}, {} read",
        count(entries.len() as u64, "entry", "entries"),
        count(*files, "file", "files"),
        progress::bytes(*bytes)
    );
    let problems: Vec<_> = found.problems().collect();
    let extra: u64 = entries.iter().map(|checked| checked.extra.len() as u64).sum();
    let extra =
        if extra == 0 { String::new() } else { format!(" ({} that no entry lists)", count(extra, "file", "files")) };
    if problems.is_empty() {
        return format!("{read}: all as listed{extra}");
    }
    let counts: Vec<_> = ["changed", "missing", "unreadable", "metadata"]
        .iter()
        .map(|kind| (kind, problems.iter().filter(|(_, problem)| problem.kind() == *kind).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    format!("{read}: {}{extra}: delete the model and download it again", counts.join(", "))
}

fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The same content as a worker's last line, with what was looked at beside it.
fn json_of(found: &Verification, reason: Option<Reason>) -> Value {
    let entries: Vec<_> = found.entries.iter().map(entry_json).collect();
    let mut all = json!({"type": "done", "files": found.files, "bytes": found.bytes, "entries": entries});
    if let (Some(reason), Some(fields)) = (reason, all.as_object_mut()) {
        fields.insert("type".into(), "failed".into());
        fields.insert("reason".into(), reason.as_str().into());
        fields.insert("message".into(), summary(found).into());
    }
    all
}

fn entry_json(checked: &Checked) -> Value {
    let Checked { entry, model, commit, files, problems, extra } = checked;
    let problems: Vec<_> = problems.iter().map(problem_json).collect();
    json!({
        "entry": entry, "key": model.key().to_string(), "commit": commit, "files": files, "problems": problems,
        "extra": extra,
    })
}

fn problem_json(problem: &Problem) -> Value {
    let mut all = json!({"type": problem.kind(), "reason": problem.reason().as_str()});
    let rest = match problem {
        Problem::Changed { path, expected, found, bytes } => {
            json!({"path": path, "expected": expected, "found": found, "bytes": bytes})
        }
        Problem::Missing { path } => json!({"path": path}),
        Problem::Unreadable { path, error } => json!({"path": path, "message": error.to_string()}),
        Problem::Metadata { why } => json!({"message": why}),
    };
    if let (Some(all), Value::Object(rest)) = (all.as_object_mut(), rest) {
        all.extend(rest);
    }
    all
}
