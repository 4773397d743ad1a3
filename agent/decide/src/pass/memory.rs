//! What an agent remembers of one balancer between passes, and how answers change it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::budget::Budget;
use super::gone::Gone;
use super::lag::Lag;
use super::refusals::Refusals;
use super::trouble::{QUIET_CONFLICTS, Trouble, attempts};
use super::{Carried, CloudStep, Sent};
use crate::Moment;
use crate::desired::{BalancerStatus, Observed, Target};
use crate::endpoints::{Choice, Pool};
use crate::exposure::SpecEndpoint;
use crate::foreign::{self, Foreign};
use crate::retry::{self, Fault, FaultKind};
use crate::status::Previous;

/// First and longest pause between two looks at a balancer that is on its way.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// When a new leader looks again: a write of its predecessor may still have been on its way.
const REREADS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30)];

/// Memory of one balancer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The balancer as last read or answered.
    pub balancer: Balancer,
    /// The last word is in doubt (an unknown outcome, a conflict): a GET comes before anything else.
    pub must_read: bool,
    /// The last GET failed.
    pub read_trouble: Option<Trouble>,
    /// The last POST, PUT or DELETE failed.
    pub write_trouble: Option<Trouble>,
    /// When the next GET is due.
    pub next_read: Moment,
    /// Somebody asked for the operation, and the annotation that said so is gone.
    pub refresh: bool,
    /// From when on somebody waits for a look at the balancer; unlike doubt that does not hold back a removal.
    pub wants_look: Option<Moment>,
    /// When a write was last given up that may have been carried out: what is found next may be our own doing.
    unanswered: Option<Moment>,
    /// The last write to the status failed.
    pub status_failed: bool,
    /// The writes that are left for now.
    pub(super) budget: Budget,
    /// What others have changed lately.
    pub foreign: Foreign,
    /// What has left the pool lately.
    pub pool: Pool,
    /// What a read that lags behind would show.
    lag: Lag,
    /// What is known of deletions.
    pub(super) gone: Gone,
    /// What STACKIT has refused.
    pub(super) refusals: Refusals,
    /// `spec.endpoints` as this agent has seen and wanted it, sorted.
    agreed: Option<Vec<SpecEndpoint>>,
    /// Looks in a row at a balancer that is on its way.
    polls: u32,
    /// Moments at which a new leader reads again.
    rereads: Vec<Moment>,
}

/// The balancer as last read.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Balancer {
    /// Not read since this agent leads.
    #[default]
    Unread,
    /// There is none.
    Absent,
    /// As read.
    Present(Box<Observed>),
}

impl Memory {
    /// This agent leads from now on. What it knew of the balancer may be old: it reads at once, and again a few times.
    pub fn promoted(&mut self, now: Moment) {
        *self = Self { rereads: REREADS.iter().map(|after| now + *after).collect(), ..self.lasting() };
    }

    /// This agent does not lead any more. What others do to the balancer from now on it does not see.
    pub fn demoted(&mut self) {
        *self = self.lasting();
    }

    /// Another object of the same name: what was counted of the balancer is not about it. What has left the pool and
    /// who has deleted the balancer is about nodes and the name, and stays.
    pub fn another_object(&mut self) {
        *self = Self { foreign: Foreign::default(), refusals: Refusals::default(), ..self.lasting() };
    }

    /// What is true whoever leads: counters, and what has left the pool.
    fn lasting(&mut self) -> Self {
        let Self { budget, foreign, pool, lag, gone, refusals, .. } = std::mem::take(self);
        Self { budget, foreign, pool, lag, gone, refusals, ..Self::default() }
    }

    /// The object is being deleted while somebody else leads, who deletes the balancer.
    pub fn saw_deletion(&mut self, now: Moment) {
        self.gone.seen(now);
    }

    /// A write under way is no longer waited for. It may be carried out all the same.
    pub fn given_up(&mut self, now: Moment) {
        self.unanswered = Some(now);
    }

    /// A step at STACKIT is being sent, which carries `choice`; `per_minute` is the setting
    /// `loadBalancer.writesPerMinute`.
    pub fn sending(&mut self, step: &CloudStep, choice: &Choice, now: Moment, per_minute: u32) {
        if !matches!(step, CloudStep::Read(_)) {
            self.budget.spend(now, per_minute);
        }
        if matches!(step, CloudStep::Create(_) | CloudStep::Update(_)) {
            self.pool.sent(choice, now);
        }
    }

    /// Takes in what came of a step at STACKIT. `resync` is the pause until drift is looked for, `jitter` a random
    /// number from 0 to 1.
    pub fn learn(&mut self, carried: Carried, now: Moment, resync: Duration, jitter: f64) {
        match carried {
            Carried::Read(Ok(observed)) => self.read(observed, now, resync, jitter),
            // STACKIT enables the service with the first balancer; until then there is none.
            Carried::Read(Err(fault)) if fault.kind == FaultKind::ServiceNotEnabled => {
                self.read(None, now, resync, jitter);
            }
            Carried::Read(Err(fault)) => self.read_failed(fault, now, jitter),
            Carried::Written { result: Ok(observed), sent } => {
                if let Some(asked) = &sent.asked {
                    self.refusals.accepted(asked, now);
                }
                self.written(observed, now, resync, jitter);
            }
            Carried::Written { result: Err(fault), sent } => self.not_written(fault, sent, now, jitter),
            Carried::Deleted(Ok(())) => self.deleted(now),
            Carried::Deleted(Err(fault)) => {
                if fault.outcome_unknown {
                    self.gone.deleted(false, now);
                }
                self.write_failed(fault, BTreeSet::new(), now, jitter);
                // Some refuse to delete what is terminating already, and only a GET tells that it is.
                self.must_read = true;
            }
        }
    }

    /// The operation annotation is gone, because somebody asked for the operation: look at the balancer afresh, and
    /// let the answer be a new one.
    pub fn asked(&mut self, now: Moment) {
        self.wants_look = Some(now);
        self.refresh = true;
        self.try_again(now);
    }

    /// A write to the status was answered with what is stored now, or failed (`None`).
    pub fn reported(&mut self, stored: Option<&Previous>) {
        self.status_failed = stored.is_none();
        let operation = stored.and_then(|stored| stored.operation.as_ref());
        if operation.is_some_and(|last| last.state == "Succeeded") {
            self.refresh = false;
        }
    }

    /// A GET was answered, with the balancer or with 404.
    ///
    /// `resync` is the pause until drift is looked for, `jitter` a random number from 0 to 1. Trouble with writes
    /// stays on record: a write that fails each time must not be tried without a pause because reads succeed.
    pub fn read(&mut self, observed: Option<Observed>, now: Moment, resync: Duration, jitter: f64) {
        if self.lags(observed.as_ref(), now) {
            self.read_trouble = None;
            self.next_read = now + POLL.0;
            self.wants_look = self.wants_look.map(|_| self.next_read);
            return;
        }
        let on_its_way = observed.as_ref().is_some_and(|o| o.status != BalancerStatus::Ready || o.ingress().is_none());
        let changed = match (&self.balancer, &observed) {
            (Balancer::Present(before), Some(after)) => before.version != after.version,
            _ => true,
        };
        self.polls = if on_its_way && !changed { self.polls.saturating_add(1) } else { 0 };
        let pause = if on_its_way {
            POLL.0.saturating_mul(1 << self.polls.min(4)).min(POLL.1)
        } else {
            resync.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
        };
        self.compare(observed.as_ref(), now);
        let was_there = self.observed().is_some();
        self.gone.read(was_there, observed.as_ref(), now);
        self.unanswered = None;
        self.rereads.retain(|at| *at > now);
        let due = now + pause;
        self.next_read = self.rereads.first().copied().map_or(due, |reread| reread.min(due));
        self.balancer = observed.map_or(Balancer::Absent, |observed| Balancer::Present(Box::new(observed)));
        self.must_read = false;
        self.wants_look = None;
        self.read_trouble = None;
    }

    /// Whether a read shows what is known to be over. In doubt it is believed all the same: a write that is refused
    /// for its version must not wait.
    fn lags(&mut self, read: Option<&Observed>, now: Moment) -> bool {
        let Balancer::Present(before) = &self.balancer else { return false };
        if before.status == BalancerStatus::Terminating {
            return false;
        }
        let version = read.map(|read| read.version.as_str());
        if version == Some(before.version.as_str()) {
            return false;
        }
        let lags = self.lag.shows(version, now);
        if !lags {
            self.lag.followed(&before.version, now);
        }
        lags && !self.must_read
    }

    /// A POST or PUT was answered with the balancer.
    pub fn written(&mut self, observed: Observed, now: Moment, resync: Duration, jitter: f64) {
        match &self.balancer {
            Balancer::Present(before) if before.version != observed.version => {
                self.lag.followed(&before.version, now);
            }
            Balancer::Present(_) => {}
            Balancer::Unread | Balancer::Absent => self.lag.made(now),
        }
        // What was answered to a write is our doing.
        self.balancer = Balancer::Unread;
        self.read(Some(observed), now, resync, jitter);
        self.write_trouble = None;
    }

    /// What a read shows that was not there before, and that no write of ours can have caused, is somebody else's.
    fn compare(&mut self, read: Option<&Observed>, now: Moment) {
        let lost_answer = self.unanswered.is_some();
        let lags = read.is_some_and(|read| self.lag.shows(Some(&read.version), now));
        if let (Balancer::Present(before), Some(after), false) = (&self.balancer, read, lost_answer || lags) {
            self.foreign.compared(&before.balancer, &after.balancer, now);
        }
    }

    /// `spec.endpoints` is as shown by the object, and should be `wanted`: both sorted. Whether somebody else has
    /// changed it since they were last the same; a new choice is our own change.
    pub fn saw_endpoints(&mut self, there: &[SpecEndpoint], wanted: &[SpecEndpoint], now: Moment) -> bool {
        if there == wanted {
            self.agreed = Some(wanted.to_vec());
            return false;
        }
        let foreign = self.agreed.as_deref() == Some(wanted);
        self.agreed = None;
        if foreign {
            self.foreign.changed(foreign::ENDPOINTS, now);
        }
        foreign
    }

    /// A DELETE was accepted: it is terminating now, or gone.
    pub fn deleted(&mut self, now: Moment) {
        self.write_trouble = None;
        self.gone.deleted(true, now);
        self.lag.deleted();
        self.polls = 0;
        self.next_read = now + POLL.0;
        if let Balancer::Present(observed) = &mut self.balancer {
            observed.status = BalancerStatus::Terminating;
        }
    }

    /// A GET failed; `jitter` is a random number from 0 to 1.
    pub fn read_failed(&mut self, fault: Fault, now: Moment, jitter: f64) {
        let attempts = attempts(self.read_trouble.as_ref(), &fault, now);
        let next = now + retry::delay(&fault, attempts, jitter);
        self.next_read = self.next_read.max(next);
        self.read_trouble = Some(Trouble { fault, attempts, at: now, next, targets: BTreeSet::new() });
    }

    /// A POST or PUT failed; after a 400 it may be worth asking for less, and at once.
    fn not_written(&mut self, fault: Fault, sent: Sent, now: Moment, jitter: f64) {
        let fault = match &sent.asked {
            Some(asked) if fault.kind == FaultKind::Invalid => self.refusals.refused(asked, fault, now, jitter),
            _ => Some(fault),
        };
        match fault {
            Some(fault) => self.write_failed(fault, sent.targets, now, jitter),
            None => self.write_trouble = None,
        }
    }

    /// A POST, PUT or DELETE failed. `targets` are those it had; `jitter` is a random number from 0 to 1.
    pub fn write_failed(&mut self, fault: Fault, targets: BTreeSet<Target>, now: Moment, jitter: f64) {
        let attempts = attempts(self.write_trouble.as_ref(), &fault, now);
        // After a conflict, a 404 on a write or an unknown outcome, only a GET tells what holds.
        if fault.outcome_unknown {
            self.given_up(now);
        }
        self.must_read |= fault.outcome_unknown || matches!(fault.kind, FaultKind::Conflict | FaultKind::NotFound);
        let at_once = fault.kind == FaultKind::Conflict && attempts <= QUIET_CONFLICTS;
        let next = if at_once { now } else { now + retry::delay(&fault, attempts, jitter) };
        self.write_trouble = Some(Trouble { fault, attempts, at: now, next, targets });
    }

    /// Something changed that may end the trouble (credentials, settings, a wish by annotation): try at once.
    pub fn try_again(&mut self, now: Moment) {
        for trouble in [&mut self.read_trouble, &mut self.write_trouble].into_iter().flatten() {
            if !matches!(trouble.fault.kind, FaultKind::RateLimited | FaultKind::Quota) {
                trouble.next = now;
            }
        }
        self.refusals.try_again(now);
    }
}

#[cfg(test)]
pub(super) mod tests;
