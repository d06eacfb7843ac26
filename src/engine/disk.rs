//! The one thread that writes what arrives.
//!
//! A byte of a file is written once: what is there already is left alone, whatever arrives for it, since it may have been
//! hashed. Only [`Order::Restart`] makes a file's bytes missing again.

use super::EngineError;
use super::durable::{Durable, Gone};
use super::plan::Plan;
use super::progress::Progress;
use super::ranges::{Coverage, Span};
use super::verify::Feeder;
use super::volume::{Part, Staging};
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::sync::mpsc;

/// How many pieces wait for the disk at most. A piece is at most as large as the HTTP client's buffer, about 400 KiB, and
/// this bounds the memory that a slow disk costs.
pub(super) const PIECES_WAITING: usize = 16;

/// What there is to do.
pub(super) enum Order {
    /// Bytes of a file, from a byte on. An empty file has none, and is made.
    Write { file: usize, at: u64, bytes: Bytes },
    /// The file was wrong: nothing of it is there.
    Restart { file: usize },
}

/// What the thread knows.
pub(super) struct Disk {
    pub(super) plan: Arc<Plan>,
    pub(super) staging: Arc<Staging>,
    pub(super) durable: Arc<Durable>,
    pub(super) feeder: Feeder,
    pub(super) progress: Arc<Progress>,
    /// What is there of each file that has something.
    pub(super) there: HashMap<usize, Coverage>,
    /// How much room each file still takes from the disk; its size, where nothing is said.
    pub(super) rooms: HashMap<usize, u64>,
}

/// A file that is being written.
struct Open {
    part: Arc<Part>,
    /// How much room it still takes from the disk.
    room: u64,
}

impl Disk {
    /// What the thread does, until no more orders can come.
    pub(super) fn work(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), EngineError> {
        // However this ends, by a full disk or a panic too, the thread that makes things durable must not wait for more.
        let _closing = Closing(Arc::clone(&self.durable));
        self.resume();
        let mut open = HashMap::new();
        while let Some(order) = orders.blocking_recv() {
            let done = match order {
                Order::Write { file, at, bytes } => self.write(&mut open, file, at, &bytes)?,
                Order::Restart { file } => {
                    self.restart(file);
                    Ok(())
                }
            };
            // The other thread's own error is the one that is reported.
            if done.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// What an earlier attempt left is hashed like everything else.
    fn resume(&self) {
        for (file, there) in &self.there {
            self.progress.done(there.bytes());
            self.feeder.there(*file, there.frontier());
        }
    }

    fn write(
        &mut self,
        open: &mut HashMap<usize, Open>,
        file: usize,
        at: u64,
        bytes: &[u8],
    ) -> Result<Result<(), Gone>, EngineError> {
        let size = self.plan.files[file].size;
        let opened = match open.entry(file) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.open(file)?),
        };
        let there = self.there.entry(file).or_default();
        let gaps = there.gaps(Span::new(at, at + bytes.len() as u64));
        for gap in &gaps {
            // Both fit: the gap lies in these bytes.
            let [from, to] =
                [gap.start - at, gap.end - at].map(|offset| usize::try_from(offset).unwrap_or(bytes.len()));
            opened.part.write_at(&bytes[from..to], gap.start).map_err(EngineError::Volume)?;
            there.insert(*gap);
            self.progress.written(gap.len());
            let used = opened.room.min(gap.len());
            opened.room -= used;
            self.durable.reserved(used);
        }
        self.feeder.there(file, there.frontier());
        let (part, is_whole) = (Arc::clone(&opened.part), there.bytes() == size);
        if is_whole {
            open.remove(&file);
        }
        let written = if size == 0 { vec![Span::new(0, 0)] } else { gaps };
        for span in written {
            if self.durable.add(file, &part, span, is_whole).is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(()))
    }

    fn open(&mut self, file: usize) -> Result<Open, EngineError> {
        let planned = &self.plan.files[file];
        let (part, room) = self.staging.open_part(&planned.path, planned.size).map_err(EngineError::Volume)?;
        let before = self.rooms.insert(file, 0).unwrap_or(planned.size);
        self.durable.reserved(before.saturating_sub(room));
        Ok(Open { part: Arc::new(part), room })
    }

    fn restart(&mut self, file: usize) {
        let there = self.there.remove(&file).unwrap_or_default();
        self.progress.lost(there.bytes());
        self.durable.forget(file);
        self.feeder.restart(file);
    }
}

/// Closes the way to the disk when it is dropped.
struct Closing(Arc<Durable>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
