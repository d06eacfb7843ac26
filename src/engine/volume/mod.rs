//! The one place that writes to a volume.
//!
//! Everything goes through [`Dir`], which never follows a link below the cache's root: what somebody planted on a shared
//! volume is at worst an error. What fails is sorted in one function, in `fault`. Nothing here knows the Hub.

mod archive;
pub(in crate::engine) mod crash;
mod dir;
mod fault;
mod ownership;
mod part;
mod probe;
mod staging;

pub use archive::{ArchiveFile, Standing};
pub use dir::{Dir, Kind};
pub use fault::VolumeError;
pub use ownership::{Owner, take_over};
pub use part::Part;
pub use probe::Traits;
pub use staging::{Staging, remove_stagings};

use crate::format::layout;
use crate::format::outcome::Room;
use crate::ident::RelPath;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;

/// The longest layout file that is read, in bytes.
const VERSION_MAX_BYTES: u64 = 64;

/// A cache's root, open.
#[derive(Debug)]
pub struct Volume {
    root: Dir,
}

/// A name that no other worker has: in their Pods all of them are process 1.
fn unique() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// A file without a name, for what must be kept while something is only looked at.
pub fn scratch() -> Result<Part, VolumeError> {
    let folder = std::env::temp_dir();
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    match rustix::fs::open(&folder, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR) {
        Ok(fd) => Ok(Part::new(fd.into(), folder)),
        Err(errno) => Err(VolumeError::new("make a temporary file in", &folder, errno.into())),
    }
}

/// The cache's root in a volume's.
fn cache_root(volume: &Dir, sub_path: Option<&RelPath>) -> Result<Dir, VolumeError> {
    let below = sub_path.map_or(Path::new(""), RelPath::as_path);
    match volume.open_dir(below)? {
        Some(root) => Ok(root),
        None => volume.make_dir(below),
    }
}

impl Volume {
    /// Opens a volume's root and the cache's root in it, which is made where it is missing: the kubelet would make it as root.
    pub fn open(path: &Path, sub_path: Option<&RelPath>) -> Result<Self, VolumeError> {
        let opened = Self { root: cache_root(&Dir::open_root(path)?, sub_path)? };
        opened.check_version()?;
        Ok(opened)
    }

    /// Opens a volume to look at it: nothing is made. None if the cache's root is not there.
    pub fn look(path: &Path, sub_path: Option<&RelPath>) -> Result<Option<Self>, VolumeError> {
        let below = sub_path.map_or(Path::new(""), RelPath::as_path);
        let Some(root) = Dir::open_root(path)?.open_dir(below)? else { return Ok(None) };
        let opened = Self { root };
        opened.check_version()?;
        Ok(Some(opened))
    }

    /// The cache's root.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    fn check_version(&self) -> Result<(), VolumeError> {
        let Some(found) = self.root.read(&layout::version_file(), VERSION_MAX_BYTES)? else { return Ok(()) };
        let found = String::from_utf8_lossy(&found);
        if found.trim() == layout::VERSION {
            return Ok(());
        }
        let path = self.root.shown(&layout::version_file());
        Err(VolumeError::Version { path, found: found.trim().to_owned() })
    }

    /// Makes the layout's folders and proves that the volume can be written to. What is tried lies in a staging whose id begins
    /// with `prefix`, so a kill leaves nothing that is not found.
    pub fn prepare(&self, ignores_case: Option<bool>, prefix: &str) -> Result<Traits, VolumeError> {
        for folder in [layout::STATE, layout::HUB, layout::ENTRIES, layout::VIEWS] {
            self.root.make_dir(Path::new(folder))?;
        }
        for folder in [layout::stagings(), layout::sources()] {
            self.root.make_dir(&folder)?;
        }
        // What another user made is seen now, and not when the last byte is there.
        for folder in [layout::HUB, layout::ENTRIES, layout::VIEWS].map(Path::new) {
            self.root.check_writable(folder)?;
        }
        self.root.check_writable(&layout::sources())?;
        let tried = layout::staging(&format!("{prefix}probe-{}", unique()));
        let traits = probe::probe(&self.root, &tried, ignores_case)?;
        if self.root.read(&layout::version_file(), VERSION_MAX_BYTES)?.is_none() {
            let text = format!("{}\n", layout::VERSION);
            self.root.write_by_way_of(&tried.join("layout"), &layout::version_file(), text.as_bytes())?;
        }
        self.root.remove_all(&tried)?;
        Ok(traits)
    }

    /// Refuses early what would not fit: `bytes` of content in `files` files are still to come.
    pub fn check_space(&self, bytes: u64, files: u64) -> Result<(), VolumeError> {
        let Some(Room { free_bytes: free, .. }) = self.root.room()? else { return Ok(()) };
        let needed = layout::content_bytes(bytes, files).saturating_add(layout::LISTS_BYTES);
        if needed <= free {
            Ok(())
        } else {
            Err(VolumeError::TooSmall { path: self.root.shown(Path::new("")), needed, free })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_several_repos_get_ready_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        let volume = Volume::open(folder.path(), None).unwrap();
                        assert!(!volume.prepare(None, "p-").unwrap().ignores_case);
                    }
                });
            }
        });
        let names = Dir::open_root(&folder.path().join(layout::STATE)).unwrap().list().unwrap();
        assert_eq!(names, ["layout", "sources", "staging"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let volume = Volume::open(folder.path(), None).unwrap();
        volume.check_space(1, 1).unwrap();
        let error = volume.check_space(u64::MAX, 1).unwrap_err();
        assert_eq!(error.reason(), crate::ident::Reason::OutOfSpace);
        assert!(error.to_string().contains("18446744073709551615 more bytes are needed"), "{error}");
    }
}
