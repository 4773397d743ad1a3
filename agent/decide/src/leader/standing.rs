//! Whether this agent is fit to lead: when it hands the Lease over, and when it leaves a free one to others.
//!
//! | ailment | ripe after | what follows |
//! |---|---|---|
//! | something waits for STACKIT, which gives no HTTP answer | 10 s | released; stands back for 60 s, doubling to 10 min |
//! | no usable token | 10 s | the same |
//! | every other node is silent | 10 s | the same |
//! | its own node is drained, and out of the balancer | 1 s | released; others go first while it is drained |
//!
//! Never when it is alone: there must be another node that could serve. That there is an agent on it nobody can know
//! beforehand. So who stands back takes the Lease again when nobody else has taken it within a retry period, and tries
//! that again only when its time of standing back is over.
//!
//! When STACKIT is down for all, the Lease must not go round: it changes hands at most once a minute for an ailment that
//! others may have as well. A drained node is nobody else's, so that does not count for it.

use std::fmt;
use std::time::Duration;

use crate::Moment;
use crate::health::{Class, Verdict};
use crate::probe::ProbeClass;

/// How long an ailment lasts before it counts.
const RIPE: Duration = Duration::from_secs(10);
/// The same for a drained node: time to tell what was written.
const TOLD: Duration = Duration::from_secs(1);
/// First and longest time of standing back.
const BACK: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// How long after the end of it the next one doubles.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// The Lease changes hands at most this often for what others may suffer from, too.
const CALM: Duration = Duration::from_secs(60);

/// What keeps a leader from being of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Something waits for STACKIT, and there is no answer.
    Unanswered,
    /// There is no usable token.
    Tokenless,
    /// Every other node is silent.
    Isolated,
    /// Its node is drained.
    Drained,
}

/// The ailments that there are, each with since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// See [`Ailment::Unanswered`].
    pub unanswered: Option<Moment>,
    /// See [`Ailment::Tokenless`].
    pub tokenless: Option<Moment>,
    /// See [`Ailment::Isolated`].
    pub isolated: Option<Moment>,
    /// See [`Ailment::Drained`].
    pub drained: Option<Moment>,
}

/// What an exposure's owner sees.
#[derive(Clone, Copy, Debug)]
pub struct Signs<'a> {
    /// The verdicts on all control-plane nodes.
    pub verdicts: &'a [Verdict],
    /// Something waits for STACKIT.
    pub pending: bool,
    /// When STACKIT last gave an HTTP answer, whatever it was.
    pub answered: Option<Moment>,
    /// A usable token is at hand.
    pub token: bool,
    /// Its own node is a target of the balancer, as far as that is known.
    pub target: bool,
}

impl Strain {
    /// What the signs mean now, after what they meant before.
    #[must_use]
    pub fn next(self, signs: &Signs<'_>, now: Moment) -> Self {
        let others = || signs.verdicts.iter().filter(|verdict| !verdict.own && is_there(verdict));
        // Nobody can take over where nothing runs.
        let able = others().any(|verdict| verdict.serves && !verdict.by_probe.is_bad());
        let well = others().any(|verdict| verdict.class == Class::Healthy);
        let marked = signs.verdicts.iter().any(|verdict| verdict.own && matches!(verdict.class, Class::Maintenance(_)));
        let silent = others().all(|verdict| verdict.probe.class == ProbeClass::Silent);
        let lasting = |holds: bool, since: Option<Moment>| holds.then(|| since.unwrap_or(now));
        // An answer starts the wait over.
        let unanswered = lasting(signs.pending && able, self.unanswered).map(|since| Some(since).max(signs.answered));
        Self {
            unanswered: unanswered.flatten(),
            tokenless: lasting(!signs.token && able, self.tokenless),
            isolated: others().map(|verdict| verdict.probe.since).max().filter(|_| silent),
            drained: lasting(marked && well && !signs.target && !signs.pending, self.drained),
        }
    }

    /// What several exposures' owners see together: what one suffers from counts, but a drained node must be out of
    /// every balancer.
    pub fn of_all(strains: impl IntoIterator<Item = Strain>) -> Strain {
        let both = |one: Option<Moment>, other: Option<Moment>| one.into_iter().chain(other).min();
        let together = |one: Strain, other: Strain| Strain {
            unanswered: both(one.unanswered, other.unanswered),
            tokenless: both(one.tokenless, other.tokenless),
            isolated: both(one.isolated, other.isolated),
            drained: one.drained.zip(other.drained).map(|(one, other)| one.max(other)),
        };
        strains.into_iter().reduce(together).unwrap_or_default()
    }

    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Each, with when it counts.
    fn ripening(&self) -> impl Iterator<Item = (Ailment, Moment)> {
        let all = [
            (Ailment::Drained, self.drained, TOLD),
            // Who has no token asks nothing, and gets no answer either.
            (Ailment::Tokenless, self.tokenless, RIPE),
            (Ailment::Unanswered, self.unanswered, RIPE),
            (Ailment::Isolated, self.isolated, RIPE),
        ];
        all.into_iter().filter_map(|(ailment, since, ripe)| Some((ailment, since? + ripe)))
    }
}

fn is_there(verdict: &Verdict) -> bool {
    verdict.class != Class::Absent && verdict.ip.is_some()
}

/// How fit this agent is to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) strain: Strain,
    /// Until when it stands back and lets others go first.
    back: Moment,
    /// Until when it does not hand over again.
    until: Moment,
    /// How long it stood back last.
    last: Duration,
    /// Who held the Lease last.
    holder: String,
    /// When it has last changed hands, as seen from here.
    changed: Option<Moment>,
}

impl Standing {
    /// Somebody holds the Lease; the empty name: nobody.
    pub(super) fn held_by(&mut self, holder: &str, now: Moment) {
        if holder.is_empty() || holder == self.holder {
            return;
        }
        if !self.holder.is_empty() {
            self.changed = Some(now);
        }
        holder.clone_into(&mut self.holder);
    }

    /// From when on an ailment makes a leader hand over.
    fn counts_from(&self, ailment: Ailment, ripe: Moment) -> Moment {
        let calm = self.changed.filter(|_| ailment != Ailment::Drained).map(|changed| changed + CALM);
        ripe.max(self.until).max(calm.unwrap_or_default())
    }

    /// Why a leader hands over now.
    pub(super) fn gives_way(&self, now: Moment) -> Option<Ailment> {
        let mut ailments = self.strain.ripening();
        ailments.find(|(ailment, ripe)| now >= self.counts_from(*ailment, *ripe)).map(|(ailment, _)| ailment)
    }

    /// When a leader that is ailing hands over, if nothing changes.
    pub(super) fn ripe_at(&self, now: Moment) -> Option<Moment> {
        let ripe = self.strain.ripening().map(|(ailment, ripe)| self.counts_from(ailment, ripe));
        ripe.filter(|at| *at > now).min()
    }

    /// Whether a Lease that is free is taken without letting others go first.
    pub(super) fn is_fit(&self, now: Moment) -> bool {
        now >= self.back && self.strain.ripening().all(|(_, ripe)| now < ripe)
    }

    /// The Lease was handed over.
    pub(super) fn gave_way(&mut self, ailment: Ailment, now: Moment) {
        if ailment == Ailment::Drained {
            // Nothing is wrong with it, and it is as good as any other once it is no longer drained.
            self.until = self.until.max(now + BACK.0);
            return;
        }
        let again = !self.last.is_zero() && now < self.until + FORGOTTEN;
        self.last = if again { (self.last * 2).min(BACK.1) } else { BACK.0 };
        self.back = now + self.last;
        self.until = self.back;
    }
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ailment::Unanswered => "STACKIT does not answer this agent",
            Ailment::Tokenless => "this agent has no usable token",
            Ailment::Isolated => "every other node is silent as seen from here",
            Ailment::Drained => "this node is drained and out of the balancer",
        })
    }
}

#[cfg(test)]
mod tests;
