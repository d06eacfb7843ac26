//! A folder, looked at before anything is packed: its files, and the commit that it says it is.

use crate::engine::EngineError;
use crate::engine::export::ExportError;
use crate::engine::volume::{Dir, Kind, VolumeError};
use crate::format::archive::limits::POINTER_MAX_BYTES;
use crate::format::archive::{folded, is_left_out, is_pointer};
use crate::ident::{Commit, RelPath};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The folder of snapshots in a hub cache, and that of the files which they link to.
const SNAPSHOTS: &str = "snapshots";
const BLOBS: &str = "blobs";

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Survey {
    /// What the files' places are below.
    pub(super) base: Dir,
    /// The files by their paths, and where their bytes are: a link's are elsewhere.
    pub(super) files: BTreeMap<RelPath, PathBuf>,
    /// The commit that is checked out here, or whose snapshot this is.
    pub(super) commit: Option<Commit>,
}

/// Looks at a folder. Nothing outside of it is read, but for the blobs of the hub cache that it is a snapshot of.
pub(super) fn survey(folder: &Path) -> Result<Survey, EngineError> {
    let root =
        std::fs::canonicalize(folder).map_err(|_| unpackable(folder, "there is no such folder: correct the path"))?;
    let repo = root.parent().filter(|above| above.ends_with(SNAPSHOTS)).and_then(Path::parent);
    let base = repo.unwrap_or(&root);
    let mut walk = Walk { base, root: &root, blobs: repo.map(|repo| repo.join(BLOBS)), files: BTreeMap::new() };
    let opened = Dir::open_root(&root).map_err(EngineError::Volume)?;
    walk.folder(&opened, "")?;
    let files = walk.files;
    if files.is_empty() {
        return Err(unpackable(folder, "it holds no file: give the folder with the model's files"));
    }
    check_case(&root, &files)?;
    let named = repo.and(root.file_name()).and_then(|name| name.to_str()?.parse().ok());
    let commit = named.or_else(|| checked_out(&root.join(".git")));
    Ok(Survey { base: Dir::open_root(base).map_err(EngineError::Volume)?, files, commit })
}

struct Walk<'a> {
    base: &'a Path,
    root: &'a Path,
    blobs: Option<PathBuf>,
    files: BTreeMap<RelPath, PathBuf>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Dir, above: &str) -> Result<(), EngineError> {
        for name in folder.list().map_err(EngineError::Volume)? {
            let shown = folder.shown(Path::new(&name));
            let text =
                name.to_str().ok_or_else(|| unpackable(&shown, "its name is not UTF-8: rename it, or leave it out"))?;
            let path = if above.is_empty() { text.to_owned() } else { format!("{above}/{text}") };
            let path: RelPath = path
                .parse()
                .map_err(|source| EngineError::Export(ExportError::Name { path: shown.clone(), source }))?;
            if is_left_out(&path) {
                continue;
            }
            match folder.kind(Path::new(&name)).map_err(EngineError::Volume)? {
                None => {}
                Some(Kind::Folder) => {
                    if let Some(inner) = folder.open_dir(Path::new(&name)).map_err(EngineError::Volume)? {
                        self.folder(&inner, path.as_str())?;
                    }
                }
                Some(Kind::File) => self.file(path, &shown)?,
                Some(Kind::Other) => self.file_behind(path, &shown)?,
            }
        }
        Ok(())
    }

    /// A link to a file in the folder is packed as that file. Where else it may lead, a stranger's clone could decide.
    fn file_behind(&mut self, path: RelPath, link: &Path) -> Result<(), EngineError> {
        let refused = |why: &str| Err(unpackable(link, &format!("{why}: put a file in its place, or leave it out")));
        let Ok(target) = std::fs::canonicalize(link) else { return refused("it is a link to nothing") };
        let is_inside =
            target.starts_with(self.root) || self.blobs.as_ref().is_some_and(|blobs| target.starts_with(blobs));
        match std::fs::symlink_metadata(&target) {
            Ok(found) if found.is_file() && is_inside => self.file(path, &target),
            Ok(found) if found.is_file() => refused("it is a link that leaves the folder"),
            Ok(found) if found.is_dir() => refused("it is a link to a folder"),
            _ => refused("it is neither a file nor a folder"),
        }
    }

    fn file(&mut self, path: RelPath, place: &Path) -> Result<(), EngineError> {
        let read = |error| EngineError::Volume(VolumeError::new("read", place, error));
        let size = std::fs::symlink_metadata(place).map_err(read)?.len();
        if size <= POINTER_MAX_BYTES && is_pointer(size, &std::fs::read(place).map_err(read)?) {
            let why = "it is a pointer of git LFS and not the file itself: run `git lfs install` and clone again";
            return Err(unpackable(place, why));
        }
        let below = place.strip_prefix(self.base).unwrap_or(place).to_owned();
        self.files.insert(path, below);
        Ok(())
    }
}

/// Names that differ by case only are one file on many a disk that the archive may be unpacked on.
fn check_case(root: &Path, files: &BTreeMap<RelPath, PathBuf>) -> Result<(), EngineError> {
    let mut seen: HashMap<String, &RelPath> = HashMap::new();
    for path in files.keys() {
        if let Some(other) = seen.insert(folded(path, true), path) {
            let why =
                format!("its name differs from {other} by case or form of Unicode only: rename one, or leave it out");
            return Err(unpackable(&root.join(path.as_path()), &why));
        }
    }
    Ok(())
}

/// The commit that a clone has checked out.
fn checked_out(git: &Path) -> Option<Commit> {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let head = read(git.join("HEAD"))?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else { return head.trim().parse().ok() };
    // The name is a path below `.git`, and the repo is not ours.
    let reference: RelPath = reference.parse().ok()?;
    let loose = read(git.join(reference.as_path())).and_then(|text| text.trim().parse().ok());
    loose.or_else(|| {
        let packed = read(git.join("packed-refs"))?;
        packed.lines().find_map(|line| line.strip_suffix(reference.as_str())?.trim().parse().ok())
    })
}

fn unpackable(path: &Path, why: &str) -> EngineError {
    EngineError::Export(ExportError::Unpackable { path: path.to_owned(), why: why.to_owned() })
}
