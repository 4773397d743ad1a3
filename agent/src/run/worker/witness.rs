//! What a worker tells of each turn to somebody who waits for it: the verbs that do one thing and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use decide::desired::Observed;
use decide::exposure::ExposureView;
use decide::pass::Pass;
use tokio::sync::watch;

use crate::cluster::ApiFailure;

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

/// What a worker has told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The last turn; `None`: there was none, or there is no object.
    pub turn: Option<Turn>,
    /// Writes to Kubernetes that were refused last, by what was being done.
    pub refused: BTreeMap<&'static str, String>,
}

/// Who is told; nobody, unless somebody listens.
#[derive(Clone, Debug, Default)]
pub struct Witness(Option<Arc<watch::Sender<Told>>>);

impl Witness {
    /// Somebody who is told, and where to listen.
    pub fn new() -> (Self, watch::Receiver<Told>) {
        let (out, told) = watch::channel(Told::default());
        (Self(Some(Arc::new(out))), told)
    }

    /// Tells of a turn, where somebody listens.
    pub(super) fn tell(&self, turn: impl FnOnce() -> Option<Turn>) {
        if let Some(out) = &self.0 {
            let turn = turn();
            out.send_modify(|told| told.turn = turn);
        }
    }

    /// Tells what became of a write to Kubernetes. A race that was lost is no news.
    pub(super) fn answered<T>(&self, what: &'static str, result: &Result<T, ApiFailure>) {
        let Some(out) = &self.0 else { return };
        match result {
            Ok(_) => out.send_if_modified(|told| told.refused.remove(what).is_some()),
            Err(ApiFailure::Other(why) | ApiFailure::Busy(why) | ApiFailure::Forbidden(why)) => {
                out.send_if_modified(|told| told.refused.insert(what, why.clone()).as_ref() != Some(why))
            }
            Err(ApiFailure::NotFound | ApiFailure::Conflict) => false,
        };
    }
}
