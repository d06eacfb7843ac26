//! Where an archive's bytes come from: a file, an address or standard input, all read once and in order.

use super::ImportError;
use crate::engine::progress::Progress;
use crate::engine::{EngineError, Settings, blocking};
use crate::format::layout::FileStamp;
use crate::format::task::{ArchivePlace, ArchiveUrl, MountedFile};
use crate::hub::{Remote, RemoteBody, RemoteError};
use crate::ident::Sha256;
use bytes::{Buf, Bytes};
use sha2::Digest;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// How many pieces of a body wait for whoever unpacks; the network waits then.
const PIECES_WAITING: usize = 16;
/// How many pieces wait to be hashed.
const HASHES_WAITING: usize = 16;

/// An open archive.
pub(super) struct Source {
    /// What a person calls it.
    pub(super) origin: String,
    /// How many bytes it has, where that is known.
    pub(super) length: Option<u64>,
    /// The bytes.
    pub(super) bytes: Box<dyn Read + Send>,
    /// The same as a file that can be read anywhere, where it is one.
    pub(super) file: Option<File>,
    /// Whether they come over the network.
    pub(super) is_remote: bool,
}

/// What a person calls an archive.
pub(super) fn origin(place: &ArchivePlace) -> String {
    match place {
        ArchivePlace::File(file) => file.origin.clone(),
        ArchivePlace::Url(address) => address.url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        ArchivePlace::Stdio => "standard input".to_owned(),
    }
}

/// What the archive's file looks like now; none where there is none, or none that can be seen.
pub(super) fn stamp(place: &ArchivePlace) -> Option<FileStamp> {
    let ArchivePlace::File(file) = place else { return None };
    let found = std::fs::metadata(&file.path).ok()?;
    let modified_ns = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    Some(FileStamp { size_bytes: found.len(), modified_ns })
}

impl Source {
    /// Opens an archive. `is_known` is whether its digest is: then bytes of one answer may follow those of another.
    pub(super) async fn open(place: &ArchivePlace, is_known: bool, settings: &Settings) -> Result<Self, EngineError> {
        match place {
            ArchivePlace::File(file) => {
                let file = file.clone();
                blocking(move || Self::of_file(&file).map_err(EngineError::Import)).await
            }
            ArchivePlace::Url(address) => Self::of_url(address, is_known, settings).await,
            ArchivePlace::Stdio => Ok(Self {
                origin: origin(place),
                length: None,
                bytes: Box::new(io::stdin()),
                file: None,
                is_remote: false,
            }),
        }
    }

    fn of_file(file: &MountedFile) -> Result<Self, ImportError> {
        let MountedFile { path, origin } = file;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ImportError::NotFound { origin: origin.clone() },
            _ => ImportError::Read { origin: origin.clone(), source },
        };
        let found = std::fs::metadata(path).map_err(failed)?;
        let kind = found.file_type();
        if kind.is_dir() {
            let next = "make an archive of it with `modelcache pack`";
            return Err(ImportError::NoFile { origin: origin.clone(), what: "a folder", next });
        }
        // A pipe may be named as a file, as in `import <(…)`: it is read as standard input is.
        if !kind.is_file() && !kind.is_fifo() {
            return Err(ImportError::NoFile {
                origin: origin.clone(),
                what: "a device or socket",
                next: "name a file",
            });
        }
        let open = File::open(path).map_err(failed)?;
        let again = if kind.is_file() { Some(open.try_clone().map_err(failed)?) } else { None };
        let length = kind.is_file().then_some(found.len());
        Ok(Self { origin: origin.clone(), length, bytes: Box::new(open), file: again, is_remote: false })
    }

    async fn of_url(address: &ArchiveUrl, is_known: bool, settings: &Settings) -> Result<Self, EngineError> {
        let remote = Remote::new(address, settings.limits).map_err(EngineError::Remote)?;
        let mut attempts = remote.attempts();
        // Before the volume is touched: most mistakes are seen with the first answer.
        let body = loop {
            match remote.open(0, None).await {
                Ok(body) => break body,
                Err(error) => wait(&mut attempts, error).await?,
            }
        };
        let (length, origin) = (body.total, remote.shown());
        let (sender, receiver) = mpsc::channel(PIECES_WAITING);
        tokio::spawn(fetch(remote, body, is_known, sender));
        let bytes = Box::new(Pieces { receiver, now: Bytes::new() });
        Ok(Self { origin, length, bytes, file: None, is_remote: true })
    }
}

/// After a failure: waits for the next try, or gives the failure back.
pub(super) async fn wait(attempts: &mut crate::hub::Attempts, error: RemoteError) -> Result<(), EngineError> {
    let pause = match &error {
        RemoteError::Network(network) => attempts.next_wait(network),
        _ => None,
    };
    match pause {
        Some(pause) => {
            tracing::info!("{error}");
            tokio::time::sleep(pause).await;
            Ok(())
        }
        None => Err(EngineError::Remote(error)),
    }
}

/// Sends the bytes of an archive, over as many connections as it takes. Ends when nobody wants them any more.
async fn fetch(remote: Remote, first: RemoteBody, is_known: bool, sender: mpsc::Sender<Result<Bytes, EngineError>>) {
    let (mut version, total) = (first.version.clone(), first.total);
    if is_known && version.is_none() {
        version = Some(String::new());
    }
    let mut attempts = remote.attempts();
    let (mut body, mut at) = (Some(first), 0_u64);
    loop {
        let piece = match &mut body {
            Some(open) => match open.next(&remote).await {
                Ok(None) if total.is_some_and(|total| at < total) => Err(open.short(at, total.unwrap_or_default())),
                other => other,
            },
            None => match remote.open(at, version.as_deref()).await {
                Ok(open) => {
                    body = Some(open);
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        let error = match piece {
            Ok(None) => return,
            Ok(Some(piece)) => {
                at += piece.len() as u64;
                attempts.reset();
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) => error,
        };
        body = None;
        if let Err(error) = wait(&mut attempts, error).await {
            // Nobody there any more is no failure.
            let _ = sender.send(Err(error)).await;
            return;
        }
    }
}

/// The pieces of a body, read by a thread that may wait.
struct Pieces {
    receiver: mpsc::Receiver<Result<Bytes, EngineError>>,
    now: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.now.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(piece)) => self.now = piece,
                // Told apart again by whoever gets it.
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let length = self.now.len().min(buffer.len());
        self.now.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Counts what is read, and hashes it on a thread of its own where that is wanted.
pub(super) struct Watched {
    inner: Box<dyn Read + Send>,
    progress: Arc<Progress>,
    hashed: Option<SyncSender<Vec<u8>>>,
}

/// The digest of everything that is read, on its way.
pub(super) struct Digesting(JoinHandle<io::Result<Sha256>>);

impl Digesting {
    /// The digest, once nothing is read any more.
    pub(super) fn finish(self, origin: &str) -> Result<Sha256, EngineError> {
        let digest = self.0.join().map_err(|_| EngineError::Crashed)?;
        digest.map_err(|source| EngineError::Import(ImportError::Read { origin: origin.to_owned(), source }))
    }
}

impl Watched {
    pub(super) fn new(inner: Box<dyn Read + Send>, progress: Arc<Progress>) -> Self {
        Self { inner, progress, hashed: None }
    }

    /// The same, and the digest of all that it will read.
    pub(super) fn hashed(inner: Box<dyn Read + Send>, progress: Arc<Progress>) -> (Self, Digesting) {
        let (sender, receiver) = sync_channel(HASHES_WAITING);
        let thread = std::thread::spawn(move || Ok(digest(&receiver)));
        (Self { inner, progress, hashed: Some(sender) }, Digesting(thread))
    }
}

impl Digesting {
    /// The digest of a file that is read anywhere meanwhile.
    pub(super) fn of_file(file: File) -> Self {
        Self(std::thread::spawn(move || {
            let mut hash = sha2::Sha256::new();
            let mut buffer = vec![0; 256 * 1024];
            let mut at = 0;
            loop {
                match file.read_at(&mut buffer, at) {
                    Ok(0) => return Ok(Sha256::from_bytes(hash.finalize().into())),
                    Ok(got) => {
                        hash.update(&buffer[..got]);
                        at += got as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // What cannot be read is no proof of other bytes.
                    Err(error) => return Err(error),
                }
            }
        }))
    }
}

fn digest(pieces: &Receiver<Vec<u8>>) -> Sha256 {
    let mut hash = sha2::Sha256::new();
    for piece in pieces {
        hash.update(piece);
    }
    Sha256::from_bytes(hash.finalize().into())
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        if let Some(hashed) = &self.hashed {
            // The thread ends only after this.
            let _ = hashed.send(buffer[..got].to_vec());
        }
        self.progress.fetched(got as u64);
        self.progress.done(got as u64);
        Ok(got)
    }
}

/// A file that is read anywhere; counts what is read.
pub(super) struct Seekable {
    pub(super) file: File,
    pub(super) progress: Option<Arc<Progress>>,
}

impl Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        if let Some(progress) = &self.progress {
            progress.fetched(got as u64);
            progress.done(got as u64);
        }
        Ok(got)
    }
}

impl Seek for Seekable {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
