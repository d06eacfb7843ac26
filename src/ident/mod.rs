//! Names, parsed once at the border and trusted after.
//!
//! This room owns the newtypes that every other room speaks in, and the one enum of reasons that a person sees. It must
//! not know Kubernetes, HTTP, files, the clock or the environment: everything here is a pure function of a string.

mod digest;
mod endpoint;
mod glob;
mod model;
mod path;
mod period;
mod rate;
mod reason;
mod slug;

pub use digest::{Commit, FileDigest, GitBlobSha1, Sha256, hex};
pub use endpoint::Endpoint;
pub use glob::Glob;
pub use model::{EntryName, ModelKey, ModelRef, RepoId, Revision};
pub use path::{COMPONENT_MAX_BYTES, PATH_MAX_BYTES, RelPath};
pub use period::Period;
pub use rate::{ByteCount, ByteRate};
pub use reason::{Reason, Recovery};
pub use slug::{object_name, slug};

/// Why a string is not the identifier it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {input:?} is invalid: {why}")]
pub struct InvalidIdent {
    /// What the string was meant to be: "repo id", "revision", "file name", …
    pub what: &'static str,
    /// The string, cut to 200 characters.
    pub input: String,
    /// The rule it breaks, for a person.
    pub why: &'static str,
}

impl InvalidIdent {
    /// The longest piece of a hostile string that a message repeats, in characters.
    const SHOWN_CHARS: usize = 200;

    pub(crate) fn new(what: &'static str, input: &str, why: &'static str) -> Self {
        Self { what, input: input.chars().take(Self::SHOWN_CHARS).collect(), why }
    }
}

/// Gives a parse-once newtype over a `String` its conversions: `FromStr` is the only way in, serde goes through it.
macro_rules! string_newtype {
    ($name:ident) => {
        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        crate::ident::text_conversions!($name);
    };
}

/// `TryFrom<String>`, `Into<String>` and `Debug` by way of `FromStr` and `Display`, so that serde can use them.
macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = crate::ident::InvalidIdent;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.to_string())
            }
        }
    };
}

pub(crate) use {string_newtype, text_conversions};
