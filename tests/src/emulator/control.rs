//! The emulator's own interface for other processes. The table is in the documentation of the parent module.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::Answer;
use super::fault::Fault;
use super::federation::{Assertion, Federation};
use super::gateway::Arrival;
use super::handle::Handle;
use super::page;
use super::wire::{Null, merge};

/// Nothing of the real API begins like this. Requests here meet no faults and are not in the journal.
pub(crate) const PREFIX: &str = "/_emulator/";

/// What there is, for people.
const INDEX: &str = "\
GET DELETE       /_emulator/journal                    all requests and answers as JSON lines; forget them
GET              /_emulator/counters                   by method, path and status; token requests; writes a minute
GET POST DELETE  /_emulator/faults                     those at work; add one; end all
GET PATCH        /_emulator/switches                   what the real cloud leaves open, or does on a bad day
POST             /_emulator/key                        make a service-account key
DELETE           /_emulator/key/KID                    delete one
DELETE           /_emulator/tokens                     refuse all access tokens given so far
POST             /_emulator/federations                trust an issuer of workload tokens
POST             /_emulator/assertions                 make a workload token
GET              /_emulator/balancers                  as GET shows them
GET PATCH DELETE /_emulator/balancers/NAME             look at, edit or delete one as another client would
POST             /_emulator/balancers/NAME/failover    {\"milliseconds\": N} of darkness, then all connections are reset
GET              /_emulator/addresses                  the public addresses
POST DELETE      /_emulator/addresses/IP               add a static one; delete one, whoever uses it
GET              /_emulator/state                      everything, with connections and bytes target by target
POST             /_emulator/advance                    let {\"milliseconds\": N} pass at once
GET              /                                     the state as a page
";

type Reply = Result<Answer, anyhow::Error>;

pub(crate) fn handle(emulator: &Handle, arrival: &Arrival) -> Answer {
    let failed = |error: anyhow::Error| Answer::json(400, &json!({"error": format!("{error:#}")}));
    route(emulator, arrival).unwrap_or_else(failed)
}

fn route(emulator: &Handle, arrival: &Arrival) -> Reply {
    let segments = arrival.segments();
    let segments: Vec<&str> = segments.iter().skip(1).map(String::as_str).collect();
    match (arrival.method.as_str(), segments.as_slice()) {
        ("GET", [""]) => Ok(Answer::text(200, "text/plain", INDEX)),
        ("GET", ["journal"]) => Ok(Answer::text(200, "application/x-ndjson", emulator.journal_lines())),
        ("DELETE", ["journal"]) => {
            emulator.clear_journal();
            Ok(done())
        }
        ("GET", ["counters"]) => shown(&json!({"requests": emulator.counters(), "tokens": emulator.token_requests(),
            "writesPerMinute": emulator.writes_per_minute(), "forbiddenFields": emulator.forbidden_fields(),
            "lastUserAgent": emulator.last_user_agent()})),
        ("GET", ["faults"]) => shown(&emulator.faults()),
        ("POST", ["faults"]) => {
            emulator.inject(body::<Fault>(arrival)?);
            Ok(done())
        }
        ("DELETE", ["faults"]) => {
            emulator.clear_faults();
            Ok(done())
        }
        ("GET", ["switches"]) => shown(&emulator.switches()),
        ("PATCH", ["switches"]) => patch_switches(emulator, arrival),
        ("POST", ["key"]) => shown(&emulator.service_account_key(&or_default(arrival)?)?),
        ("DELETE", ["key", id]) => Ok(found(emulator.revoke_key(id))),
        ("DELETE", ["tokens"]) => {
            emulator.revoke_tokens();
            Ok(done())
        }
        ("POST", ["federations"]) => {
            emulator.federation(or_default::<Federation>(arrival)?)?;
            Ok(done())
        }
        ("POST", ["assertions"]) => {
            Ok(Answer::text(200, "text/plain", emulator.assertion(&or_default::<Assertion>(arrival)?)?))
        }
        ("GET", ["balancers"]) => shown(&emulator.balancers()),
        ("GET", ["balancers", name]) => emulator.balancer(name).map_or_else(|| Ok(found(false)), |it| shown(&it)),
        ("PATCH", ["balancers", name]) => {
            let patch: Value = body(arrival)?;
            Ok(found(emulator.edit(name, |shown| merge(shown, &patch, Null::Removes))))
        }
        ("DELETE", ["balancers", name]) => Ok(found(emulator.terminate(name))),
        ("GET", ["addresses"]) => shown(&emulator.addresses()),
        ("POST", ["addresses", address]) => {
            emulator.add_address(address.parse()?);
            Ok(done())
        }
        ("DELETE", ["addresses", address]) => Ok(found(emulator.remove_address(address.parse()?))),
        ("GET", ["state"]) => shown(&page::state(emulator)),
        ("POST", ["balancers", name, "failover"]) => {
            let milliseconds = body::<Value>(arrival)?["milliseconds"].as_u64().unwrap_or(0);
            Ok(found(emulator.failover(name, std::time::Duration::from_millis(milliseconds))))
        }
        ("POST", ["advance"]) => {
            let milliseconds = body::<Value>(arrival)?["milliseconds"].as_u64().unwrap_or(0);
            emulator.advance(std::time::Duration::from_millis(milliseconds));
            Ok(done())
        }
        _ => Ok(Answer::json(404, &json!({"error": "the emulator has no such control"}))),
    }
}

fn patch_switches(emulator: &Handle, arrival: &Arrival) -> Reply {
    let mut wanted = serde_json::to_value(emulator.switches())?;
    // A literal null is a value here: it switches an optional thing off.
    merge(&mut wanted, &body(arrival)?, Null::Stays);
    let switches = serde_json::from_value(wanted)?;
    emulator.set_switches(|current| *current = switches);
    shown(&emulator.switches())
}

fn body<T: DeserializeOwned>(arrival: &Arrival) -> Result<T, anyhow::Error> {
    Ok(serde_json::from_str(&arrival.body)?)
}

fn or_default<T: DeserializeOwned + Default>(arrival: &Arrival) -> Result<T, anyhow::Error> {
    if arrival.body.trim().is_empty() { Ok(T::default()) } else { body(arrival) }
}

fn shown(value: &impl Serialize) -> Reply {
    Ok(Answer::json(200, &serde_json::to_value(value)?))
}

fn done() -> Answer {
    Answer::json(200, &json!({}))
}

fn found(found: bool) -> Answer {
    if found { done() } else { Answer::json(404, &json!({"error": "there is none"})) }
}
