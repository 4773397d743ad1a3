//! What has left the pool lately: how long it stays out, and how soon the next may follow.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Choice, ReAddDelay};
use crate::Moment;

/// Removals of one node within this time add up.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The removals that this agent has sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// By Node UID.
    out: BTreeMap<String, Out>,
    /// When a target last left for what the probes say.
    pub(super) last_by_probe: Option<Moment>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Out {
    /// When it was taken out without force, in the last ten minutes.
    removals: Vec<Moment>,
    /// It has not come back.
    absent: bool,
    /// It is out for silence.
    silent: bool,
}

impl Pool {
    /// A write that carries this choice is being sent. The same removal sent again counts once.
    pub fn sent(&mut self, choice: &Choice, now: Moment) {
        for uid in &choice.uids {
            if let Some(out) = self.out.get_mut(uid) {
                out.absent = false;
            }
        }
        for leaving in &choice.leaving {
            if leaving.cause.is_by_probe() {
                self.last_by_probe = Some(now);
            }
            let out = self.out.entry(leaving.uid.clone()).or_default();
            if !out.absent && !leaving.cause.is_forced() {
                out.removals.push(now);
            }
            out.silent = leaving.cause.is_silence();
            out.absent = true;
        }
        self.out.retain(|_, out| {
            out.removals.retain(|at| now.since(*at) < FORGOTTEN);
            out.absent || !out.removals.is_empty()
        });
    }

    /// When a node may enter again; not after `now` where it may at once.
    pub(super) fn back_at(&self, uid: &str, delay: &ReAddDelay, now: Moment) -> Moment {
        let Some(out) = self.out.get(uid) else { return now };
        let recent = out.removals.iter().filter(|at| now.since(**at) < FORGOTTEN);
        let Some(last) = recent.clone().max() else { return now };
        let doublings = u32::try_from(recent.count() - 1).unwrap_or(u32::MAX).min(16);
        *last + delay.initial.saturating_mul(1 << doublings).min(delay.max)
    }

    /// UIDs of the nodes that are out for silence: their kubelets' Leases are worth a look.
    pub fn silent(&self) -> impl Iterator<Item = &str> {
        self.out.iter().filter(|(_, out)| out.absent && out.silent).map(|(uid, _)| uid.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::{Cause, Leaving};

    const DELAY: ReAddDelay = ReAddDelay { initial: Duration::from_secs(2), max: Duration::from_secs(60) };

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn leaves(cause: Cause) -> Choice {
        let leaving = Leaving { target: "a".to_owned(), uid: "u".to_owned(), cause, since: at(0) };
        Choice { leaving: vec![leaving], ..Choice::default() }
    }

    fn enters() -> Choice {
        Choice { uids: ["u".to_owned()].into(), ..Choice::default() }
    }

    #[test]
    fn each_removal_doubles_the_delay_up_to_its_limit_and_ten_minutes_forget() {
        let mut pool = Pool::default();
        let mut now = 1000;
        for delay in [2, 4, 8, 16, 32, 60, 60] {
            pool.sent(&leaves(Cause::Refused), at(now));
            assert_eq!(pool.back_at("u", &DELAY, at(now)), at(now + delay));
            pool.sent(&enters(), at(now + 1));
            now += 10;
        }
        pool.sent(&enters(), at(now + 700));
        assert_eq!(pool.back_at("u", &DELAY, at(now + 700)), at(now + 700));
        assert_eq!(pool, Pool { last_by_probe: pool.last_by_probe, ..Pool::default() });
    }

    #[test]
    fn a_removal_that_is_sent_again_counts_once() {
        let mut pool = Pool::default();
        for now in [1000, 1001, 1002] {
            pool.sent(&leaves(Cause::Red), at(now));
        }
        assert_eq!(pool.back_at("u", &DELAY, at(1002)), at(1002));
        assert_eq!(pool.last_by_probe, Some(at(1002)));
    }

    #[test]
    fn a_forced_removal_delays_nothing() {
        let mut pool = Pool::default();
        pool.sent(&leaves(Cause::Marked), at(1000));
        assert_eq!(pool.back_at("u", &DELAY, at(1000)), at(1000));
        assert_eq!(pool.last_by_probe, None);
    }

    #[test]
    fn who_is_out_for_silence_is_known_until_it_is_back() {
        let mut pool = Pool::default();
        pool.sent(&leaves(Cause::Silent), at(1000));
        assert_eq!(pool.silent().collect::<Vec<_>>(), ["u"]);
        pool.sent(&enters(), at(1005));
        assert_eq!(pool.silent().count(), 0);
        pool.sent(&leaves(Cause::Refused), at(1010));
        assert_eq!(pool.silent().count(), 0);
    }

    #[test]
    fn ten_minutes_forget_a_removal_to_the_second() {
        let mut pool = Pool::default();
        pool.sent(&leaves(Cause::Refused), at(1000));
        pool.sent(&enters(), at(1001));
        assert_eq!(pool.back_at("u", &DELAY, at(1599)), at(1002));
        assert_eq!(pool.back_at("u", &DELAY, at(1600)), at(1600));
        let last_by_probe = pool.last_by_probe;
        pool.sent(&Choice::default(), at(1599));
        assert_ne!(pool, Pool { last_by_probe, ..Pool::default() });
        pool.sent(&Choice::default(), at(1600));
        assert_eq!(pool, Pool { last_by_probe, ..Pool::default() });
    }
}
