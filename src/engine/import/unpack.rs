//! One pass over an archive: read, hashed, written and made durable, each on threads of its own.
//!
//! ```text
//! archive ──► this thread: members, checks ──┬──► hash: one thread
//!                                            └──► write: one thread ──► sync: a few threads
//! ```
//!
//! Bytes travel in buffers that come back, so memory is bounded by their number.

use super::ImportError;
use super::store::{Store, Stored};
use crate::engine::EngineError;
use crate::engine::hash::{Hashed, Hasher};
use crate::engine::volume::Part;
use crate::format::archive::limits::POINTER_MAX_BYTES;
use crate::format::archive::{ArchiveError, Contents, MemberKind, Place, Reader, is_pointer};
use crate::format::outcome::METADATA_MAX_BYTES;
use crate::format::sums::SUMS_MAX_BYTES;
use crate::ident::RelPath;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{ScopedJoinHandle, scope};

/// The size of a buffer: two of them stay in a core's own cache.
const BUFFER_BYTES: usize = 256 * 1024;
/// How many buffers there are.
const BUFFERS: usize = 32;
/// How many steps wait: small files take several of them each.
const STEPS_WAITING: usize = 64;
/// How many files are synced at a time: file systems put simultaneous syncs into one flush.
const SYNC_THREADS: usize = 16;
/// How many files wait to be synced; each is open.
const SYNCS_WAITING: usize = 128;
/// A long file is synced on its way, each time so much of it was written.
const SYNC_EVERY_BYTES: u64 = 64 * 1024 * 1024;

/// A file of the archive that is in the staging.
#[derive(Debug)]
pub(super) struct File {
    /// Its place in the archive, the root folder included.
    pub(super) path: RelPath,
    pub(super) stored: Stored,
    pub(super) size: u64,
    /// Whether it is a pointer of git LFS.
    pub(super) is_pointer: bool,
}

/// What was in an archive.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) contents: Contents,
    /// The files, and what each of them hashes to.
    pub(super) files: Vec<(File, Hashed)>,
    pub(super) sums: Option<Vec<u8>>,
}

/// What the thread that reads has seen.
struct Fed {
    contents: Contents,
    files: Vec<File>,
    sums: Option<Vec<u8>>,
}

/// Why an unpacking stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// For something in the archive, which nobody here knows by name.
    Archive(ArchiveError),
    /// For anything else.
    Other(EngineError),
}

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Other(error)
    }
}

impl Stop {
    /// The error of an archive that a person calls `origin`.
    pub(super) fn of(self, origin: &str) -> EngineError {
        let origin = origin.to_owned();
        match self {
            Self::Other(error) => error,
            // A source that is not a file says itself what is wrong.
            Self::Archive(ArchiveError::Source(source)) => match source.downcast::<EngineError>() {
                Ok(own) => own,
                Err(source) => EngineError::Import(ImportError::Read { origin, source }),
            },
            Self::Archive(source) => EngineError::Import(ImportError::Archive { origin, source }),
        }
    }
}

/// What else there is to an unpacking.
pub(super) struct Wishes<'a> {
    /// Whether names that differ only by case are one.
    pub(super) ignores_case: bool,
    /// Whether git's digests are wanted too.
    pub(super) git: bool,
    /// Sees the metadata as soon as it is there.
    pub(super) metadata: &'a mut dyn FnMut(Vec<u8>) -> Result<(), Stop>,
    /// Hears of each file that came whole.
    pub(super) file_done: &'a mut dyn FnMut(),
}

enum Step {
    Begin { stored: Stored, size: u64 },
    Bytes(Arc<Buffer>),
    End,
}

impl Clone for Step {
    fn clone(&self) -> Self {
        match self {
            Self::Begin { stored, size } => Self::Begin { stored: stored.clone(), size: *size },
            Self::Bytes(buffer) => Self::Bytes(Arc::clone(buffer)),
            Self::End => Self::End,
        }
    }
}

/// Some bytes, whose room goes home when nobody needs them.
struct Buffer {
    room: Vec<u8>,
    length: usize,
    home: Sender<Vec<u8>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Nobody at home means that everything ends.
        let _ = self.home.send(std::mem::take(&mut self.room));
    }
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

/// Unpacks everything. An archive's own error comes before that of a thread which only saw that it ended.
pub(super) fn unpack(reader: &mut Reader<'_>, store: &Store, wishes: Wishes<'_>) -> Result<Unpacked, Stop> {
    let git = wishes.git;
    scope(|threads| {
        let (hash_steps, hash_inbox) = sync_channel(STEPS_WAITING);
        let hashing = threads.spawn(move || hash(&hash_inbox, git));
        let (write_steps, write_inbox) = sync_channel(STEPS_WAITING);
        let (syncs, sync_inbox) = sync_channel(SYNCS_WAITING);
        let sync_inbox = Arc::new(Mutex::new(sync_inbox));
        let syncing: Vec<_> = (0..if store.is_real() { SYNC_THREADS } else { 0 })
            .map(|_| {
                let inbox = Arc::clone(&sync_inbox);
                threads.spawn(move || sync(&inbox))
            })
            .collect();
        drop(sync_inbox);
        let writing = threads.spawn(move || write(store, &write_inbox, &syncs));
        let feed = Feed::new(hash_steps, write_steps);
        let seen = feed.everything(reader, wishes);
        drop(feed);
        let written = joined(writing);
        let synced = syncing.into_iter().map(joined).fold(Ok(()), Result::and);
        let hashed = hashing.join().map_err(|_| EngineError::Crashed)?;
        let Fed { contents, files, sums } = match (seen, synced.and(written)) {
            (Ok(seen), Ok(())) => seen,
            (Err(Stop::Other(EngineError::Crashed)) | Ok(_), Err(error)) => return Err(error.into()),
            (Err(stop), _) => return Err(stop),
        };
        // The thread got the files in this order.
        let files = files.into_iter().zip(hashed).collect();
        Ok(Unpacked { contents, files, sums })
    })
}

fn joined(thread: ScopedJoinHandle<'_, Result<(), EngineError>>) -> Result<(), EngineError> {
    thread.join().unwrap_or(Err(EngineError::Crashed))
}

/// The thread that reads: members in, steps out.
struct Feed {
    hash: SyncSender<Step>,
    write: SyncSender<Step>,
    home: Sender<Vec<u8>>,
    rooms: Receiver<Vec<u8>>,
}

impl Feed {
    fn new(hash: SyncSender<Step>, write: SyncSender<Step>) -> Self {
        let (home, rooms) = channel();
        for _ in 0..BUFFERS {
            // The receiver is right here.
            let _ = home.send(Vec::new());
        }
        Self { hash, write, home, rooms }
    }

    fn everything(&self, reader: &mut Reader<'_>, wishes: Wishes<'_>) -> Result<Fed, Stop> {
        let Wishes { ignores_case, git: _, metadata, file_done } = wishes;
        let mut contents = Contents::new(ignores_case);
        let (mut files, mut sums) = (Vec::new(), None);
        while let Some(member) = reader.next_member()? {
            let place = contents.take(&member)?;
            let size = match member.kind {
                MemberKind::File { size } => size,
                _ => 0,
            };
            let (stored, below) = match place {
                Place::Nothing => continue,
                Place::Metadata => {
                    metadata(small(reader, &member.shown(), size, METADATA_MAX_BYTES)?)?;
                    continue;
                }
                Place::Sums => {
                    sums = Some(small(reader, &member.shown(), size, SUMS_MAX_BYTES)?);
                    continue;
                }
                Place::Model(path) => {
                    let below = format!("{}/{path}", crate::format::layout::MODEL);
                    (Stored::Model(path), below)
                }
                Place::Beside(path) => (Stored::Spare(files.len()), String::from(path)),
            };
            let path = format!("{}/{below}", contents.root().unwrap_or_default());
            // It was a member's checked name before.
            let path = path.parse().map_err(ArchiveError::Name)?;
            let is_pointer = self.file(reader, &stored, size, &member.shown())?;
            files.push(File { path, stored, size, is_pointer });
            file_done();
        }
        Ok(Fed { contents, files, sums })
    }

    /// Passes on one file; says whether it is a pointer of git LFS.
    fn file(&self, reader: &mut Reader<'_>, stored: &Stored, size: u64, shown: &str) -> Result<bool, Stop> {
        self.tell(&Step::Begin { stored: stored.clone(), size })?;
        let (mut got, mut pointer) = (0, false);
        loop {
            let mut room = self.rooms.recv().map_err(|_| EngineError::Crashed)?;
            room.resize(BUFFER_BYTES, 0);
            let length = fill(reader, &mut room)?;
            pointer |= got == 0 && size <= POINTER_MAX_BYTES && is_pointer(size, &room[..length]);
            let buffer = Arc::new(Buffer { room, length, home: self.home.clone() });
            if length == 0 {
                break;
            }
            got += length as u64;
            self.tell(&Step::Bytes(buffer))?;
            if length < BUFFER_BYTES {
                break;
            }
        }
        if got != size {
            let why = format!("it has {got} bytes, and its header says {size}");
            return Err(ArchiveError::Damaged { member: Some(shown.to_owned()), why }.into());
        }
        self.tell(&Step::End)?;
        Ok(pointer)
    }

    fn tell(&self, step: &Step) -> Result<(), EngineError> {
        // A thread that is gone says itself why.
        let told = self.hash.send(step.clone()).is_ok() && self.write.send(step.clone()).is_ok();
        if told { Ok(()) } else { Err(EngineError::Crashed) }
    }
}

/// Reads until the buffer is full or the file has ended.
fn fill(reader: &mut Reader<'_>, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// Reads a small file whole.
fn small(reader: &mut Reader<'_>, shown: &str, size: u64, max_bytes: usize) -> Result<Vec<u8>, ArchiveError> {
    let too_long = || {
        let why = format!("it is longer than {max_bytes} bytes");
        ArchiveError::Damaged { member: Some(shown.to_owned()), why }
    };
    let length = usize::try_from(size).ok().filter(|size| *size <= max_bytes).ok_or_else(too_long)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match fill(reader, &mut buffer)? {
            0 => break,
            more => bytes.extend_from_slice(&buffer[..more]),
        }
        if bytes.len() > length {
            return Err(too_long());
        }
    }
    Ok(bytes)
}

fn hash(steps: &Receiver<Step>, git: bool) -> Vec<Hashed> {
    let mut done = Vec::new();
    let mut hasher = None;
    for step in steps {
        match step {
            Step::Begin { size, .. } => hasher = Some(if git { Hasher::with_git(size) } else { Hasher::plain() }),
            Step::Bytes(buffer) => hasher.as_mut().into_iter().for_each(|hasher| hasher.update(buffer.bytes())),
            Step::End => done.extend(hasher.take().map(Hasher::finish)),
        }
    }
    done
}

/// What the syncing threads get: a file, and whether it is whole.
type Sync = (Arc<Part>, bool);

fn write(store: &Store, steps: &Receiver<Step>, syncs: &SyncSender<Sync>) -> Result<(), EngineError> {
    let mut open: Option<(Arc<Part>, u64, u64)> = None;
    let gone = |_| EngineError::Crashed;
    for step in steps {
        match step {
            Step::Begin { stored, size } => {
                let part = store.create(&stored, size).map_err(EngineError::Volume)?;
                open = part.map(|part| (Arc::new(part), 0, 0));
            }
            Step::Bytes(buffer) => {
                let Some((part, at, synced)) = &mut open else { continue };
                part.write_at(buffer.bytes(), *at).map_err(EngineError::Volume)?;
                *at += buffer.bytes().len() as u64;
                if *at >= *synced + SYNC_EVERY_BYTES {
                    *synced = *at;
                    syncs.send((Arc::clone(part), false)).map_err(gone)?;
                }
            }
            Step::End => {
                let Some((part, ..)) = open.take() else { continue };
                syncs.send((part, true)).map_err(gone)?;
            }
        }
    }
    Ok(())
}

fn sync(inbox: &Mutex<Receiver<Sync>>) -> Result<(), EngineError> {
    loop {
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((part, is_whole)) = next else { return Ok(()) };
        let done = if is_whole { part.sync() } else { part.sync_bytes() };
        done.map_err(EngineError::Volume)?;
    }
}
