//! `kubectl modelcache usage`

use super::Place;
use crate::api::inventory::{InventoryEntry, InventoryFolder, InventoryTotals};
use crate::api::{ModelCacheEntry, ModelCacheInventoryStatus};
use crate::cli::local::{self, Output};
use crate::cli::progress::bytes;
use crate::kubectl::KubectlError;
use serde_json::{Value, json};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// The claim whose volume is looked at; if not given, what the entries' statuses say of all claims
    #[arg(long, value_name = "NAME")]
    claim: Option<String>,
    /// The folder of the claim that is the cache's root
    #[arg(long, value_name = "PATH", requires = "claim")]
    sub_path: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(args: Args) -> u8 {
    let output = args.output;
    match tell(args).await {
        Ok(()) => 0,
        Err(error) => local::fail(error.failed(), output),
    }
}

async fn tell(args: Args) -> Result<(), KubectlError> {
    let Args { place, claim, sub_path, output } = args;
    let session = place.connect().await?;
    let Some(claim) = claim else {
        let entries = session.entries().await?;
        match output {
            Output::Text => entries_text(&entries),
            Output::Json => local::print(&entries.iter().map(entry_json).collect::<Value>().to_string()),
        }
        return Ok(());
    };
    let found = session.look(&claim, sub_path.as_deref(), |what| local::complain(&format!("{claim}: {what}"))).await?;
    let entries = session.entries().await?;
    match output {
        Output::Text => found_text(&found, &entries),
        Output::Json => local::print(&found_json(&found, &entries).to_string()),
    }
    Ok(())
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// When a model was used last: what was seen in the cluster, else what its metadata says.
fn last_used(entry: &ModelCacheEntry) -> Option<String> {
    let status = entry.status.as_ref()?;
    let seen = status.usage.as_ref().and_then(|usage| usage.last_used_at.as_ref()).map(|time| time.0);
    let said = || status.metadata.as_ref()?.get("lastDssUsage")?.as_i64();
    let at = seen.or_else(|| jiff::Timestamp::from_millisecond(said()?).ok())?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn named<'a>(entries: &'a [ModelCacheEntry], name: Option<&str>) -> Option<&'a ModelCacheEntry> {
    entries.iter().find(|entry| name.is_some() && entry.metadata.name.as_deref() == name)
}

fn found_text(found: &ModelCacheInventoryStatus, entries: &[ModelCacheEntry]) {
    let mut rows = vec![["MODEL", "REVISION", "SIZE", "SHARED", "OBJECT", "LAST USED", "STATE"].map(str::to_owned)];
    rows.extend(found.entries.iter().map(|one| {
        let InventoryEntry { model, revision, bytes: size, shared_bytes, object, trouble, .. } = one;
        let used = named(entries, object.as_deref()).and_then(last_used);
        let state = match (trouble, object) {
            (Some(trouble), _) => trouble.clone(),
            (None, None) => "adoptable".to_owned(),
            (None, Some(_)) => "kept".to_owned(),
        };
        let sizes = [bytes(unsigned(*size)), bytes(unsigned(*shared_bytes))];
        let [size, shared] = sizes;
        let (revision, object) = (or_none(revision.as_deref()), or_none(object.as_deref()));
        [model.clone(), revision, size, shared, object, or_none(used.as_deref()), state]
    }));
    local::print_table(&rows);
    for InventoryFolder { path, files, bytes: size, .. } in &found.orphans {
        local::print(&format!("{path}: {} in {files} files that no entry lists", bytes(unsigned(*size))));
    }
    for InventoryFolder { path, bytes: size, object, .. } in &found.stagings {
        let whose = match object {
            Some(object) => format!("partial work of entry {object}"),
            None => "partial work that no entry goes on with".to_owned(),
        };
        local::print(&format!("{path}: {} of {whose}", bytes(unsigned(*size))));
    }
    let InventoryTotals { entries, bytes: all, shared_bytes, orphan_bytes, staging_bytes, free_bytes, .. } =
        found.totals.clone().unwrap_or_default();
    let [all, shared, orphans, stagings] =
        [all, shared_bytes, orphan_bytes, staging_bytes].map(|size| bytes(unsigned(size)));
    local::print(&format!(
        "{entries} entries, {all}, {shared} of it shared; orphans {orphans}, partial work {stagings}"
    ));
    if let Some(free) = free_bytes {
        local::print(&format!("{} free", bytes(unsigned(free))));
    }
}

fn found_json(found: &ModelCacheInventoryStatus, entries: &[ModelCacheEntry]) -> Value {
    let kept = |one: &InventoryEntry| {
        let mut value = json!(one);
        let used = named(entries, one.object.as_deref()).and_then(last_used);
        if let (Some(fields), Some(used)) = (value.as_object_mut(), used) {
            fields.insert("lastUsedAt".to_owned(), used.into());
        }
        value
    };
    json!({
        "observedAt": found.observed_at, "totals": found.totals, "entries": found.entries.iter().map(kept).collect::<Value>(),
        "orphans": found.orphans, "stagings": found.stagings,
    })
}

fn entries_text(entries: &[ModelCacheEntry]) {
    let mut rows = vec![["CLAIM", "OBJECT", "MODEL", "REVISION", "PHASE", "SIZE", "LAST USED"].map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| {
        let line = entry_json(entry);
        let text = |name: &str| or_none(line[name].as_str());
        let size = line["bytes"].as_i64().map_or_else(|| "-".to_owned(), |size| bytes(unsigned(size)));
        [text("claim"), text("object"), text("model"), text("revision"), text("phase"), size, text("lastUsedAt")]
    }));
    rows[1..].sort();
    local::print_table(&rows);
}

fn entry_json(entry: &ModelCacheEntry) -> Value {
    let status = entry.status.clone().unwrap_or_default();
    let display = status.display.clone().unwrap_or_default();
    json!({
        "claim": status.volume.map(|volume| volume.claim_name), "object": entry.metadata.name,
        "model": display.model.or_else(|| entry.spec.repo.clone()), "revision": display.revision, "phase": status.phase,
        "bytes": status.manifest.map(|manifest| manifest.bytes), "lastUsedAt": last_used(entry),
    })
}
