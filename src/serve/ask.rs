//! What a client asks, read from an address's path. Pure.
//!
//! Revisions and paths stay text until they are looked up, so that the answer can name what is missing in the Hub's order:
//! the repo, then the revision, then the file.

use crate::ident::{RepoId, Revision};
use percent_encoding::percent_decode_str;

/// A question that a Hub answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// What is this model, at this revision?
    Info { repo: RepoId, revision: String },
    /// Which files has it, below a folder?
    Tree { repo: RepoId, revision: String, folder: String },
    /// Which branches and tags has it?
    Refs { repo: RepoId },
    /// What is under these paths?
    PathsInfo { repo: RepoId, revision: String },
    /// The bytes of this file.
    File { repo: RepoId, revision: String, path: String },
}

/// Why a path is no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unasked {
    /// Nothing of a Hub's, as far as this server knows.
    NoSuchAddress,
    /// A repo by a name that no repo can have.
    NoSuchRepo(String),
}

/// Reads a path as it came, percent-encoded.
pub(super) fn parse(path: &str) -> Result<Ask, Unasked> {
    let segments = decoded(path).ok_or(Unasked::NoSuchAddress)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["api", "models", rest @ ..] => either(rest, api),
        rest => either(rest, resolve),
    }
}

/// The names between the slashes. One slash at the end is nothing; a name that is no UTF-8 is no name.
fn decoded(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').map(|name| percent_decode_str(name).decode_utf8().ok().map(String::from)).collect()
}

/// A repo's id is one name or two: the shorter reading first, as old models have it. An encoded slash makes one of two.
fn either(segments: &[&str], read: fn(&[&str]) -> Option<Wanted>) -> Result<Ask, Unasked> {
    for length in [1, 2] {
        let Some((id, rest)) = segments.split_at_checked(length) else { continue };
        let id = id.join("/");
        // `api/models/org/name` must not be read as the repo `org`, asked something unknown.
        if let Some(wanted) = read(rest) {
            return match id.parse() {
                Ok(repo) => Ok(wanted.of(repo)),
                Err(_) => Err(Unasked::NoSuchRepo(id)),
            };
        }
    }
    Err(Unasked::NoSuchAddress)
}

enum Wanted {
    Info(String),
    Tree(String, String),
    Refs,
    PathsInfo(String),
    File(String, String),
}

impl Wanted {
    fn of(self, repo: RepoId) -> Ask {
        match self {
            Self::Info(revision) => Ask::Info { repo, revision },
            Self::Tree(revision, folder) => Ask::Tree { repo, revision, folder },
            Self::Refs => Ask::Refs { repo },
            Self::PathsInfo(revision) => Ask::PathsInfo { repo, revision },
            Self::File(revision, path) => Ask::File { repo, revision, path },
        }
    }
}

fn api(rest: &[&str]) -> Option<Wanted> {
    match rest {
        [] => Some(Wanted::Info(Revision::DEFAULT.to_owned())),
        ["refs"] => Some(Wanted::Refs),
        ["revision", rest @ ..] => match revision(rest)? {
            (revision, []) => Some(Wanted::Info(revision)),
            _ => None,
        },
        ["tree", rest @ ..] => revision(rest).map(|(revision, folder)| Wanted::Tree(revision, folder.join("/"))),
        ["paths-info", rest @ ..] => match revision(rest)? {
            (revision, []) => Some(Wanted::PathsInfo(revision)),
            _ => None,
        },
        _ => None,
    }
}

fn resolve(rest: &[&str]) -> Option<Wanted> {
    let ["resolve", rest @ ..] = rest else { return None };
    match revision(rest)? {
        (_, []) => None,
        (revision, path) => Some(Wanted::File(revision, path.join("/"))),
    }
}

/// The revision is one name, its slashes encoded; only for `refs/pr/1` and `refs/convert/x` the Hub takes them plain too.
fn revision<'a, 'b>(rest: &'a [&'b str]) -> Option<(String, &'a [&'b str])> {
    match rest {
        ["refs", kind @ ("pr" | "convert"), name, rest @ ..] => Some((format!("refs/{kind}/{name}"), rest)),
        [revision, rest @ ..] => Some(((*revision).to_owned(), rest)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repo(id: &str) -> RepoId {
        id.parse().unwrap()
    }

    #[test]
    fn the_addresses_of_a_hub() {
        let main = || "main".to_owned();
        assert_eq!(parse("/api/models/a/b"), Ok(Ask::Info { repo: repo("a/b"), revision: main() }));
        assert_eq!(parse("/api/models/a%2Fb"), Ok(Ask::Info { repo: repo("a/b"), revision: main() }));
        assert_eq!(parse("/api/models/gpt2"), Ok(Ask::Info { repo: repo("gpt2"), revision: main() }));
        assert_eq!(
            parse("/api/models/gpt2/revision/refs%2Fpr%2F1"),
            Ok(Ask::Info { repo: repo("gpt2"), revision: "refs/pr/1".into() })
        );
        let tree = |folder: &str| Ok(Ask::Tree { repo: repo("a/b"), revision: main(), folder: folder.into() });
        assert_eq!(parse("/api/models/a/b/tree/main/"), tree(""));
        assert_eq!(parse("/api/models/a/b/tree/main/1_Pooling/x"), tree("1_Pooling/x"));
        assert_eq!(parse("/api/models/a/b/refs"), Ok(Ask::Refs { repo: repo("a/b") }));
        let asked = Ask::PathsInfo { repo: repo("gpt2"), revision: "v1".into() };
        assert_eq!(parse("/api/models/gpt2/paths-info/v1"), Ok(asked));
    }

    #[test]
    fn the_addresses_of_files() {
        let file = |id: &str, revision: &str, path: &str| {
            Ok(Ask::File { repo: repo(id), revision: revision.into(), path: path.into() })
        };
        assert_eq!(parse("/a/b/resolve/main/1_Pooling/config.json"), file("a/b", "main", "1_Pooling/config.json"));
        assert_eq!(parse("/gpt2/resolve/main/a%20b%5B1%5D"), file("gpt2", "main", "a b[1]"));
        assert_eq!(parse("/gpt2/resolve/refs/pr/1/x"), file("gpt2", "refs/pr/1", "x"));
        // Refused where it is looked up, as no file has such a name.
        assert_eq!(parse("/a/b/resolve/main/%2e%2e/%2e%2e/x"), file("a/b", "main", "../../x"));
    }

    #[test]
    fn other_addresses() {
        for path in
            ["", "/", "/api", "/api/models", "/a/b", "/a/b/resolve/main", "/api/models/a/b/xet-read-token/main", "/%ff"]
        {
            assert_eq!(parse(path), Err(Unasked::NoSuchAddress), "{path}");
        }
        assert_eq!(parse("/api/models/../etc"), Err(Unasked::NoSuchRepo("../etc".into())));
        assert_eq!(parse("/..%2f../resolve/main/x"), Err(Unasked::NoSuchRepo("../..".into())));
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_a_panic(path in "(/[a-z%.0-9]{0,6}|/resolve|/api|/models|/tree){0,7}") {
            let _ = parse(&path);
        }
    }
}
