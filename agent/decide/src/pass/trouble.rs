//! Calls that failed, and when they are worth another try.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Moment;
use crate::desired::Target;
use crate::retry::{Fault, FaultKind};

/// Conflicts in a row that are answered at once; they are nobody's news before that.
pub(super) const QUIET_CONFLICTS: u32 = 5;
/// Longest pause before something is tried again that a target waits for to leave.
const URGENT: Duration = Duration::from_secs(2);

/// Calls of one sort that failed in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// What went wrong last.
    pub fault: Fault,
    /// Failures in a row.
    pub attempts: u32,
    /// When it failed last.
    pub at: Moment,
    /// When the same is tried again.
    pub next: Moment,
    /// The targets that the failed write had; empty for a read.
    pub targets: BTreeSet<Target>,
}

/// Failures of one kind in a row; a pause of minutes ends the row.
pub(super) fn attempts(before: Option<&Trouble>, fault: &Fault, now: Moment) -> u32 {
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

    /// When the same is tried again. What is `urgent` waits [`URGENT`] at most, unless the cloud asked for patience or
    /// trying more often cannot help.
    pub fn next_try(&self, urgent: bool) -> Moment {
        let passes = matches!(
            self.fault.kind,
            FaultKind::Server
                | FaultKind::Unreachable
                | FaultKind::TimedOut
                | FaultKind::Malformed
                | FaultKind::NotFound
                | FaultKind::Conflict
        );
        let hurried = urgent && passes && self.fault.retry_after.is_none();
        if hurried { self.next.min(self.at + URGENT) } else { self.next }
    }
}
