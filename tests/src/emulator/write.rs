//! Create, update, delete. The order of checks is that of the real gateway as far as it is known: syntax, existence,
//! rules, version, quota.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Reply, require};
use super::balancer::{Balancer, Mode, Status, spec};
use super::canonical::canonicalise;
use super::shape::{LOAD_BALANCER, TARGET_POOL, read};
use super::state::{PlaceKey, State};
use super::validate::{self, Rules, list, text};
use super::{pool, quota};

/// POST of a load balancer (E21).
pub(crate) fn create(state: &mut State, key: &PlaceKey, body: &str) -> Reply {
    let body = read(&LOAD_BALANCER, body, state.switches.reject_unknown_fields)?;
    let switches = state.switches.clone();
    let place = state.place(key);
    let enabled = place.enabled.unwrap_or(switches.service_enabled);
    if !enabled && switches.legacy_enablement {
        return Err(Answer::problem(404, "Service not enabled"));
    }
    let name = text(&body, "name").to_owned();
    // E25, E84: whatever its status, one that is on its way out included.
    if place.balancers.contains_key(&name) {
        return Err(Answer::already_exists());
    }
    let mode = validate::create(&body, &Rules { switches: &switches, credentials: &place.credentials })?;
    quota::room_for_balancer(place, &switches)?;
    // E15: the first create enables the service.
    place.enabled = Some(true);
    let fresh = Balancer {
        name: name.clone(),
        version: String::new(),
        region: key.region.clone(),
        spec: Map::new(),
        mode: mode.clone(),
        status: Status::Pending,
        errors: Vec::new(),
        external: None,
        private: None,
        groups: None,
        due: None,
    };
    place.balancers.insert(name.clone(), fresh);
    if switches.address_at_once && mode == Mode::Ephemeral {
        let address = state.addresses.take(&key.project, &name);
        set(state, key, &name, |balancer| balancer.external = address);
    }
    let delay = state.delays.create;
    accept(state, key, &name, spec(body, &switches.plans), mode, delay);
    show(state, key, &name)
}

/// PUT of a load balancer: replaces everything, if the version is the one last given out (E58, E59).
pub(crate) fn update(state: &mut State, key: &PlaceKey, name: &str, body: &str) -> Reply {
    let body = read(&LOAD_BALANCER, body, state.switches.reject_unknown_fields)?;
    let switches = state.switches.clone();
    let place = state.place(key);
    // E63.
    let Some(stored) = place.balancers.get(name) else { return Err(Answer::not_found()) };
    let mode = validate::update(&body, stored, &Rules { switches: &switches, credentials: &place.credentials })?;
    if stored.status == Status::Terminating || stored.version != text(&body, "version") {
        return Err(Answer::conflict());
    }
    let same_mode = stored.mode == mode;
    let wanted = spec(body, &switches.plans);
    if switches.keep_version_when_identical && same_mode && stored.spec == wanted {
        return show(state, key, name);
    }
    let delay = state.delays.update;
    accept(state, key, name, wanted, mode, delay);
    show(state, key, name)
}

/// PUT of one target pool: no version, and the answer is the pool (E77).
pub(crate) fn update_pool(state: &mut State, key: &PlaceKey, name: &str, pool_name: &str, body: &str) -> Reply {
    let mut body = read(&TARGET_POOL, body, state.switches.reject_unknown_fields)?;
    let switches = state.switches.clone();
    let Some(stored) = state.balancer(key, name) else { return Err(Answer::not_found()) };
    let mut wanted = stored.spec.clone();
    let pools = wanted.get_mut("targetPools").and_then(Value::as_array_mut);
    let found = pools.and_then(|pools| pools.iter_mut().find(|pool| text(pool, "name") == pool_name));
    // E78: it can neither be made nor renamed here.
    let Some(found) = found else {
        return Err(Answer::problem(switches.unknown_pool_status, "target pool not found"));
    };
    let body_name = text(&body, "name");
    require(body_name.is_empty() || body_name == pool_name, "E78", "name", "must be the name in the path")?;
    body["name"] = json!(pool_name);
    pool::check(&body, "body", &switches).map_err(|violation| super::answer::Violation { rule: "E80", ..violation })?;
    if stored.status == Status::Terminating {
        return Err(Answer::conflict());
    }
    *found = body.clone();
    let (mode, delay) = (stored.mode.clone(), state.delays.update);
    accept(state, key, name, wanted, mode, delay);
    Ok(body)
}

/// DELETE of a load balancer (E81 to E83).
pub(crate) fn delete(state: &mut State, key: &PlaceKey, name: &str) -> Reply {
    let answer = |status: u16, message: &str| {
        if status == 200 { Ok(json!({})) } else { Err(Answer::problem(status, message)) }
    };
    match state.balancer(key, name).map(|balancer| balancer.status) {
        None => answer(state.switches.delete_missing_status, "load balancer not found"),
        Some(Status::Terminating) => answer(state.switches.delete_terminating_status, "load balancer is being deleted"),
        Some(_) => {
            terminate(state, key, name);
            Ok(json!({}))
        }
    }
}

/// Starts the end of a balancer, whoever asked for it (F12).
pub(crate) fn terminate(state: &mut State, key: &PlaceKey, name: &str) {
    let (version, due) = (state.next_version(), state.clock.now() + state.delays.delete);
    set(state, key, name, |balancer| {
        balancer.version = version;
        balancer.status = Status::Terminating;
        balancer.due = Some(due);
    });
    state.record(key, name);
}

/// Another client changes the balancer (F6, F22): `change` gets it as GET shows it. False if there is none.
pub(crate) fn edit(state: &mut State, key: &PlaceKey, name: &str, change: impl FnOnce(&mut Value)) -> bool {
    let Some(stored) = state.balancer(key, name) else { return false };
    let honest = super::switches::Switches::default();
    let mut shown = stored.show(&honest);
    change(&mut shown);
    let mode = match Mode::wanted(&shown) {
        Ok(mode) => mode,
        // As shown, an ephemeral balancer has both the flag and the address.
        Err(_) => stored.mode.clone(),
    };
    let delay = state.delays.update;
    let plans = state.switches.plans.clone();
    accept(state, key, name, spec(shown, &plans), mode, delay);
    true
}

/// E85: the network's own API refuses to delete what a balancer still uses.
pub(crate) fn delete_network(state: &State, key: &PlaceKey, network: &str) -> Reply {
    let places = state.places.iter().filter(|(place, _)| place.project == key.project);
    let mut balancers = places.flat_map(|(_, place)| place.balancers.values());
    let in_use = balancers.any(|balancer| {
        let networks = balancer.spec.get("networks").cloned().unwrap_or_default();
        networks.as_array().is_some_and(|networks| networks.iter().any(|it| text(it, "networkId") == network))
    });
    if in_use { Err(Answer::problem(409, "network is in use")) } else { Ok(json!({})) }
}

/// A write has been accepted: new content, new version, pending again.
fn accept(
    state: &mut State,
    key: &PlaceKey,
    name: &str,
    mut wanted: Map<String, Value>,
    mode: Mode,
    delay: std::time::Duration,
) {
    if state.switches.canonicalise {
        canonicalise(&mut wanted);
    }
    if let Mode::Static(address) = mode {
        state.addresses.promote(address);
        state.addresses.attach(address, &key.project, name);
    }
    let (version, due) = (state.next_version(), state.clock.now() + delay);
    set(state, key, name, |balancer| {
        if let Mode::Static(address) = mode {
            balancer.external = Some(address);
        }
        balancer.spec = wanted;
        balancer.mode = mode;
        balancer.version = version;
        balancer.status = Status::Pending;
        balancer.errors.clear();
        balancer.due = Some(due);
    });
    state.record(key, name);
}

fn set(state: &mut State, key: &PlaceKey, name: &str, change: impl FnOnce(&mut Balancer)) {
    if let Some(balancer) = state.place(key).balancers.get_mut(name) {
        change(balancer);
    }
}

fn show(state: &State, key: &PlaceKey, name: &str) -> Reply {
    state.balancer(key, name).map(|balancer| balancer.show(&state.switches)).ok_or_else(Answer::not_found)
}

/// Fields that a client must never send, found in the body of a write (section "assertions").
pub(crate) fn forbidden_fields(body: &Value) -> Vec<&'static str> {
    let named = list(body, "listeners").iter().any(|listener| !listener["name"].is_null());
    let both = !body["externalAddress"].is_null() && body["options"]["ephemeralAddress"] == json!(true);
    [
        (named, "listeners[].name"),
        (!body["status"].is_null(), "status"),
        (!body["errors"].is_null(), "errors"),
        (!body["privateAddress"].is_null(), "privateAddress"),
        (both, "externalAddress with options.ephemeralAddress"),
    ]
    .into_iter()
    .filter_map(|(sent, field)| sent.then_some(field))
    .collect()
}
