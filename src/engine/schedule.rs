//! Who fetches which bytes next. Pure: connections ask, and tell how far they are.
//!
//! Every missing byte is in exactly one place: in a file's gaps, or in one piece that a connection has. Files are taken one
//! after the other, so that what is there is a beginning that can be hashed. When no gap is left, an idle connection takes
//! the second half of the piece that is farthest from its end: nobody waits for one slow connection. The clock is an argument.

use super::ranges::{Coverage, Span};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How the bytes of large files are cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// The longest piece that one request asks for, in bytes: long enough that the time to its first byte hardly counts,
    /// and short enough that the beginning that can be hashed is close behind.
    pub piece_bytes: u64,
    /// What is left of a piece is halved only while each half is at least this long, in bytes: the old request loses its
    /// connection, and what is on its way there.
    pub half_bytes: u64,
}

impl Default for Cut {
    fn default() -> Self {
        Self { piece_bytes: 8 * 1024 * 1024, half_bytes: 1024 * 1024 }
    }
}

/// A number that no other piece of the same schedule has.
pub(super) type PieceId = u64;

/// Of bytes that arrived, those that belong to the piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Where in the file they begin.
    pub(super) at: u64,
    /// How many they are.
    pub(super) bytes: u64,
    /// Whether nothing is left of the piece.
    pub(super) is_last: bool,
}

#[derive(Debug)]
struct Piece {
    file: usize,
    left: Span,
    /// When it was handed out, and how many bytes came since.
    since: Instant,
    got: u64,
}

impl Piece {
    /// Whether the rest will take longer than this, at the rate so far.
    fn takes(&self, longer_than: Duration, now: Instant) -> bool {
        let elapsed = now.duration_since(self.since).as_nanos();
        match self.got {
            0 => elapsed >= longer_than.as_nanos(),
            got => elapsed * u128::from(self.left.len()) / u128::from(got) >= longer_than.as_nanos(),
        }
    }
}

#[derive(Debug)]
struct File {
    size: u64,
    gaps: Vec<Span>,
    /// One connection at a time: the server sends whole files only.
    single: bool,
    /// Whether an empty file still has to be made.
    unmade: bool,
}

/// The missing bytes of all files.
#[derive(Debug)]
pub(super) struct Schedule {
    cut: Cut,
    files: HashMap<usize, File>,
    /// Files that may have gaps, the next one first.
    order: VecDeque<usize>,
    pieces: HashMap<PieceId, Piece>,
    next_id: PieceId,
}

impl Schedule {
    /// For files (number, size, what is there), the first one first.
    pub(super) fn new(cut: Cut, files: impl IntoIterator<Item = (usize, u64, Coverage)>) -> Self {
        let mut schedule =
            Self { cut, files: HashMap::new(), order: VecDeque::new(), pieces: HashMap::new(), next_id: 0 };
        for (number, size, there) in files {
            let gaps = there.gaps(Span::new(0, size));
            let file = File { size, gaps, single: false, unmade: size == 0 };
            schedule.files.insert(number, file);
            schedule.order.push_back(number);
        }
        schedule
    }

    /// An empty file that needs no request, each once.
    pub(super) fn next_empty(&mut self) -> Option<usize> {
        let (number, file) = self.files.iter_mut().find(|(_, file)| file.unmade)?;
        file.unmade = false;
        Some(*number)
    }

    /// The next piece for an idle connection. A piece that another one has is halved only if that needs longer for its rest
    /// than `patience`.
    pub(super) fn next(&mut self, now: Instant, patience: Duration) -> Option<PieceId> {
        while let Some(number) = self.order.front().copied() {
            let Some(file) = self.files.get_mut(&number).filter(|file| !file.gaps.is_empty()) else {
                self.order.pop_front();
                continue;
            };
            if file.single {
                let whole = Span::new(file.gaps[0].start, file.size);
                file.gaps.clear();
                return Some(self.give(number, whole, now));
            }
            let gap = &mut file.gaps[0];
            let piece = Span::new(gap.start, gap.end.min(gap.start.saturating_add(self.cut.piece_bytes)));
            gap.start = piece.end;
            if gap.is_empty() {
                file.gaps.remove(0);
            }
            return Some(self.give(number, piece, now));
        }
        self.halve(now, patience)
    }

    fn halve(&mut self, now: Instant, patience: Duration) -> Option<PieceId> {
        let may_be_halved =
            |piece: &Piece| piece.takes(patience, now) && self.files.get(&piece.file).is_some_and(|file| !file.single);
        let longest = self.pieces.iter().filter(|(_, piece)| may_be_halved(piece)).max_by_key(|(_, p)| p.left.len())?;
        let (id, left) = (*longest.0, longest.1.left);
        if left.len() / 2 < self.cut.half_bytes {
            return None;
        }
        let middle = left.start + left.len().div_ceil(2);
        let piece = self.pieces.get_mut(&id)?;
        piece.left.end = middle;
        let file = piece.file;
        Some(self.give(file, Span::new(middle, left.end), now))
    }

    fn give(&mut self, file: usize, left: Span, since: Instant) -> PieceId {
        self.next_id += 1;
        self.pieces.insert(self.next_id, Piece { file, left, since, got: 0 });
        self.next_id
    }

    /// The file of a piece, its size, and what of the piece is still to come; nothing if it was revoked.
    pub(super) fn piece(&self, id: PieceId) -> Option<(usize, u64, Span)> {
        let piece = self.pieces.get(&id)?;
        Some((piece.file, self.files.get(&piece.file)?.size, piece.left))
    }

    /// Bytes of a piece arrived; nothing if it was revoked.
    pub(super) fn advance(&mut self, id: PieceId, bytes: u64) -> Option<Step> {
        let piece = self.pieces.get_mut(&id)?;
        let at = piece.left.start;
        let bytes = bytes.min(piece.left.len());
        piece.left.start += bytes;
        piece.got += bytes;
        let is_last = piece.left.is_empty();
        if is_last {
            self.pieces.remove(&id);
        }
        Some(Step { at, bytes, is_last })
    }

    /// The server sends this piece's file only whole: the piece becomes all that is missing of it, and the others are
    /// revoked. Gives where it begins; nothing if another piece was first.
    pub(super) fn make_single(&mut self, id: PieceId) -> Option<u64> {
        let number = self.pieces.get(&id)?.file;
        let mut start = u64::MAX;
        self.pieces.retain(|other, piece| {
            if piece.file == number {
                start = start.min(piece.left.start);
            }
            piece.file != number || *other == id
        });
        let file = self.files.get_mut(&number)?;
        start = file.gaps.first().map_or(start, |gap| gap.start.min(start));
        file.gaps.clear();
        file.single = true;
        self.pieces.get_mut(&id)?.left = Span::new(start, file.size);
        Some(start)
    }

    /// All of a file is missing again, of which nothing was.
    pub(super) fn refill(&mut self, number: usize) {
        let Some(file) = self.files.get_mut(&number) else { return };
        file.gaps = vec![Span::new(0, file.size)].into_iter().filter(|gap| !gap.is_empty()).collect();
        file.unmade = file.size == 0;
        self.order.push_front(number);
    }

    /// Whether nothing is left to be handed out or on its way, but for what is hashed.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.pieces.is_empty() && self.files.values().all(|file| file.gaps.is_empty())
    }
}

#[cfg(test)]
mod tests;
