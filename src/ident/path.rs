//! A file's place below a model's folder, safe on every file system.

use super::{InvalidIdent, string_newtype};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The longest path that is accepted, in bytes.
pub const PATH_MAX_BYTES: usize = 4096;
/// The longest single name in a path that is accepted, in bytes.
pub const COMPONENT_MAX_BYTES: usize = 255;

/// A relative path with `/` between its names, that cannot leave the folder it is joined to.
///
/// Refused: absolute paths, `.` and `..`, empty names, backslashes, drive letters, NUL, control, bidirectional and other
/// format characters, full-width dots and slashes. Nothing is normalised: a Hub or archive that needs it is suspicious.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

string_newtype!(RelPath);

impl RelPath {
    /// The path, for joining to a folder.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The last name.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

/// Characters that look like nothing, or like something else: format and bidirectional controls, and the full-width and
/// one-dot-leader forms that NFKC turns into `.`, `/` or `\`.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        | '\u{2024}'..='\u{2026}' | '\u{fe52}' | '\u{ff0e}' | '\u{ff0f}' | '\u{ff3c}' | '\u{fe68}' | '\u{2100}' | '\u{2101}'
        | '\u{2105}' | '\u{2106}')
}

impl FromStr for RelPath {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        let invalid = |why| Err(InvalidIdent::new("file name", text, why));
        if text.is_empty() || text.len() > PATH_MAX_BYTES {
            return invalid("it must have 1 to 4096 bytes");
        }
        if text.starts_with('/') {
            return invalid("it is absolute");
        }
        if text.contains('\\') {
            return invalid("it holds a backslash");
        }
        if text.chars().any(char::is_control) {
            return invalid("it holds a control character");
        }
        if text.chars().any(is_deceptive) {
            return invalid("it holds an invisible or deceptive character");
        }
        let drive = text.as_bytes();
        if drive.len() >= 2 && drive[0].is_ascii_alphabetic() && drive[1] == b':' {
            return invalid("it begins with a drive letter");
        }
        for part in text.split('/') {
            match part {
                "" => return invalid("it holds an empty name"),
                "." | ".." => return invalid("it holds `.` or `..`"),
                long if long.len() > COMPONENT_MAX_BYTES => return invalid("a name in it is longer than 255 bytes"),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn ordinary_names_pass() {
        for text in ["config.json", "1_Pooling/config.json", ".gitattributes", "a b/c[1].bin", "über/模型.bin", "ab:c"]
        {
            assert!(text.parse::<RelPath>().is_ok(), "{text}");
        }
    }

    #[test]
    fn hostile_names_do_not() {
        let long = "x".repeat(256);
        for text in [
            "",
            "/etc/passwd",
            "../x",
            "a/../x",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "a\\b",
            "\\\\host\\share",
            "C:x",
            "c:/x",
            "a\0b",
            "a\nb",
            "a\u{202e}b",
            "\u{ff0e}\u{ff0e}/x",
            "a\u{ff0f}b",
            "a\u{200b}",
            "\u{2025}/x",
            &long,
        ] {
            assert!(text.parse::<RelPath>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_path_never_leaves_its_folder(text in "\\PC{0,40}|[./\\\\a:]{0,12}") {
            if let Ok(path) = text.parse::<RelPath>() {
                prop_assert!(path.as_path().components().all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }
}
