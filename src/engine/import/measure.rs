//! What unpacking an archive takes, told without reading it whole.
//!
//! A tar is never smaller than its files (but for links that become copies, and for holes: then the import itself says what
//! is missing), and a zip has its files' sizes in the directory at its end. What is compressed as a whole tells nothing.

use super::ImportError;
use super::source::{Source, origin, wait};
use super::unpack::Stop;
use crate::engine::{EngineError, Settings, blocking};
use crate::format::archive::{ArchiveError, Budget, Container, Extent, Input, PREFIX_BYTES, detect, extent};
use crate::format::outcome::Resolved;
use crate::format::task::{ArchivePlace, ArchiveUrl};
use crate::hub::{Attempts, Remote, RemoteBody, RemoteError};
use bytes::{Buf, Bytes};
use std::io::{self, Read, Seek, SeekFrom};
use tokio::runtime::Handle;

/// What unpacking an archive takes.
pub(in crate::engine) async fn measure(place: &ArchivePlace, settings: &Settings) -> Result<Resolved, EngineError> {
    if let ArchivePlace::Url(address) = place {
        return of_url(address, settings).await;
    }
    let (opened, origin) = (Source::open(place, false, settings).await?, origin(place));
    blocking(move || of_file(opened, &origin).map_err(|stop| stop.of(&origin))).await
}

fn of_file(opened: Source, origin: &str) -> Result<Resolved, Stop> {
    let Source { length, bytes, file, .. } = opened;
    let mut prefix = Vec::new();
    bytes.take(PREFIX_BYTES as u64).read_to_end(&mut prefix).map_err(ArchiveError::Source)?;
    match (detect(&prefix)?, length, file) {
        (Container::TarGz | Container::TarZst, ..) => Err(unmeasured(origin, WHOLE).into()),
        (Container::Tar, Some(length), _) => Ok(of_tar(length)),
        (Container::Zip, _, Some(file)) => Ok(of_zip(extent(Input::new(file, Budget::default()))?, 0)),
        _ => Err(unmeasured(origin, "it is no regular file").into()),
    }
}

async fn of_url(address: &ArchiveUrl, settings: &Settings) -> Result<Resolved, EngineError> {
    let remote = Remote::new(address, settings.limits).map_err(EngineError::Remote)?;
    let origin = remote.shown();
    let mut attempts = remote.attempts();
    let (prefix, length, version) = loop {
        match beginning(&remote).await {
            Ok(begun) => break begun,
            Err(error) => wait(&mut attempts, error).await?,
        }
    };
    let container = detect(&prefix).map_err(|error| Stop::from(error).of(&origin))?;
    if matches!(container, Container::TarGz | Container::TarZst) {
        return Err(unmeasured(&origin, WHOLE));
    }
    let length = length.ok_or_else(|| unmeasured(&origin, "its server does not say how long it is"))?;
    if container == Container::Tar {
        return Ok(of_tar(length));
    }
    let ranged = Ranged { remote, handle: Handle::current(), attempts, length, version, at: 0, open: None };
    blocking(move || {
        let extent = extent(Input::new(ranged, Budget::default())).map_err(|error| Stop::from(error).of(&origin))?;
        // The import puts the zip beside its files, to read it from its end.
        Ok(of_zip(extent, length))
    })
    .await
}

const WHOLE: &str = "it is compressed as a whole";

fn unmeasured(origin: &str, why: &'static str) -> EngineError {
    EngineError::Import(ImportError::Unmeasured { origin: origin.to_owned(), why })
}

fn of_tar(length: u64) -> Resolved {
    Resolved { commit: None, files: None, bytes: length }
}

/// What a zip takes, with so many bytes beside it.
fn of_zip(extent: Extent, beside: u64) -> Resolved {
    Resolved { commit: None, files: Some(extent.files), bytes: extent.bytes.saturating_add(beside) }
}

/// An archive's first bytes, its length, and what tells it from another one at the same address.
async fn beginning(remote: &Remote) -> Result<(Vec<u8>, Option<u64>, String), RemoteError> {
    let mut body = remote.open(0, None).await?;
    let mut prefix = Vec::new();
    while prefix.len() < PREFIX_BYTES {
        match body.next(remote).await? {
            Some(piece) => prefix.extend_from_slice(&piece),
            None => break,
        }
    }
    prefix.truncate(PREFIX_BYTES);
    // An empty one says that there is nothing to tell them apart by.
    Ok((prefix, body.total, body.version.unwrap_or_default()))
}

/// An archive behind an address, read here and there. Every jump is a request.
struct Ranged {
    remote: Remote,
    handle: Handle,
    attempts: Attempts,
    length: u64,
    version: String,
    at: u64,
    open: Option<(RemoteBody, Bytes)>,
}

impl Ranged {
    /// The bytes at hand; none at the archive's end.
    async fn piece(&mut self) -> Result<Bytes, EngineError> {
        while self.at < self.length {
            let (mut body, piece) = match self.open.take() {
                Some(open) => open,
                None => match self.remote.open(self.at, Some(&self.version)).await {
                    Ok(body) => (body, Bytes::new()),
                    Err(error) => {
                        wait(&mut self.attempts, error).await?;
                        continue;
                    }
                },
            };
            if !piece.is_empty() {
                self.open = Some((body, Bytes::new()));
                return Ok(piece);
            }
            if body.is_from_the_start() {
                return Err(unmeasured(&self.remote.shown(), "its server sends it only from the first byte on"));
            }
            match body.next(&self.remote).await {
                Ok(Some(piece)) => {
                    self.attempts.reset();
                    self.open = Some((body, piece));
                }
                Ok(None) => wait(&mut self.attempts, body.short(self.at, self.length)).await?,
                Err(error) => wait(&mut self.attempts, error).await?,
            }
        }
        Ok(Bytes::new())
    }
}

impl Read for Ranged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let handle = self.handle.clone();
        // Told apart again by whoever gets it.
        let mut piece = handle.block_on(self.piece()).map_err(io::Error::other)?;
        let length = piece.len().min(buffer.len());
        piece.copy_to_slice(&mut buffer[..length]);
        if let Some((_, rest)) = &mut self.open {
            *rest = piece;
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Ranged {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let at = at.ok_or(io::ErrorKind::InvalidInput)?;
        if at != self.at {
            self.open = None;
        }
        self.at = at;
        Ok(at)
    }
}
