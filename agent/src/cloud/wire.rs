//! The load balancer on the wire.
//!
//! Reading is lenient, because an answer that cannot be read stops everything: unknown words, `null` for a list,
//! numbers as strings and missing members all become something. Writing is one function, [`overlay`]: it lays the
//! managed fields over what was read, or over nothing when a balancer is made. Whatever it does not name goes
//! back value for value and in order.
//!
//! Another managed field of a balancer is two lines here, one in [`read`] and one in [`overlay`]; of a listener or
//! pool, two in [`fields`]. Deliberately not here: what is worth writing, which the diff decides.

mod fields;
mod json;

use std::net::IpAddr;

use decide::desired::{AddressForm, AddressMode, BalancerError, BalancerStatus, LoadBalancer, Observed};
use serde_json::{Map, Value, json};

use self::json::{edit_list, edit_object, flag, list, object, set, text};

/// Members that are the server's alone; the API refuses some of them in a PUT, and has no use for the others.
const READ_ONLY: [&str; 6] =
    ["status", "errors", "privateAddress", "region", "loadBalancerSecurityGroup", "targetSecurityGroup"];

/// An answer as a balancer; `Err` says what keeps it from being one.
pub(super) fn observed(answer: Value) -> Result<Observed, &'static str> {
    let Value::Object(raw) = answer else { return Err("the JSON is not an object") };
    let balancer = read(&raw);
    if balancer.name.is_empty() {
        return Err("the JSON has no `name`");
    }
    Ok(Observed {
        balancer,
        version: text(&raw, "version").unwrap_or_default(),
        status: status(&raw),
        errors: list(&raw, "errors").iter().filter_map(error).collect(),
        external_address: address(&raw, "externalAddress"),
        private_address: address(&raw, "privateAddress"),
        raw,
    })
}

/// The body of a POST.
pub(super) fn create_body(wish: &LoadBalancer) -> Value {
    let mut body = Map::new();
    overlay(&mut body, wish);
    Value::Object(body)
}

/// The body of a PUT: what was read, without what is the server's, under what is wished, with its version.
pub(super) fn update_body(base: &Observed, wish: &LoadBalancer) -> Value {
    let mut body = base.raw.clone();
    for member in READ_ONLY {
        body.shift_remove(member);
    }
    set(&mut body, "version", base.version.as_str());
    overlay(&mut body, wish);
    Value::Object(body)
}

/// The managed fields, out of a balancer.
fn read(raw: &Map<String, Value>) -> LoadBalancer {
    let listeners = list(raw, "listeners");
    let pools = list(raw, "targetPools");
    LoadBalancer {
        name: text(raw, "name").unwrap_or_default(),
        plan_id: text(raw, "planId").unwrap_or_default(),
        labels: fields::read_labels(raw),
        network_id: fields::read_network(raw),
        address: mode(raw).unwrap_or(AddressMode::Ephemeral),
        listener: fields::our_listener(listeners).and_then(|at| listeners[at].as_object()).map(fields::read_listener),
        target_pool: fields::our_pool(pools).and_then(|at| pools[at].as_object()).map(fields::read_pool),
        allowed_source_ranges: Some(fields::read_ranges(raw)),
        keep_source_ranges: false,
        address_form: AddressForm::default(),
    }
}

/// The managed fields, onto a balancer.
fn overlay(body: &mut Map<String, Value>, wish: &LoadBalancer) {
    set(body, "name", wish.name.as_str());
    set(body, "planId", wish.plan_id.as_str());
    fields::write_labels(body, &wish.labels);
    // Immutable: as observed, and only where none was read as wished.
    if list(body, "networks").is_empty() {
        set(body, "networks", json!([{"networkId": wish.network_id, "role": "ROLE_LISTENERS_AND_TARGETS"}]));
    }
    edit_list(body, "listeners", |listeners| {
        let ours = fields::our_listener(listeners);
        for listener in listeners.iter_mut().filter_map(Value::as_object_mut) {
            listener.shift_remove("name"); // the server's, and refused in a PUT
        }
        if let Some(listener) = &wish.listener {
            fields::edit_at(listeners, ours, |raw| fields::write_listener(raw, listener));
        }
    });
    if let Some(pool) = &wish.target_pool {
        edit_list(body, "targetPools", |pools| {
            fields::edit_at(pools, fields::our_pool(pools), |raw| fields::write_pool(raw, pool));
        });
    }
    write_address(body, wish.address, wish.address_form);
    if let Some(ranges) = &wish.allowed_source_ranges {
        fields::write_ranges(body, ranges);
    }
}

/// The addressing mode that was read; `None` where nothing says it.
fn mode(raw: &Map<String, Value>) -> Option<AddressMode> {
    let options = object(raw, "options");
    let is = |option| options.is_some_and(|options| flag(options, option));
    if is("privateNetworkOnly") {
        Some(AddressMode::Private)
    } else if is("ephemeralAddress") {
        Some(AddressMode::Ephemeral)
    } else {
        address(raw, "externalAddress").map(AddressMode::Static)
    }
}

/// Expresses exactly one addressing mode: the observed one, which cannot be changed, else the wished one.
///
/// The address of an ephemeral balancer is reported in `externalAddress`. It goes back, if at all, with the flag: without
/// it the address would become a reserved one that outlives the balancer.
fn write_address(body: &mut Map<String, Value>, wish: AddressMode, form: AddressForm) {
    let mode = mode(body).unwrap_or(wish);
    match mode {
        AddressMode::Static(address) if self::address(body, "externalAddress") != Some(address) => {
            set(body, "externalAddress", address.to_string());
        }
        AddressMode::Static(_) => {}
        AddressMode::Ephemeral if form == AddressForm::Full => {}
        AddressMode::Ephemeral | AddressMode::Private => drop(body.shift_remove("externalAddress")),
    }
    let lean = form == AddressForm::Lean;
    if matches!(mode, AddressMode::Static(_)) && object(body, "options").is_none() && lean {
        return;
    }
    edit_object(body, "options", |options| {
        for (option, on) in
            [("ephemeralAddress", mode == AddressMode::Ephemeral), ("privateNetworkOnly", mode == AddressMode::Private)]
        {
            if on {
                set(options, option, true);
            } else if option == "ephemeralAddress" && lean {
                options.shift_remove(option);
            } else if option == "ephemeralAddress" {
                set(options, option, false);
            }
        }
    });
}

fn status(raw: &Map<String, Value>) -> BalancerStatus {
    let word = text(raw, "status").unwrap_or_default();
    match word.as_str() {
        "STATUS_PENDING" => BalancerStatus::Pending,
        "STATUS_READY" => BalancerStatus::Ready,
        "STATUS_ERROR" => BalancerStatus::Error,
        "STATUS_TERMINATING" => BalancerStatus::Terminating,
        _ => BalancerStatus::Unknown(word),
    }
}

fn error(entry: &Value) -> Option<BalancerError> {
    match entry {
        Value::Null => None,
        Value::Object(entry) => Some(BalancerError {
            kind: text(entry, "type").unwrap_or_default(),
            description: text(entry, "description").unwrap_or_default(),
        }),
        other => {
            let description = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            Some(BalancerError { kind: String::new(), description })
        }
    }
}

fn address(raw: &Map<String, Value>, member: &str) -> Option<IpAddr> {
    text(raw, member)?.parse().ok()
}

#[cfg(test)]
mod tests;
