//! A file of a staging that is being written, at its final size from the beginning.

use super::{VolumeError, crash};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// Smaller files get their room when they are written: asking for it would take longer than writing them.
const PREALLOCATED_MIN_BYTES: u64 = 1024 * 1024;
/// Files in memory: making room for them means filling them with zeros first.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// What the system counts a file's room in, whatever the file system's blocks are.
const SECTOR_BYTES: u64 = 512;

/// An open file, and its path for messages.
#[derive(Debug)]
pub struct Part {
    file: File,
    shown: PathBuf,
}

impl Part {
    pub(super) fn new(file: File, shown: PathBuf) -> Self {
        Self { file, shown }
    }

    fn wrap<T>(&self, verb: &'static str, done: io::Result<T>) -> Result<T, VolumeError> {
        done.map_err(|error| VolumeError::new(verb, &self.shown, error))
    }

    /// Gives the file its final size, and its room on the disk where the file system can do that.
    pub(super) fn reserve(&self, size: u64) -> Result<(), VolumeError> {
        self.wrap("make room for", crash::point(&self.shown).map_err(Into::into))?;
        if size >= PREALLOCATED_MIN_BYTES && !self.is_in_memory() {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Ok(()) => return Ok(()),
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                    return self.wrap("make room for", Err(errno.into()));
                }
                // Many file systems cannot.
                Err(_) => {}
            }
        }
        self.wrap("set the size of", self.file.set_len(size))
    }

    /// Sets room aside for what will be written behind the file's end, where the file system can do that; its size stays.
    pub(super) fn set_aside(&self, bytes: u64) {
        let end = self.file.metadata().map_or(0, |found| found.len());
        // Without it, writing needs luck and nothing else.
        let _ = rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, end, bytes);
    }

    fn is_in_memory(&self) -> bool {
        // The type's sign and width differ between architectures.
        rustix::fs::fstatfs(&self.file).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS_MAGIC))
    }

    /// How much room a file that will have `size` bytes still takes from the disk: all of it, where that is not known.
    pub(super) fn room(&self, size: u64) -> u64 {
        let taken = self.file.metadata().map_or(0, |found| found.blocks().saturating_mul(SECTOR_BYTES));
        size.saturating_sub(taken)
    }

    /// Copies a whole file into this one, in the kernel where that can, and makes it durable.
    pub(super) fn fill(&self, from: &mut File) -> Result<(), VolumeError> {
        self.wrap("write", crash::point(&self.shown).map_err(Into::into))?;
        self.wrap("write", io::copy(from, &mut &self.file).map(|_| ()))?;
        self.sync()
    }

    /// Becomes another file's clone, which shares its blocks, and makes it durable; false where the file system cannot.
    pub(super) fn clone_from(&self, from: &File) -> Result<bool, VolumeError> {
        self.wrap("clone", crash::point(&self.shown).map_err(Into::into))?;
        match rustix::fs::ioctl_ficlone(&self.file, from) {
            Ok(()) => self.sync().map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// A handle of its own for reading from the beginning on.
    pub fn reader(&self) -> Result<File, VolumeError> {
        self.wrap("open", self.file.try_clone())
    }

    /// Writes bytes at a place.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), VolumeError> {
        let written = match crash::point(&self.shown) {
            Ok(()) => self.file.write_all_at(bytes, at),
            // Whoever dies in the middle has written a part.
            Err(errno) => self.file.write_all_at(&bytes[..bytes.len() / 2], at).and(Err(errno.into())),
        };
        self.wrap("write", written)
    }

    /// Reads as many bytes as fit, or up to the end of the file.
    pub fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<usize, VolumeError> {
        let mut read = 0;
        while read < bytes.len() {
            match self.file.read_at(&mut bytes[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.wrap("read", Err(error)),
            }
        }
        Ok(read)
    }

    /// Returns when what was written is on the disk.
    pub fn sync_bytes(&self) -> Result<(), VolumeError> {
        self.wrap("sync", self.file.sync_data())
    }

    /// Returns when what was written, and all that is known of the file, is on the disk.
    pub fn sync(&self) -> Result<(), VolumeError> {
        self.wrap("sync", self.file.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_have_their_room_at_once_where_the_file_system_can_do_that() {
        const SIZE: u64 = 8 * 1024 * 1024;
        let part = |size| {
            let part = Part::new(tempfile::tempfile().unwrap(), PathBuf::from("part"));
            part.reserve(size).unwrap();
            assert_eq!(part.file.metadata().unwrap().len(), size);
            part
        };
        let probe = tempfile::tempfile().unwrap();
        let can = rustix::fs::fallocate(&probe, FallocateFlags::empty(), 0, SIZE).is_ok();
        let large = part(SIZE);
        assert_eq!(large.room(SIZE) == 0, can && !large.is_in_memory());
        // Small ones take it as they are written.
        assert_eq!(part(PREALLOCATED_MIN_BYTES - 1).room(4096), 4096);
    }
}
