//! Which bytes of a file are there. Pure.

/// Some bytes of a file: from `start` on, without `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

impl Span {
    /// From here to there.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// How many bytes.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// A set of bytes, as spans that are sorted and neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(Vec<Span>);

impl Coverage {
    /// Adds bytes.
    pub fn insert(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let first = self.0.partition_point(|one| one.end < span.start);
        let last = self.0.partition_point(|one| one.start <= span.end);
        let start = self.0[first..last].first().map_or(span.start, |one| one.start.min(span.start));
        let end = self.0[first..last].last().map_or(span.end, |one| one.end.max(span.end));
        self.0.splice(first..last, [Span::new(start, end)]);
    }

    /// The bytes of a span that are not there.
    pub fn gaps(&self, within: Span) -> Vec<Span> {
        let mut gaps = Vec::new();
        let mut at = within.start;
        let first = self.0.partition_point(|one| one.end <= within.start);
        for one in self.0[first..].iter().take_while(|one| one.start < within.end) {
            if at < one.start {
                gaps.push(Span::new(at, one.start));
            }
            at = one.end;
        }
        if at < within.end {
            gaps.push(Span::new(at, within.end));
        }
        gaps
    }

    /// How far the bytes are there without a gap from the file's first byte on.
    pub fn frontier(&self) -> u64 {
        self.0.first().filter(|one| one.start == 0).map_or(0, |one| one.end)
    }

    /// Where the last byte that is there ends.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |one| one.end)
    }

    /// How many bytes are there.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|one| one.len()).sum()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The spans, in order.
    pub fn spans(&self) -> &[Span] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_set_that_it_says_it_is(spans in prop::collection::vec((0_u64..60, 0_u64..20), 0..12), from in 0_u64..60, length in 0_u64..30) {
            let mut coverage = Coverage::default();
            let mut there = [false; 128];
            for (start, length) in spans {
                coverage.insert(Span::new(start, start + length));
                (start..start + length).for_each(|byte| there[usize::try_from(byte).unwrap()] = true);
            }
            prop_assert_eq!(coverage.bytes(), there.iter().filter(|one| **one).count() as u64);
            prop_assert_eq!(coverage.frontier(), there.iter().take_while(|one| **one).count() as u64);
            prop_assert!(coverage.spans().windows(2).all(|two| two[0].end < two[1].start));
            let gaps = coverage.gaps(Span::new(from, from + length));
            for byte in from..from + length {
                let is_gap = gaps.iter().any(|gap| gap.start <= byte && byte < gap.end);
                prop_assert_eq!(is_gap, !there[usize::try_from(byte).unwrap()], "{}", byte);
            }
        }
    }
}
