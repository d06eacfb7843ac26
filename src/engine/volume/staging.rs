//! Partial work of one plan: what was verified there is never fetched again.

use super::{Dir, Volume, VolumeError};
use crate::format::layout;
use crate::ident::RelPath;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folder of the model's files in a staging.
const FILES: &str = "files";

/// The folder of partial work of one plan.
#[derive(Debug)]
pub struct Staging {
    dir: Dir,
    /// Relative to the cache's root.
    path: PathBuf,
}

impl Staging {
    /// Opens or makes the staging `id`, and removes those of other plans whose ids begin with `prefix`.
    pub fn open(volume: &Volume, id: &str, prefix: &str) -> Result<Self, VolumeError> {
        remove_stagings(volume, prefix, Some(id))?;
        let path = layout::staging(id);
        Ok(Self { dir: volume.root().make_dir(&path)?, path })
    }

    /// A path in the staging, relative to the cache's root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// Where all the files of the model are, relative to the cache's root.
    pub fn files(&self) -> PathBuf {
        self.path(FILES)
    }

    /// Where one file is, relative to the cache's root.
    pub fn file(&self, path: &RelPath) -> PathBuf {
        self.files().join(path.as_path())
    }

    /// Opens one file for going on with it; gives how many of its bytes are there.
    pub fn open_part(&self, path: &RelPath) -> Result<(File, u64), VolumeError> {
        self.dir.open_part(&Path::new(FILES).join(path.as_path()))
    }

    /// How many bytes of a file are there.
    pub fn part_size(&self, path: &RelPath) -> Result<u64, VolumeError> {
        Ok(self.dir.open_file(&Path::new(FILES).join(path.as_path()))?.map_or(0, |(_, size)| size))
    }

    /// A file's path, for messages.
    pub fn shown(&self, path: &RelPath) -> PathBuf {
        self.dir.shown(&Path::new(FILES).join(path.as_path()))
    }
}

/// Removes the stagings whose ids begin with `prefix`, except one.
pub fn remove_stagings(volume: &Volume, prefix: &str, except: Option<&str>) -> Result<(), VolumeError> {
    let Some(stagings) = volume.root().open_dir(&layout::stagings())? else { return Ok(()) };
    for name in stagings.list()? {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(prefix) && Some(name) != except);
        if is_ours {
            stagings.remove_all(Path::new(&name))?;
        }
    }
    Ok(())
}
