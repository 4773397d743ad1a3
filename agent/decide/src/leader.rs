//! Who leads: decisions over a `coordination.k8s.io` Lease, as client-go takes them.
//!
//! Another holder is judged by how long *this* agent has seen no change, never by the remote wall clock. Time is an
//! argument; the shell watches the Lease, sends what is decided here and says what came of it.
//!
//! Deliberately not here: fencing of writes beyond the time until which they are allowed. The balancer's version
//! guards against a stale leader that wakes up. Who is fit to lead is judged in [`standing`].

mod standing;

use std::time::Duration;

use crate::Moment;

use standing::Standing;

pub use standing::{Ailment, Signs, Strain};

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
    /// How fit this agent is to lead.
    standing: Standing,
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
    /// Stop leading and release the Lease: somebody else is of more use.
    HandOver(Record, Ailment),
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
            standing: Standing::default(),
        }
    }

    /// What keeps this agent from being of use as a leader is now this.
    pub fn strained(&mut self, strain: Strain) {
        self.standing.strain = strain;
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
        if let Some(record) = &record {
            self.standing.held_by(&record.holder, now);
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
        let held = self.record().filter(|record| self.held_since.is_some() && record.holder == self.identity);
        if let (Some(record), Some(ailment)) = (held, self.standing.gives_way(now)) {
            return Turn::HandOver(record.clone(), ailment);
        }
        if !self.read || now < self.next_try {
            let leads = self.leads_until().map(|deadline| deadline.min(self.standing.ripe_at(now).unwrap_or(deadline)));
            let due = leads.map_or(self.next_try, |due| due.min(self.next_try));
            return Turn::Wait(due.max(now + Duration::from_millis(1)));
        }
        // Those who are fit go first.
        let grace = if self.standing.is_fit(now) { Duration::ZERO } else { self.timings.retry_period };
        match &self.seen {
            None => Turn::Create,
            Some((record, _)) if record.holder == self.identity => Turn::Renew(record.clone()),
            Some((record, since)) => {
                let free = record.holder.is_empty();
                let expires = *since + if free { Duration::ZERO } else { record.duration } + grace;
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

    /// A try has failed; `jitter` is a random number from 0 to 1.
    pub fn failed(&mut self, now: Moment, jitter: f64) {
        let spread = 1.0 + 0.2 * jitter.clamp(0.0, 1.0);
        self.next_try = now + self.timings.retry_period.mul_f64(spread);
    }

    /// The Lease was released because of an ailment: this agent stands back.
    pub fn handed_over(&mut self, ailment: Ailment, now: Moment) {
        self.held_since = None;
        self.next_try = now + self.timings.retry_period;
        self.standing.gave_way(ailment, now);
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
mod tests;
