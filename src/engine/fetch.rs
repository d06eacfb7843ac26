//! All missing files of a plan, from the Hub into the staging, verified and durable.
//!
//! One task leads: it starts connections, as many as the pace allows and each with a piece of the schedule, and takes the
//! verdicts of the threads that hash. What can be decided without the network is in `schedule` and `pace`.

use super::EngineError;
use super::connection::{Connections, Ended, lock};
use super::disk::Order;
use super::hash::Hashed;
use super::pace::{Pace, Sight};
use super::plan::PlannedFile;
use super::schedule::PieceId;
use super::threads::Threads;
use crate::hub::{Attempts, HubError};
use crate::ident::Sha256;
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// Fewer new bytes than this in one try are no progress: a server that drips would otherwise be asked for ever.
const PROGRESS_MIN_BYTES: u64 = 64 * 1024;
/// How often the pace looks at the rate: several times in what it calls a window.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The task that leads.
pub(super) struct Leader {
    connections: Arc<Connections>,
    pace: Pace,
    orders: mpsc::Sender<Order>,
    running: JoinSet<(PieceId, Ended)>,
    /// Pieces that failed, and when they are tried again.
    parked: VecDeque<(PieceId, Instant)>,
    attempts: HashMap<PieceId, Attempts>,
    /// Files with bytes of an earlier attempt: if they are wrong, the Hub may not be to blame.
    resumed: HashSet<usize>,
    /// Files that came with wrong bytes from the Hub, once.
    wrong: HashSet<usize>,
    verified: HashMap<usize, Sha256>,
}

impl Leader {
    pub(super) fn new(
        connections: Arc<Connections>,
        connections_max: usize,
        threads: &Threads,
        resumed: HashSet<usize>,
    ) -> Self {
        Self {
            connections,
            pace: Pace::new(connections_max),
            orders: threads.orders.clone(),
            running: JoinSet::new(),
            parked: VecDeque::new(),
            attempts: HashMap::new(),
            resumed,
            wrong: HashSet::new(),
            verified: HashMap::new(),
        }
    }

    /// Leads until so many files are verified, and gives their digests.
    pub(super) async fn lead(
        mut self,
        files: usize,
        threads: &mut Threads,
    ) -> Result<HashMap<usize, Sha256>, EngineError> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.verified.len() < files {
            self.start_connections().await?;
            tokio::select! {
                Some(ended) = self.running.join_next() => {
                    let (id, ended) = ended.map_err(|_| EngineError::Crashed)?;
                    self.ended(id, ended)?;
                }
                verdict = threads.verdict() => {
                    let (file, hashed) = verdict?;
                    self.hashed(file, &hashed).await?;
                }
                _ = looks.tick() => self.look(),
            }
        }
        Ok(self.verified)
    }

    fn look(&mut self) {
        let sight = Sight {
            bytes: self.connections.progress.bytes_written(),
            answers: self.connections.answers.count(),
            busy: self.running.len(),
            disk_is_full: self.orders.capacity() == 0,
        };
        self.pace.look(std::time::Instant::now(), sight);
    }

    async fn start_connections(&mut self) -> Result<(), EngineError> {
        while self.running.len() < self.pace.limit() {
            let (id, not_before) = match self.parked.pop_front() {
                Some(parked) => parked,
                None => match self.next_piece() {
                    Some(id) => (id, Instant::now()),
                    None => break,
                },
            };
            let (connections, orders) = (Arc::clone(&self.connections), self.orders.clone());
            self.running.spawn(async move { (id, connections.work(id, not_before, &orders).await) });
        }
        while let Some(file) = self.next_empty() {
            self.order(Order::Write { file, at: 0, bytes: Bytes::new() }).await?;
        }
        Ok(())
    }

    fn next_piece(&self) -> Option<PieceId> {
        let patience = self.connections.answers.patience(self.pace.line_is_full());
        lock(&self.connections.schedule).next(std::time::Instant::now(), patience)
    }

    fn next_empty(&self) -> Option<usize> {
        lock(&self.connections.schedule).next_empty()
    }

    /// Tells the disk's thread. That it is gone is a crash only if it has no error of its own.
    async fn order(&self, order: Order) -> Result<(), EngineError> {
        self.orders.send(order).await.map_err(|_| EngineError::Crashed)
    }

    /// A connection ended.
    fn ended(&mut self, id: PieceId, ended: Ended) -> Result<(), EngineError> {
        match ended {
            Ended::Done | Ended::Revoked => _ = self.attempts.remove(&id),
            Ended::Failed { error, got } => self.park(id, error, got)?,
            Ended::NoDisk => return Err(EngineError::Crashed),
        }
        Ok(())
    }

    /// A piece failed: it is tried again after a while, if that is of use.
    fn park(&mut self, id: PieceId, error: HubError, got: u64) -> Result<(), EngineError> {
        if error.is_overload() {
            self.pace.refused(std::time::Instant::now());
        }
        let attempts = self.attempts.entry(id).or_insert_with(|| self.connections.hub.attempts());
        if got >= PROGRESS_MIN_BYTES {
            attempts.reset();
        }
        let Some(wait) = attempts.next_wait(&error) else { return Err(EngineError::Hub(error)) };
        tracing::warn!("{error}; the next try is in {} s", wait.as_secs());
        self.parked.push_back((id, Instant::now() + wait));
        Ok(())
    }

    /// All of a file was hashed.
    async fn hashed(&mut self, file: usize, hashed: &Hashed) -> Result<(), EngineError> {
        if hashed.digest != self.connections.plan.files[file].digest {
            return self.start_over(file, hashed.digest.to_string()).await;
        }
        self.connections.progress.file_done();
        lock(&self.connections.places).remove(&file);
        self.verified.insert(file, hashed.sha256);
        Ok(())
    }

    /// A file has other bytes than promised: all of it is fetched again, once.
    async fn start_over(&mut self, file: usize, got: String) -> Result<(), EngineError> {
        let is_blameless = self.resumed.remove(&file);
        let is_second = !is_blameless && !self.wrong.insert(file);
        // In a second attempt too, the next run begins with nothing of it.
        self.order(Order::Restart { file }).await?;
        let planned = &self.connections.plan.files[file];
        if is_second {
            return Err(self.checksum(planned, got));
        }
        tracing::warn!("{} has other bytes than promised ({got}): it is fetched again", planned.path);
        // An address may lead to a copy that is bad.
        lock(&self.connections.places).remove(&file);
        lock(&self.connections.schedule).refill(file);
        Ok(())
    }

    fn checksum(&self, file: &PlannedFile, got: String) -> EngineError {
        EngineError::Checksum {
            path: file.path.to_string(),
            repo: self.connections.plan.model.repo.to_string(),
            endpoint: self.connections.hub.endpoint().to_string(),
            expected: format!("{} ({} bytes)", file.digest, file.size),
            got,
        }
    }
}
