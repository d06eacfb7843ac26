//! What a model is called: on the Hub, in metadata, and as a folder.

use super::{Commit, InvalidIdent, string_newtype, text_conversions};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use std::str::FromStr;

/// A repo on a Hub: `org/name`, or `name` alone for the oldest ones.
///
/// The rules are the Hub's: letters, digits, `-`, `_`, `.`; no `--` or `..`; no `-` or `.` at an end; at most 96 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoId(String);

string_newtype!(RepoId);

impl RepoId {
    const MAX_BYTES: usize = 96;
}

impl FromStr for RepoId {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        let invalid = |why| Err(InvalidIdent::new("repo id", text, why));
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return invalid("it must have 1 to 96 characters");
        }
        if text.matches('/').count() > 1 {
            return invalid("it must be `org/name` or `name`");
        }
        for part in text.split('/') {
            if part.is_empty() {
                return invalid("it must be `org/name` or `name`");
            }
            if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                return invalid("only letters, digits, `-`, `_` and `.` are allowed");
            }
            if part.contains("--") || part.contains("..") {
                return invalid("`--` and `..` are not allowed");
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return invalid("a part must not begin or end with `-` or `.`");
            }
        }
        if text.to_ascii_lowercase().ends_with(".git") {
            return invalid("it must not end with `.git`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A branch, a tag, a commit or `refs/pr/N`, by git's rules for names (`git check-ref-format`), at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(String);

string_newtype!(Revision);

impl Revision {
    /// The branch that is meant when no revision is given.
    pub const DEFAULT: &'static str = "main";
    const MAX_BYTES: usize = 255;

    /// `main`.
    pub fn main() -> Self {
        Self(Self::DEFAULT.to_owned())
    }

    /// The commit, when the revision is a whole commit hash already.
    pub fn as_commit(&self) -> Option<Commit> {
        self.0.parse().ok()
    }
}

impl FromStr for Revision {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        let invalid = |why| Err(InvalidIdent::new("revision", text, why));
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return invalid("it must have 1 to 255 bytes");
        }
        if text.chars().any(|c| c.is_control() || " ~^:?*[\\@".contains(c)) {
            return invalid("control characters, spaces and any of ~ ^ : ? * [ \\ @ are not allowed");
        }
        for part in text.split('/') {
            if part.is_empty() {
                return invalid("it must not begin or end with `/` or hold `//`");
            }
            if part.starts_with('.') || part.ends_with('.') || part.contains("..") {
                return invalid("a part must not begin or end with `.` or hold `..`");
            }
            if part.to_ascii_lowercase().ends_with(".lock") {
                return invalid("a part must not end with `.lock`");
            }
        }
        if text.starts_with('-') {
            return invalid("it must not begin with `-`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repo, and the revision that was asked for, if one was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// The repo.
    pub repo: RepoId,
    /// The revision that was asked for; absent means the default branch, and another key and folder than `main` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
}

impl ModelRef {
    /// The revision to ask the Hub for.
    pub fn revision_or_main(&self) -> Revision {
        self.revision.clone().unwrap_or_else(Revision::main)
    }

    /// The model's key in metadata.
    pub fn key(&self) -> ModelKey {
        ModelKey(self.clone())
    }

    /// The entry's folder name.
    pub fn entry_name(&self) -> EntryName {
        EntryName::of(self)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.repo),
            None => write!(f, "{}", self.repo),
        }
    }
}

/// `hf@<repo>` or `hf@<repo>@<revision>`, as `modelDefinition.key` has it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelKey(ModelRef);

text_conversions!(ModelKey);

impl ModelKey {
    /// The model that the key names.
    pub fn model(&self) -> &ModelRef {
        &self.0
    }
}

impl FromStr for ModelKey {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        let Some(rest) = text.strip_prefix("hf@") else {
            return Err(InvalidIdent::new("model key", text, "it must be `hf@<repo>` or `hf@<repo>@<revision>`"));
        };
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision.parse()?)),
            None => (rest, None),
        };
        Ok(Self(ModelRef { repo: repo.parse()?, revision }))
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf@{}", self.0)
    }
}

/// The folder name of an entry: `[A-Za-z0-9.-]` kept, every other byte as `_` and two lowercase hex digits. Reversible.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryName(String);

string_newtype!(EntryName);

impl EntryName {
    fn of(model: &ModelRef) -> Self {
        let mut name = String::new();
        for byte in model.to_string().bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' {
                name.push(char::from(byte));
            } else {
                // Writing into a string cannot fail.
                let _ = write!(name, "_{byte:02x}");
            }
        }
        Self(name)
    }

    /// The model that the folder name stands for.
    pub fn model(&self) -> Result<ModelRef, InvalidIdent> {
        let invalid = || InvalidIdent::new("entry name", &self.0, "it is not an escaped model name");
        let mut bytes = Vec::new();
        let mut rest = self.0.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            if first == b'_' {
                let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).ok_or_else(invalid)?;
                bytes.push(u8::from_str_radix(hex, 16).map_err(|_| invalid())?);
                rest = &after[2..];
            } else {
                bytes.push(first);
                rest = after;
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let model = format!("hf@{text}").parse::<ModelKey>()?.0;
        // One model has one folder name: `_41` for `A` is not it.
        if Self::of(&model) == *self { Ok(model) } else { Err(invalid()) }
    }
}

impl FromStr for EntryName {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        let name = Self(text.to_owned());
        name.model().map(|_| name)
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_seeds_folder_name_and_key() {
        let model = ModelRef { repo: "sentence-transformers/all-MiniLM-L6-v2".parse().unwrap(), revision: None };
        assert_eq!(model.entry_name().as_str(), "sentence-transformers_2fall-MiniLM-L6-v2");
        assert_eq!(model.key().to_string(), "hf@sentence-transformers/all-MiniLM-L6-v2");
    }

    #[test]
    fn bad_repo_ids_are_refused() {
        for text in [
            "",
            "a/b/c",
            "/a",
            "a/",
            "a b",
            "a--b/c",
            "a..b",
            "-a",
            "a.",
            "../a",
            "a/..",
            "x.git",
            "ä/b",
            &"a".repeat(97),
        ] {
            assert!(text.parse::<RepoId>().is_err(), "{text}");
        }
    }

    #[test]
    fn bad_revisions_are_refused() {
        for text in ["", "a b", "../x", "a/../b", "/a", "a/", "a//b", ".a", "a.lock", "a\\b", "a\0", "a@b", "-a", "a:b"]
        {
            assert!(text.parse::<Revision>().is_err(), "{text}");
        }
        for text in ["main", "refs/pr/1", "v1.0", "7dbbc90392e2f80f3d3c277d6e90027e55de9125", "feature_x"] {
            assert!(text.parse::<Revision>().is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_entry_name_names_its_model(repo in "[a-z0-9][a-z0-9_.]{0,8}[a-z]/[A-Z_]{1,8}", revision in proptest::option::of("[a-z_äß]{1,6}(/[a-z]{1,3})?")) {
            prop_assume!(repo.parse::<RepoId>().is_ok());
            let model = ModelRef { repo: repo.parse().unwrap(), revision: revision.map(|r| r.parse().unwrap()) };
            prop_assert_eq!(&model.entry_name().model().unwrap(), &model);
            let key: ModelKey = model.key().to_string().parse().unwrap();
            prop_assert_eq!(key.model(), &model);
        }
    }
}
