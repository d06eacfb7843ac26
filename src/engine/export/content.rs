//! What goes into an archive, in its order: known before the first byte is written.

use super::{ExportError, Stop};
use crate::engine::EngineError;
use crate::engine::progress::Progress;
use crate::engine::volume::{Dir, VolumeError};
use crate::format::archive::write::{Container, FileFacts, Frame};
use crate::format::layout;
use crate::format::metadata::ModelMetadata;
use crate::format::sums::Sums;
use crate::ident::{EntryName, RelPath, Sha256};
use rustix::fs::Advice;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Small enough for the nearer caches, large enough that the calls cost nothing.
const BUFFER_BYTES: usize = 256 * 1024;

/// A model that becomes an archive.
#[derive(Debug)]
pub(crate) struct Content {
    pub(super) members: Vec<Member>,
    /// Where the model's files are.
    folder: Dir,
    /// The sum of the sizes of the model's files.
    pub(crate) bytes: u64,
    /// How many of the members are the model's files.
    pub(crate) files: u64,
}

/// One member, and its path in the archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: String,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Folder,
    /// A file that is made here.
    Text(Vec<u8>),
    /// A file of the model.
    File(ModelFile),
}

/// A file of the model, as it must turn out to be.
#[derive(Debug)]
pub(super) struct ModelFile {
    /// Below the folder of the model's files.
    place: PathBuf,
    pub(super) sha256: Sha256,
    pub(super) facts: FileFacts,
}

impl Content {
    /// Of the files that a list names, each in its place below a folder.
    pub(crate) fn new(
        root: &EntryName,
        folder: Dir,
        place: impl Fn(&RelPath) -> PathBuf,
        sums: &Sums,
        metadata: &ModelMetadata,
        seed_strict: bool,
    ) -> Result<Self, EngineError> {
        let mut members = vec![Member { path: root.to_string(), what: What::Folder }];
        let model = format!("{root}/{}", layout::MODEL);
        let mut folders = BTreeSet::from([model.clone()]);
        let mut bytes = 0;
        for (path, sha256) in sums.iter() {
            let place = place(path);
            let (_, size) = open(&folder, &place)?;
            bytes += size;
            let parents = path.as_str().match_indices('/').map(|(at, _)| format!("{model}/{}", &path.as_str()[..at]));
            folders.extend(parents);
            let facts = FileFacts { size, crc32: 0 };
            let file = ModelFile { place, sha256: *sha256, facts };
            members.push(Member { path: format!("{model}/{path}"), what: What::File(file) });
        }
        members.extend(folders.into_iter().map(|path| Member { path, what: What::Folder }));
        let mut text = |name: &str, text: String| {
            members.push(Member { path: format!("{root}/{name}"), what: What::Text(text.into_bytes()) });
        };
        text(layout::METADATA, metadata.to_json());
        if !seed_strict {
            text(layout::SUMS, sums.to_string());
        }
        // By bytes, as in `SHA256SUMS`. A folder comes before what is in it.
        members.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Self { members, folder, bytes, files: sums.len() as u64 })
    }

    /// Opens a file of the model, at the size that was seen before.
    pub(super) fn open(&self, file: &ModelFile) -> Result<File, EngineError> {
        let (opened, size) = open(&self.folder, &file.place)?;
        if size != file.facts.size {
            return Err(self.resized(file));
        }
        // Advice that a file system does not take costs speed only.
        let _ = rustix::fs::fadvise(&opened, 0, None, Advice::Sequential);
        Ok(opened)
    }

    /// Where a file of the model is, for messages.
    pub(super) fn shown(&self, file: &ModelFile) -> PathBuf {
        self.folder.shown(&file.place)
    }

    pub(super) fn resized(&self, file: &ModelFile) -> EngineError {
        EngineError::Export(ExportError::Resized { path: self.shown(file) })
    }

    /// A zip has each file's CRC before its bytes, so all files are read once for that alone.
    pub(super) fn find_crcs(&mut self, progress: &Progress, stop: &Stop) -> Result<(), EngineError> {
        let mut found = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        for member in &self.members {
            found.push(match &member.what {
                What::Folder => 0,
                What::Text(text) => crc32fast::hash(text),
                What::File(file) => {
                    let mut hasher = crc32fast::Hasher::new();
                    let mut opened = self.open(file)?;
                    loop {
                        if stop.is_stopped() {
                            return Err(EngineError::Export(ExportError::Stopped));
                        }
                        match read(&mut opened, &mut buffer, &self.shown(file))? {
                            0 => break,
                            got => {
                                hasher.update(&buffer[..got]);
                                progress.fetched(got as u64);
                            }
                        }
                    }
                    hasher.finalize()
                }
            });
        }
        for (member, crc32) in self.members.iter_mut().zip(found) {
            if let What::File(file) = &mut member.what {
                file.facts.crc32 = crc32;
            }
        }
        Ok(())
    }

    /// How long the archive will be, before it is compressed.
    pub(super) fn archive_bytes(&self, container: Container) -> u64 {
        let mut frame = Frame::new(container);
        for member in &self.members {
            match member.facts() {
                None => drop(frame.folder(&member.path)),
                Some(facts) => {
                    frame.before_file(&member.path, facts);
                    frame.after_file(facts);
                }
            }
        }
        frame.end();
        frame.length()
    }

    /// Tells what is to come.
    pub(super) fn plan(&self, progress: &Progress) {
        progress.plan(self.files, self.bytes);
    }
}

impl Member {
    /// None for a folder.
    pub(super) fn facts(&self) -> Option<FileFacts> {
        match &self.what {
            What::Folder => None,
            What::Text(text) => Some(FileFacts { size: text.len() as u64, crc32: crc32fast::hash(text) }),
            What::File(file) => Some(file.facts),
        }
    }
}

fn open(folder: &Dir, place: &Path) -> Result<(File, u64), EngineError> {
    let opened = folder.open_file(place).map_err(EngineError::Volume)?;
    opened.ok_or_else(|| EngineError::Export(ExportError::Gone { path: folder.shown(place) }))
}

/// Reads what comes next; 0 at the end.
pub(super) fn read(file: &mut File, buffer: &mut [u8], shown: &Path) -> Result<usize, EngineError> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => {
                return other.map_err(|error| EngineError::Volume(VolumeError::new("read", shown, error)));
            }
        }
    }
}
