//! `modelcache inspect ARCHIVE`

use super::import::ArchiveArgs;
use super::local::{self, Output};
use super::progress;
use crate::engine::import::{self, Inspection};
use crate::engine::progress::Progress;
use crate::format::archive::Container;
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::{Failed, Say};
use crate::ident::Reason;
use serde_json::json;
use std::sync::Arc;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    archive: ArchiveArgs,
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { archive } = args;
    let settings = match archive.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let output = archive.output;
    let counters = Arc::new(Progress::default());
    let import = archive.meant();
    let found = match local::watched(&counters, import::inspect(&import, &settings, &counters), stopped).await {
        Ok(found) => found,
        Err(failed) => return local::fail(failed, output),
    };
    match output {
        Output::Text => print_text(&found),
        Output::Json => local::print(&json_of(found)),
    }
    0
}

fn stopped() -> Failed {
    let message = "stopped by a signal before everything was read: run it again".to_owned();
    Failed { reason: Reason::Interrupted, message, retry_after_seconds: None }
}

/// A line a file, and the sum of it all.
fn print_text(found: &Inspection) {
    for (path, size, _) in &found.files {
        local::print(&format!("{:>10}  {path}", progress::bytes(*size)));
    }
    let done = &found.finished.done;
    let (files, bytes) = done.manifest.map_or((0, 0), |manifest| (manifest.files, manifest.bytes));
    let model = found.finished.metadata().map(|metadata| metadata.key.model().to_string()).unwrap_or_default();
    let commit = done.commit.map(|commit| commit.to_string()).unwrap_or_default();
    let (kind, bytes) = (name(found.container), progress::bytes(bytes));
    local::print(&format!("{kind}, {files} files, {bytes}, {model} at commit {commit}"));
    local::print(&match &done.unverified {
        None => "would be imported, verified".to_owned(),
        Some(why) => format!("would be imported, not verified: {why}"),
    });
}

fn name(container: Container) -> &'static str {
    match container {
        Container::Tar => "tar",
        Container::TarGz => "tar.gz",
        Container::TarZst => "tar.zst",
        Container::Zip => "zip",
    }
}

/// The same as an import prints, and what is in the archive besides.
fn json_of(found: Inspection) -> String {
    let files: Vec<_> = found
        .files
        .iter()
        .map(|(path, size, sha256)| json!({"path": path, "sizeBytes": size, "sha256": sha256}))
        .collect();
    let contents = json!({"format": name(found.container), "files": files, "leftOut": found.left_out});
    let metadata = found.finished.metadata().map(ModelMetadata::to_value);
    let mut said = json!(Say::Done(found.finished.done));
    if let Some(fields) = said.as_object_mut() {
        fields.insert("contents".to_owned(), contents);
        fields.insert("metadata".to_owned(), json!(metadata));
    }
    said.to_string()
}
