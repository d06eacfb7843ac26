//! `modelcache own`: gives a cache to the user of its workers (what the ownership init's container runs, as root).

use super::{local, worker};
use crate::engine::volume::{self, Owner};
use crate::format::outcome::{Failed, MESSAGE_MAX_BYTES, shorten};
use crate::ident::RelPath;
use std::path::PathBuf;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder that is the volume
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// The cache's root below it
    #[arg(long)]
    sub_path: Option<RelPath>,
    /// The user that shall own the cache
    #[arg(long)]
    uid: u32,
    /// The group that shall own the cache
    #[arg(long)]
    gid: u32,
    #[command(flatten)]
    termination: worker::Termination,
}

pub(super) fn run(args: &Args) -> u8 {
    match volume::take_over(&args.volume, args.sub_path.as_ref(), Owner::new(args.uid, args.gid)) {
        Ok(_) => 0,
        Err(error) => {
            let message = shorten(&format!("the ownership init failed: {error}"), MESSAGE_MAX_BYTES);
            let failed = Failed { reason: error.reason(), message, retry_after_seconds: None };
            local::complain(&failed.message);
            let code = failed.reason.exit_code();
            args.termination.failed(failed);
            code
        }
    }
}
