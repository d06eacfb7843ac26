//! A member's name, from the bytes of a header to a path that cannot leave its folder.

use super::{ArchiveError, Member};
use crate::ident::{InvalidIdent, RelPath};
use unicode_normalization::UnicodeNormalization;

/// The path that a member's name means; none for the folder that everything lies in (`./`).
///
/// `./`, `//` and a last `/` are dropped. Everything else that is not a plain relative path is refused.
pub(super) fn path_of(member: &Member) -> Result<Option<RelPath>, ArchiveError> {
    let text = text(&member.name)?;
    let text = if member.backslashes { text.replace('\\', "/") } else { text.to_owned() };
    if text.starts_with('/') {
        return Err(refused(&text, "it is absolute"));
    }
    if text.is_empty() {
        return Err(refused(&text, "it is empty"));
    }
    let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.is_empty() {
        return Ok(None);
    }
    checked(&names.join("/")).map(Some)
}

/// Where a symbolic link in the folder of `link` leads, by names alone: no member lies below a link, so that is the truth.
pub(super) fn symlink_target(link: &RelPath, target: &[u8]) -> Result<RelPath, &'static str> {
    let target = std::str::from_utf8(target).map_err(|_| "is not UTF-8")?;
    if target.starts_with('/') {
        return Err("is absolute");
    }
    let mut names: Vec<&str> = link.as_str().split('/').collect();
    names.pop();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            // The first name is the root folder: whoever leaves it does not come back by luck.
            ".." if names.len() <= 1 => return Err("leaves the root folder"),
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    if target.is_empty() || target.ends_with('/') {
        return Err("is a folder");
    }
    checked(&names.join("/")).map_err(|_| "is no name that is taken")
}

/// The file that a hard link is another name of.
pub(super) fn hard_link_target(link: &Member, target: &[u8]) -> Result<RelPath, &'static str> {
    let member = Member { name: target.to_owned(), ..link.clone() };
    path_of(&member).ok().flatten().ok_or("is no name that is taken")
}

fn text(name: &[u8]) -> Result<&str, ArchiveError> {
    std::str::from_utf8(name).map_err(|_| refused(&String::from_utf8_lossy(name), "it is not UTF-8"))
}

fn checked(text: &str) -> Result<RelPath, ArchiveError> {
    let path = text.parse::<RelPath>().map_err(ArchiveError::Name)?;
    // Characters that are another name's separators once somebody writes them in their plain form.
    for name in path.as_str().split('/').filter(|name| !name.is_ascii()) {
        let plain: String = name.nfkc().collect();
        if plain == ".." || plain == "." || plain.contains(['/', '\\', '\0']) {
            return Err(refused(text, "it turns into another path in its plain form (NFKC)"));
        }
    }
    Ok(path)
}

/// The form under which two names are one: NFC, and without case where the volume ignores it.
pub fn folded(path: &RelPath, ignores_case: bool) -> String {
    if path.as_str().is_ascii() {
        return if ignores_case { path.as_str().to_ascii_lowercase() } else { path.to_string() };
    }
    let form: String = path.as_str().nfc().collect();
    // Lower case may not be NFC any more.
    if ignores_case { form.to_lowercase().nfc().collect() } else { form }
}

fn refused(name: &str, why: &'static str) -> ArchiveError {
    ArchiveError::Name(InvalidIdent::new("member name", name, why))
}

#[cfg(test)]
mod tests {
    use super::super::MemberKind;
    use super::*;

    fn path(name: &[u8], backslashes: bool) -> Result<Option<String>, ArchiveError> {
        let member = Member { name: name.to_owned(), backslashes, kind: MemberKind::Folder };
        Ok(path_of(&member)?.map(String::from))
    }

    #[test]
    fn tidy_names_are_tidied() {
        for (name, meant) in [("./a//b/", "a/b"), ("a/./b", "a/b"), ("a", "a"), ("é/模", "é/模")] {
            assert_eq!(path(name.as_bytes(), false).unwrap().unwrap(), meant);
        }
        assert_eq!(path(b"./", false).unwrap(), None);
        assert_eq!(path(b"a\\b", true).unwrap().unwrap(), "a/b");
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in
            ["", "/a", "//h/s", "../a", "a/..", "a\\b", "C:/x", "./c:x", "a\0b", "a\n", "a\u{202e}b", "a/\u{2025}/b"]
        {
            assert!(path(name.as_bytes(), false).is_err(), "{name:?}");
        }
        for name in [&b"\\\\host\\share"[..], b"..\\a", b"\xff"] {
            assert!(path(name, true).is_err(), "{name:?}");
        }
    }

    #[test]
    fn links_are_followed_by_name() {
        let link = "root/model/a".parse().unwrap();
        let meant = |target: &str| symlink_target(&link, target.as_bytes()).map(String::from);
        assert_eq!(meant("../blobs/x").unwrap(), "root/blobs/x");
        assert_eq!(meant("./b").unwrap(), "root/model/b");
        for target in ["../../x", "/x", "b/", "../..", "a\\b"] {
            assert!(meant(target).is_err(), "{target}");
        }
    }

    #[test]
    fn two_forms_are_one_name() {
        let fold = |name: &str, ignores| folded(&name.parse().unwrap(), ignores);
        assert_eq!(fold("e\u{301}", false), fold("\u{e9}", false));
        assert_ne!(fold("A", false), fold("a", false));
        assert_eq!(fold("\u{c9}A", true), fold("e\u{301}a", true));
    }
}
