//! Why an archive was not imported.

use crate::format::archive::ArchiveError;
use crate::ident::{Reason, Sha256};
use std::io;

/// Why an archive was not imported. Each message names the archive, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No such file.
    #[error("there is no archive {origin}: check the path")]
    NotFound {
        /// What a person calls it.
        origin: String,
    },
    /// No regular file.
    #[error("{origin} is {what} and no archive: {next}")]
    NoFile {
        /// What a person calls it.
        origin: String,
        /// What it is.
        what: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// The file cannot be opened or read.
    #[error("failed to read the archive {origin}: {source}: check its permissions and its storage")]
    Read {
        /// What a person calls it.
        origin: String,
        /// What the system said.
        source: io::Error,
    },
    /// The archive itself.
    #[error("the archive {origin} is not imported: {source}")]
    Archive {
        /// What a person calls it.
        origin: String,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// Other bytes than were asked for.
    #[error(
        "the archive {origin} has other bytes than were asked for: expected sha256 {expected}, got {found}: get it again, or correct the digest"
    )]
    Digest {
        /// What a person calls it.
        origin: String,
        /// What was asked for.
        expected: Sha256,
        /// What it is.
        found: Sha256,
    },
    /// A file that is not what the archive's own list says.
    #[error("{path:?} in the archive {origin} {what}: get the archive again, or make its SHA256SUMS anew")]
    Sums {
        /// What a person calls it.
        origin: String,
        /// The file, below the root folder.
        path: String,
        /// How it differs.
        what: String,
    },
    /// A file that is not what the Hub has.
    #[error(
        "{path:?} in the archive {origin} {what} of {endpoint}: get the archive again, or import it without that check"
    )]
    Against {
        /// What a person calls it.
        origin: String,
        /// The file, below the model's folder.
        path: String,
        /// How it differs.
        what: String,
        /// The Hub.
        endpoint: String,
    },
    /// An archive that does not tell what it takes.
    #[error(
        "what the archive {origin} takes when it is unpacked cannot be told beforehand, as {why}: give it as spec.source.archive.unpackedBytes, or give the claim a size"
    )]
    Unmeasured {
        /// What a person calls it.
        origin: String,
        /// Why not.
        why: &'static str,
    },
    /// Another model than was asked for.
    #[error("the archive {origin} holds {found} and not {expected}: import it as what it is, or use another archive")]
    Model {
        /// What a person calls it.
        origin: String,
        /// What was asked for.
        expected: String,
        /// What is in it.
        found: String,
    },
    /// A name that no file system takes.
    #[error(
        "the folder name of {model} would be {length} bytes long, more than 255: use a shorter revision in its metadata"
    )]
    EntryName {
        /// The model.
        model: String,
        /// The name's length.
        length: usize,
    },
    /// The entry is there with something else.
    #[error(
        "{model} is already on the volume with other files: there {there}, in the archive {origin} {given}: delete that entry first, an import never replaces it"
    )]
    Conflict {
        /// What a person calls the archive.
        origin: String,
        /// The model.
        model: String,
        /// The commit and the digest of the list that are there.
        there: String,
        /// Those of the archive.
        given: String,
    },
}

impl ImportError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } | Self::NoFile { .. } => Reason::ArchiveNotFound,
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Reason::PermissionDenied,
            Self::Read { .. } => Reason::Interrupted,
            Self::Archive { source, .. } => source.reason(),
            Self::Digest { .. } | Self::Sums { .. } | Self::Against { .. } => Reason::ChecksumMismatch,
            Self::Model { .. } => Reason::ModelMismatch,
            Self::EntryName { .. } | Self::Unmeasured { .. } => Reason::ArchiveInvalid,
            Self::Conflict { .. } => Reason::Conflict,
        }
    }
}
