//! When a request is tried again, and after which wait. Pure: who sleeps is somebody else.

use super::{HubError, UploadError};
use std::time::Duration;

/// How often a request is tried, and the waits between the tries, which double from `first` to `longest`.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How many tries in a row may fail.
    pub tries: u32,
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 5, first: Duration::from_secs(1), longest: Duration::from_secs(8) }
    }
}

/// The tries of one request, or of one file.
#[derive(Debug)]
pub struct Attempts {
    retry: Retry,
    pause_max: Duration,
    failed: u32,
}

impl Attempts {
    pub(super) fn new(retry: Retry, pause_max: Duration) -> Self {
        Self { retry, pause_max, failed: 0 }
    }

    /// Bytes arrived: what failed before no longer counts.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// After a failure: the wait before the next try, or none when there is no use in one.
    pub fn next_wait(&mut self, error: &HubError) -> Option<Duration> {
        self.next(error.is_transient(), error.retry_after())
    }

    /// The same after the failure of an upload.
    pub fn next_upload(&mut self, error: &UploadError) -> Option<Duration> {
        self.next(error.is_transient(), error.retry_after())
    }

    fn next(&mut self, is_transient: bool, retry_after: Option<Duration>) -> Option<Duration> {
        self.failed += 1;
        if !is_transient || self.failed >= self.retry.tries {
            return None;
        }
        let doubled = self.retry.first.saturating_mul(1 << (self.failed - 1).min(16));
        let wait = doubled.min(self.retry.longest);
        match retry_after {
            Some(pause) if pause > self.pause_max => None,
            Some(pause) => Some(wait.max(pause)),
            None => Some(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(retry_after: Option<u64>) -> HubError {
        let retry_after = retry_after.map(Duration::from_secs);
        HubError::Server { host: "h".into(), status: 503, thing: "t".into(), detail: String::new(), retry_after }
    }

    #[test]
    fn waits_double_and_end() {
        let mut attempts = Attempts::new(Retry::default(), Duration::from_mins(1));
        let waits: Vec<_> = std::iter::from_fn(|| attempts.next_wait(&server(None))).map(|w| w.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8]);
        attempts.reset();
        assert_eq!(attempts.next_wait(&server(Some(30))), Some(Duration::from_secs(30)));
        assert_eq!(attempts.next_wait(&server(Some(61))), None);
    }
}
