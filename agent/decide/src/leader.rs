//! Who leads: decisions over a `coordination.k8s.io` Lease, as client-go takes them.
//!
//! Another holder is judged by how long *this* agent has seen no change, never by the remote wall clock. Time is an
//! argument; the shell watches the Lease, sends what is decided here and says what came of it.
//!
//! Deliberately not here: fencing of writes beyond the time until which they are allowed. The balancer's version
//! guards against a stale leader that wakes up.

use std::time::Duration;

use crate::Moment;

/// Renewals are no closer together than this, whoever is in a hurry.
const HURRIED: Duration = Duration::from_millis(300);

/// The timings of the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long others respect a Lease that is not renewed.
    pub lease_duration: Duration,
    /// How long the leader goes on without a renewal.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry_period: Duration,
}

/// A Lease as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `holderIdentity`; empty: released.
    pub holder: String,
    /// `leaseDurationSeconds` as the holder wrote it.
    pub duration: Duration,
    /// `renewTime` as text: only ever compared for equality.
    pub renewed: String,
    /// `acquireTime` as text: goes back on a renewal.
    pub acquired: String,
    /// `leaseTransitions`.
    pub transitions: i32,
    /// `metadata.resourceVersion`: what a write is computed from.
    pub resource_version: String,
}

/// What is known about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    identity: String,
    timings: Timings,
    /// The Lease, and since when it has not changed as seen from here. `None`: read, and there is none.
    seen: Option<(Record, Moment)>,
    /// Whether the Lease has been read at all.
    read: bool,
    /// When the renewal that made us leader, or kept us leader, was sent.
    held_since: Option<Moment>,
    /// When the next try is due.
    next_try: Moment,
    /// Tries that may have been stored though their answers were lost: `renewTime`, and when each was sent.
    tries: Vec<(String, Moment)>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing before this moment, unless the Lease changes.
    Wait(Moment),
    /// Make the Lease, held by us.
    Create,
    /// Take the Lease over from this state of it.
    Take(Record),
    /// Renew the Lease from this state of it.
    Renew(Record),
    /// The renew deadline has passed: stop leading.
    StepDown,
}

impl Election {
    /// A candidate that has read nothing yet.
    pub fn new(identity: String, timings: Timings) -> Self {
        Self {
            identity,
            timings,
            seen: None,
            read: false,
            held_since: None,
            next_try: Moment::default(),
            tries: Vec::new(),
        }
    }

    /// Takes in the Lease as the watch or an answer shows it; `None`: there is none.
    pub fn observe(&mut self, record: Option<Record>, now: Moment) {
        self.read = true;
        if let (Some(record), Some((seen, _))) = (&record, &self.seen)
            && older(&record.resource_version, &seen.resource_version)
        {
            return;
        }
        let changed = match (&record, &self.seen) {
            (Some(record), Some((seen, _))) => record.resource_version != seen.resource_version,
            (record, seen) => record.is_some() != seen.is_some(),
        };
        if !changed {
            return;
        }
        let free = record.as_ref().is_none_or(|record| record.holder.is_empty());
        // An expiry counts from the last change of holder or renewal; a change of metadata alone is no sign of life.
        let alive = match (&record, &self.seen) {
            (Some(new), Some((old, _))) => (&new.holder, &new.renewed) != (&old.holder, &old.renewed),
            _ => true,
        };
        let since = match &self.seen {
            Some((_, since)) if !alive => *since,
            _ => now,
        };
        if record.as_ref().is_none_or(|record| record.holder != self.identity) {
            self.held_since = None;
        }
        // Nobody else writes our identity: a Lease that shows one of our tries is a renewal, whoever shows it.
        let proven = record.as_ref().filter(|record| record.holder == self.identity).and_then(|record| {
            self.tries.iter().find(|(renewed, _)| *renewed == record.renewed).map(|(_, sent)| *sent)
        });
        if let Some(sent) = proven.filter(|sent| *sent + self.timings.renew_deadline > now) {
            self.held_since = self.held_since.max(Some(sent));
        }
        self.seen = record.map(|record| (record, since));
        if free {
            self.next_try = now;
        }
    }

    /// What to do at `now`.
    pub fn turn(&self, now: Moment) -> Turn {
        if let Some(until) = self.leads_until()
            && now >= until
        {
            return Turn::StepDown;
        }
        if !self.read || now < self.next_try {
            let due = self.leads_until().map_or(self.next_try, |deadline| deadline.min(self.next_try));
            return Turn::Wait(due.max(now + Duration::from_millis(1)));
        }
        match &self.seen {
            None => Turn::Create,
            Some((record, _)) if record.holder == self.identity => Turn::Renew(record.clone()),
            Some((record, _)) if record.holder.is_empty() => Turn::Take(record.clone()),
            Some((record, since)) => {
                let expires = *since + record.duration;
                if now >= expires { Turn::Take(record.clone()) } else { Turn::Wait(expires) }
            }
        }
    }

    /// A try is sent now, with this `renewTime`. It may be stored whether its answer comes or not.
    pub fn tried(&mut self, renewed: String, sent: Moment) {
        self.tries.retain(|(_, before)| sent.since(*before) < self.timings.renew_deadline);
        self.tries.push((renewed, sent));
    }

    /// A try that was sent at `sent` has stored `record`.
    pub fn stored(&mut self, record: Record, sent: Moment) {
        self.observe(Some(record), sent);
        if self.seen.as_ref().is_some_and(|(record, _)| record.holder == self.identity) {
            self.held_since = Some(sent);
        }
        self.next_try = sent + self.timings.retry_period;
    }

    /// Somebody wants to know now whether a renewal goes through; only who leads has one to send.
    pub fn hurry(&mut self, now: Moment) {
        if self.held_since.is_some_and(|since| now.since(since) >= HURRIED) {
            self.next_try = self.next_try.min(now);
        }
    }

    /// A try has failed; `jitter` is a random number from 0 to 1.
    pub fn failed(&mut self, now: Moment, jitter: f64) {
        let spread = 1.0 + 0.2 * jitter.clamp(0.0, 1.0);
        self.next_try = now + self.timings.retry_period.mul_f64(spread);
    }

    /// Leadership has been given up, by deadline or by release.
    pub fn stepped_down(&mut self) {
        self.held_since = None;
    }

    /// The renew deadline while leading.
    pub fn leads_until(&self) -> Option<Moment> {
        self.held_since.map(|since| since + self.timings.renew_deadline)
    }

    /// The Lease as last seen.
    pub fn record(&self) -> Option<&Record> {
        self.seen.as_ref().map(|(record, _)| record)
    }

    /// Whether the Lease as last seen is held by us.
    pub fn is_ours(&self) -> bool {
        self.record().is_some_and(|record| record.holder == self.identity)
    }

    /// Whether the Lease has been read.
    pub fn is_read(&self) -> bool {
        self.read
    }
}

/// Whether a resource version is older than another. Kubernetes orders them as numbers since 1.35; what is no number
/// counts as newer, so that nothing is overlooked.
pub fn older(version: &str, than: &str) -> bool {
    match (version.parse::<u128>(), than.parse::<u128>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMINGS: Timings = Timings {
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn record(holder: &str, renewed: &str, version: &str) -> Record {
        Record {
            holder: holder.to_owned(),
            duration: Duration::from_secs(15),
            renewed: renewed.to_owned(),
            acquired: String::new(),
            transitions: 0,
            resource_version: version.to_owned(),
        }
    }

    fn candidate() -> Election {
        Election::new("us".to_owned(), TIMINGS)
    }

    #[test]
    fn nothing_is_tried_before_the_lease_was_read() {
        assert!(matches!(candidate().turn(at(100)), Turn::Wait(_)));
    }

    #[test]
    fn a_missing_lease_is_made_and_a_released_one_taken_at_once() {
        let mut election = candidate();
        election.observe(None, at(1));
        assert_eq!(election.turn(at(1)), Turn::Create);
        election.observe(Some(record("", "r", "2")), at(1));
        assert_eq!(election.turn(at(1)), Turn::Take(record("", "r", "2")));
    }

    #[test]
    fn a_live_holder_is_left_alone_until_it_has_not_changed_for_its_duration() {
        let mut election = candidate();
        election.observe(Some(record("other", "r1", "1")), at(100));
        assert_eq!(election.turn(at(100)), Turn::Wait(at(115)));
        election.observe(Some(record("other", "r2", "2")), at(110));
        assert_eq!(election.turn(at(115)), Turn::Wait(at(125)));
        assert_eq!(election.turn(at(125)), Turn::Take(record("other", "r2", "2")));
    }

    #[test]
    fn a_change_of_metadata_alone_is_no_sign_of_life() {
        let mut election = candidate();
        election.observe(Some(record("other", "r1", "1")), at(100));
        election.observe(Some(record("other", "r1", "2")), at(114));
        assert_eq!(election.turn(at(115)), Turn::Take(record("other", "r1", "2")));
    }

    #[test]
    fn seeing_the_same_lease_again_does_not_prolong_it() {
        let mut election = candidate();
        election.observe(Some(record("other", "r1", "1")), at(100));
        election.observe(Some(record("other", "r1", "1")), at(114));
        assert_eq!(election.turn(at(115)), Turn::Take(record("other", "r1", "1")));
    }

    #[test]
    fn the_leader_renews_each_period_and_steps_down_at_the_deadline() {
        let mut election = candidate();
        election.observe(None, at(0));
        election.stored(record("us", "r1", "1"), at(0));
        assert_eq!(election.leads_until(), Some(at(10)));
        assert_eq!(election.turn(at(1)), Turn::Wait(at(2)));
        assert_eq!(election.turn(at(2)), Turn::Renew(record("us", "r1", "1")));
        election.failed(at(4), 0.0);
        assert_eq!(election.turn(at(5)), Turn::Wait(at(6)));
        assert_eq!(election.turn(at(10)), Turn::StepDown);
        election.stepped_down();
        assert_eq!(election.leads_until(), None);
    }

    #[test]
    fn in_a_hurry_the_leader_renews_at_once_but_not_without_end_and_nobody_else_does() {
        let mut election = candidate();
        election.stored(record("us", "r1", "1"), at(10));
        election.hurry(at(10));
        assert_eq!(election.turn(at(11)), Turn::Wait(at(12)));
        election.hurry(at(11));
        assert_eq!(election.turn(at(11)), Turn::Renew(record("us", "r1", "1")));
        let mut other = candidate();
        other.observe(Some(record("other", "r1", "1")), at(10));
        other.hurry(at(11));
        assert_eq!(other.turn(at(11)), Turn::Wait(at(25)));
    }

    #[test]
    fn a_lease_that_shows_another_holder_ends_leadership_at_once() {
        let mut election = candidate();
        election.stored(record("us", "r1", "1"), at(0));
        election.observe(Some(record("other", "r2", "2")), at(1));
        assert_eq!(election.leads_until(), None);
    }

    #[test]
    fn a_renewal_that_the_watch_shows_first_keeps_the_time_it_was_sent() {
        let mut election = candidate();
        election.stored(record("us", "r1", "1"), at(0));
        election.observe(Some(record("us", "r2", "2")), at(3));
        assert_eq!(election.leads_until(), Some(at(10)), "only an answered renewal prolongs leadership");
        election.stored(record("us", "r2", "2"), at(2));
        assert_eq!(election.leads_until(), Some(at(12)));
    }

    #[test]
    fn a_try_whose_answer_was_lost_counts_from_when_it_was_sent() {
        let mut election = candidate();
        election.stored(record("us", "r1", "1"), at(0));
        election.tried("r2".to_owned(), at(2));
        election.failed(at(2), 0.0);
        election.tried("r3".to_owned(), at(4));
        // The next server, or the watch, shows the first of the two.
        election.observe(Some(record("us", "r2", "2")), at(5));
        assert_eq!(election.leads_until(), Some(at(12)));
        assert!(election.is_ours());
    }

    #[test]
    fn a_try_that_is_stored_after_its_deadline_does_not_lead() {
        let mut election = candidate();
        election.observe(Some(record("", "r0", "1")), at(0));
        election.tried("r1".to_owned(), at(0));
        election.observe(Some(record("us", "r1", "2")), at(10));
        assert_eq!(election.leads_until(), None);
        // Nor one that is stored while another holds it, which only a lie could show.
        election.tried("r2".to_owned(), at(11));
        election.observe(Some(record("other", "r2", "3")), at(12));
        assert_eq!(election.leads_until(), None);
    }

    #[test]
    fn a_late_event_from_before_our_takeover_changes_nothing() {
        let mut election = candidate();
        election.observe(Some(record("other", "r1", "1")), at(0));
        election.stored(record("us", "r3", "3"), at(20));
        election.observe(Some(record("other", "r2", "2")), at(21));
        assert_eq!(election.leads_until(), Some(at(30)));
    }

    #[test]
    fn an_old_lease_of_our_own_identity_is_renewed_before_it_leads() {
        let mut election = candidate();
        election.observe(Some(record("us", "r1", "1")), at(0));
        assert_eq!(election.leads_until(), None);
        assert_eq!(election.turn(at(0)), Turn::Renew(record("us", "r1", "1")));
    }
}
