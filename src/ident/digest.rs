//! Digests and commits: fixed-length lowercase hex.

use super::{InvalidIdent, text_conversions};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use std::str::FromStr;

fn parse_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], InvalidIdent> {
    let bytes = text.as_bytes();
    if bytes.len() != N * 2 {
        return Err(InvalidIdent::new(what, text, "it has the wrong length"));
    }
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(InvalidIdent::new(what, text, "it is not lowercase hexadecimal")),
    };
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(out)
}

/// Bytes as lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

macro_rules! hex_newtype {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $len]);

        impl $name {
            /// From the raw bytes of a finished hash.
            pub fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = InvalidIdent;
            fn from_str(text: &str) -> Result<Self, InvalidIdent> {
                parse_hex($what, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        text_conversions!($name);
    };
}

hex_newtype!(
    /// SHA-256 of a file's bytes: the Hub's `lfs.oid`, and what `SHA256SUMS` lists.
    Sha256, 32, "SHA-256"
);
hex_newtype!(
    /// SHA-1 of `blob <length>\0` and the bytes: the Hub's `oid` of a file that is not in LFS.
    GitBlobSha1, 20, "git blob SHA-1"
);
hex_newtype!(
    /// A git commit. A model imported without one gets the first 40 digits of the SHA-256 of its `SHA256SUMS` (design 3).
    Commit, 20, "commit"
);

/// What the Hub promises of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileDigest {
    /// Of a file in LFS or Xet.
    Sha256(Sha256),
    /// Of any other file.
    GitBlob(GitBlobSha1),
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "sha256:{digest}"),
            Self::GitBlob(digest) => write!(f, "gitblob:{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_through_text_and_back() {
        let text = "7dbbc90392e2f80f3d3c277d6e90027e55de9125";
        assert_eq!(text.parse::<Commit>().unwrap().to_string(), text);
    }

    #[test]
    fn upper_case_short_and_foreign_text_is_refused() {
        for text in ["", "7DBBC90392E2F80F3D3C277D6E90027E55DE9125", "7dbb", "zdbbc90392e2f80f3d3c277d6e90027e55de9125"]
        {
            assert!(text.parse::<Commit>().is_err(), "{text}");
        }
    }
}
