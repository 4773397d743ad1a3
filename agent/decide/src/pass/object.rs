//! Writes to the object: finalizer, annotation, `spec.endpoints`. None of them comes before a PUT.

use super::{Balancer, ObjectStep, Situation};
use crate::endpoints::{Choice, Endpoint};
use crate::exposure::{ExposureView, SpecEndpoint};
use crate::foreign;

/// Finalizer and annotation.
pub(super) fn metadata_step(situation: &Situation<'_>) -> Option<ObjectStep> {
    let view = situation.view;
    if !situation.has_object {
        return None;
    }
    if !view.finalizer {
        return Some(ObjectStep::AddFinalizer);
    }
    // Of an object that was handed over the annotation is all that says that it is wanted again, until the status
    // says so, too.
    let asked = view.operation.as_deref() == Some("reconcile") && !view.has_succeeded("Migrate");
    asked.then_some(ObjectStep::StripOperation)
}

/// `spec.endpoints`, where they are ours to write and differ as sets.
pub(super) fn apply_endpoints(situation: &Situation<'_>, choice: &Choice) -> Option<ObjectStep> {
    let Situation { view, settings, .. } = *situation;
    let ours = situation.has_object && settings.controllers.endpoints && !view.deleting && !view.paused;
    if !ours || situation.verdicts.is_none() || choice.endpoints.is_empty() {
        return None;
    }
    // A frozen choice leans on the last good set; before the balancer was read that is not known.
    let unread = settings.controllers.exposure && matches!(situation.memory.balancer, Balancer::Unread);
    if choice.frozen.is_some() && unread {
        return None;
    }
    let wanted = spec_endpoints(choice);
    if wanted == sorted_endpoints(view) {
        return None;
    }
    if situation.memory.foreign.left_alone_until(foreign::ENDPOINTS, situation.now).is_some() {
        return None;
    }
    Some(if settings.controllers.exposure {
        ObjectStep::ApplyEndpoints(wanted)
    } else {
        ObjectStep::HandOverEndpoints(wanted)
    })
}

/// `spec.endpoints` in the order in which they are compared.
pub fn sorted_endpoints(view: &ExposureView) -> Vec<SpecEndpoint> {
    let mut there = view.endpoints.clone();
    there.sort();
    there
}

/// A choice as `spec.endpoints` lists it.
pub fn spec_endpoints(choice: &Choice) -> Vec<SpecEndpoint> {
    let entry = |endpoint: &Endpoint| SpecEndpoint {
        node_name: endpoint.node_name.clone(),
        addresses: endpoint.addresses.clone(),
    };
    choice.endpoints.iter().map(entry).collect()
}
