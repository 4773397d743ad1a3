//! The operations `migrate` and `restore`.
//!
//! Upstream's reconciler has no branch for them and leaves the annotation in place, so that such an object never
//! counts as healthy again. Here both end: `migrate` as *reported, finalizer gone, annotation gone*, after which the
//! object is left alone until `restore` or `reconcile` asks for it; `restore` is an ordinary reconciliation under its
//! own name, after which the annotation goes.

use super::{ObjectStep, Pass, Situation, conclude};
use crate::status::{Outcome, Waiting};

/// `migrate`: the balancer and what is on record of it stay as they are, and whoever comes next finds them. It is
/// reported first; then the finalizer goes, so that a deletion of this object no longer means the balancer; then the
/// annotation, so that the object can count as healthy. After that it is left alone until somebody asks for it.
pub(super) fn hand_over(situation: &Situation<'_>, pass: &mut Pass) {
    let view = situation.view;
    if view.asks_to_migrate() {
        conclude(situation, pass, Outcome::Done(None));
    } else {
        pass.outcome = Some(Outcome::Waiting(Waiting::HandedOver));
    }
    if pass.report.is_some() {
        return;
    }
    if view.finalizer {
        pass.object = Some(ObjectStep::RemoveFinalizer);
    } else if view.asks_to_migrate() {
        pass.object = Some(ObjectStep::FinishOperation);
    }
}

/// `restore` is over when it has succeeded under its own name, which is stored.
pub(super) fn is_restored(situation: &Situation<'_>, pass: &Pass) -> bool {
    let view = situation.view;
    let asked = view.operation.as_deref() == Some("restore");
    asked && pass.report.is_none() && matches!(pass.outcome, Some(Outcome::Done(_))) && view.has_succeeded("Restore")
}
