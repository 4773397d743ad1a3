//! Quotas (E27, E87, E89). A quota below what is in use stops only what is new (F27).

use serde_json::{Value, json};

use super::answer::Answer;
use super::state::{Place, PlaceKey, State};
use super::switches::Switches;

const UNLIMITED: i64 = -1;

pub(crate) fn room_for_balancer(place: &Place, switches: &Switches) -> Result<(), Answer> {
    room(place.balancers.len(), switches.max_load_balancers, "load balancing servers")
}

pub(crate) fn room_for_credential(place: &Place, switches: &Switches) -> Result<(), Answer> {
    room(place.credentials.len(), switches.max_credentials, "credentials")
}

fn room(used: usize, most: i64, things: &str) -> Result<(), Answer> {
    if most == UNLIMITED || i64::try_from(used).unwrap_or(i64::MAX) < most {
        return Ok(());
    }
    let message = format!("maximum number of {things} reached - please contact support to increase it");
    Err(Answer::problem(429, &message))
}

/// GET of the quota.
pub(crate) fn get(state: &mut State, key: &PlaceKey) -> Value {
    let (balancers, credentials) = (state.switches.max_load_balancers, state.switches.max_credentials);
    let place = state.place(key);
    json!({"projectId": key.project, "region": key.region,
        "maxLoadBalancers": balancers, "usedLoadBalancers": place.balancers.len(),
        "maxCredentials": credentials, "usedCredentials": place.credentials.len()})
}
