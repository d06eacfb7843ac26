//! `kubectl modelcache adopt`

use super::Place;
use crate::api::entry::ReclaimPolicy;
use crate::cli::local::{self, Output};
use crate::format::outcome::Failed;
use crate::ident::ModelRef;
use crate::kubectl::{Adopted, KubectlError, Wish};
use clap::ValueEnum;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// The claim whose volume holds the models
    #[arg(long, value_name = "NAME")]
    claim: String,
    /// The folder of the claim that is the cache's root
    #[arg(long, value_name = "PATH")]
    sub_path: Option<String>,
    /// Whether the files go when an entry is deleted
    #[arg(long, value_enum, default_value = "Retain", ignore_case = true)]
    reclaim_policy: Reclaim,
    /// Only tell what would be made
    #[arg(long)]
    dry_run: bool,
    /// These models only, such as `org/name` or `org/name@v1`
    #[arg(value_name = "MODEL", value_parser = model)]
    models: Vec<ModelRef>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Reclaim {
    Delete,
    Retain,
}

fn model(text: &str) -> Result<ModelRef, String> {
    let (repo, revision) = text.split_once('@').map_or((text, None), |(repo, revision)| (repo, Some(revision)));
    let revision = revision.map(str::parse).transpose().map_err(|error| format!("{error}"))?;
    Ok(ModelRef { repo: repo.parse().map_err(|error| format!("{error}"))?, revision })
}

pub(super) async fn run(args: Args) -> u8 {
    match adopt(args).await {
        Ok(code) => code,
        Err(error) => local::fail(error.failed(), Output::Text),
    }
}

/// Gives the exit code: what was damaged, or could not be made, keeps nothing else from being made.
async fn adopt(args: Args) -> Result<u8, KubectlError> {
    let Args { place, claim, sub_path, reclaim_policy, dry_run, models } = args;
    let session = place.connect().await?;
    let tell = |what: &str| local::complain(&format!("{claim}: {what}"));
    let found = session.look(&claim, sub_path.as_deref(), tell).await?;
    let reclaim_policy = match reclaim_policy {
        Reclaim::Delete => ReclaimPolicy::Delete,
        Reclaim::Retain => ReclaimPolicy::Retain,
    };
    let plan = Wish { claim, sub_path, reclaim_policy, models }.plan(&found)?;
    let mut code = 0;
    for adoption in plan {
        let model = adoption.model;
        match adoption.adopted {
            Adopted::Kept(object) => local::complain(&format!("{model}: entry {object} keeps it already")),
            Adopted::Damaged(why) => {
                local::complain(&format!("{model}: not adopted, it is damaged: {why}"));
                code = code.max(3);
            }
            Adopted::Entry(entry) => {
                let name = entry.metadata.name.as_deref().unwrap_or_default();
                if dry_run {
                    local::print(&format!("modelcacheentry/{name} would be created: {model}"));
                    continue;
                }
                match session.adopt(&entry).await {
                    Ok(()) => local::print(&format!("modelcacheentry/{name} created: {model}")),
                    Err(Failed { reason, message, .. }) => {
                        local::complain(&format!("{model}: {reason}: {message}"));
                        code = code.max(reason.exit_code());
                    }
                }
            }
        }
    }
    Ok(code)
}
