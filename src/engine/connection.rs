//! One connection and its piece: from the Hub to the disk's thread.

use super::disk::Order;
use super::pace::Allowance;
use super::plan::Plan;
use super::progress::Progress;
use super::schedule::{PieceId, Schedule, Step};
use crate::hub::{Hub, HubError, Place};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// How long the end of a body is waited for after its last byte, so that the connection can be used again.
const END_WAIT: Duration = Duration::from_secs(1);
/// A piece is halved if its rest takes at least this long, or this many times as long as an answer takes to begin: below
/// that a new request brings nothing.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
const PATIENCE_ANSWERS: u32 = 4;
/// On a full line, another connection only takes from those that there are: then this long.
const PATIENCE_FULL_LINE: Duration = Duration::from_secs(2);

/// What all connections share.
pub(super) struct Connections {
    pub(super) hub: Hub,
    pub(super) plan: Arc<Plan>,
    pub(super) schedule: Mutex<Schedule>,
    pub(super) places: Mutex<HashMap<usize, Arc<Place>>>,
    pub(super) allowance: Option<Mutex<Allowance>>,
    pub(super) answers: Answers,
    pub(super) progress: Arc<Progress>,
}

/// Answers that began.
#[derive(Default)]
pub(super) struct Answers {
    count: AtomicU64,
    /// How long they took to begin, on the whole.
    micros: AtomicU64,
}

impl Answers {
    fn began(&self, after: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 8);
        let mixed = |before: u64| Some(if before == 0 { micros } else { before / 4 * 3 + micros / 4 });
        let _ = self.micros.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mixed);
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How long the rest of a piece may take before it is halved.
    pub(super) fn patience(&self, line_is_full: bool) -> Duration {
        let least = if line_is_full { PATIENCE_FULL_LINE } else { PATIENCE_MIN };
        least.max(Duration::from_micros(self.micros.load(Ordering::Relaxed)) * PATIENCE_ANSWERS)
    }
}

/// How the work on a piece ended.
pub(super) enum Ended {
    /// Nothing of it is left.
    Done,
    /// Somebody else has it.
    Revoked,
    /// Something is left; `got` bytes came.
    Failed { error: HubError, got: u64 },
    /// The disk's thread is gone; its own error says why.
    NoDisk,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// Works on a piece, from some time on.
    pub(super) async fn work(&self, id: PieceId, not_before: Instant, disk: &mpsc::Sender<Order>) -> Ended {
        tokio::time::sleep_until(not_before).await;
        let mut got = 0;
        match self.transfer(id, disk, &mut got).await {
            Ok(ended) => ended,
            Err(error) => Ended::Failed { error, got },
        }
    }

    async fn transfer(&self, id: PieceId, disk: &mpsc::Sender<Order>, got: &mut u64) -> Result<Ended, HubError> {
        let Some((file, size, span)) = lock(&self.schedule).piece(id) else { return Ok(Ended::Revoked) };
        let place = self.place(file)?;
        let asked = Instant::now();
        let mut body = self.hub.open(&place, span.start..span.end).await?;
        if body.is_whole_instead() {
            let Some(start) = lock(&self.schedule).make_single(id) else { return Ok(Ended::Revoked) };
            body.begin_at(start);
        }
        loop {
            let Some(mut bytes) = body.next(&self.hub).await? else {
                let left = lock(&self.schedule).piece(id);
                let Some((.., left)) = left else { return Ok(Ended::Revoked) };
                return Err(body.short(left.start, size));
            };
            if *got == 0 {
                self.answers.began(asked.elapsed());
            }
            let arrived = bytes.len() as u64;
            self.progress.fetched(arrived);
            let step = lock(&self.schedule).advance(id, arrived);
            let Some(Step { at, bytes: taken, is_last }) = step else { return Ok(Ended::Revoked) };
            *got += taken;
            self.slow_down(arrived).await;
            bytes.truncate(usize::try_from(taken).unwrap_or(usize::MAX));
            if disk.send(Order::Write { file, at, bytes }).await.is_err() {
                return Ok(Ended::NoDisk);
            }
            if is_last {
                if arrived == taken {
                    // How the connection ends no longer matters, and neither does what comes after the promised bytes.
                    let _ = timeout(END_WAIT, body.next(&self.hub)).await;
                }
                return Ok(Ended::Done);
            }
        }
    }

    /// Where a file is; what the Hub said of it before is still known.
    fn place(&self, file: usize) -> Result<Arc<Place>, HubError> {
        let mut places = lock(&self.places);
        if let Some(place) = places.get(&file) {
            return Ok(Arc::clone(place));
        }
        let planned = &self.plan.files[file];
        let place = self.hub.place(&self.plan.model.repo, &self.plan.commit, &planned.path, planned.size)?;
        Ok(Arc::clone(places.entry(file).or_insert(Arc::new(place))))
    }

    async fn slow_down(&self, bytes: u64) {
        if let Some(allowance) = &self.allowance {
            let until = lock(allowance).take(std::time::Instant::now(), bytes);
            tokio::time::sleep_until(until.into()).await;
        }
    }
}
