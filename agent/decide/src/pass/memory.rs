//! What an agent remembers of one balancer between passes, and how answers change it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::budget::Budget;
use super::refusals::Refusals;
use super::{Carried, CloudStep, Sent};
use crate::Moment;
use crate::desired::{BalancerStatus, Observed, Target};
use crate::exposure::SpecEndpoint;
use crate::foreign::{self, Foreign};
use crate::retry::{self, Fault, FaultKind};
use crate::status::Previous;

/// Conflicts in a row that are answered at once; they are nobody's news before that.
const QUIET_CONFLICTS: u32 = 5;
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
    /// The last write to the status failed.
    pub status_failed: bool,
    /// The writes that are left for now.
    pub(super) budget: Budget,
    /// What others have changed lately.
    pub foreign: Foreign,
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

/// Calls of one sort that failed in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// What went wrong last.
    pub fault: Fault,
    /// Failures in a row.
    pub attempts: u32,
    /// When the same is tried again.
    pub next: Moment,
    /// The targets that the failed write had; empty for a read.
    pub targets: BTreeSet<Target>,
}

impl Memory {
    /// A new leader knows nothing: it reads at once, and again a few times.
    pub fn new_leader(now: Moment) -> Self {
        Self { rereads: REREADS.iter().map(|after| now + *after).collect(), ..Self::default() }
    }

    /// A step at STACKIT is being sent; `per_minute` is the setting `loadBalancer.writesPerMinute`.
    pub fn sending(&mut self, step: &CloudStep, now: Moment, per_minute: u32) {
        if !matches!(step, CloudStep::Read(_)) {
            self.budget.spend(now, per_minute);
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
            Carried::Deleted(Err(fault)) => self.write_failed(fault, BTreeSet::new(), now, jitter),
        }
    }

    /// The operation annotation is gone, because somebody asked for the operation: look at the balancer afresh, and
    /// let the answer be a new one.
    pub fn asked(&mut self, now: Moment) {
        self.must_read = true;
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
        self.rereads.retain(|at| *at > now);
        let due = now + pause;
        self.next_read = self.rereads.first().copied().map_or(due, |reread| reread.min(due));
        self.balancer = observed.map_or(Balancer::Absent, |observed| Balancer::Present(Box::new(observed)));
        self.must_read = false;
        self.read_trouble = None;
    }

    /// A POST or PUT was answered with the balancer.
    pub fn written(&mut self, observed: Observed, now: Moment, resync: Duration, jitter: f64) {
        // What was answered to a write is our doing.
        self.balancer = Balancer::Unread;
        self.read(Some(observed), now, resync, jitter);
        self.write_trouble = None;
    }

    /// What a read shows that was not there before, and that no write of ours can have caused, is somebody else's.
    fn compare(&mut self, read: Option<&Observed>, now: Moment) {
        let lost_answer = self.write_trouble.as_ref().is_some_and(|trouble| trouble.fault.outcome_unknown);
        if let (Balancer::Present(before), Some(after), false) = (&self.balancer, read, lost_answer) {
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
        self.read_trouble = Some(Trouble { fault, attempts, next, targets: BTreeSet::new() });
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
        self.must_read |= fault.outcome_unknown || matches!(fault.kind, FaultKind::Conflict | FaultKind::NotFound);
        let at_once = fault.kind == FaultKind::Conflict && attempts <= QUIET_CONFLICTS;
        let next = if at_once { now } else { now + retry::delay(&fault, attempts, jitter) };
        self.write_trouble = Some(Trouble { fault, attempts, next, targets });
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

/// Failures of one kind in a row; a pause of minutes ends the row.
fn attempts(before: Option<&Trouble>, fault: &Fault, now: Moment) -> u32 {
    const FORGOTTEN: Duration = Duration::from_secs(120);
    let in_row = before.filter(|before| before.fault.kind == fault.kind && now < before.next + FORGOTTEN);
    in_row.map_or(0, |before| before.attempts).saturating_add(1)
}

impl Trouble {
    /// Whether others should hear of it: not a fence, not the first conflicts, which are normal.
    pub fn is_news(&self) -> bool {
        match self.fault.kind {
            FaultKind::Fenced => false,
            FaultKind::Conflict => self.attempts > QUIET_CONFLICTS,
            _ => true,
        }
    }

    /// Whether a write with these targets waits for the next try: the same does, newer evidence does not, unless
    /// the cloud asked for patience.
    pub fn holds_back(&self, targets: &BTreeSet<Target>) -> bool {
        self.fault.retry_after.is_some() || self.targets == *targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind, outcome_unknown: bool) -> Fault {
        Fault { kind, http_status: None, message: "m".to_owned(), retry_after: None, outcome_unknown }
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn a_write_with_an_unknown_outcome_is_followed_by_a_read_at_once_and_tried_again_later() {
        let mut memory = Memory::default();
        memory.write_failed(fault(FaultKind::TimedOut, true), BTreeSet::new(), at(1), 1.0);
        assert!(memory.must_read);
        assert_eq!(memory.read_trouble, None);
        assert!(memory.write_trouble.unwrap().next > at(1));
    }

    #[test]
    fn reads_that_succeed_do_not_wipe_out_the_backoff_of_writes_that_fail() {
        let mut memory = Memory::default();
        for attempt in 1..=4 {
            memory.write_failed(fault(FaultKind::Server, true), BTreeSet::new(), at(attempt), 1.0);
            memory.read(None, at(attempt), Duration::from_secs(60), 0.5);
        }
        let trouble = memory.write_trouble.unwrap();
        assert_eq!((trouble.attempts, trouble.next), (4, at(8)));
    }

    #[test]
    fn conflicts_are_met_at_once_a_few_times_and_are_news_only_then() {
        let mut memory = Memory::default();
        for attempt in 1..=7 {
            memory.write_failed(fault(FaultKind::Conflict, false), BTreeSet::new(), at(1), 1.0);
            let trouble = memory.write_trouble.clone().unwrap();
            assert_eq!(trouble.next > at(1), attempt > 5, "attempt {attempt}");
            assert_eq!(trouble.is_news(), attempt > 5, "attempt {attempt}");
        }
    }

    #[test]
    fn newer_evidence_does_not_wait_for_the_backoff_of_older() {
        let mut memory = Memory::default();
        memory.write_failed(fault(FaultKind::Server, false), BTreeSet::new(), at(1), 1.0);
        let trouble = memory.write_trouble.clone().unwrap();
        let newer = BTreeSet::from([Target { name: "a".to_owned(), ip: [10, 0, 0, 1].into() }]);
        assert!(trouble.holds_back(&BTreeSet::new()));
        assert!(!trouble.holds_back(&newer));
    }

    #[test]
    fn a_new_leader_reads_again_after_5_15_and_30_seconds() {
        let mut memory = Memory::new_leader(at(100));
        let resync = Duration::from_secs(60);
        let mut due = Vec::new();
        for now in [100, 105, 115, 130] {
            memory.read(None, at(now), resync, 0.5);
            due.push(memory.next_read);
        }
        assert_eq!(due, [at(105), at(115), at(130), at(190)]);
    }

    fn observed(version: &str, status: BalancerStatus) -> Observed {
        use crate::desired::{AddressForm, AddressMode, LoadBalancer};
        Observed {
            balancer: LoadBalancer {
                name: "lb".to_owned(),
                plan_id: String::new(),
                labels: std::collections::BTreeMap::new(),
                network_id: String::new(),
                address: AddressMode::Ephemeral,
                listener: None,
                target_pool: None,
                allowed_source_ranges: None,
                keep_source_ranges: false,
                address_form: AddressForm::default(),
            },
            version: version.to_owned(),
            status,
            errors: Vec::new(),
            external_address: Some([45, 0, 0, 1].into()),
            private_address: None,
            raw: serde_json::Map::new(),
        }
    }

    const RESYNC: Duration = Duration::from_secs(60);

    #[test]
    fn a_balancer_on_its_way_is_looked_at_less_and_less_often_until_it_changes() {
        let mut memory = Memory::default();
        let mut pause = |version: &str, status: BalancerStatus| {
            memory.read(Some(observed(version, status)), at(0), RESYNC, 0.5);
            memory.next_read.since(at(0)).as_secs()
        };
        let pauses: Vec<u64> = (0..6).map(|_| pause("v1", BalancerStatus::Pending)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!(pause("v2", BalancerStatus::Pending), 1, "another version starts over");
        assert_eq!(pause("v2", BalancerStatus::Error), 2);
        assert_eq!(pause("v2", BalancerStatus::Ready), 60);
        assert_eq!(pause("v2", BalancerStatus::Pending), 2);
    }

    #[test]
    fn ready_without_an_address_is_on_its_way() {
        let mut memory = Memory::default();
        let without = Observed { external_address: None, ..observed("v1", BalancerStatus::Ready) };
        memory.read(Some(without), at(0), RESYNC, 0.5);
        assert_eq!(memory.next_read, at(1));
    }

    #[test]
    fn looks_for_drift_are_spread_by_a_tenth() {
        for (jitter, millis) in [(0.0, 54_000), (0.5, 60_000), (1.0, 66_000), (9.0, 66_000)] {
            let mut memory = Memory::default();
            memory.read(None, at(0), RESYNC, jitter);
            assert_eq!(memory.next_read.since(at(0)).as_millis(), millis, "{jitter}");
        }
    }

    #[test]
    fn an_answer_to_a_read_ends_doubt_and_an_answer_to_a_write_ends_trouble() {
        let mut memory = Memory::default();
        memory.read_failed(fault(FaultKind::Server, false), at(1), 1.0);
        memory.write_failed(fault(FaultKind::Conflict, false), BTreeSet::new(), at(1), 1.0);
        assert!(memory.must_read && memory.read_trouble.is_some());
        memory.read(Some(observed("v1", BalancerStatus::Ready)), at(2), RESYNC, 0.5);
        assert!(!memory.must_read && memory.read_trouble.is_none() && memory.write_trouble.is_some());
        memory.written(observed("v2", BalancerStatus::Pending), at(3), RESYNC, 0.5);
        assert_eq!(memory.write_trouble, None);
        assert_eq!(memory.balancer, Balancer::Present(Box::new(observed("v2", BalancerStatus::Pending))));
    }

    #[test]
    fn a_deleted_balancer_is_terminating_and_looked_at_soon() {
        let mut memory = Memory::default();
        memory.read(Some(observed("v1", BalancerStatus::Ready)), at(0), RESYNC, 0.5);
        memory.write_failed(fault(FaultKind::Server, true), BTreeSet::new(), at(1), 1.0);
        memory.polls = 4;
        memory.deleted(at(2));
        assert_eq!((memory.next_read, memory.polls, &memory.write_trouble), (at(3), 0, &None));
        assert_eq!(memory.balancer, Balancer::Present(Box::new(observed("v1", BalancerStatus::Terminating))));
    }

    #[test]
    fn only_doubt_asks_for_a_read() {
        for (kind, unknown, doubt) in [
            (FaultKind::Server, false, false),
            (FaultKind::Server, true, true),
            (FaultKind::Conflict, false, true),
            (FaultKind::NotFound, false, true),
            (FaultKind::Invalid, false, false),
        ] {
            let mut memory = Memory::default();
            memory.write_failed(fault(kind, unknown), BTreeSet::new(), at(1), 1.0);
            assert_eq!(memory.must_read, doubt, "{kind:?}");
        }
        // Once in doubt, a further failure does not take it away.
        let mut memory = Memory::default();
        memory.write_failed(fault(FaultKind::Server, true), BTreeSet::new(), at(1), 1.0);
        memory.write_failed(fault(FaultKind::Conflict, true), BTreeSet::new(), at(1), 1.0);
        assert!(memory.must_read);
    }

    #[test]
    fn failed_reads_wait_longer_each_time_and_put_off_the_next_one() {
        let mut memory = Memory::default();
        for (attempt, next) in [(1, 10_500), (2, 11_000), (3, 12_000)] {
            memory.read_failed(fault(FaultKind::Server, false), at(10), 1.0);
            let trouble = memory.read_trouble.clone().unwrap();
            assert_eq!((trouble.attempts, trouble.next.0.as_millis()), (attempt, next));
            assert_eq!(memory.next_read, trouble.next);
        }
    }

    #[test]
    fn a_row_of_failures_ends_with_another_kind_or_two_quiet_minutes() {
        let mut memory = Memory::default();
        let mut attempts = |kind, now| {
            memory.write_failed(fault(kind, false), BTreeSet::new(), now, 1.0);
            memory.write_trouble.as_ref().map(|trouble| (trouble.attempts, trouble.next)).unwrap()
        };
        assert_eq!(attempts(FaultKind::Server, at(0)).0, 1);
        let (two, next) = attempts(FaultKind::Server, at(0));
        assert_eq!((two, next), (2, at(1)));
        assert_eq!(attempts(FaultKind::Invalid, at(1)).0, 1);
        let (_, next) = attempts(FaultKind::Server, at(1));
        let (two, next) = attempts(FaultKind::Server, next + Duration::from_millis(119_999));
        assert_eq!(two, 2);
        assert_eq!(attempts(FaultKind::Server, next + Duration::from_secs(120)).0, 1);
    }

    #[test]
    fn a_wish_ends_every_pause_but_those_the_cloud_asked_for() {
        for (kind, at_once) in [(FaultKind::Server, true), (FaultKind::RateLimited, false), (FaultKind::Quota, false)] {
            let mut memory = Memory::default();
            memory.read_failed(fault(kind, false), at(1), 1.0);
            memory.write_failed(fault(kind, false), BTreeSet::new(), at(1), 1.0);
            memory.asked(at(1));
            assert!(memory.must_read && memory.refresh);
            for trouble in [memory.read_trouble, memory.write_trouble] {
                assert_eq!(trouble.unwrap().next == at(1), at_once, "{kind:?}");
            }
        }
    }

    #[test]
    fn a_status_that_says_succeeded_answers_the_wish() {
        use crate::status::LastOperation;
        let stored = |state: &str| {
            let operation = LastOperation { state: state.to_owned(), ..LastOperation::default() };
            Previous { operation: Some(operation), ..Previous::default() }
        };
        let mut memory = Memory { refresh: true, ..Memory::default() };
        memory.reported(None);
        assert!(memory.status_failed && memory.refresh);
        memory.reported(Some(&stored("Processing")));
        assert!(!memory.status_failed && memory.refresh);
        memory.reported(Some(&stored("Succeeded")));
        assert!(!memory.refresh);
    }

    #[test]
    fn every_answer_is_learned() {
        let learned = |carried| {
            let mut memory = Memory::default();
            memory.learn(carried, at(1), RESYNC, 0.5);
            memory
        };
        let ready = || observed("v1", BalancerStatus::Ready);
        assert_eq!(learned(Carried::Read(Ok(None))).balancer, Balancer::Absent);
        let not_enabled = fault(FaultKind::ServiceNotEnabled, false);
        assert_eq!(learned(Carried::Read(Err(not_enabled))).balancer, Balancer::Absent);
        let failed = learned(Carried::Read(Err(fault(FaultKind::Server, false))));
        assert!(failed.balancer == Balancer::Unread && failed.read_trouble.is_some());
        let targets = BTreeSet::from([Target { name: "a".to_owned(), ip: [10, 0, 0, 1].into() }]);
        let sent = || Sent { targets: targets.clone(), asked: None };
        let written = learned(Carried::Written { result: Ok(ready()), sent: sent() });
        assert_eq!(written.observed(), Some(&ready()));
        let result = Err(fault(FaultKind::Server, true));
        let failed = learned(Carried::Written { result, sent: sent() });
        assert_eq!(failed.write_trouble.unwrap().targets, targets);
        assert_eq!(learned(Carried::Deleted(Ok(()))).next_read, at(2));
        assert!(learned(Carried::Deleted(Err(fault(FaultKind::Server, true)))).must_read);
    }

    #[test]
    fn news_are_neither_fences_nor_the_first_conflicts() {
        let trouble = |kind, attempts| Trouble { fault: fault(kind, false), attempts, next: at(0), targets: [].into() };
        assert!(!trouble(FaultKind::Fenced, 9).is_news());
        assert!(trouble(FaultKind::Server, 1).is_news());
        let patience = Fault { retry_after: Some(RESYNC), ..fault(FaultKind::RateLimited, false) };
        let held = Trouble { fault: patience, ..trouble(FaultKind::RateLimited, 1) };
        assert!(held.holds_back(&BTreeSet::from([Target { name: "a".to_owned(), ip: [10, 0, 0, 1].into() }])));
    }
}
