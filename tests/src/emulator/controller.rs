//! What moves balancers on: PENDING to READY or ERROR, TERMINATING to gone, READY to ERROR and back when the world around
//! a balancer changes.

use tokio::time::Instant;

use super::balancer::{Balancer, Mode, Status, Trouble};
use super::state::{PlaceKey, State};

/// Does all that is due. Gives back when something will be due next.
pub(crate) fn step(state: &mut State) -> Option<Instant> {
    let now = state.clock.now();
    let all: Vec<(PlaceKey, String)> = state
        .places
        .iter()
        .flat_map(|(key, place)| place.balancers.keys().map(|name| (key.clone(), name.clone())))
        .collect();
    let mut next: Option<Instant> = None;
    for (key, name) in all {
        let Some(balancer) = state.balancer(&key, &name) else { continue };
        let waits = balancer.due.filter(|due| *due > now);
        let held = match balancer.status {
            Status::Pending => state.switches.hold_pending,
            Status::Terminating => state.switches.hold_terminating,
            Status::Ready | Status::Error => false,
        };
        if let Some(due) = waits {
            next = Some(next.map_or(due, |earlier| earlier.min(due)));
        } else if !held {
            match balancer.status {
                Status::Terminating => remove(state, &key, &name),
                Status::Pending | Status::Ready | Status::Error => settle(state, &key, &name),
            }
        }
    }
    next
}

/// E81: the balancer is gone, and with it an ephemeral address.
fn remove(state: &mut State, key: &PlaceKey, name: &str) {
    let disable = state.switches.disable_when_empty;
    let place = state.place(key);
    let gone = place.balancers.remove(name);
    if disable && place.balancers.is_empty() {
        place.enabled = Some(false); // E86
    }
    if let Some(address) = gone.and_then(|balancer| balancer.external) {
        state.addresses.release(address, &key.project, name);
    }
    state.record(key, name);
}

/// Provisions what is missing and judges the result.
fn settle(state: &mut State, key: &PlaceKey, name: &str) {
    let Some(mut balancer) = state.balancer(key, name).cloned() else { return };
    let troubles = troubles(state, key, &balancer);
    let (external, private) = (balancer.external, balancer.private);
    if balancer.mode == Mode::Ephemeral && external.is_none() {
        balancer.external = state.addresses.take(&key.project, name);
    }
    if private.is_none() {
        balancer.private = Some(state.next_private_address());
    }
    // A balancer whose address never was there never gets as far as its security groups.
    if !troubles.iter().any(|(kind, _)| *kind == "TYPE_FIP_NOT_CONFIGURED") {
        let id = || uuid::Uuid::new_v4().to_string();
        balancer.groups.get_or_insert_with(|| (id(), id()));
    }
    balancer.errors = troubles;
    if balancer.mode == Mode::Ephemeral && balancer.external.is_none() {
        balancer.errors.push(("TYPE_IP_EXHAUSTED", "No public IP address is left".to_owned()));
    }
    balancer.status = if balancer.errors.is_empty() { Status::Ready } else { Status::Error };
    balancer.due = None;
    let before = state.balancer(key, name).map(|before| (before.status, before.errors.clone(), before.external));
    if before == Some((balancer.status, balancer.errors.clone(), balancer.external)) {
        return;
    }
    if state.switches.version_on_status {
        balancer.version = state.next_version();
    }
    state.place(key).balancers.insert(name.to_owned(), balancer);
    state.record(key, name);
}

/// What is wrong around a balancer.
fn troubles(state: &State, key: &PlaceKey, balancer: &Balancer) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    if let Some(address) = balancer.external.filter(|address| !state.addresses.owns(&key.project, *address)) {
        // E32 before it was ever there, F21 after it had been.
        let kind = if balancer.groups.is_none() { "TYPE_FIP_NOT_CONFIGURED" } else { "TYPE_FIP_NOT_FOUND" };
        troubles.push((kind, format!("Floating IP \"{address}\" could not be found")));
    }
    if let Some(known) = &state.switches.known_targets {
        let missing = balancer.targets().into_iter().filter(|target| !known.contains(target));
        troubles.extend(missing.map(|target| ("TYPE_TARGET_NOT_ACTIVE", format!("Target {target} is not active"))));
    }
    let known = state.places.get(key).map(|place| &place.credentials);
    for reference in balancer.credentials() {
        if known.is_none_or(|known| !known.contains_key(reference)) {
            let text = format!("Credential {reference} could not be found");
            troubles.push(("TYPE_METRICS_MISCONFIGURED", text)); // E48
        }
    }
    troubles
}
