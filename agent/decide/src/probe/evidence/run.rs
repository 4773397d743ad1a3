//! A row of green answers without a break, and the trouble that it has ended.

use std::time::Duration;

use crate::Moment;

/// How long who is back first after an outage waits for the others, of whose outage nothing is known.
pub(crate) const SETTLED: Duration = Duration::from_secs(20);
/// An API server that has lost its connection to etcd tries again after a second, and then after pauses that grow with the
/// outage, up to as long again; it asks its new connection every two seconds.
const RECONNECTS: Duration = Duration::from_secs(3);

/// The present row of greens; empty before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// When its first request was sent.
    since: Option<Moment>,
    /// The last green answer before the trouble that it has ended; `None`: there was none.
    trouble: Option<Moment>,
}

impl Run {
    pub(super) fn since(&self) -> Option<Moment> {
        self.since
    }

    /// When whoever lost its etcd in the same trouble would be green again as well.
    pub(super) fn others_back(&self) -> Option<Moment> {
        let grace =
            |since: Moment| self.trouble.map_or(SETTLED, |trouble| SETTLED.min(RECONNECTS + since.since(trouble)));
        self.since.map(|since| since + grace(since))
    }

    /// Another one begins with a request that was sent at `since`; `last`: when the last green answer before was asked for.
    pub(super) fn begin(&mut self, since: Moment, last: Option<Moment>) {
        // Trouble that comes again before the others are back is one with the last.
        if self.others_back().zip(last).is_some_and(|(back, last)| last >= back) {
            self.trouble = last;
        }
        self.since = Some(since);
    }
}
