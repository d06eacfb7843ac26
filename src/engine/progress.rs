//! How far the work is: counters that every file's task adds to, and a rate made of them. No output happens here.

use crate::format::outcome::Progress as Report;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Counters, shared by all tasks of one download.
#[derive(Debug, Default)]
pub struct Progress {
    bytes_done: AtomicU64,
    /// The most that was reported: wrong bytes are fetched again, and nobody shall see a bar go back.
    reported: AtomicU64,
    bytes_total: AtomicU64,
    files_done: AtomicU64,
    files_total: AtomicU64,
    fetched: AtomicU64,
    written: AtomicU64,
    planned: AtomicBool,
    plan_known: Notify,
}

impl Progress {
    /// The plan is known.
    pub fn plan(&self, files: u64, bytes: u64) {
        self.files_total.store(files, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
        self.planned.store(true, Ordering::Release);
        self.plan_known.notify_waiters();
    }

    /// Returns when the plan is known.
    pub async fn planned(&self) {
        let told = self.plan_known.notified();
        tokio::pin!(told);
        // Registered before the look, so that a plan between the two is not missed.
        told.as_mut().enable();
        if !self.planned.load(Ordering::Acquire) {
            told.await;
        }
    }

    /// Bytes arrived over the network.
    pub fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that arrived were written; they are done.
    pub fn written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
        self.done(bytes);
    }

    /// Bytes are on the volume, each counted once.
    pub fn done(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes turned out to be wrong and are fetched again.
    pub fn lost(&self, bytes: u64) {
        self.bytes_done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// All that was done has to be done once more.
    pub fn begin_again(&self) {
        self.bytes_done.store(0, Ordering::Relaxed);
        self.files_done.store(0, Ordering::Relaxed);
    }

    /// A file is complete and verified.
    pub fn file_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// All bytes that came over the network, wrong ones too.
    pub fn bytes_fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// All bytes that arrived and were written.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The counters now, never more done than there is or less than was reported before; the rate is the caller's.
    pub fn report(&self, bytes_per_second: u64) -> Report {
        let bytes_total = self.bytes_total.load(Ordering::Relaxed);
        let files_total = self.files_total.load(Ordering::Relaxed);
        // What has no known end has no limit.
        let most = if bytes_total == 0 { u64::MAX } else { bytes_total };
        let bytes_done = self.bytes_done.load(Ordering::Relaxed).min(most);
        Report {
            bytes_done: self.reported.fetch_max(bytes_done, Ordering::Relaxed).max(bytes_done),
            bytes_total,
            files_done: self.files_done.load(Ordering::Relaxed).min(files_total),
            files_total,
            bytes_per_second,
        }
    }
}

/// The rate over the last seconds.
#[derive(Debug, Default)]
pub struct Meter(VecDeque<(Instant, u64)>);

impl Meter {
    const WINDOW: Duration = Duration::from_secs(10);

    /// Takes a sample of all bytes that came, and gives the rate in bytes per second.
    pub fn sample(&mut self, now: Instant, bytes: u64) -> u64 {
        self.0.push_back((now, bytes));
        while self.0.len() > 2 && now.duration_since(self.0[0].0) > Self::WINDOW {
            self.0.pop_front();
        }
        let Some((first, before)) = self.0.front() else { return 0 };
        let millis = now.duration_since(*first).as_millis();
        if millis == 0 {
            return 0;
        }
        let rate = u128::from(bytes.saturating_sub(*before)) * 1000 / millis;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_everything() {
        let progress = Progress::default();
        progress.plan(1, 10);
        progress.fetched(23);
        progress.done(8);
        progress.lost(8);
        progress.done(15);
        assert_eq!(progress.report(0).bytes_done, 10);
        assert_eq!(progress.bytes_fetched(), 23);
    }

    #[test]
    fn never_less_than_before() {
        let progress = Progress::default();
        progress.plan(2, 10);
        progress.done(8);
        assert_eq!(progress.report(0).bytes_done, 8);
        progress.lost(5);
        assert_eq!(progress.report(0).bytes_done, 8);
        progress.done(6);
        assert_eq!(progress.report(0).bytes_done, 9);
    }

    #[test]
    fn the_rate_forgets() {
        let mut meter = Meter::default();
        let start = Instant::now();
        assert_eq!(meter.sample(start, 0), 0);
        assert_eq!(meter.sample(start + Duration::from_secs(2), 2000), 1000);
        for second in 3..40 {
            meter.sample(start + Duration::from_secs(second), 2000);
        }
        assert_eq!(meter.sample(start + Duration::from_secs(40), 2000), 0);
    }
}
