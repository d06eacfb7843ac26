//! The pieces in which an archive goes from thread to thread. Their memory goes round.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Small enough that a few of them stay in the caches between the threads, large enough that handing over costs nothing.
const BLOCK_BYTES: usize = 256 * 1024;
/// How many blocks may wait for a thread.
const WAITING: usize = 8;

/// Some bytes of the archive, or of what is to be compressed. All but the last are full.
#[derive(Debug)]
pub(super) struct Block {
    /// Always of the same length: filling them with zeros each time would cost as much as reading.
    memory: Vec<u8>,
    filled: usize,
    /// Which of them are the model's files'.
    pub(super) spans: Vec<Span>,
    /// The archive's end is in it.
    pub(super) is_last: bool,
    home: Sender<Vec<u8>>,
}

/// Bytes of one file in a block.
#[derive(Debug)]
pub(super) struct Span {
    /// The file's index among the archive's members.
    pub(super) member: usize,
    pub(super) range: Range<usize>,
    /// The file ends with them.
    pub(super) is_end: bool,
}

impl Block {
    /// What is in it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[..self.filled]
    }

    /// How many bytes are in it.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Whether nothing more has room.
    pub(super) fn is_full(&self) -> bool {
        self.filled == BLOCK_BYTES
    }

    /// Adds as many of these bytes as there is room for; gives how many.
    pub(super) fn add(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        taken
    }

    /// What is still free; who writes there says so with [`Self::grow`].
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.filled..]
    }

    /// Takes so many bytes of what was free.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.filled += bytes;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // At the end nobody takes it any more.
        let _ = self.home.send(std::mem::take(&mut self.memory));
    }
}

/// Makes blocks out of the memory of earlier ones.
#[derive(Debug)]
pub(super) struct Pool {
    home: Sender<Vec<u8>>,
    free: Receiver<Vec<u8>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let (home, free) = channel();
        Self { home, free }
    }

    /// An empty block.
    pub(super) fn block(&self) -> Block {
        let memory = self.free.try_recv().unwrap_or_else(|_| vec![0; BLOCK_BYTES]);
        Block { memory, filled: 0, spans: Vec::new(), is_last: false, home: self.home.clone() }
    }
}

pub(super) type Blocks = SyncSender<Arc<Block>>;

/// A way from one thread to another.
pub(super) fn way() -> (Blocks, Receiver<Arc<Block>>) {
    sync_channel(WAITING)
}
