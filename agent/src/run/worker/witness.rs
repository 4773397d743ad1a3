//! What a worker tells of each turn to somebody who waits for it: the verbs that do one thing and end.

use std::sync::Arc;

use decide::desired::Observed;
use decide::exposure::ExposureView;
use decide::pass::Pass;
use tokio::sync::watch;

/// What came of a turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The exposure as it was known.
    pub view: ExposureView,
    /// What was decided.
    pub pass: Pass,
    /// The balancer as last read.
    pub observed: Option<Observed>,
    /// This agent leads.
    pub leads: bool,
    /// Everything is as it should be and stored, and nothing is under way.
    pub settled: bool,
}

/// Who is told; nobody, unless somebody listens.
#[derive(Clone, Debug, Default)]
pub struct Witness(Option<Arc<watch::Sender<Option<Turn>>>>);

impl Witness {
    /// Somebody who is told, and where to listen.
    pub fn new() -> (Self, watch::Receiver<Option<Turn>>) {
        let (out, turns) = watch::channel(None);
        (Self(Some(Arc::new(out))), turns)
    }

    /// Tells of a turn, where somebody listens.
    pub(super) fn tell(&self, turn: impl FnOnce() -> Turn) {
        if let Some(out) = &self.0 {
            out.send_replace(Some(turn()));
        }
    }
}
