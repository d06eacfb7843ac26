//! `modelcache pack DIR --repo REPO --file F`

use super::download::{PUBLIC_HUB, implicit_login, os_user};
use super::export::ArchiveArgs;
use super::local::{self, Output};
use crate::engine::Settings;
use crate::engine::pack::{self, About, Pack};
use crate::engine::progress::Progress;
use crate::format::outcome::Failed;
use crate::format::task::{HubAccess, MountedFile, ProxyChoice};
use crate::hub::Retry;
use crate::ident::{Commit, Endpoint, ModelRef, Reason, RepoId, Revision};
use std::path::PathBuf;
use std::sync::Arc;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder with the model's files: a git clone, a hub cache's snapshot, or any other
    folder: PathBuf,
    /// The repo that the archive is of: org/name
    #[arg(long)]
    repo: RepoId,
    /// The revision that importers will ask for, if not the default branch
    #[arg(long)]
    revision: Option<Revision>,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The Hub that is asked for the model's metadata; without an answer, the archive has what the options below say
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL", default_value = PUBLIC_HUB)]
    endpoint: Endpoint,
    /// The commit that the files are of; a clone and a snapshot say it themselves
    #[arg(long)]
    commit: Option<Commit>,
    /// The library, such as `transformers`
    #[arg(long, value_name = "NAME")]
    library: Option<String>,
    /// The pipeline, such as `text-generation`
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// How the outcome is printed; with `--file -` it goes to stderr
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(args: Args) -> u8 {
    let Args { folder, repo, revision, archive, endpoint, commit, library, pipeline, tags, output } = args;
    let (format, archive) = archive.meant();
    let login = match implicit_login(false) {
        Ok(login) => login,
        Err(error) => return local::fail(local::failed(&error), output),
    };
    let mut settings = Settings { login, ..Settings::default() };
    // A Hub that is not there is no reason to wait: the archive can be made without it.
    settings.limits.retry = Retry { tries: 1, ..settings.limits.retry };
    let (token, ca_bundle, proxy): (Option<MountedFile>, Option<MountedFile>, _) = (None, None, ProxyChoice::default());
    let hub = HubAccess { endpoint, token, ca_bundle, proxy, limit_bytes_per_second: None };
    let about = About { commit, library, pipeline, tags };
    let model = ModelRef { repo, revision };
    let pack = Pack { folder, model, format, archive, hub, about, packed_by: os_user() };
    let counters = Arc::new(Progress::default());
    let ended = local::watched(&counters, pack::run(&pack, &settings, &counters), stopped).await;
    local::conclude(ended, Some(&pack.archive), output, |finished| {
        match (&finished.done.archive, &finished.done.manifest) {
            (Some(archive), Some(manifest)) => local::archive_text(&pack.archive, archive, &pack.model, manifest),
            _ => String::new(),
        }
    })
}

fn stopped() -> Failed {
    let message = "stopped by a signal: the archive is not whole, and has not got its name; run it again".to_owned();
    Failed { reason: Reason::Interrupted, message, retry_after_seconds: None }
}
