//! Partial work of one plan: what was verified there is never fetched again.

use super::part::Part;
use super::{Dir, Volume, VolumeError};
use crate::format::layout;
use crate::ident::RelPath;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder of the model's files in a staging.
const FILES: &str = "files";
/// The journal beside it.
const JOURNAL: &str = "journal";

/// The room that is set aside for the journal, so that a full disk does not lose what is on it. A line speaks of megabytes, as
/// a rule, and takes 30 bytes.
const JOURNAL_ROOM_BYTES: u64 = 64 * 1024;

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

    /// Makes an empty staging whose id begins with `prefix`, and removes all others of that prefix.
    pub fn create(volume: &Volume, prefix: &str) -> Result<Self, VolumeError> {
        Self::open(volume, &format!("{prefix}{}", super::unique()), prefix)
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

    /// Opens one file for writing, at its final size; gives how much room it still takes from the disk.
    pub fn open_part(&self, path: &RelPath, size: u64) -> Result<(Part, u64), VolumeError> {
        self.open_below(&below(path), size)
    }

    /// Opens a file that is none of the model's for writing, at its final size.
    pub fn open_spare(&self, name: &str, size: u64) -> Result<Part, VolumeError> {
        self.open_below(Path::new(name), size).map(|(part, _)| part)
    }

    /// Copies a file of the staging, its path relative to the cache's root, to a file of the model. Durable when it returns.
    pub fn copy(&self, volume: &Volume, from: &Path, to: &RelPath) -> Result<(), VolumeError> {
        let shown = volume.root().shown(from);
        let opened = volume.root().open_file(from)?;
        let missing = || VolumeError::new("read", &shown, std::io::ErrorKind::NotFound.into());
        let (mut source, _) = opened.ok_or_else(missing)?;
        self.open_part(to, 0)?.0.fill(&mut source)
    }

    /// Brings a file of a snapshot, its path relative to the cache's root, to a file of the model: as a link where that can be, and
    /// else as a copy, which shares its blocks where that can be. Durable when it returns.
    pub fn bring(&self, volume: &Volume, from: &Path, to: &RelPath, size: u64) -> Result<(), VolumeError> {
        let place = self.file(to);
        // What a killed forerunner left.
        volume.root().remove_file(&place)?;
        if volume.root().link(from, &place)? {
            return Ok(());
        }
        let opened = volume.root().open_file(from)?;
        let missing = || VolumeError::new("read", &volume.root().shown(from), std::io::ErrorKind::NotFound.into());
        let (mut source, _) = opened.ok_or_else(missing)?;
        let (part, _) = self.open_part(to, 0)?;
        if part.clone_from(&source)? {
            return Ok(());
        }
        volume.check_space(size, 1)?;
        part.fill(&mut source)
    }

    fn open_below(&self, below: &Path, size: u64) -> Result<(Part, u64), VolumeError> {
        let (file, found) = self.unshared(below)?;
        let part = Part::new(file, self.dir.shown(below));
        if found != size {
            part.reserve(size)?;
        }
        let room = part.room(size);
        Ok((part, room))
    }

    /// Opens a file for writing that has no other name: what was brought here as a link is a published file too.
    fn unshared(&self, below: &Path) -> Result<(File, u64), VolumeError> {
        let has_names = self.dir.open_file(below)?.is_some_and(|(file, _)| {
            // Of what cannot be seen the worst is thought.
            file.metadata().map_or(true, |found| found.nlink() > 1)
        });
        if has_names {
            self.dir.remove_file(below)?;
        }
        self.dir.open_part(below)
    }

    /// Opens one file for reading; none if it is not there.
    pub fn read_part(&self, path: &RelPath) -> Result<Option<Part>, VolumeError> {
        let below = below(path);
        Ok(self.dir.open_file(&below)?.map(|(file, _)| Part::new(file, self.dir.shown(&below))))
    }

    /// Of a file that will have `size` bytes: how many it has now, and how much room it still takes from the disk.
    pub fn part_state(&self, path: &RelPath, size: u64) -> Result<(u64, u64), VolumeError> {
        let below = below(path);
        let Some((file, found)) = self.dir.open_file(&below)? else { return Ok((0, size)) };
        Ok((found, Part::new(file, self.dir.shown(&below)).room(size)))
    }

    /// Reads the journal; an empty one if there is none.
    pub fn journal(&self, max_bytes: u64) -> Result<Vec<u8>, VolumeError> {
        Ok(self.dir.read(Path::new(JOURNAL), max_bytes)?.unwrap_or_default())
    }

    /// Replaces the journal, and opens it for what is added; gives where that begins.
    pub fn begin_journal(&self, text: &[u8]) -> Result<(Part, u64), VolumeError> {
        self.dir.write(Path::new(JOURNAL), text)?;
        let (file, size) = self.dir.open_part(Path::new(JOURNAL))?;
        let part = Part::new(file, self.dir.shown(Path::new(JOURNAL)));
        part.set_aside(JOURNAL_ROOM_BYTES);
        Ok((part, size))
    }
}

fn below(path: &RelPath) -> PathBuf {
    Path::new(FILES).join(path.as_path())
}

/// Removes the stagings whose ids begin with `prefix`, except one.
pub fn remove_stagings(volume: &Volume, prefix: &str, except: Option<&str>) -> Result<(), VolumeError> {
    let Some(stagings) = volume.root().open_dir(&layout::stagings())? else { return Ok(()) };
    for name in stagings.list()? {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(prefix) && Some(name) != except);
        if is_ours {
            // First it changes its name as a whole: whoever still works in it then finds nothing, and not a part.
            let gone = Path::new(&name).with_extension("gone");
            if gone != Path::new(&name) {
                stagings.remove_all(&gone)?;
                stagings.rename(Path::new(&name), &gone)?;
            }
            stagings.remove_all(&gone)?;
        }
    }
    Ok(())
}
