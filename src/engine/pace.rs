//! How many connections at a time, and how many bytes a second. Pure: the clock is an argument.
//!
//! A few connections to begin with; twice as many as long as that makes it a good deal faster (which is what a server that
//! limits each connection looks like), and no more than was of use. Whoever is told to be quiet, or runs into a timeout,
//! goes on with half of them.

use std::time::{Duration, Instant};

/// How many connections there are at first: enough to see whether one is as fast as several.
const START: usize = 4;
/// How long the rate is measured before it is judged: longer than the bursts of buffers on the way.
const WINDOW: Duration = Duration::from_millis(50);
/// Twice the connections are worth keeping when they bring at least this many percent of the rate before.
const GROWTH_PERCENT: u128 = 125;
/// How long a number that was found good is kept before more are tried again.
const KEEP: Duration = Duration::from_secs(5);
/// How long no more are tried after a server asked for less.
const CALM: Duration = Duration::from_secs(30);
/// Servers that refuse refuse all connections at once: that is one refusal.
const ONE_REFUSAL: Duration = Duration::from_secs(1);

/// What is known of the transfer at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// Bytes that came so far.
    pub(super) bytes: u64,
    /// Answers that began so far.
    pub(super) answers: u64,
    /// Connections that are at work.
    pub(super) busy: usize,
}

/// The number of connections.
#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    max: usize,
    /// The rate with half as many connections, while it is tried whether more are better.
    before: Option<u128>,
    /// Until when the number stays; none while more are tried.
    keep_until: Option<Instant>,
    /// How many answers there must be for the rate to be that of all connections.
    answers_due: u64,
    window: Option<(Instant, u64)>,
    refused_at: Option<Instant>,
}

impl Pace {
    /// At most `max` connections.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        let limit = START.min(max);
        let answers_due = limit as u64;
        Self { limit, max, before: None, keep_until: None, answers_due, window: None, refused_at: None }
    }

    /// How many connections there may be now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Looks at how it goes; to be called every few milliseconds.
    pub(super) fn look(&mut self, now: Instant, sight: Sight) {
        if sight.busy < self.limit || sight.answers < self.answers_due {
            self.window = None;
            return;
        }
        let Some((since, bytes)) = self.window else {
            self.window = Some((now, sight.bytes));
            return;
        };
        let nanos = now.duration_since(since).as_nanos();
        if nanos < WINDOW.as_nanos() {
            return;
        }
        self.window = Some((now, sight.bytes));
        let rate = u128::from(sight.bytes.saturating_sub(bytes)) * 1_000_000_000 / nanos;
        self.judge(now, rate, sight.answers);
    }

    fn judge(&mut self, now: Instant, rate: u128, answers: u64) {
        if self.keep_until.is_some_and(|until| now < until) {
            return;
        }
        self.keep_until = None;
        if self.before.is_some_and(|before| rate * 100 < before * GROWTH_PERCENT) {
            // It was of no use: back to what was as fast.
            self.limit = self.limit.div_ceil(2);
            self.before = None;
            self.keep_until = Some(now + KEEP);
        } else if self.limit < self.max {
            let more = self.limit.min(self.max - self.limit);
            self.before = Some(rate);
            self.limit += more;
            self.answers_due = answers + more as u64;
        } else {
            self.before = None;
            self.keep_until = Some(now + KEEP);
        }
        self.window = None;
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
            Self { pace: Pace::new(max), now: Instant::now(), sight: Sight { bytes: 0, answers: 0, busy: 0 } }
        }

        fn run(&mut self, seconds: u64, rate: impl Fn(u64) -> u64) -> usize {
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
        // More are tried now and then.
        assert_eq!(net.run(20, |connections| connections * 20_000_000), 32);
    }

    #[test]
    fn growth_ends_where_it_is_of_no_use() {
        assert_eq!(Net::new(64).run(1, |connections| (connections * 20_000_000).min(300_000_000)), 16);
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
            pace.look(now, Sight { bytes: millis * 1000, answers: millis, busy: START - 1 });
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
