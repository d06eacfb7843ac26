//! `modelcache usage --volume DIR`

use super::local::{self, Output};
use super::progress::bytes;
use crate::engine::inventory;
use crate::format::inventory::{Inventory, Kept, Leftover, Totals};
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
    match inventory::survey(&volume).await {
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

fn print_text(found: &Inventory) {
    let Inventory { entries, orphans, stagings, totals } = found;
    let mut rows = vec![["MODEL", "SIZE", "FREED BY DELETE"].map(str::to_owned)];
    rows.extend(entries.iter().map(|kept| match kept.commit {
        Some(_) => [kept.key.model().to_string(), bytes(kept.bytes), bytes(kept.bytes - kept.shared_bytes)],
        None => [kept.key.model().to_string(), "damaged".into(), "-".into()],
    }));
    local::print_table(&rows);
    let (all, shared) = (bytes(totals.bytes), bytes(totals.shared_bytes));
    local::print(&format!("{all} in all, {shared} of it shared by several entries"));
    for Leftover { path, files: _, bytes: size } in stagings {
        local::print(&format!(
            "{path}: {} of partial work, which the next run of its model goes on with",
            bytes(*size)
        ));
    }
    for Leftover { path, files, bytes: size } in orphans {
        local::print(&format!("{path}: {} in {files} files that no entry lists", bytes(*size)));
    }
    if let Some(room) = totals.room {
        local::print(&format!("{} free", bytes(room.free_bytes)));
    }
}

fn usage_json(found: &Inventory) -> Value {
    let Inventory { entries, orphans, stagings, totals } = found;
    let kept = |kept: &Kept| {
        let bytes = kept.commit.map(|_| kept.bytes);
        json!({"entry": kept.key.model().entry_name(), "key": kept.key, "bytes": bytes, "sharedBytes": kept.shared_bytes})
    };
    let Totals { bytes, shared_bytes, room, .. } = totals;
    json!({
        "entries": entries.iter().map(kept).collect::<Value>(), "bytes": bytes, "sharedBytes": shared_bytes,
        "staging": stagings, "orphans": orphans, "freeBytes": room.map(|room| room.free_bytes),
        "capacityBytes": room.map(|room| room.capacity_bytes),
    })
}
