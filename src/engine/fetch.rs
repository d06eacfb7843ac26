//! One file from the Hub into the staging, verified.
//!
//! Bytes that are there already, from this process or an earlier one, are gone on with: they are hashed with the rest, so
//! nothing needs to be believed of them.

use super::plan::{Plan, PlannedFile};
use super::progress::Progress;
use super::sink::{Part, Sink};
use super::volume::{Staging, VolumeError};
use super::{EngineError, blocking};
use crate::hub::{Attempts, Hub, HubError};
use crate::ident::Sha256;
use std::sync::Arc;

/// Fewer new bytes than this in one try are no progress: a server that drips would otherwise be asked for ever.
const PROGRESS_MIN_BYTES: u64 = 64 * 1024;

/// What every file's task needs.
pub(super) struct Fetcher {
    pub(super) hub: Hub,
    pub(super) plan: Plan,
    pub(super) staging: Staging,
    pub(super) progress: Arc<Progress>,
}

/// How one pass over a file ended.
enum Pass {
    Verified(Sha256),
    /// Other bytes than promised; `fresh` if all of them came from the Hub in this pass.
    Wrong {
        got: String,
        fresh: bool,
    },
}

impl Fetcher {
    /// Fetches and verifies one file. Other bytes than promised are fetched again once.
    pub(super) async fn fetch(self: &Arc<Self>, file: &PlannedFile) -> Result<Sha256, EngineError> {
        let mut keep = true;
        let mut wrong = 0;
        loop {
            match self.pass(file, keep).await? {
                Pass::Verified(sha256) => {
                    self.progress.file_done();
                    return Ok(sha256);
                }
                Pass::Wrong { got, fresh } => {
                    wrong += u32::from(fresh);
                    if wrong >= 2 {
                        self.open(file, false).await?;
                        return Err(self.checksum(file, got));
                    }
                    tracing::warn!("{} has other bytes than promised ({got}): it is fetched again", file.path);
                    keep = false;
                }
            }
        }
    }

    fn checksum(&self, file: &PlannedFile, got: String) -> EngineError {
        EngineError::Checksum {
            path: file.path.to_string(),
            repo: self.plan.model.repo.to_string(),
            endpoint: self.hub.endpoint().to_string(),
            expected: format!("{} ({} bytes)", file.digest, file.size),
            got,
        }
    }

    /// Opens the staged file; `keep` says whether the bytes in it may stay.
    async fn open(self: &Arc<Self>, file: &PlannedFile, keep: bool) -> Result<Part, EngineError> {
        let (own, file) = (Arc::clone(self), file.clone());
        blocking(move || {
            let (part, mut present) = own.staging.open_part(&file.path).map_err(EngineError::Volume)?;
            let shown = own.staging.shown(&file.path);
            if !keep || present > file.size {
                part.set_len(0).map_err(|error| EngineError::Volume(VolumeError::new("empty", &shown, error)))?;
                present = 0;
            }
            Ok(Part { file: part, shown, present, size: file.size, expected: file.digest })
        })
        .await
    }

    async fn pass(self: &Arc<Self>, file: &PlannedFile, keep: bool) -> Result<Pass, EngineError> {
        let part = self.open(file, keep).await?;
        let present = part.present;
        self.progress.found(present);
        let sink = Sink::start(part);
        let mut at = present;
        let ended = self.transfer(file, &sink, &mut at).await;
        let fits = match ended {
            Ok(fits) => fits,
            // The disk's own error is the better one: the transfer only saw that the thread had gone.
            Err(None) => return Err(sink.finish().await.err().unwrap_or(EngineError::Crashed)),
            Err(Some(error)) => return Err(EngineError::Hub(error)),
        };
        let hashed = sink.finish().await?;
        let fresh = present == 0;
        if fits && hashed.digest == file.digest {
            return Ok(Pass::Verified(hashed.sha256));
        }
        self.progress.lost(at);
        let got = if fits { hashed.digest.to_string() } else { format!("more than {} bytes", file.size) };
        Ok(Pass::Wrong { got, fresh })
    }

    /// Moves bytes until the file is whole; false if the Hub sends more than it promised. An error of none means that the
    /// sink ended.
    async fn transfer(&self, file: &PlannedFile, sink: &Sink, at: &mut u64) -> Result<bool, Option<HubError>> {
        let mut attempts: Attempts = self.hub.attempts();
        while *at < file.size {
            let before = *at;
            let error = match self.stream(file, sink, at).await {
                Ok(Streamed::Whole) => return Ok(true),
                Ok(Streamed::TooLong) => return Ok(false),
                Ok(Streamed::Failed(error)) => error,
                Err(SinkEnded) => return Err(None),
            };
            if *at - before >= PROGRESS_MIN_BYTES {
                attempts.reset();
            }
            let Some(wait) = attempts.next_wait(&error) else { return Err(Some(error)) };
            tracing::warn!("{error}; the next try is in {} s", wait.as_secs());
            tokio::time::sleep(wait).await;
        }
        Ok(true)
    }

    /// One request's worth of bytes.
    async fn stream(&self, file: &PlannedFile, sink: &Sink, at: &mut u64) -> Result<Streamed, SinkEnded> {
        let Plan { model, commit, .. } = &self.plan;
        let mut body = match self.hub.open(&model.repo, commit, &file.path, *at, file.size).await {
            Ok(body) => body,
            Err(error) => return Ok(Streamed::Failed(error)),
        };
        loop {
            let piece = match body.next(&self.hub).await {
                Ok(Some(piece)) => piece,
                // Everything is there: how the connection ends no longer matters.
                Ok(None) | Err(_) if *at == file.size => return Ok(Streamed::Whole),
                Ok(None) => return Ok(Streamed::Failed(body.short(*at, file.size))),
                Err(error) => return Ok(Streamed::Failed(error)),
            };
            let length = piece.len() as u64;
            if length > file.size - *at {
                return Ok(Streamed::TooLong);
            }
            if !sink.write(piece).await {
                return Err(SinkEnded);
            }
            *at += length;
            self.progress.fetched(length);
        }
    }
}

enum Streamed {
    Whole,
    TooLong,
    Failed(HubError),
}

/// The sink's thread is gone; its own error says why.
struct SinkEnded;
