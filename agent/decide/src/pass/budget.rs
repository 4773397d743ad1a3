//! How many writes a minute the cloud is asked for.

use std::time::Duration;

use crate::Moment;

/// Writes that may follow each other at once after a quiet time.
const BURST: u32 = 6;

/// A bucket of writes that fills again by itself: `perMinute` in the long run, [`BURST`] at once.
///
/// A write that takes targets out never waits for it ([`crate::pass`] asks only for the others), but it counts, so that
/// a storm of removals leaves the additions to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// When the bucket is full again.
    full_at: Moment,
}

impl Budget {
    /// When the next write fits in; not after `now` where it does so at once.
    pub(super) fn next(self, per_minute: u32) -> Moment {
        self.full_at - pause(per_minute).saturating_mul(BURST - 1)
    }

    /// Takes a write out.
    pub(super) fn spend(&mut self, now: Moment, per_minute: u32) {
        self.full_at = self.full_at.max(now) + pause(per_minute);
    }
}

/// The time that one write stands for.
fn pause(per_minute: u32) -> Duration {
    Duration::from_secs(60) / per_minute.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn six_writes_fit_in_at_once_and_then_one_every_five_seconds() {
        let mut budget = Budget::default();
        let now = at(1000);
        let mut sent = 0;
        while budget.next(12) <= now {
            budget.spend(now, 12);
            sent += 1;
        }
        assert_eq!(sent, 6);
        assert_eq!(budget.next(12), at(1005));
    }

    #[test]
    fn in_the_long_run_it_is_the_number_a_minute() {
        let mut budget = Budget::default();
        let sent = (0..600).filter(|second| {
            let now = at(1000 + second);
            let fits = budget.next(12) <= now;
            if fits {
                budget.spend(now, 12);
            }
            fits
        });
        // Ten minutes, and the burst at their beginning.
        assert_eq!(sent.count(), 120 + 5);
    }

    #[test]
    fn a_quiet_time_does_not_save_up_more_than_the_burst() {
        let mut budget = Budget::default();
        budget.spend(at(10), 60);
        assert!(budget.next(60) <= at(10));
        for _ in 0..5 {
            budget.spend(at(5000), 60);
        }
        assert!(budget.next(60) <= at(5000));
        budget.spend(at(5000), 60);
        assert!(budget.next(60) > at(5000));
    }
}
