//! The request to STACKIT that has not been answered yet, and what may take its place.
//!
//! There is one at a time. It is waited for, with two exceptions: a look never holds back a change of the balancer, and
//! a change that has had no answer for [`PATIENCE`] does not hold back a newer choice of targets. The newer one
//! carries the same version, so at most one of the two lands; the other meets 409, which leads to a look and to a
//! decision anew.

use std::collections::BTreeSet;
use std::time::Duration;

use super::CloudStep;
use crate::Moment;
use crate::desired::Target;

/// How long a PUT without an answer holds back a newer choice.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request under way.
#[derive(Clone, Debug, PartialEq)]
pub struct UnderWay {
    kind: Kind,
    sent: Moment,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Look,
    Change { version: String, targets: BTreeSet<Target> },
    Other,
}

impl UnderWay {
    /// `step` is sent at `sent`.
    pub fn of(step: &CloudStep, sent: Moment) -> Self {
        let kind = match step {
            CloudStep::Read(_) => Kind::Look,
            CloudStep::Update(update) => {
                Kind::Change { version: update.base.version.clone(), targets: update.wish.targets() }
            }
            CloudStep::Create(_) | CloudStep::Delete(_) => Kind::Other,
        };
        Self { kind, sent }
    }

    /// From when on `next` takes its place; `None`: only after its answer.
    pub fn gives_way_at(&self, next: &CloudStep) -> Option<Moment> {
        let CloudStep::Update(next) = next else { return None };
        match &self.kind {
            Kind::Look => Some(self.sent),
            Kind::Change { version, targets } => {
                let newer = *version == next.base.version && *targets != next.wish.targets();
                newer.then_some(self.sent + PATIENCE)
            }
            Kind::Other => None,
        }
    }

    /// Whether it changes nothing, so that nobody has to know what came of it.
    pub fn is_look(&self) -> bool {
        self.kind == Kind::Look
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::observed;
    use super::*;
    use crate::desired::{BalancerStatus, Identity, TargetPool};
    use crate::plan::Update;

    const SENT: Moment = Moment(Duration::from_secs(100));

    fn update(version: &str, targets: &[u8]) -> CloudStep {
        let base = observed(version, BalancerStatus::Ready);
        let mut wish = base.balancer.clone();
        let target = |last: &u8| Target { name: format!("n{last}"), ip: [10, 0, 0, *last].into() };
        let targets = targets.iter().map(target).collect();
        wish.target_pool = Some(TargetPool { target_port: 443, targets, active_health_check: None });
        CloudStep::Update(Box::new(Update { base, wish, changes: Vec::new() }))
    }

    #[test]
    fn each_request_under_way_meets_each_next_step() {
        let read = || CloudStep::Read("lb".to_owned());
        let create = || CloudStep::Create(Box::new(observed("", BalancerStatus::Ready).balancer));
        let identity = Identity {
            name: "lb".to_owned(),
            project_id: String::new(),
            region: String::new(),
            technical_id: String::new(),
        };
        let delete = || CloudStep::Delete(identity.clone());
        let two_seconds_later = Some(SENT + Duration::from_secs(2));
        for (under_way, next, gives_way) in [
            // A look holds nothing back.
            (read(), update("v1", &[1]), Some(SENT)),
            (read(), read(), None),
            // It may be the look that tells whether there is one.
            (read(), create(), None),
            (read(), delete(), None),
            (update("v1", &[1, 2]), update("v1", &[1]), two_seconds_later),
            (update("v1", &[1]), update("v1", &[1, 2]), two_seconds_later),
            // The same choice is waited for, and so is an answer that has come.
            (update("v1", &[1, 2]), update("v1", &[1, 2]), None),
            (update("v1", &[1, 2]), update("v2", &[1]), None),
            (update("v1", &[1]), read(), None),
            // What has no version is never sent twice.
            (update("v1", &[1]), delete(), None),
            (create(), update("v1", &[1]), None),
            (delete(), update("v1", &[1]), None),
            (delete(), delete(), None),
        ] {
            assert_eq!(UnderWay::of(&under_way, SENT).gives_way_at(&next), gives_way, "{under_way:?}, {next:?}");
        }
    }

    #[test]
    fn only_a_look_changes_nothing() {
        assert!(UnderWay::of(&CloudStep::Read("lb".to_owned()), SENT).is_look());
        assert!(!UnderWay::of(&update("v1", &[1]), SENT).is_look());
    }
}
