//! `modelcache usage --volume DIR`

use super::local::{self, Output};
use super::progress::bytes;
use crate::engine::inventory::{self, Leftover, Room, Usage};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder that is the volume; nothing is written to it
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { volume, output } = args;
    local::log_to_stderr();
    match inventory::usage(&volume).await {
        Ok(usage) => {
            match output {
                Output::Text => print_text(&usage),
                Output::Json => local::print(&usage_json(&usage).to_string()),
            }
            0
        }
        Err(error) => local::fail(local::failed(&error), output),
    }
}

fn print_text(usage: &Usage) {
    let Usage { entries, bytes: all, shared_bytes, stagings, orphans, free_bytes } = usage;
    let mut rows = vec![["MODEL", "SIZE", "FREED BY DELETE"].map(str::to_owned)];
    rows.extend(entries.iter().map(|Room { entry: _, model, bytes: size, shared_bytes }| match size {
        Some(size) => [model.to_string(), bytes(*size), bytes(size - shared_bytes)],
        None => [model.to_string(), "damaged".into(), "-".into()],
    }));
    local::print_table(&rows);
    local::print(&format!("{} in all, {} of it shared by several entries", bytes(*all), bytes(*shared_bytes)));
    for Leftover { path, files: _, bytes: size } in stagings {
        local::print(&format!(
            "{}: {} of partial work, which the next run of its model goes on with",
            path.display(),
            bytes(*size)
        ));
    }
    for Leftover { path, files, bytes: size } in orphans {
        local::print(&format!("{}: {} in {files} files that no entry lists", path.display(), bytes(*size)));
    }
    if let Some(free) = free_bytes {
        local::print(&format!("{} free", bytes(*free)));
    }
}

fn usage_json(usage: &Usage) -> Value {
    let Usage { entries, bytes, shared_bytes, stagings, orphans, free_bytes } = usage;
    let room = |Room { entry, model, bytes, shared_bytes }: &Room| json!({"entry": entry, "key": model.key(), "bytes": bytes, "sharedBytes": shared_bytes});
    let leftover = |Leftover { path, files, bytes }: &Leftover| json!({"path": path, "files": files, "bytes": bytes});
    json!({
        "entries": entries.iter().map(room).collect::<Value>(), "bytes": bytes, "sharedBytes": shared_bytes,
        "staging": stagings.iter().map(leftover).collect::<Value>(),
        "orphans": orphans.iter().map(leftover).collect::<Value>(), "freeBytes": free_bytes,
    })
}
