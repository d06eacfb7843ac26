//! Why an archive was not written.

use crate::engine::volume::VolumeError;
use crate::hub::UploadError;
use crate::ident::{InvalidIdent, Reason, Sha256};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why an archive was not written. Nothing is under its name then.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file's bytes are not the listed ones.
    #[error(
        "the file {path} holds other bytes than its list says, so no archive was written: expected sha256 {expected}, found {found}: delete the model and download it again, then export"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is listed.
        expected: Sha256,
        /// What was read.
        found: Sha256,
    },
    /// A file became longer or shorter while it was read.
    #[error(
        "the file {path} changed its size while it was read, so no archive was written: let nothing write there, then run it again"
    )]
    Resized {
        /// The file.
        path: PathBuf,
    },
    /// A listed file is not there.
    #[error(
        "the file {path} is listed and not there, so no archive was written: delete the model and download it again, then export"
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The place of the archive.
    #[error("the archive {archive} was not written: {source}")]
    Place {
        /// What a person calls the archive.
        archive: String,
        /// What is wrong there.
        source: VolumeError,
    },
    /// The archive's path names no file.
    #[error("{path} names no file: give the archive's own name too", path = .path.display())]
    NoName {
        /// As given.
        path: PathBuf,
    },
    /// The archive would lie among what modelcache keeps.
    #[error(
        "the archive {archive} would lie in {folder}/ of the model's own volume, where only modelcache writes: give a path outside of it"
    )]
    InLayout {
        /// What a person calls the archive.
        archive: String,
        /// The folder at the cache's root.
        folder: &'static str,
    },
    /// Something else has the archive's name.
    #[error("{path} is there already and holds other bytes than this archive ({why}): move it away, or choose another name", path = .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// How it differs.
        why: String,
    },
    /// Who reads standard output is gone, or the like.
    #[error("failed to write the archive to standard output ({0}): run it again, with a reader that takes all of it")]
    Stdout(#[source] io::Error),
    /// The server did not take it.
    #[error(transparent)]
    Upload(UploadError),
    /// A folder cannot become an archive.
    #[error("{path} cannot be packed: {why}", path = .path.display())]
    Unpackable {
        /// The file or folder.
        path: PathBuf,
        /// The cause and the next step.
        why: String,
    },
    /// A name in a folder is not safe everywhere.
    #[error("the file {path} cannot be packed: rename it, or leave it out", path = .path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The rule.
        source: InvalidIdent,
    },
    /// Somebody stopped it.
    #[error("the export was stopped before the archive was whole: run it again")]
    Stopped,
}

impl ExportError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Changed { .. } | Self::Resized { .. } => Reason::ChecksumMismatch,
            Self::Gone { .. } => Reason::FileNotFound,
            Self::Place { source, .. } => source.reason(),
            Self::Other { .. } | Self::InLayout { .. } => Reason::Conflict,
            Self::Stdout(_) | Self::Stopped => Reason::Interrupted,
            Self::Upload(error) => error.reason(),
            Self::Unpackable { .. } => Reason::ArchiveInvalid,
            Self::Name { .. } => Reason::ArchiveUnsafe,
            Self::NoName { .. } => Reason::ArchiveNotFound,
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upload(error) => error.retry_after(),
            _ => None,
        }
    }
}
