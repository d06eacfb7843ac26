//! An archive that goes to a server: made anew for every try.

use super::compose::{Destination, compose};
use super::content::Content;
use super::{ExportError, Stop, known_length};
use crate::engine::progress::Progress;
use crate::engine::{EngineError, blocking};
use crate::format::outcome::Archive;
use crate::format::task::{ArchiveFormat, ArchiveUrl};
use crate::hub::{Answer, Limits, Store, UploadError};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// How many blocks may wait for the network.
const WAITING: usize = 8;

/// Sends an archive, again and again while there is hope.
pub(super) async fn run(
    content: Content,
    format: ArchiveFormat,
    url: &ArchiveUrl,
    limits: Limits,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<Archive, EngineError> {
    let mut store = Store::new(url, limits).map_err(upload)?;
    let mut attempts = store.attempts();
    let content = Arc::new(content);
    loop {
        let error = match send(&content, format, &mut store, progress, stop).await? {
            (Ok(Answer::Stored), archive) => {
                // A server that is content with a part of it has not got an archive.
                return archive.ok_or(EngineError::Export(ExportError::Stopped));
            }
            (Ok(Answer::Moved), _) => {
                progress.begin_again();
                continue;
            }
            (Err(error), _) => error,
        };
        let Some(wait) = attempts.next_upload(&error) else { return Err(upload(error)) };
        tracing::warn!("{error}; the next try is in {} s", wait.as_secs());
        progress.begin_again();
        tokio::time::sleep(wait).await;
    }
}

fn upload(error: UploadError) -> EngineError {
    EngineError::Export(ExportError::Upload(error))
}

/// One request: what the server says, and the archive if all of it was made. An error of our own ends everything.
async fn send(
    content: &Arc<Content>,
    format: ArchiveFormat,
    store: &mut Store,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<(Result<Answer, UploadError>, Option<Archive>), EngineError> {
    let (pieces, receiver) = mpsc::channel(WAITING);
    let length = known_length(content, format);
    let making = {
        let (content, progress, stop) = (Arc::clone(content), Arc::clone(progress), stop.clone());
        blocking(move || {
            let mut wire = Wire { pieces };
            let made = compose(&content, format, &mut wire, &progress, &stop);
            if made.is_err() {
                // Else the end of the pieces would be the end of the archive.
                let _ = wire.pieces.blocking_send(Err(io::Error::other("the archive is not whole")));
            }
            Ok(made)
        })
    };
    let (answer, made) = tokio::join!(store.put(length, receiver), making);
    match made? {
        Ok(archive) => Ok((answer, Some(archive))),
        // The server answered before it had everything: its answer counts.
        Err(EngineError::Export(ExportError::Stopped)) if !stop.is_stopped() => Ok((answer, None)),
        Err(error) => Err(error),
    }
}

/// The way to the network.
struct Wire {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Destination for Wire {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let piece = Bytes::copy_from_slice(bytes);
        self.pieces.blocking_send(Ok(piece)).map_err(|_| EngineError::Export(ExportError::Stopped))
    }
}
