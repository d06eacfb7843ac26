//! Why a task was not done.

use super::export::ExportError;
use super::import::ImportError;
use super::plan::PlanError;
use super::policy::PolicyError;
use super::select::SelectError;
use super::volume::VolumeError;
use crate::hub::{AccessError, HubError, RemoteError};
use crate::ident::{Reason, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a task was not done. Each message names the thing, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No request could be made.
    #[error(transparent)]
    Access(AccessError),
    /// The Hub did not give what it was asked for.
    #[error(transparent)]
    Hub(HubError),
    /// An archive's server did not give what it was asked for.
    #[error(transparent)]
    Remote(RemoteError),
    /// The archive, or what is in it.
    #[error(transparent)]
    Import(ImportError),
    /// The choice of files leaves nothing.
    #[error(transparent)]
    Select(SelectError),
    /// The task's policy does not allow it.
    #[error(transparent)]
    Policy(PolicyError),
    /// The Hub's listing cannot become files.
    #[error(transparent)]
    Plan(PlanError),
    /// The volume.
    #[error(transparent)]
    Volume(VolumeError),
    /// A file that could not be read.
    #[error("{0}")]
    Unreadable(#[source] Arc<VolumeError>),
    /// An archive was not written.
    #[error(transparent)]
    Export(ExportError),
    /// Bytes arrived that are not the promised ones, twice.
    #[error(
        "the file {path} of {repo} arrived with other bytes than {endpoint} promises, twice: expected {expected}, got {got}: have the repo or the mirror repaired, then retry"
    )]
    Checksum {
        /// The file.
        path: String,
        /// The repo.
        repo: String,
        /// The Hub.
        endpoint: String,
        /// What the Hub's listing promises.
        expected: String,
        /// What arrived.
        got: String,
    },
    /// Published bytes under the same name are others.
    #[error(
        "{path} is already on the volume with other bytes: expected {expected}, found {found}: delete the entry that keeps it, then retry"
    )]
    Conflict {
        /// The file, below the volume's root.
        path: String,
        /// What the Hub's listing promises.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An entry's own files cannot be read.
    #[error(
        "the entry {entry} on the volume is damaged ({why}): nothing was removed; delete or download that model again first"
    )]
    Damaged {
        /// The entry's folder.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// An entry that was to be adopted is not what was published.
    #[error(
        "{model} on the volume is not what was published there ({problem}{rest}): nothing was changed; restore the file and retry, or let an entry with a Hub as its source make it whole", rest = and_others(*.others)
    )]
    Unfit {
        /// The model.
        model: String,
        /// What is wrong with it.
        problem: String,
        /// How many more things are.
        others: usize,
        /// The gravest reason.
        reason: Reason,
    },
    /// An entry that was to be adopted is another one by now.
    #[error(
        "{model} on the volume has SHA256SUMS of digest {found}, and {wanted} was to be adopted: it was published anew; adopt it again"
    )]
    OtherEntry {
        /// The model.
        model: String,
        /// What was asked for.
        wanted: Sha256,
        /// What is there.
        found: Sha256,
    },
    /// The volume has no entry of the model.
    #[error("{model} is not on the volume {path}{others}: download it first, or name one that is there", path = .path.display(), others = there(.others))]
    NotOnVolume {
        /// The model.
        model: String,
        /// The volume.
        path: PathBuf,
        /// The other entries of the same repo.
        others: Vec<String>,
    },
    /// A folder that holds nothing of modelcache's.
    #[error("{path} is no volume of modelcache: it has neither a layout file nor an entry: mount the volume there, or correct the path", path = .path.display())]
    NoCache {
        /// The folder.
        path: PathBuf,
    },
    /// The folder of archives is not there.
    #[error("{origin} does not exist: create it, or correct the path")]
    NoFolder {
        /// The folder.
        origin: String,
    },
    /// The names of a folder are too long to be sent.
    #[error(
        "{origin} holds {archives} archives, whose names are {bytes} bytes long together, and {max} can be listed: spread them over several folders, and import each"
    )]
    LongListing {
        /// The folder.
        origin: String,
        /// How many archives.
        archives: usize,
        /// The length of the listing.
        bytes: usize,
        /// The longest that is sent.
        max: usize,
    },
    /// A bug in modelcache, seen as a panic of a helper thread.
    #[error("modelcache itself failed; please report it with the log: it is retried")]
    Crashed,
}

impl EngineError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Access(error) => error.reason(),
            Self::Hub(error) => error.reason(),
            Self::Remote(error) => error.reason(),
            Self::Import(error) => error.reason(),
            Self::Select(error) => error.reason(),
            Self::Policy(error) => error.reason(),
            Self::Plan(error) => error.reason(),
            Self::Volume(error) => error.reason(),
            Self::Unreadable(error) => error.reason(),
            Self::Export(error) => error.reason(),
            Self::Checksum { .. } => Reason::ChecksumMismatch,
            Self::Conflict { .. } | Self::Damaged { .. } | Self::OtherEntry { .. } => Reason::Conflict,
            Self::Unfit { reason, .. } => *reason,
            Self::NotOnVolume { .. } | Self::NoCache { .. } => Reason::FileNotFound,
            Self::NoFolder { .. } => Reason::ArchiveNotFound,
            Self::LongListing { .. } => Reason::ArchiveInvalid,
            Self::Crashed => Reason::Interrupted,
        }
    }

    /// How long the Hub wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Hub(error) => error.retry_after(),
            Self::Remote(error) => error.retry_after(),
            Self::Export(error) => error.retry_after(),
            _ => None,
        }
    }
}

fn and_others(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", and {count} more") }
}

/// The part of a message that names what is there instead.
fn there(others: &[String]) -> String {
    if others.is_empty() { String::new() } else { format!(", which has {} of it", others.join(", ")) }
}
