//! The evidence of all nodes, and whom a change of it wakes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use decide::Moment;
use decide::probe::{Evidence, ProbeClass, Reading};
use tracing::debug;

use super::Target;

/// Evidence of all targets as it stands.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// By target; one that has just come is empty.
    pub evidence: BTreeMap<Target, Evidence>,
    /// What was last read out of it.
    looks: BTreeMap<Target, Look>,
}

/// When somebody last looked at a target, and what was seen.
#[derive(Clone, Debug, Default)]
struct Look {
    /// Until when somebody will have looked again; after that the prober was stopped or starved.
    until: Moment,
    seen: Seen,
}

/// What readers are woken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    class: ProbeClass,
    hurried: ProbeClass,
    fresh_greens: u32,
    denied: bool,
}

impl Seen {
    fn is_green(self) -> bool {
        self.class == ProbeClass::Green && self.hurried == ProbeClass::Green
    }

    fn is_bad(self) -> bool {
        [self.class, self.hurried].iter().any(|class| !matches!(class, ProbeClass::Green | ProbeClass::Unknown))
    }
}

/// By which settings evidence is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub(super) slow: Duration,
    /// More fresh greens than this make no difference.
    pub(super) threshold: u32,
}

/// What a change has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Readers have to know.
    pub(super) tell: bool,
    /// It is bad, and was not before.
    pub(super) turned: bool,
    /// When time alone may change it.
    pub(super) next: Option<Moment>,
}

impl Readings {
    /// What is known of a target at `now`; `None`: nobody asks it. `hurried` as in [`Evidence::reading`].
    ///
    /// A reader that wakes up from a pause before the prober does must not take the pause for silence, so evidence
    /// that nobody has looked after in time says nothing about slowness.
    pub fn reading(&self, target: &Target, now: Moment, slow: Duration, hurried: bool) -> Option<Reading> {
        let evidence = self.evidence.get(target)?;
        if self.looks.get(target).is_some_and(|look| now <= look.until) {
            return Some(evidence.reading(now, slow, hurried));
        }
        let mut evidence = evidence.clone();
        evidence.overslept();
        Some(evidence.reading(now, slow, hurried))
    }

    /// Keeps and makes what is wanted; whether that was a change.
    pub(super) fn keep(&mut self, wanted: &BTreeSet<Target>) -> bool {
        let before = self.evidence.len();
        self.evidence.retain(|target, _| wanted.contains(target));
        self.looks.retain(|target, _| wanted.contains(target));
        let mut changed = self.evidence.len() != before;
        for target in wanted {
            if !self.evidence.contains_key(target) {
                self.evidence.insert(target.clone(), Evidence::default());
                self.looks.insert(target.clone(), Look::default());
                changed = true;
            }
        }
        changed
    }

    /// As [`Evidence::mute_silence`]; whether there was somebody to mute.
    pub(super) fn mute_silence(&mut self, target: &Target) -> bool {
        self.evidence.get_mut(target).map(Evidence::mute_silence).is_some()
    }

    /// Until when somebody will have looked at the target again.
    pub(super) fn looked(&mut self, target: &Target, until: Moment) {
        if let Some(look) = self.looks.get_mut(target) {
            look.until = until;
        }
    }

    /// Until when somebody will have looked again, for each target.
    #[cfg(test)]
    pub(super) fn quiet_until(&self) -> Vec<Moment> {
        self.looks.values().map(|look| look.until).collect()
    }

    /// Changes the evidence of a target. `news`: something came back, which matters while anybody is not green, as the
    /// rules compare nodes.
    pub(super) fn change(
        &mut self,
        target: &Target,
        now: Moment,
        measure: Measure,
        news: bool,
        change: impl FnOnce(&mut Evidence),
    ) -> Change {
        let (Some(evidence), Some(look)) = (self.evidence.get_mut(target), self.looks.get_mut(target)) else {
            return Change::default();
        };
        change(evidence);
        let reading = evidence.reading(now, measure.slow, false);
        let seen = Seen {
            class: reading.class,
            hurried: evidence.reading(now, measure.slow, true).class,
            fresh_greens: reading.fresh_greens.min(measure.threshold),
            denied: reading.denied_since.is_some(),
        };
        let before = std::mem::replace(&mut look.seen, seen);
        if seen.class != before.class {
            debug!(ip = %target.ip, class = seen.class.word(), was = before.class.word(), found = reading.found, "probe");
        }
        let matters = || self.looks.values().any(|look| !look.seen.is_green());
        Change {
            tell: seen != before || (news && matters()),
            turned: seen.is_bad() && !before.is_bad(),
            next: reading.next,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use decide::probe::{Answer, Event, Path, Request};

    use super::*;

    const MEASURE: Measure = Measure { slow: Duration::from_secs(1), threshold: 2 };

    fn at(milliseconds: u64) -> Moment {
        Moment(Duration::from_millis(milliseconds))
    }

    fn target(last: u8) -> Target {
        Target { uid: format!("node-{last}"), ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port: 443 }
    }

    fn readings() -> Readings {
        let mut readings = Readings::default();
        assert!(readings.keep(&BTreeSet::from([target(1), target(2)])));
        for last in [1, 2] {
            ask(&mut readings, last, 1, 0);
            green(&mut readings, last, 1, 1);
            readings.looked(&target(last), at(1000));
        }
        readings
    }

    fn learn(readings: &mut Readings, last: u8, event: Event, milliseconds: u64, news: bool) -> Change {
        readings.change(&target(last), at(milliseconds), MEASURE, news, |evidence| {
            evidence.learn(event, at(milliseconds), MEASURE.slow);
        })
    }

    fn ask(readings: &mut Readings, last: u8, id: u64, milliseconds: u64) -> Change {
        learn(readings, last, Event::Sent(Request { id, path: Path::Ready, fresh: false }), milliseconds, false)
    }

    fn green(readings: &mut Readings, last: u8, id: u64, milliseconds: u64) -> Change {
        learn(readings, last, Event::Answered(id, Answer::Green), milliseconds, true)
    }

    #[test]
    fn all_green_wakes_nobody_and_one_that_is_not_makes_every_answer_count() {
        let mut readings = readings();
        ask(&mut readings, 1, 2, 500);
        assert!(!green(&mut readings, 1, 2, 501).tell);
        ask(&mut readings, 1, 3, 1000);
        let change = learn(&mut readings, 1, Event::Answered(3, Answer::Shutdown), 1001, true);
        assert!(change.tell && change.turned);
        assert!(!ask(&mut readings, 2, 2, 1002).tell, "a question is no news");
        let change = green(&mut readings, 2, 2, 1003);
        assert!(change.tell && !change.turned, "a witness");
    }

    #[test]
    fn a_reader_that_wakes_before_the_prober_does_not_take_the_pause_for_silence() {
        let mut readings = readings();
        for (id, path) in [(2, Path::Ready), (3, Path::Alive)] {
            learn(&mut readings, 1, Event::Sent(Request { id, path, fresh: false }), 500, false);
        }
        let class = |now, hurried| readings.reading(&target(1), at(now), MEASURE.slow, hurried).unwrap().class;
        assert_eq!(class(1000, true), ProbeClass::Green);
        assert_eq!(class(20_000, true), ProbeClass::Green);
        readings.looked(&target(1), at(20_000));
        let class = |now, hurried| readings.reading(&target(1), at(now), MEASURE.slow, hurried).unwrap().class;
        assert_eq!(class(20_000, true), ProbeClass::Silent, "somebody was awake and saw nothing");
    }

    #[test]
    fn who_goes_is_forgotten_and_starts_empty_when_it_comes_back() {
        let mut readings = readings();
        assert!(!readings.keep(&BTreeSet::from([target(1), target(2)])));
        assert!(readings.keep(&BTreeSet::from([target(2)])));
        assert!(readings.reading(&target(1), at(1), MEASURE.slow, false).is_none());
        assert!(!readings.mute_silence(&target(1)));
        assert!(readings.mute_silence(&target(2)));
        assert!(readings.keep(&BTreeSet::from([target(1), target(2)])));
        assert_eq!(readings.evidence[&target(1)], Evidence::default());
    }
}
