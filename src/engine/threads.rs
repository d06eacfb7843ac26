//! The threads behind a download: one writes, one makes durable, some hash. None of them waits for the network.

use super::disk::{Disk, Order, PIECES_WAITING};
use super::durable::{Durable, Journal};
use super::plan::Plan;
use super::progress::Progress;
use super::ranges::Coverage;
use super::verify::{self, Feeder, Verdict};
use super::volume::{Staging, Volume};
use super::{EngineError, blocking};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;

/// Where the bytes end, and what is there already.
pub(super) struct Place {
    pub(super) volume: Arc<Volume>,
    pub(super) staging: Arc<Staging>,
    pub(super) plan: Arc<Plan>,
    pub(super) progress: Arc<Progress>,
    /// What an earlier attempt left of the files.
    pub(super) there: HashMap<usize, Coverage>,
    /// How much room each file that is fetched still takes from the disk.
    pub(super) rooms: HashMap<usize, u64>,
}

/// The running threads.
pub(super) struct Threads {
    running: JoinSet<Result<(), EngineError>>,
    /// Takes what arrives.
    pub(super) orders: mpsc::Sender<Order>,
    /// Gives what was hashed.
    pub(super) verdicts: UnboundedReceiver<Verdict>,
}

impl Threads {
    pub(super) async fn start(place: Place) -> Result<Self, EngineError> {
        let Place { volume, staging, plan, progress, there, rooms } = place;
        let (its_staging, its_there) = (Arc::clone(&staging), there.clone());
        let journal = blocking(move || Journal::begin(its_staging, its_there).map_err(EngineError::Volume)).await?;
        let durable = Arc::new(Durable::new(plan.bytes, rooms.values().sum()));
        let (sender, verdicts) = mpsc::unbounded_channel();
        let feeder = Feeder::new(Arc::clone(&plan), Arc::clone(&staging), sender);
        let mut running = JoinSet::new();
        for _ in 0..verify::threads() {
            let verifier = feeder.verifier();
            running.spawn_blocking(move || verifier.work());
        }
        let its_durable = Arc::clone(&durable);
        running.spawn_blocking(move || its_durable.work(&volume, journal));
        let (orders, receiver) = mpsc::channel(PIECES_WAITING);
        let disk = Disk { plan, staging, durable, feeder, progress, there, rooms };
        running.spawn_blocking(move || disk.work(receiver));
        Ok(Self { running, orders, verdicts })
    }

    /// Waits for a verdict, or for the failure of a thread.
    pub(super) async fn verdict(&mut self) -> Result<Verdict, EngineError> {
        tokio::select! {
            Some(verdict) = self.verdicts.recv() => Ok(verdict),
            error = failure(&mut self.running) => Err(error),
        }
    }

    /// Lets the threads finish what they have. When this returns well, everything is on the disk and in the journal.
    pub(super) async fn finish(self) -> Result<(), EngineError> {
        let Self { mut running, orders, verdicts: _verdicts } = self;
        drop(orders);
        let mut ended = Ok(());
        while let Some(thread) = running.join_next().await {
            ended = ended.and(thread.unwrap_or(Err(EngineError::Crashed)));
        }
        ended
    }
}

/// Returns when a thread failed: none of them ends well before it is told to.
async fn failure(running: &mut JoinSet<Result<(), EngineError>>) -> EngineError {
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended.unwrap_or(Err(EngineError::Crashed)) {
            return error;
        }
    }
    EngineError::Crashed
}
