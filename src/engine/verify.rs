//! Hashing files while they arrive, on threads of its own.
//!
//! A file is hashed from its first byte on, as far as it is there without a gap, out of what the system keeps of it in
//! memory. Bytes are written once and hashed after that (the `disk` room sees to it), so what was hashed is what is there.

use super::EngineError;
use super::hash::{Hashed, Hasher};
use super::plan::{Plan, PlannedFile};
use super::volume::{Staging, VolumeError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::mpsc::UnboundedSender;

/// A file is hashed on when at least this much of it is new, in bytes, or when it is whole.
const STEP_BYTES: u64 = 1024 * 1024;
/// The size of the buffer in which files are read: it stays in a core's own cache.
const BUFFER_BYTES: u64 = 128 * 1024;
/// The most files that are hashed at a time, whatever the number of cores: each has a buffer.
const THREADS_MAX: usize = 8;

/// How many threads there should be.
pub(super) fn threads() -> usize {
    // Two at least: a long file must not hold up the short ones.
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, THREADS_MAX))
}

/// A whole file and what it hashes to.
pub(super) type Verdict = (usize, Hashed);

#[derive(Default)]
struct Slot {
    /// How far the file is there.
    there: AtomicU64,
    /// How far it is hashed.
    hashed: AtomicU64,
    /// Whether a thread has it, or will.
    taken: AtomicBool,
    hasher: Mutex<Option<Box<Hasher>>>,
}

/// The state of all files, shared by whoever writes and whoever hashes.
pub(super) struct Verifier {
    plan: Arc<Plan>,
    staging: Arc<Staging>,
    slots: Vec<Slot>,
    queue: Mutex<mpsc::Receiver<usize>>,
    verdicts: UnboundedSender<Verdict>,
}

/// Tells the threads what there is to do. They end when this is gone.
pub(super) struct Feeder {
    verifier: Arc<Verifier>,
    queue: mpsc::Sender<usize>,
}

impl Feeder {
    pub(super) fn new(plan: Arc<Plan>, staging: Arc<Staging>, verdicts: UnboundedSender<Verdict>) -> Self {
        let (sender, receiver) = mpsc::channel();
        let slots = plan.files.iter().map(|_| Slot::default()).collect();
        let verifier = Verifier { plan, staging, slots, queue: Mutex::new(receiver), verdicts };
        Self { verifier: Arc::new(verifier), queue: sender }
    }

    pub(super) fn verifier(&self) -> Arc<Verifier> {
        Arc::clone(&self.verifier)
    }

    /// A file is there up to a byte.
    pub(super) fn there(&self, file: usize, up_to: u64) {
        let slot = &self.verifier.slots[file];
        slot.there.store(up_to, Ordering::SeqCst);
        if self.verifier.is_due(file) && !slot.taken.swap(true, Ordering::SeqCst) {
            // No receiver means that everything ends.
            let _ = self.queue.send(file);
        }
    }

    /// A file begins anew.
    pub(super) fn restart(&self, file: usize) {
        let slot = &self.verifier.slots[file];
        // Whoever hashes it now holds this, and stores how far it came before it lets go.
        let mut hasher = slot.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        slot.there.store(0, Ordering::SeqCst);
        slot.hashed.store(0, Ordering::SeqCst);
        *hasher = None;
    }
}

impl Verifier {
    /// Whether there is enough to hash.
    fn is_due(&self, file: usize) -> bool {
        let slot = &self.slots[file];
        let (there, hashed) = (slot.there.load(Ordering::SeqCst), slot.hashed.load(Ordering::SeqCst));
        let size = self.plan.files[file].size;
        there >= hashed.saturating_add(STEP_BYTES) || (there == size && (hashed < size || size == 0))
    }

    /// What each thread does, until nothing comes any more.
    pub(super) fn work(&self) -> Result<(), EngineError> {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(file) = next else { return Ok(()) };
            let slot = &self.slots[file];
            loop {
                if self.hash(file)? {
                    break;
                }
                slot.taken.store(false, Ordering::SeqCst);
                // More may have come between the look and the word that nobody has it.
                if !self.is_due(file) || slot.taken.swap(true, Ordering::SeqCst) {
                    break;
                }
            }
        }
    }

    /// Hashes what is there of a file; says whether that was all of it.
    fn hash(&self, file: usize) -> Result<bool, EngineError> {
        let (planned, slot) = (&self.plan.files[file], &self.slots[file]);
        let mut guard = slot.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hasher = guard.take().unwrap_or_else(|| Box::new(Hasher::new(&planned.digest, planned.size)));
        let (from, there) = (slot.hashed.load(Ordering::SeqCst), slot.there.load(Ordering::SeqCst));
        // A file that somebody made shorter, or took away, gets another digest: no special case.
        self.update(planned, &mut hasher, from, there).map_err(EngineError::Volume)?;
        slot.hashed.store(there, Ordering::SeqCst);
        if there < planned.size {
            *guard = Some(hasher);
            return Ok(false);
        }
        drop(guard);
        slot.taken.store(false, Ordering::SeqCst);
        // No receiver means that the download failed elsewhere.
        let _ = self.verdicts.send((file, hasher.finish()));
        Ok(true)
    }

    fn update(&self, file: &PlannedFile, hasher: &mut Hasher, from: u64, to: u64) -> Result<(), VolumeError> {
        let mut at = from;
        if at == to {
            return Ok(());
        }
        let Some(part) = self.staging.read_part(&file.path)? else { return Ok(()) };
        let piece = |at: u64| usize::try_from((to - at).min(BUFFER_BYTES)).unwrap_or(0);
        let mut buffer = vec![0; piece(at)];
        while at < to {
            let read = part.read_at(&mut buffer[..piece(at)], at)?;
            if read == 0 {
                return Ok(());
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        Ok(())
    }
}
