//! Where each member may go: names that clash, the one root folder, what is left out, and what the model is.

use super::error::shown;
use super::limits::{DEPTH_MAX, NAMES_MAX_BYTES, POINTER_MAX_BYTES};
use super::links::Link;
use super::names::{folded, hard_link_target, path_of, symlink_target};
use super::{ArchiveError, Member, MemberKind};
use crate::format::layout;
use crate::ident::RelPath;
use sha2::Digest;
use std::collections::HashMap;

/// What a line of `SHA256SUMS` holds beside the path; it also pays for what is kept of a name here.
const LINE_BYTES: usize = 73;
/// How many names of what was left out are told.
const TOLD_MAX: usize = 5;
/// How pointers of git LFS begin.
const POINTER_LINE: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// Where a member goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Nothing,
    /// It is the metadata.
    Metadata,
    /// It is the list of checksums.
    Sums,
    /// A file of the model, by its place below the model's folder.
    Model(RelPath),
    /// A file in the root folder beside the model, which a link may mean, by its place below the root folder.
    Beside(RelPath),
}

/// What was left out, for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The first few.
    pub names: Vec<String>,
    /// How many.
    pub count: u64,
}

/// What is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Folder,
    File,
    Link,
}

/// The members so far.
#[derive(Debug)]
pub struct Contents {
    ignores_case: bool,
    root: Option<String>,
    /// By the digest of the name's one form: a name may be long, and there may be a million.
    seen: HashMap<[u8; 16], (Seen, [u8; 8])>,
    links: Vec<Link>,
    names_bytes: usize,
    has_metadata: bool,
    has_model: bool,
    told: Told,
}

impl Contents {
    /// Nothing yet. `ignores_case` is whether names that differ only by case are one.
    pub fn new(ignores_case: bool) -> Self {
        Self {
            ignores_case,
            root: None,
            seen: HashMap::new(),
            links: Vec::new(),
            names_bytes: 0,
            has_metadata: false,
            has_model: false,
            told: Told::default(),
        }
    }

    /// Takes the next member, and says where it goes.
    pub fn take(&mut self, member: &Member) -> Result<Place, ArchiveError> {
        let Some(path) = path_of(member)? else {
            return match member.kind {
                MemberKind::Folder => Ok(Place::Nothing),
                _ => Err(ArchiveError::dangerous(&member.shown(), "has no name")),
            };
        };
        if member.kind == MemberKind::Special {
            return Err(ArchiveError::dangerous(path.as_str(), "is a device, a fifo or a socket"));
        }
        if path.as_str().split('/').count() > DEPTH_MAX {
            return Err(ArchiveError::dangerous(path.as_str(), "lies too deep: a path may have 128 names"));
        }
        self.names_bytes += path.as_str().len() + LINE_BYTES;
        self.remember(&path, &member.kind)?;
        if self.names_bytes > NAMES_MAX_BYTES {
            return Err(ArchiveError::TooMany { member: shown(path.as_str()) });
        }
        if is_left_out(&path) {
            return Ok(Place::Nothing);
        }
        let Some(below) = self.below_root(&path, &member.kind)? else { return Ok(Place::Nothing) };
        let model = below.as_str().strip_prefix(layout::MODEL).and_then(|rest| rest.strip_prefix('/'));
        let model = model.and_then(|rest| rest.parse::<RelPath>().ok());
        match &member.kind {
            MemberKind::Folder | MemberKind::Special => Ok(Place::Nothing),
            MemberKind::Symlink { target } => self.link(path, target, |path| symlink_target(path, target)),
            MemberKind::HardLink { target } => self.link(path, target, |_| hard_link_target(member, target)),
            MemberKind::File { .. } => match (below.as_str(), model) {
                (layout::METADATA, _) => {
                    self.has_metadata = true;
                    Ok(Place::Metadata)
                }
                (layout::SUMS, _) => Ok(Place::Sums),
                (layout::MODEL, _) => Err(structure("its `model` is a file and no folder")),
                (_, Some(path)) => {
                    self.has_model = true;
                    Ok(Place::Model(path))
                }
                (_, None) => Ok(Place::Beside(below)),
            },
        }
    }

    /// Every name once, whatever its form; nothing below what is no folder.
    fn remember(&mut self, path: &RelPath, kind: &MemberKind) -> Result<(), ArchiveError> {
        let form = folded(path, self.ignores_case);
        for (at, _) in form.match_indices('/') {
            match self.seen.insert(key(&form[..at]), (Seen::Folder, [0; 8])) {
                // Each is remembered, whoever names it: a few bytes of an archive must not become millions of them.
                None => self.names_bytes += LINE_BYTES,
                Some((Seen::Folder, _)) => {}
                Some((Seen::File, _)) => return Err(ArchiveError::dangerous(path.as_str(), "lies below a file")),
                Some((Seen::Link, _)) => return Err(ArchiveError::dangerous(path.as_str(), "lies below a link")),
            }
        }
        let (now, exact) = match kind {
            MemberKind::Folder => (Seen::Folder, [0; 8]),
            MemberKind::Symlink { .. } | MemberKind::HardLink { .. } => (Seen::Link, short(path.as_str())),
            MemberKind::File { .. } | MemberKind::Special => (Seen::File, short(path.as_str())),
        };
        match self.seen.insert(key(&form), (now, exact)) {
            None => Ok(()),
            Some((Seen::Folder, _)) if now == Seen::Folder => Ok(()),
            Some((before, _)) if before == Seen::Folder || now == Seen::Folder => {
                Err(ArchiveError::dangerous(path.as_str(), "is there as a folder and as something else"))
            }
            Some((_, before)) if before == exact => Err(ArchiveError::dangerous(path.as_str(), "is there twice")),
            Some(_) if self.ignores_case => Err(ArchiveError::dangerous(
                path.as_str(),
                "is there twice, in letters that this volume cannot tell apart",
            )),
            Some(_) => Err(ArchiveError::dangerous(path.as_str(), "is there twice, in two forms of Unicode")),
        }
    }

    /// The place below the one root folder; none for the root itself and for files beside it.
    fn below_root(&mut self, path: &RelPath, kind: &MemberKind) -> Result<Option<RelPath>, ArchiveError> {
        let (first, below) = match path.as_str().split_once('/') {
            Some((first, below)) => (first, below.parse().ok()),
            None if *kind == MemberKind::Folder => (path.as_str(), None),
            None if matches!(path.as_str(), layout::METADATA | layout::SUMS) => {
                return Err(structure(&format!("its {path:?} lies in no root folder")));
            }
            None => {
                self.leave_out(path);
                return Ok(None);
            }
        };
        match &self.root {
            None => self.root = Some(first.to_owned()),
            Some(root) if root == first => {}
            Some(root) => {
                let why = format!("it has the folders {:?} and {:?} at its root", shown(root), shown(first));
                return Err(structure(&why));
            }
        }
        Ok(below)
    }

    fn link(
        &mut self,
        path: RelPath,
        target: &[u8],
        resolve: impl Fn(&RelPath) -> Result<RelPath, &'static str>,
    ) -> Result<Place, ArchiveError> {
        let given = shown(&String::from_utf8_lossy(target));
        let to = resolve(&path).map_err(|why| ArchiveError::Link {
            member: shown(path.as_str()),
            target: given.clone(),
            why,
        })?;
        self.names_bytes += to.as_str().len();
        self.links.push(Link { path, to, given });
        Ok(Place::Nothing)
    }

    /// A file beside the model turned out to be nobody's.
    pub fn leave_out(&mut self, path: &RelPath) {
        self.told.count += 1;
        if self.told.names.len() < TOLD_MAX {
            self.told.names.push(shown(path.as_str()));
        }
    }

    /// The links, in the order of the archive.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Whether a name is a folder.
    pub fn is_folder(&self, path: &RelPath) -> bool {
        self.seen.get(&key(&folded(path, self.ignores_case))).is_some_and(|(seen, _)| *seen == Seen::Folder)
    }

    /// The root folder's name.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// At the end: whether everything is there. Gives what was left out beside the model.
    pub fn finish(self) -> Result<Told, ArchiveError> {
        if self.root.is_none() {
            return Err(structure("it has no root folder"));
        }
        let is_in_model = |link: &Link| link.path.as_str().split('/').nth(1) == Some(layout::MODEL);
        if !self.has_model && !self.links.iter().any(is_in_model) {
            return Err(structure("it has no file in a folder `model` of its root folder"));
        }
        if !self.has_metadata {
            return Err(structure("it has no model_metadata.json in its root folder"));
        }
        Ok(self.told)
    }
}

fn structure(why: &str) -> ArchiveError {
    ArchiveError::Structure { why: why.to_owned() }
}

/// What belongs to a tool and not to the model, wherever it is.
pub fn is_left_out(path: &RelPath) -> bool {
    let mut before = "";
    path.as_str().split('/').any(|name| {
        let is_hub_state = before == ".cache" && name == "huggingface";
        before = name;
        is_hub_state || matches!(name, ".git" | "__MACOSX" | ".DS_Store") || name.starts_with("._")
    })
}

/// Whether a whole file is a pointer of git LFS.
pub fn is_pointer(size: u64, beginning: &[u8]) -> bool {
    size <= POINTER_MAX_BYTES && beginning.starts_with(POINTER_LINE)
}

fn key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&sha2::Sha256::digest(name)[..16]);
    key
}

fn short(name: &str) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&sha2::Sha256::digest(name)[..8]);
    short
}
