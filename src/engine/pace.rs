//! How many connections at a time, and how many bytes a second. Pure: the clock is an argument.
//!
//! A few connections to begin with; several times as many as long as that makes it a good deal faster (which is what a server
//! that limits each connection looks like), and no more than was of use. Whoever is told to be quiet, or runs into a timeout,
//! goes on with half of them.

use std::time::{Duration, Instant};

/// How many connections there are at first: a line that these fill is best left to them.
const START: usize = 4;
/// How many times as many are tried. A large step is judged as fast as a small one, and seldom in vain.
const STEP: usize = 4;
/// How long the rate is measured before it is judged, when bytes come all the time…
const WINDOW: Duration = Duration::from_millis(50);
/// … and when they come in bursts, as servers and long lines send them. Growth is believed earlier: too many connections do
/// less harm than too few.
const WINDOW_OF_BURSTS: Duration = Duration::from_millis(250);
/// More connections are worth keeping when they bring at least this many percent of the rate before.
const GROWTH_PERCENT: u128 = 125;
/// When the disk takes nothing more at this part of the looks, in percent, it is what everything waits for.
const DISK_FULL_PERCENT: u32 = 90;
/// How long after more were of no use they are tried again, at first. It may have been a bad moment, so it is not long; each
/// time it is twice as long.
const KEEP: Duration = Duration::from_secs(1);
const KEEP_MAX: Duration = Duration::from_secs(16);
/// How long no more are tried after a server asked for less.
const CALM: Duration = Duration::from_secs(30);
/// Servers that refuse refuse all connections at once: that is one refusal.
const ONE_REFUSAL: Duration = Duration::from_secs(1);

/// What is known of the transfer at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// Bytes that came and were written so far.
    pub(super) bytes: u64,
    /// Answers that began so far.
    pub(super) answers: u64,
    /// Connections that are at work.
    pub(super) busy: usize,
    /// Whether the disk takes nothing more at the moment.
    pub(super) disk_is_full: bool,
}

/// A time over which the rate is measured.
#[derive(Debug)]
struct Window {
    since: Instant,
    bytes: u64,
    /// How often it was looked at, and how often of these the disk took nothing more.
    looks: u32,
    full: u32,
    /// The bytes at the last look, and whether there were looks between which none came.
    last: u64,
    bursts: bool,
}

/// The number of connections.
#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    max: usize,
    /// The number before and its rate, while it is tried whether more are better.
    before: Option<(usize, u128)>,
    /// Until when the number stays; none while more are tried.
    keep_until: Option<Instant>,
    keep: Duration,
    /// Whether more were of no use.
    line_is_full: bool,
    /// How many answers there must be for the rate to be that of all connections.
    answers_due: u64,
    window: Option<Window>,
    refused_at: Option<Instant>,
}

impl Pace {
    /// At most `max` connections.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        let limit = START.min(max);
        let answers_due = limit as u64;
        Self {
            limit,
            max,
            before: None,
            keep_until: None,
            keep: KEEP,
            line_is_full: false,
            answers_due,
            window: None,
            refused_at: None,
        }
    }

    /// How many connections there may be now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether all connections together are limited, and not each of them: more were of no use when they were tried.
    pub(super) fn line_is_full(&self) -> bool {
        self.line_is_full
    }

    /// Looks at how it goes; to be called every few milliseconds.
    pub(super) fn look(&mut self, now: Instant, sight: Sight) {
        if sight.busy < self.limit || sight.answers < self.answers_due {
            self.window = None;
            return;
        }
        let Some(window) = &mut self.window else {
            let bytes = sight.bytes;
            self.window = Some(Window { since: now, bytes, looks: 0, full: 0, last: bytes, bursts: false });
            return;
        };
        window.looks += 1;
        window.full += u32::from(sight.disk_is_full);
        window.bursts |= sight.bytes == window.last;
        window.last = sight.bytes;
        let elapsed = now.duration_since(window.since);
        let rate = u128::from(sight.bytes.saturating_sub(window.bytes)) * 1_000_000_000 / elapsed.as_nanos().max(1);
        // When nothing comes at all, it is not for want of connections.
        if elapsed < WINDOW || rate == 0 {
            return;
        }
        let grew = self.before.is_none_or(|(_, before)| rate * 100 >= before * GROWTH_PERCENT);
        if window.bursts && !grew && elapsed < WINDOW_OF_BURSTS {
            return;
        }
        let waits_for_disk = window.full * 100 >= window.looks * DISK_FULL_PERCENT;
        self.window = None;
        if waits_for_disk && self.before.is_none() {
            self.shrink(now);
        } else if self.keep_until.is_some_and(|until| now < until) {
            // It is as it should be.
        } else if grew {
            self.grow(now, rate, sight.answers);
        } else {
            self.give_up(now);
        }
    }

    /// The disk is slower than the network: fewer connections are as fast, and hold less in the buffers of their sockets.
    fn shrink(&mut self, now: Instant) {
        self.limit = (self.limit * 3 / 4).max(START.min(self.max));
        self.line_is_full = true;
        self.keep_until = Some(now + self.keep);
    }

    /// More connections are tried, after the last ones were of use.
    fn grow(&mut self, now: Instant, rate: u128, answers: u64) {
        self.keep_until = None;
        if self.before.take().is_some() {
            self.keep = KEEP;
            self.line_is_full = false;
        }
        let more = (self.limit * (STEP - 1)).min(self.max - self.limit);
        if more == 0 {
            self.keep_until = Some(now + KEEP_MAX);
        } else {
            self.before = Some((self.limit, rate));
            self.limit += more;
            self.answers_due = answers + more as u64;
        }
    }

    /// The last ones were of no use.
    fn give_up(&mut self, now: Instant) {
        if let Some((limit, _)) = self.before.take() {
            self.limit = limit;
            self.line_is_full = true;
            self.keep_until = Some(now + self.keep);
            self.keep = (self.keep * 2).min(KEEP_MAX);
        }
    }

    /// A server asked for less, or did not answer in time.
    pub(super) fn refused(&mut self, now: Instant) {
        if self.refused_at.is_some_and(|before| now.duration_since(before) < ONE_REFUSAL) {
            return;
        }
        self.refused_at = Some(now);
        self.limit = self.limit.div_ceil(2);
        self.before = None;
        self.keep_until = Some(now + CALM);
        self.window = None;
    }
}

/// The most bytes a second, over all connections.
#[derive(Debug)]
pub(super) struct Allowance {
    per_second: u64,
    /// When what was allowed so far is used up.
    used_until: Instant,
}

impl Allowance {
    pub(super) fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second: per_second.max(1), used_until: now }
    }

    /// Takes the allowance for bytes that arrived; gives when the next may be read.
    pub(super) fn take(&mut self, now: Instant, bytes: u64) -> Instant {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.used_until = self.used_until.max(now) + cost;
        self.used_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace, and a network that gives a rate for a number of connections.
    struct Net {
        pace: Pace,
        now: Instant,
        sight: Sight,
    }

    impl Net {
        fn new(max: usize) -> Self {
            Self {
                pace: Pace::new(max),
                now: Instant::now(),
                sight: Sight { bytes: 0, answers: 0, busy: 0, disk_is_full: false },
            }
        }

        fn run(&mut self, seconds: u64, mut rate: impl FnMut(u64) -> u64) -> usize {
            for _ in 0..seconds * 100 {
                self.now += Duration::from_millis(10);
                self.sight.bytes += rate(self.pace.limit() as u64) / 100;
                self.sight.answers += self.pace.limit().saturating_sub(self.sight.busy) as u64;
                self.sight.busy = self.pace.limit();
                self.pace.look(self.now, self.sight);
            }
            self.pace.limit()
        }
    }

    #[test]
    fn a_limit_on_each_connection_is_answered_with_more() {
        assert_eq!(Net::new(32).run(1, |connections| connections * 20_000_000), 32);
    }

    #[test]
    fn a_full_line_is_left_at_that() {
        let mut net = Net::new(32);
        assert_eq!(net.run(1, |_| 1_000_000_000), START);
        assert!(net.pace.line_is_full());
        // More are tried now and then.
        assert_eq!(net.run(20, |connections| connections * 20_000_000), 32);
        assert!(!net.pace.line_is_full());
    }

    #[test]
    fn growth_ends_where_it_is_of_no_use() {
        let mut net = Net::new(128);
        assert_eq!(net.run(1, |connections| (connections * 20_000_000).min(300_000_000)), 16);
        assert!(net.pace.line_is_full());
    }

    /// As nginx does it: each connection gets 2 MB at once and then nothing for 100 ms.
    #[test]
    fn bursts_are_not_taken_for_a_full_line() {
        for phase in 0..10 {
            let mut net = Net::new(32);
            let mut tick = phase;
            let mut run = |seconds| {
                net.run(seconds, |connections| {
                    tick += 1;
                    if tick % 10 == 0 { connections * 200_000_000 } else { 0 }
                })
            };
            assert!(run(1) >= 16, "phase {phase}");
            assert_eq!(run(5), 32, "phase {phase}");
        }
    }

    #[test]
    fn a_slow_disk_needs_few_connections() {
        let mut net = Net::new(32);
        assert_eq!(net.run(1, |connections| connections * 20_000_000), 32);
        net.sight.disk_is_full = true;
        assert_eq!(net.run(1, |_| 1_000_000), START);
    }

    #[test]
    fn a_refusal_halves_once_and_is_remembered() {
        let mut net = Net::new(32);
        net.run(1, |connections| connections * 20_000_000);
        (0..32).for_each(|_| net.pace.refused(net.now));
        assert_eq!(net.pace.limit(), 16);
        assert_eq!(net.run(20, |connections| connections * 20_000_000), 16);
        (2..20).for_each(|seconds| net.pace.refused(net.now + Duration::from_secs(seconds)));
        assert_eq!(net.pace.limit(), 1);
    }

    #[test]
    fn without_enough_to_do_nothing_is_judged() {
        let mut pace = Pace::new(32);
        let start = Instant::now();
        for millis in 0..1000 {
            let now = start + Duration::from_millis(millis);
            pace.look(now, Sight { bytes: millis * 1000, answers: millis, busy: START - 1, disk_is_full: false });
        }
        assert_eq!(pace.limit(), START);
    }

    #[test]
    fn an_allowance_holds_over_all_connections() {
        let start = Instant::now();
        let mut allowance = Allowance::new(1000, start);
        let ends = [start, start].map(|now| allowance.take(now, 500));
        assert_eq!(ends, [start + Duration::from_millis(500), start + Duration::from_secs(1)]);
        // What was not used is gone.
        let later = start + Duration::from_mins(1);
        assert_eq!(allowance.take(later, 1000), later + Duration::from_secs(1));
    }
}
