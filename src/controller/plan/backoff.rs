//! How long a failed entry waits.

use crate::ident::{Reason, Recovery};
use std::time::Duration;

/// How often a permanent failure with an outside cause is looked at again.
pub const RECHECK: Duration = Duration::from_hours(1);
const FIRST: Duration = Duration::from_secs(10);
/// The worker was stopped from outside; nothing speaks against going on at once.
const FIRST_AFTER_INTERRUPTION: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_mins(10);
/// Others shall have come to an end meanwhile, or at least have begun.
const FIRST_AFTER_GIVING_WAY: Duration = Duration::from_mins(1);

/// How long to wait after the `count`th failure in a row; `None`: until something changes.
///
/// The delay doubles from 10 s (2 s when the worker was interrupted) to 10 min. `spread` (any number, the same for one
/// entry) adds up to a fifth, so that entries which failed together do not come back together. The Hub's own wish is the
/// least.
pub fn delay(reason: Reason, count: i64, retry_after_seconds: Option<u64>, spread: u64) -> Option<Duration> {
    match reason.recovery() {
        Recovery::Change | Recovery::Watch => None,
        Recovery::Recheck => Some(RECHECK),
        Recovery::Backoff => {
            let first = match reason {
                Reason::Interrupted | Reason::Evicted | Reason::NodeLost => FIRST_AFTER_INTERRUPTION,
                _ => FIRST,
            };
            let wish = Duration::from_secs(retry_after_seconds.unwrap_or(0));
            Some(doubled(first, count, spread).max(wish))
        }
    }
}

/// How long to wait after the `count`th time in a row that a Job could not start and others had its place in the line for a Hub.
pub fn after_giving_way(count: i64, spread: u64) -> Duration {
    doubled(FIRST_AFTER_GIVING_WAY, count, spread)
}

fn doubled(first: Duration, count: i64, spread: u64) -> Duration {
    let doublings = u32::try_from(count.clamp(1, 16) - 1).unwrap_or(0);
    let base = first.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST);
    let spread_ms = u64::try_from(base.as_millis()).unwrap_or(u64::MAX) / 5 * (spread % 100) / 100;
    base + Duration::from_millis(spread_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_and_ends_at_ten_minutes() {
        let secs = |count| delay(Reason::HubUnavailable, count, None, 0).unwrap().as_secs();
        assert_eq!([secs(1), secs(2), secs(3), secs(7), secs(1000)], [10, 20, 40, 600, 600]);
    }

    #[test]
    fn the_hubs_wish_is_the_least() {
        assert_eq!(delay(Reason::RateLimited, 1, Some(55), 0), Some(Duration::from_secs(55)));
        assert_eq!(delay(Reason::RateLimited, 7, Some(55), 0), Some(Duration::from_mins(10)));
    }

    #[test]
    fn a_permanent_failure_waits_for_a_change_or_an_hour() {
        assert_eq!(delay(Reason::OutOfSpace, 1, None, 0), None);
        assert_eq!(delay(Reason::GatedModel, 5, None, 0), Some(RECHECK));
    }
}
