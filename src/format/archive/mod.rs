//! Archives: which bytes they are made of, and what is in them.
//!
//! Reading trusts nothing: `tar` and `zip` give members in the order in which they come, `names` and `structure` say for each
//! where it may go before anything is made of it, `links` follows links among the members alone. All of it in one pass and in
//! bounded memory. This module knows bytes; it must not know where they come from, nor what is done with a file.

mod decompress;
mod detect;
mod error;
pub mod limits;
mod links;
mod names;
mod reader;
mod structure;
mod tar;
pub mod write;
mod zip;

pub use detect::{Container, PREFIX_BYTES, detect};
pub use error::ArchiveError;
pub use limits::Budget;
pub use links::{Link, resolve};
pub use names::folded;
pub use reader::{Input, Reader};
pub use structure::{Contents, Place, Told, is_left_out, is_pointer};
pub use zip::{Extent, extent};

/// One member of an archive, as its header has it: nobody has looked yet whether its name is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name's bytes.
    pub name: Vec<u8>,
    /// Whether `\` separates names, as in a zip that was made on FAT or NTFS.
    pub backslashes: bool,
    /// What it is.
    pub kind: MemberKind,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A folder.
    Folder,
    /// A file of so many bytes.
    File {
        /// Its size.
        size: u64,
    },
    /// A symbolic link, relative to its own folder.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A second name of a file, relative to the archive.
    HardLink {
        /// The file's name.
        target: Vec<u8>,
    },
    /// A device, fifo or socket.
    Special,
}

impl Member {
    /// The name for messages.
    pub fn shown(&self) -> String {
        error::shown(&String::from_utf8_lossy(&self.name))
    }
}
