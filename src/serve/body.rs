//! A file's bytes on their way to a client, with bounded memory.
//!
//! A client must never take other bytes for the ones that the `ETag` names. So a file is compared with the state in which it
//! was hashed when it is opened, and again before its last piece is let go: a file that changed meanwhile ends in a broken
//! connection, which no client takes for a whole file.

use super::catalog::{ServedFile, Stamp};
use super::range::Piece;
use super::refusal::Refusal;
use super::root::if_there;
use axum::body::Body;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// How much is read at a time.
const CHUNK_BYTES: u64 = 64 * 1024;

/// An open file that is still what it was when it was hashed.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    stamp: Stamp,
    shown: PathBuf,
}

/// Opens a file. Blocks.
pub(super) fn open(served: &ServedFile) -> Result<Opened, Refusal> {
    let shown = served.root.shown(&served.place);
    let refuse = |why: &dyn std::fmt::Display| {
        tracing::error!("{} is not served: {why}", shown.display());
        Refusal::Changed
    };
    let file = match if_there(served.root.file(&served.place)) {
        Ok(Some(file)) => file,
        Ok(None) => return Err(refuse(&"it is gone")),
        Err(error) => return Err(refuse(&error)),
    };
    match Stamp::of(&file) {
        Ok(stamp) if stamp == served.stamp => Ok(Opened { file, stamp, shown }),
        Ok(_) => Err(refuse(&"it changed after it was hashed; restart the server to serve it as it is now")),
        Err(error) => Err(refuse(&error)),
    }
}

/// The bytes of a piece of an open file.
pub(super) fn body(opened: Opened, piece: Piece) -> Body {
    let (first, length) = match piece {
        Piece::Whole => (0, opened.stamp.size),
        Piece::Part { first, length } => (first, length),
    };
    let start = (Arc::new(opened), first, first + length);
    Body::from_stream(futures::stream::try_unfold(start, |(opened, at, end)| async move {
        if at == end {
            return Ok(None);
        }
        let reading = Arc::clone(&opened);
        let length = usize::try_from((end - at).min(CHUNK_BYTES)).map_err(io::Error::other)?;
        // Not made on the blocking thread: each of those many threads would keep a heap of its own.
        let buffer = vec![0; length];
        let reading = tokio::task::spawn_blocking(move || reading.read(buffer, at, end));
        let bytes = reading.await.map_err(io::Error::other)??;
        let at = at + bytes.len() as u64;
        Ok::<_, io::Error>(Some((bytes, (opened, at, end))))
    }))
}

impl Opened {
    fn read(&self, mut bytes: Vec<u8>, at: u64, end: u64) -> io::Result<Bytes> {
        let read = self.file.read_exact_at(&mut bytes, at);
        let last = at + bytes.len() as u64 == end;
        let read = if last { read.and_then(|()| self.check()) } else { read };
        match read {
            Ok(()) => Ok(bytes.into()),
            Err(error) => {
                tracing::error!("{} is cut off: {error}", self.shown.display());
                Err(error)
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        if Stamp::of(&self.file)? == self.stamp {
            Ok(())
        } else {
            Err(io::Error::other("it changed while it was sent"))
        }
    }
}
