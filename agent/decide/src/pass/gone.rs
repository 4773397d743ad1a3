//! A name whose balancer somebody else has deleted: when it may be given to a new one.
//!
//! DELETE carries no version. One that a former leader has sent, or somebody by hand, may still be on its way when the
//! balancer is gone, and would meet the next balancer of that name. Whoever sent it as a leader has stopped doing so
//! after the lease duration, and each request ends within its time limit; so the name rests for as long as both.
//! What this agent has deleted itself has been answered, and the name is free at once.
//!
//! Deliberately not here: a balancer that is on record and not found when a new leader looks for the first time; only
//! a pass sees both ([`super::reconcile`]).

use std::time::Duration;

use crate::Moment;
use crate::desired::{BalancerStatus, Observed};

/// What is known of deletions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gone {
    /// This agent has deleted the balancer that is terminating or gone.
    ours: bool,
    /// When there was last a sign that somebody else has.
    by_others: Option<Moment>,
    /// When a DELETE of ours was last given up without an answer.
    unanswered: Option<Moment>,
    /// Since when none is found.
    absent: Option<Moment>,
}

impl Gone {
    /// A GET has shown this. `was_there`: the one before has shown a balancer.
    pub(super) fn read(&mut self, was_there: bool, found: Option<&Observed>, now: Moment) {
        match found {
            Some(observed) if observed.status == BalancerStatus::Terminating => self.seen(now),
            Some(_) => (self.ours, self.absent) = (false, None),
            None => {
                if was_there {
                    self.seen(now);
                }
                self.absent.get_or_insert(now);
            }
        }
    }

    /// A DELETE of ours was answered, or may have been carried out all the same.
    pub(super) fn deleted(&mut self, answered: bool, now: Moment) {
        self.ours = true;
        if !answered {
            self.unanswered = Some(now);
        }
    }

    /// Somebody else may be deleting it, or has.
    pub(super) fn seen(&mut self, now: Moment) {
        if !self.ours {
            self.by_others = Some(now);
        }
    }

    /// From when on a balancer of that name may be made. `recorded`: it was there according to the object's status;
    /// `lease` is the lease duration, `timeout` the time limit of a request.
    pub(super) fn free_at(&self, recorded: bool, lease: Duration, timeout: Duration) -> Moment {
        let found_gone = self.absent.filter(|_| recorded && !self.ours);
        let by_others = self.by_others.max(found_gone).map(|at| at + lease + timeout);
        let by_us = self.unanswered.map(|at| at + timeout);
        by_others.max(by_us).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::observed;
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn free_at(gone: &Gone, recorded: bool) -> u64 {
        gone.free_at(recorded, LEASE, TIMEOUT).0.as_secs()
    }

    #[test]
    fn a_name_that_was_never_taken_is_free() {
        let mut gone = Gone::default();
        gone.read(false, None, at(100));
        assert_eq!(free_at(&gone, false), 0);
    }

    #[test]
    fn what_this_agent_has_deleted_is_free_at_once_and_after_a_lost_answer_within_its_time_limit() {
        let terminating = observed("v2", BalancerStatus::Terminating);
        for (answered, free) in [(true, 0), (false, 105)] {
            let mut gone = Gone::default();
            gone.deleted(answered, at(100));
            gone.read(true, Some(&terminating), at(101));
            gone.read(true, None, at(102));
            assert_eq!(free_at(&gone, true), free, "answered: {answered}");
        }
    }

    #[test]
    fn what_somebody_else_has_deleted_rests_for_the_lease_and_a_request() {
        let terminating = observed("v2", BalancerStatus::Terminating);
        let mut gone = Gone::default();
        gone.read(true, None, at(100));
        assert_eq!(free_at(&gone, false), 120);
        // Looking again does not put it off.
        gone.read(false, None, at(110));
        assert_eq!(free_at(&gone, false), 120);
        gone = Gone::default();
        gone.read(true, Some(&terminating), at(100));
        gone.read(true, None, at(103));
        assert_eq!(free_at(&gone, false), 123);
    }

    #[test]
    fn what_is_on_record_and_not_found_at_first_rests_as_well() {
        let mut gone = Gone::default();
        gone.read(false, None, at(100));
        assert_eq!((free_at(&gone, false), free_at(&gone, true)), (0, 120));
    }

    #[test]
    fn a_balancer_that_is_there_again_starts_over() {
        let there = observed("v1", BalancerStatus::Ready);
        let mut gone = Gone::default();
        gone.deleted(true, at(100));
        gone.read(false, None, at(101));
        gone.read(false, Some(&there), at(200));
        gone.read(true, None, at(300));
        assert_eq!(free_at(&gone, false), 320, "this one was not deleted by us");
    }
}
