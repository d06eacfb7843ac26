//! `SHA256SUMS`: the list that *is* an entry (design 3), in the format of `sha256sum -c`.

use super::outcome::Manifest;
use crate::ident::{InvalidIdent, RelPath, Sha256};
use sha2::Digest;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The longest list that is read, in bytes.
pub const SUMS_MAX_BYTES: usize = 32 * 1024 * 1024;
/// The folder, beside the list, that holds the model's files.
const MODEL_PREFIX: &str = "model/";
/// The file beside the list that a foreign list may name; usage changes it, so its digest proves nothing.
const METADATA_NAME: &str = "model_metadata.json";

/// Why a text is not a list of checksums.
#[derive(Debug, thiserror::Error)]
pub enum SumsError {
    /// A line that is not `<digest>  <path>`.
    #[error("line {line} of SHA256SUMS is not `<sha256>  <path>`")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A digest or path that breaks its rule.
    #[error("line {line} of SHA256SUMS is invalid")]
    Ident {
        /// Counted from 1.
        line: usize,
        /// The rule.
        #[source]
        source: InvalidIdent,
    },
    /// A path outside the model's folder.
    #[error("line {line} of SHA256SUMS names {path:?}, which is not below `model/`")]
    Outside {
        /// Counted from 1.
        line: usize,
        /// The path.
        path: String,
    },
    /// A path with two different digests.
    #[error("SHA256SUMS names {path} twice")]
    Twice {
        /// The path.
        path: RelPath,
    },
}

/// The files of an entry by their place below the model's folder, and their digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<RelPath, Sha256>);

impl FromIterator<(RelPath, Sha256)> for Sums {
    fn from_iter<I: IntoIterator<Item = (RelPath, Sha256)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

impl Sums {
    /// Reads a list. Marks of binary mode and Windows line ends are fine, and so is a line for the metadata.
    pub fn parse(text: &str) -> Result<Self, SumsError> {
        let mut sums = BTreeMap::new();
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            if raw.is_empty() {
                continue;
            }
            let (digest, name) = raw.split_once(' ').ok_or(SumsError::Line { line })?;
            let name = name.strip_prefix([' ', '*']).ok_or(SumsError::Line { line })?;
            if name == METADATA_NAME {
                continue;
            }
            let digest: Sha256 = digest.parse().map_err(|source| SumsError::Ident { line, source })?;
            let Some(path) = name.strip_prefix(MODEL_PREFIX) else {
                return Err(SumsError::Outside { line, path: name.chars().take(200).collect() });
            };
            let path: RelPath = path.parse().map_err(|source| SumsError::Ident { line, source })?;
            if sums.insert(path.clone(), digest).is_some_and(|before| before != digest) {
                return Err(SumsError::Twice { path });
            }
        }
        Ok(Self(sums))
    }

    /// The files in the order of the list, by their place below the model's folder.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Sha256)> {
        self.0.iter()
    }

    /// The digest of one file.
    pub fn get(&self, path: &RelPath) -> Option<Sha256> {
        self.0.get(path).copied()
    }

    /// How many files.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The SHA-256 of the list's own text.
    pub fn digest(&self) -> Sha256 {
        Sha256::from_bytes(sha2::Sha256::digest(self.to_string()).into())
    }

    /// The manifest, given the sum of the files' sizes, which the list does not hold.
    pub fn manifest(&self, bytes: u64) -> Manifest {
        Manifest { sha256: self.digest(), files: self.0.len() as u64, bytes }
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The map's order is that of the bytes of the paths, and a common prefix does not change it.
        for (path, digest) in &self.0 {
            write!(f, "{digest}  {MODEL_PREFIX}{path}")?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn foreign_lists_are_read_and_written_in_our_form() {
        let text = format!("{DIGEST} *model/b\r\n{DIGEST}  model_metadata.json\n{DIGEST}  model/a b\n\n");
        let sums = Sums::parse(&text).unwrap();
        assert_eq!(sums.to_string(), format!("{DIGEST}  model/a b\n{DIGEST}  model/b\n"));
        assert_eq!(sums.manifest(0).files, 2);
    }

    #[test]
    fn bad_lists_are_refused_with_the_line() {
        let other = DIGEST.replace('e', "f");
        for text in [
            "nonsense".to_owned(),
            format!("{DIGEST} model/a"),
            format!("{DIGEST}  elsewhere/a"),
            format!("{DIGEST}  model/../a"),
            format!("{DIGEST}  model/a\n{other}  model/a"),
            "abc  model/a".to_owned(),
        ] {
            assert!(Sums::parse(&text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn lists_are_sorted_by_bytes_and_come_back(names in proptest::collection::btree_set("[a-z.A-Z_é]{1,6}(/[a-z]{1,3})?", 0..9)) {
            let paths = names.iter().filter_map(|name| name.parse::<RelPath>().ok());
            let sums: Sums = paths.map(|path| (path, DIGEST.parse().unwrap())).collect();
            let text = sums.to_string();
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            prop_assert_eq!(lines, text.lines().collect::<Vec<_>>());
            prop_assert_eq!(Sums::parse(&text).unwrap(), sums);
        }
    }
}
