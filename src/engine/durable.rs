//! Makes written bytes durable, and only then says so in the journal: on a thread of its own, all the time.
//!
//! What is written and not yet on the disk is bounded. So a slow disk slows the network down instead of filling the memory
//! that the worker is allowed, and a kill loses little.

use super::EngineError;
use super::journal;
use super::ranges::{Coverage, Span};
use super::volume::{Part, Staging, Volume, VolumeError};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that are written and not on the disk: a part of the model, so that a kill loses only a part of it.
const PENDING_PART: u64 = 16;
const PENDING_MIN_BYTES: u64 = 2 * 1024 * 1024;
const PENDING_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The most files of which something is not on the disk; each is open. Many systems allow 1024 open files.
const PENDING_MAX_FILES: usize = 256;
/// A round begins when this part of the most is there…
const ROUND_PART: u64 = 8;
/// … or after this time: a round costs the disk two flushes, whatever is in it.
const ROUND_AFTER: Duration = Duration::from_millis(100);
/// How many files are synced at a time: file systems put simultaneous syncs into one flush, and small files need it.
const SYNC_THREADS: usize = 16;
/// The journal is said again in few lines when it has become this long, in bytes, or twice as long as it was then.
const REWRITE_BYTES: u64 = 16 * 1024 * 1024;
/// How often the free space is looked at.
const SPACE_EVERY: Duration = Duration::from_secs(5);

/// What is written of one file and not on the disk.
struct Pending {
    part: Arc<Part>,
    spans: Coverage,
    /// Whether it is all of the file, so that its size and mode are made durable too.
    is_whole: bool,
}

#[derive(Default)]
struct State {
    pending: BTreeMap<usize, Pending>,
    drops: Vec<usize>,
    /// Of the pending files, and of those that are being synced.
    bytes: u64,
    files: usize,
    since: Option<Instant>,
    /// Nothing will be added.
    closed: bool,
    /// The thread is gone.
    ended: bool,
}

/// What whoever writes and the thread share.
pub(super) struct Durable {
    state: Mutex<State>,
    changed: Condvar,
    max_bytes: u64,
    space_every: Duration,
    /// How much room the model still takes from the disk, in bytes.
    room: AtomicU64,
}

/// The thread is gone; its own error says why.
#[derive(Debug)]
pub(super) struct Gone;

impl Durable {
    /// For a model of so many bytes, which still takes so much room from the disk.
    pub(super) fn new(model_bytes: u64, room: u64) -> Self {
        let max_bytes = (model_bytes / PENDING_PART).clamp(PENDING_MIN_BYTES, PENDING_MAX_BYTES);
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            max_bytes,
            space_every: SPACE_EVERY,
            room: AtomicU64::new(room),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes were written. Waits while too much is not on the disk.
    pub(super) fn add(&self, file: usize, part: &Arc<Part>, span: Span, is_whole: bool) -> Result<(), Gone> {
        let mut state = self.lock();
        while !state.ended && (state.bytes >= self.max_bytes || state.files >= PENDING_MAX_FILES) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended {
            return Err(Gone);
        }
        let State { pending, files, .. } = &mut *state;
        let pending = pending.entry(file).or_insert_with(|| {
            *files += 1;
            Pending { part: Arc::clone(part), spans: Coverage::default(), is_whole: false }
        });
        pending.spans.insert(span);
        pending.is_whole |= is_whole;
        state.bytes += span.len();
        if state.since.is_none() {
            state.since = Some(Instant::now());
            self.changed.notify_all();
        } else if self.is_round(&state) {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The model takes so much less room from the disk than before.
    pub(super) fn reserved(&self, bytes: u64) {
        let less = |room: u64| Some(room.saturating_sub(bytes));
        let _ = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// What was written of a file counts no more.
    pub(super) fn forget(&self, file: usize) {
        let mut state = self.lock();
        if let Some(pending) = state.pending.remove(&file) {
            state.bytes -= pending.spans.bytes();
            state.files -= 1;
        }
        state.drops.push(file);
        state.since.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    /// Nothing will be added: the thread ends when all is on the disk.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn is_round(&self, state: &State) -> bool {
        state.closed
            || state.bytes >= self.max_bytes / ROUND_PART
            || state.files >= PENDING_MAX_FILES / 2
            || state.since.is_some_and(|since| since.elapsed() >= ROUND_AFTER)
    }

    /// Waits for a round; none at the end.
    fn next_round(&self) -> Option<(BTreeMap<usize, Pending>, Vec<usize>)> {
        let mut state = self.lock();
        loop {
            let is_empty = state.pending.is_empty() && state.drops.is_empty();
            if is_empty && state.closed {
                return None;
            }
            if !is_empty && self.is_round(&state) {
                state.since = None;
                return Some((std::mem::take(&mut state.pending), std::mem::take(&mut state.drops)));
            }
            state = if is_empty {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, ROUND_AFTER).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// What the thread does, until it is closed.
    pub(super) fn work(&self, volume: &Volume, mut journal: Journal) -> Result<(), EngineError> {
        let _ending = Ending(self);
        let mut looked = Instant::now();
        while let Some((round, drops)) = self.next_round() {
            sync(&round.values().collect::<Vec<_>>()).map_err(EngineError::Volume)?;
            journal.add(&round, &drops).map_err(EngineError::Volume)?;
            let mut state = self.lock();
            state.bytes -= round.values().map(|pending| pending.spans.bytes()).sum::<u64>();
            state.files -= round.len();
            drop(state);
            self.changed.notify_all();
            let room = self.room.load(Ordering::Relaxed);
            if room > 0 && looked.elapsed() >= self.space_every {
                looked = Instant::now();
                volume.check_space(room, 0).map_err(EngineError::Volume)?;
            }
        }
        Ok(())
    }
}

/// The open journal.
pub(super) struct Journal {
    staging: Arc<Staging>,
    part: Part,
    end: u64,
    rewrite_at: u64,
    /// All that it says.
    there: HashMap<usize, Coverage>,
}

impl Journal {
    /// Replaces the journal of an earlier attempt by one that says the same in few lines.
    pub(super) fn begin(staging: Arc<Staging>, there: HashMap<usize, Coverage>) -> Result<Self, VolumeError> {
        let (part, end) = staging.begin_journal(journal::text(&there).as_bytes())?;
        Ok(Self { staging, part, end, rewrite_at: REWRITE_BYTES.max(end * 2), there })
    }

    fn add(&mut self, round: &BTreeMap<usize, Pending>, drops: &[usize]) -> Result<(), VolumeError> {
        let mut text = String::new();
        // What was dropped was dropped before what is pending now was written.
        for file in drops {
            journal::add_drop(&mut text, *file);
            self.there.remove(file);
        }
        for (file, pending) in round {
            for span in pending.spans.spans() {
                journal::add(&mut text, *file, *span);
                self.there.entry(*file).or_default().insert(*span);
            }
        }
        if self.end + text.len() as u64 > self.rewrite_at {
            *self = Self::begin(Arc::clone(&self.staging), std::mem::take(&mut self.there))?;
            return Ok(());
        }
        self.part.write_at(text.as_bytes(), self.end)?;
        self.part.sync_bytes()?;
        self.end += text.len() as u64;
        Ok(())
    }
}

/// Whoever waits for the thread must learn that it is gone, by a panic too.
struct Ending<'a>(&'a Durable);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

fn sync(round: &[&Pending]) -> Result<(), VolumeError> {
    let one = |pending: &Pending| if pending.is_whole { pending.part.sync() } else { pending.part.sync_bytes() };
    if let [pending] = round {
        return one(pending);
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(pending) = round.get(next.fetch_add(1, Ordering::Relaxed)) {
                one(pending)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..SYNC_THREADS.min(round.len())).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_in_the_journal_at_the_end_and_what_was_dropped_is_not() {
        for rewrite_at in [REWRITE_BYTES, 100] {
            let folder = tempfile::tempdir().unwrap();
            let volume = Volume::open(folder.path(), None).unwrap();
            let staging = Arc::new(Staging::open(&volume, "p-1", "p-").unwrap());
            let durable = Arc::new(Durable::new(1000, 0));
            let mut file = Journal::begin(Arc::clone(&staging), HashMap::new()).unwrap();
            file.rewrite_at = rewrite_at;
            let thread = {
                let durable = Arc::clone(&durable);
                std::thread::spawn(move || durable.work(&volume, file))
            };
            let part = Arc::new(staging.open_part(&"a".parse().unwrap(), 100).unwrap().0);
            // More files than may wait, so that whoever adds has to wait for the disk.
            for file in 0..1000 {
                durable.add(file, &part, Span::new(0, 50), false).unwrap();
            }
            durable.forget(7);
            durable.add(7, &part, Span::new(10, 20), false).unwrap();
            durable.close();
            thread.join().unwrap().unwrap();
            let read = journal::parse(&staging.journal(1 << 20).unwrap(), |_| Some(100));
            assert_eq!(read.len(), 1000);
            assert_eq!(read[&7].spans(), [Span::new(10, 20)]);
            assert_eq!(read[&8].spans(), [Span::new(0, 50)]);
            assert!(durable.add(1, &part, Span::new(0, 1), false).is_err());
        }
    }

    #[test]
    fn what_is_not_on_the_disk_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let volume = Volume::open(folder.path(), None).unwrap();
        let staging = Arc::new(Staging::open(&volume, "p-1", "p-").unwrap());
        let durable = Durable::new(1 << 40, 0);
        let journal = Journal::begin(Arc::clone(&staging), HashMap::new()).unwrap();
        let part = Arc::new(staging.open_part(&"a".parse().unwrap(), 0).unwrap().0);
        let mut most = 0;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| durable.work(&volume, journal));
            for piece in 0..2_000 {
                durable.add(0, &part, Span::new(piece << 20, (piece + 1) << 20), false).unwrap();
                most = most.max(durable.lock().bytes);
            }
            durable.close();
            thread.join().unwrap().unwrap();
        });
        assert!(most <= PENDING_MAX_BYTES + (1 << 20), "{most}");
    }

    #[test]
    fn a_volume_that_others_fill_is_seen_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let volume = Volume::open(folder.path(), None).unwrap();
        let staging = Arc::new(Staging::open(&volume, "p-1", "p-").unwrap());
        // More than any disk has is still to come.
        let durable = Durable { space_every: Duration::ZERO, ..Durable::new(1 << 40, 1 << 62) };
        let journal = Journal::begin(Arc::clone(&staging), HashMap::new()).unwrap();
        let part = Arc::new(staging.open_part(&"a".parse().unwrap(), 100).unwrap().0);
        durable.add(0, &part, Span::new(0, 100), false).unwrap();
        let error = durable.work(&volume, journal).unwrap_err();
        assert_eq!(error.reason(), crate::ident::Reason::OutOfSpace, "{error}");
        assert!(durable.add(0, &part, Span::new(0, 100), false).is_err(), "nobody waits for a thread that is gone");
    }

    #[test]
    fn a_kill_loses_a_part_of_the_model_and_never_much() {
        for (model, most) in [(0, 2 << 20), (90_900_000, 5_681_250), (1 << 40, 16 << 20)] {
            assert_eq!(Durable::new(model, 0).max_bytes, most);
        }
    }
}
