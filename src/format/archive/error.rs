//! The ways in which an archive can be wrong or lie, one variant each.

use super::limits::{FILE_MAX_BYTES, MEMBERS_MAX, NAMES_MAX_BYTES, RATIO_MAX, ZSTD_WINDOW_LOG_MAX};
use crate::format::metadata::MetadataError;
use crate::format::outcome::shorten;
use crate::format::sums::SumsError;
use crate::ident::{InvalidIdent, Reason};
use std::io;

/// The longest piece of a hostile name that a message repeats, in bytes.
const SHOWN_MAX_BYTES: usize = 200;

/// What the seed's documentation asks for, for whoever made something else.
const TREE: &str = "an archive must hold one folder, of any name, with these two in it:\n\
    ROOT\n\
    ├── model                  a folder named \"model\" with the files of the Hugging Face repo\n\
    │   ├── config.json\n\
    │   └── …\n\
    └── model_metadata.json    a file named \"model_metadata.json\"";

/// Why an archive is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes could not be read: the fault is not the archive's.
    #[error("it cannot be read: {0}")]
    Source(#[source] io::Error),
    /// None of the four kinds.
    #[error("it is {found}: make it a tar, tar.gz, tar.zst or zip archive")]
    Unknown {
        /// What it looks like.
        found: &'static str,
    },
    /// It ends too early.
    #[error("it is cut off{}: copy or make it again", at(.member.as_deref()))]
    Cut {
        /// The last member that was seen.
        member: Option<String>,
    },
    /// Its structure contradicts itself.
    #[error("it is damaged{}: {why}: copy or make it again", at(.member.as_deref()))]
    Damaged {
        /// The member.
        member: Option<String>,
        /// What is wrong.
        why: String,
    },
    /// Something that is well-formed and not read here.
    #[error("its member {member:?} {why}: make the archive without that")]
    Unsupported {
        /// The member.
        member: String,
        /// What it is.
        why: String,
    },
    /// A name that could leave its folder, or deceive.
    #[error("it has a member with a dangerous name: {0}: rename the file and make the archive again")]
    Name(#[source] InvalidIdent),
    /// A member that is no file, folder or link, or a name that is there twice.
    #[error("its member {member:?} {why}: make the archive without that")]
    Dangerous {
        /// The member.
        member: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A link that leads nowhere good.
    #[error("its member {member:?} is a link to {target:?}, which {why}: put the file itself there")]
    Link {
        /// The member.
        member: String,
        /// Where it points, as the archive has it.
        target: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// Too many members, or names that are too long together.
    #[error(
        "its member {member:?} is too much: at most {MEMBERS_MAX} members, with names of {NAMES_MAX_BYTES} bytes together, are read"
    )]
    TooMany {
        /// The first that was too much.
        member: String,
    },
    /// A few bytes that become very many.
    #[error(
        "{unpacked} bytes come out of the first {read} bytes of it, more than {RATIO_MAX} times as many: no model is like that"
    )]
    Ratio {
        /// What was read.
        read: u64,
        /// What came out.
        unpacked: u64,
    },
    /// A frame that takes too much memory.
    #[error(
        "its zstd window is larger than 2^{ZSTD_WINDOW_LOG_MAX} bytes: compress it again without `--ultra` and `--long`"
    )]
    Window,
    /// A size that no file has.
    #[error(
        "its member {member:?} claims an impossible size (more than {FILE_MAX_BYTES} bytes): copy or make the archive again"
    )]
    Size {
        /// The member.
        member: String,
    },
    /// Not the folder, the model and the metadata.
    #[error("{why}: {TREE}")]
    Structure {
        /// What is missing or too much.
        why: String,
    },
    /// A file that only says where the real one is.
    #[error(
        "its member {member:?} is a pointer of git LFS and not the file itself: run `git lfs install` and clone again"
    )]
    Pointer {
        /// The member.
        member: String,
    },
    /// `model_metadata.json` is no metadata.
    #[error("its model_metadata.json is wrong: {}: correct it and make the archive again", chain(.0))]
    Metadata(#[source] MetadataError),
    /// `SHA256SUMS` is no list.
    #[error("{}: correct it and make the archive again", chain(.0))]
    Sums(#[source] SumsError),
}

impl ArchiveError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Source(_) => Reason::Interrupted,
            Self::Unknown { .. }
            | Self::Cut { .. }
            | Self::Damaged { .. }
            | Self::Unsupported { .. }
            | Self::Size { .. }
            | Self::Structure { .. }
            | Self::Pointer { .. }
            | Self::Sums(_) => Reason::ArchiveInvalid,
            Self::Metadata(error) => error.reason(),
            Self::Name(_)
            | Self::Dangerous { .. }
            | Self::Link { .. }
            | Self::TooMany { .. }
            | Self::Ratio { .. }
            | Self::Window => Reason::ArchiveUnsafe,
        }
    }

    /// What a reader of a stream failed with: its own errors travel through decompressors inside an [`io::Error`].
    pub(super) fn from_io(error: io::Error, member: Option<&str>) -> Self {
        let member = member.map(shown);
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Cut { member };
        }
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(error) => Self::Damaged { member, why: error.to_string() },
        }
    }

    pub(super) fn damaged(member: &str, why: impl Into<String>) -> Self {
        Self::Damaged { member: Some(shown(member)), why: why.into() }
    }

    pub(super) fn unsupported(member: &str, why: impl Into<String>) -> Self {
        Self::Unsupported { member: shown(member), why: why.into() }
    }

    pub(super) fn dangerous(member: &str, why: &'static str) -> Self {
        Self::Dangerous { member: shown(member), why }
    }
}

/// A name as a message shows it.
pub(super) fn shown(name: &str) -> String {
    shorten(name, SHOWN_MAX_BYTES)
}

fn at(member: Option<&str>) -> String {
    member.map(|member| format!(" at its member {member:?}")).unwrap_or_default()
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
