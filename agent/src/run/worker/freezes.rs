//! When a freeze is worth a line and an event. The metric and the condition follow it at once.

use std::time::Duration;

use decide::Moment;
use decide::endpoints::Frozen;

/// Before a target leaves for what the probes say, one that stays is asked: that takes milliseconds, and while it does not take
/// this long it is no freeze to wake anybody for.
const ASKING: Duration = Duration::from_secs(1);

/// The freeze that holds, and the one that was told.
#[derive(Debug, Default)]
pub(super) struct Freezes {
    holds: Option<(Frozen, Moment)>,
    told: Option<Frozen>,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Frozen(Frozen),
    /// It had been told, and is over.
    Free(Frozen),
}

impl Freezes {
    /// Takes in what holds at `now`. Whatever probes bring about is looked at again with each answer, so that nothing
    /// needs to be waited for.
    pub(super) fn next(&mut self, frozen: Option<Frozen>, now: Moment) -> Option<News> {
        let Some(why) = frozen else {
            self.holds = None;
            return self.told.take().map(News::Free);
        };
        let since = self.holds.filter(|(before, _)| *before == why).map_or(now, |(_, since)| since);
        self.holds = Some((why, since));
        let patience = if why == Frozen::NoProof { ASKING } else { Duration::ZERO };
        if self.told == Some(why) || now.since(since) < patience {
            return None;
        }
        self.told = Some(why);
        Some(News::Frozen(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(steps: &[(u64, Option<Frozen>)]) -> Vec<Option<News>> {
        let mut freezes = Freezes::default();
        steps.iter().map(|(at, frozen)| freezes.next(*frozen, Moment(Duration::from_millis(*at)))).collect()
    }

    #[test]
    fn a_removal_whose_proof_is_being_asked_for_is_no_freeze_to_tell_of() {
        let steps = [(0, Some(Frozen::NoProof)), (999, Some(Frozen::NoProof)), (1_000, None), (5_000, None)];
        assert_eq!(told(&steps), [None; 4]);
        let (proof, cause) = (Frozen::NoProof, Frozen::SharedCause);
        assert_eq!(told(&[(0, Some(proof)), (5, Some(cause))]), [None, Some(News::Frozen(cause))]);
    }

    #[test]
    fn what_stays_frozen_is_told_once_and_so_is_its_end() {
        let why = Frozen::NoProof;
        let steps =
            [(0, Some(why)), (999, Some(why)), (1_000, Some(why)), (9_000, Some(why)), (9_001, None), (9_002, None)];
        assert_eq!(told(&steps), [None, None, Some(News::Frozen(why)), None, Some(News::Free(why)), None]);
        let why = Frozen::SharedCause;
        assert_eq!(told(&[(0, Some(why)), (1, None)]), [Some(News::Frozen(why)), Some(News::Free(why))]);
    }

    #[test]
    fn each_reason_has_a_time_of_its_own_and_the_end_names_the_last_that_was_told() {
        let (nodes, proof) = (Frozen::StaleNodes, Frozen::NoProof);
        let steps = [(0, Some(nodes)), (5_000, Some(proof)), (5_999, Some(proof)), (6_000, Some(nodes)), (6_001, None)];
        assert_eq!(told(&steps), [Some(News::Frozen(nodes)), None, None, None, Some(News::Free(nodes))]);
        let steps = [(0, Some(nodes)), (5_000, Some(proof)), (6_000, Some(proof)), (6_001, None)];
        assert_eq!(told(&steps)[2..], [Some(News::Frozen(proof)), Some(News::Free(proof))]);
    }
}
