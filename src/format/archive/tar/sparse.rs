//! Files with holes, in the old form of GNU tar: a map in the header, and then the data without the holes.

/// Some data and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) at: u64,
    pub(super) length: u64,
}

/// A file with holes that is being read.
#[derive(Debug)]
pub(super) struct Holes {
    /// What is still to come, the next last.
    spans: Vec<Span>,
    at: u64,
    size: u64,
}

impl Holes {
    /// Checks the map against both sizes of the file.
    pub(super) fn new(map: &[Span], size: u64, data: u64) -> Result<Self, &'static str> {
        const WRONG: &str = "its map of holes contradicts itself";
        let (mut end, mut sum) = (0_u64, 0_u64);
        for Span { at, length } in map {
            if *at < end {
                return Err(WRONG);
            }
            end = at.checked_add(*length).filter(|end| *end <= size).ok_or(WRONG)?;
            sum += length;
        }
        if sum != data {
            return Err(WRONG);
        }
        let spans = map.iter().rev().copied().filter(|span| span.length > 0).collect();
        Ok(Self { spans, at: 0, size })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many zeros come now, of at most so many; the file goes on behind them.
    pub(super) fn zeros(&mut self, most: usize) -> usize {
        let next = self.spans.last().map_or(self.size, |span| span.at);
        let zeros = usize::try_from(next.saturating_sub(self.at)).unwrap_or(usize::MAX).min(most);
        self.at += zeros as u64;
        zeros
    }

    /// How many bytes of data come before the next hole.
    pub(super) fn data(&self) -> u64 {
        self.spans.last().map_or(0, |span| (span.at + span.length).saturating_sub(self.at))
    }

    /// So many bytes of data were read.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.at += bytes;
        if self.data() == 0 {
            self.spans.pop();
        }
    }
}
