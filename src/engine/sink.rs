//! Where a file's bytes end: written and hashed in one pass, on a thread of their own.

use super::EngineError;
use super::hash::{Hashed, Hasher};
use super::volume::VolumeError;
use crate::ident::FileDigest;
use bytes::Bytes;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many pieces wait for the disk at most; a piece is at most as large as the HTTP client's buffer, about 400 KiB.
const PIECES_WAITING: usize = 4;

/// A file that is being written.
pub(super) struct Sink {
    sender: mpsc::Sender<Bytes>,
    thread: JoinHandle<Result<Hashed, VolumeError>>,
}

/// The file, and what is known of it.
pub(super) struct Part {
    pub(super) file: File,
    /// For messages.
    pub(super) shown: PathBuf,
    /// How many of its bytes are there; they are hashed first.
    pub(super) present: u64,
    pub(super) size: u64,
    pub(super) expected: FileDigest,
}

impl Sink {
    /// Starts the thread.
    pub(super) fn start(part: Part) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING);
        Self { sender, thread: tokio::task::spawn_blocking(move || write(&part, receiver)) }
    }

    /// Hands on a piece; false if the thread ended early, and then [`Self::finish`] tells why.
    pub(super) async fn write(&self, piece: Bytes) -> bool {
        self.sender.send(piece).await.is_ok()
    }

    /// Ends the file: a whole one is on the disk when this returns.
    pub(super) async fn finish(self) -> Result<Hashed, EngineError> {
        drop(self.sender);
        self.thread.await.map_err(|_| EngineError::Crashed)?.map_err(EngineError::Volume)
    }
}

fn write(part: &Part, mut receiver: mpsc::Receiver<Bytes>) -> Result<Hashed, VolumeError> {
    let mut hasher = Hasher::new(&part.expected, part.size);
    let read =
        hasher.read((&part.file).take(part.present)).map_err(|error| VolumeError::new("read", &part.shown, error))?;
    let mut at = read;
    while let Some(piece) = receiver.blocking_recv() {
        // Positional, so that later several ranges can be written at a time.
        part.file.write_all_at(&piece, at).map_err(|error| VolumeError::new("write", &part.shown, error))?;
        hasher.update(&piece);
        at += piece.len() as u64;
    }
    if at == part.size {
        part.file.sync_all().map_err(|error| VolumeError::new("sync", &part.shown, error))?;
    }
    Ok(hasher.finish())
}
