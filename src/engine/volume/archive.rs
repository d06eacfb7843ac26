//! An archive's file, usually in another volume than the model's: it gets its name only when it is whole.

use super::{Dir, Kind, VolumeError};
use crate::ident::hex;
use sha2::Digest;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the names of files that are not whole yet begin with.
const PARTIAL: &str = ".modelcache-";
/// How many bytes of a hash stand for the final name: that itself may be as long as names can be.
const NAME_HASH_BYTES: usize = 8;

/// A new file, without its name until it is whole. What is dropped before that is removed.
#[derive(Debug)]
pub struct ArchiveFile {
    folder: Dir,
    file: File,
    partial: OsString,
    name: OsString,
    is_whole: bool,
}

impl ArchiveFile {
    /// How many bytes are free where the file is.
    pub fn free_bytes(&self) -> Result<Option<u64>, VolumeError> {
        Ok(self.folder.room()?.map(|room| room.free_bytes))
    }

    /// Makes a file beside the final one, and removes what killed runs left there for the same name.
    pub fn begin(folder: Dir, name: &OsStr) -> Result<Self, VolumeError> {
        let digest = sha2::Sha256::digest(name.as_bytes());
        let prefix = format!("{PARTIAL}{}-", hex(&digest[..NAME_HASH_BYTES]));
        for found in folder.list()? {
            if found.as_bytes().starts_with(prefix.as_bytes()) {
                folder.remove_file(Path::new(&found))?;
            }
        }
        // A name of its own: if two runs meet here against all promises, the one whose file was removed fails when it names it.
        let partial = OsString::from(format!("{prefix}{}.partial", super::unique()));
        let file = folder.create(&partial)?;
        Ok(Self { folder, file, partial, name: name.to_owned(), is_whole: false })
    }

    /// Writes what comes next.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), VolumeError> {
        self.file.write_all(bytes).map_err(|error| VolumeError::new("write", &self.shown(), error))
    }

    /// Makes the file durable, and then gives it its name. Nothing that has the name already is replaced.
    pub fn finish(mut self) -> Result<(), VolumeError> {
        self.file.sync_all().map_err(|error| VolumeError::new("sync", &self.shown(), error))?;
        self.folder.rename(Path::new(&self.partial), Path::new(&self.name))?;
        self.is_whole = true;
        self.folder.sync()
    }

    fn shown(&self) -> PathBuf {
        self.folder.shown(Path::new(&self.name))
    }
}

impl Drop for ArchiveFile {
    fn drop(&mut self) {
        if !self.is_whole {
            // What cannot be removed is removed by the next run.
            let _ = self.folder.remove_file(Path::new(&self.partial));
        }
    }
}

/// A file that has the final name already, and is compared with what would have been written.
#[derive(Debug)]
pub struct Standing {
    file: File,
    size: u64,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Standing {
    /// Opens what has the name; none if nothing has.
    pub fn open(folder: &Dir, name: &OsStr) -> Result<Option<Self>, VolumeError> {
        let below = Path::new(name);
        let path = folder.shown(below);
        match folder.kind(below)? {
            None => return Ok(None),
            Some(Kind::File) => {}
            Some(Kind::Folder | Kind::Other) => {
                let why = "it is not a regular file".to_owned();
                return Err(VolumeError::Occupied { verb: "write", path, why });
            }
        }
        let opened = folder.open_file(below)?;
        Ok(opened.map(|(file, size)| Self { file, size, path, buffer: Vec::new() }))
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether these bytes come next in it.
    pub fn goes_on_with(&mut self, bytes: &[u8]) -> Result<bool, VolumeError> {
        self.buffer.resize(bytes.len(), 0);
        match self.file.read_exact(&mut self.buffer) {
            Ok(()) => Ok(self.buffer == bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(VolumeError::new("read", &self.path, error)),
        }
    }
}
