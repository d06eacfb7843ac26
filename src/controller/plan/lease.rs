//! Who leads: decided from the Lease as it is, the own name and the time.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long a leader that says nothing more stays leader.
pub const LEASE_SECONDS: i32 = 15;
/// How often the leader renews: a slow answer or two of the API server still leave time for another try.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// A leader that could not renew for this long stops by itself, before another may begin.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// When it was renewed, by the holder's clock.
    pub renewed_at: Timestamp,
    /// How long it then holds, in seconds.
    pub seconds: i32,
}

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseMove {
    /// It is free or expired: take it.
    Acquire,
    /// It is ours: say so again.
    Renew,
    /// It is another's: look again after this long.
    Wait(Duration),
}

/// Decides about a Lease. `seen_at` is when *we* first saw this renewal: clocks of two machines need not agree, so another's
/// Lease expires by our own clock from there.
pub fn decide(lease: Option<&LeaseView>, me: &str, seen_at: Timestamp, now: Timestamp) -> LeaseMove {
    let Some(lease) = lease else { return LeaseMove::Acquire };
    if lease.holder == me {
        return LeaseMove::Renew;
    }
    if lease.holder.is_empty() {
        return LeaseMove::Acquire;
    }
    let ends = seen_at.saturating_add(SignedDuration::from_secs(i64::from(lease.seconds.max(1)))).unwrap_or(now);
    if ends <= now {
        return LeaseMove::Acquire;
    }
    let left = Duration::try_from(now.duration_until(ends)).unwrap_or(RENEW_EVERY);
    LeaseMove::Wait(left.min(Duration::from_secs(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn held_by(holder: &str) -> LeaseView {
        LeaseView { holder: holder.into(), renewed_at: at(100), seconds: LEASE_SECONDS }
    }

    #[test]
    fn a_free_or_released_lease_is_taken() {
        assert_eq!(decide(None, "a", at(0), at(0)), LeaseMove::Acquire);
        assert_eq!(decide(Some(&held_by("")), "a", at(100), at(100)), LeaseMove::Acquire);
    }

    #[test]
    fn our_own_is_renewed_even_after_it_expired() {
        assert_eq!(decide(Some(&held_by("a")), "a", at(100), at(500)), LeaseMove::Renew);
    }

    #[test]
    fn anothers_is_waited_for_by_our_own_clock() {
        // Their clock says 100; ours said 5,000 when we saw it.
        assert!(matches!(decide(Some(&held_by("b")), "a", at(5000), at(5001)), LeaseMove::Wait(_)));
        assert_eq!(decide(Some(&held_by("b")), "a", at(5000), at(5015)), LeaseMove::Acquire);
    }
}
