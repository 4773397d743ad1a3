//! What the workers have last decided and seen, for whoever asks: `/state`, and the way down.
//!
//! Workers put it up and go on; readers take a copy and never wait for more than that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use decide::desired::Observed;
use decide::endpoints::Choice;
use decide::names;
use decide::plan::Plan;
use decide::status::Outcome;

use super::worker::Turn;

/// The board; cheap to clone.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, Arc<Notice>>>>);

/// What is known of one exposure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notice {
    /// The endpoints as chosen.
    pub choice: Choice,
    /// The last plan, and when it was made, in seconds since 1970; only a leader makes plans.
    pub plan: Option<(Plan, i64)>,
    /// What it came to, and since when.
    pub outcome: Option<(Outcome, i64)>,
    /// The balancer as this agent has read it; only a leader reads it.
    pub observed: Option<Observed>,
}

impl Board {
    /// Puts up what a turn has come to at `wall`. A plan stays until the next: most passes make none.
    pub fn post(&self, exposure: &str, turn: Turn, wall: i64) {
        let Turn { pass, observed, leads, .. } = turn;
        let mut notices = self.notices();
        let before = notices.get(exposure).filter(|_| leads);
        let plan = pass.plan.map(|plan| (plan, wall)).or_else(|| before.and_then(|before| before.plan.clone()));
        let same = before.and_then(|before| before.outcome.clone());
        let outcome = match (pass.outcome, same) {
            (Some(outcome), Some((same, since))) if outcome == same => Some((outcome, since)),
            (Some(outcome), _) => Some((outcome, wall)),
            (None, same) => same,
        };
        let notice = Notice { choice: pass.choice, plan, outcome, observed };
        notices.insert(exposure.to_owned(), Arc::new(notice));
    }

    /// There is no such exposure any more.
    pub fn clear(&self, exposure: &str) {
        self.notices().remove(exposure);
    }

    /// Everything that is up, by the exposures' names.
    pub fn read(&self) -> BTreeMap<String, Arc<Notice>> {
        self.notices().clone()
    }

    /// What a drain of this node still waits for, as the workers see it; `None`: nothing.
    pub fn awaited(&self, node: &str) -> Option<String> {
        let target = names::target(node);
        let waits = |notice: &Arc<Notice>| match &notice.observed {
            None => Some("the balancer to be read".to_owned()),
            Some(observed) if observed.balancer.targets().iter().any(|found| found.name == target) => {
                Some(format!("target {target} to leave load balancer `{}`", observed.balancer.name))
            }
            Some(observed) if !observed.is_settled() => Some(format!(
                "load balancer `{}` to be ready with version {}",
                observed.balancer.name, observed.version
            )),
            Some(_) => None,
        };
        self.notices().values().find_map(waits)
    }

    fn notices(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Notice>>> {
        // A panic elsewhere ends the process; there is no half-written notice to fear.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
