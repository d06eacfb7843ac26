//! `modelcache list --volume DIR`

use super::local::{self, Output};
use super::progress;
use crate::engine::inventory::{self, Item, Said};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder that is the volume; nothing is written to it
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// How the list is printed; as JSON it is one array
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { volume, output } = args;
    local::log_to_stderr();
    let items = match inventory::list(&volume).await {
        Ok(items) => items,
        Err(error) => return local::fail(local::failed(&error), output),
    };
    match output {
        Output::Text => {
            let mut rows = vec![["MODEL", "COMMIT", "FILES", "SIZE", "STATE"].map(str::to_owned)];
            rows.extend(items.iter().map(row));
            local::print_table(&rows);
        }
        Output::Json => local::print(&items.iter().map(item_json).collect::<Value>().to_string()),
    }
    0
}

fn row(item: &Item) -> [String; 5] {
    let model = item.model.to_string();
    match &item.said {
        Err(_) => [model, "-".into(), "-".into(), "-".into(), "damaged".into()],
        Ok(Said { commit, manifest, is_complete, metadata: _ }) => {
            let commit = commit.to_string().chars().take(12).collect();
            let state = if *is_complete { "complete" } else { "files are missing" };
            [model, commit, manifest.files.to_string(), progress::bytes(manifest.bytes), state.into()]
        }
    }
}

fn item_json(item: &Item) -> Value {
    let Item { entry, model, said } = item;
    match said {
        Err(problem) => json!({"entry": entry, "key": model.key(), "problem": problem}),
        Ok(Said { commit, manifest, is_complete, metadata }) => json!({
            "entry": entry, "key": model.key(), "commit": commit, "manifest": manifest, "complete": is_complete,
            "metadata": metadata.to_value(),
        }),
    }
}
