//! The front door: authentication, syntax of paths, permission, enablement, and who handles what.

use serde_json::Value;

use super::answer::{Answer, Reply, require};
use super::state::{PlaceKey, State};
use super::validate::{is_region, is_uuid_v4};
use super::wire::{form, unescape};
use super::{credential, quota, read, token, write};

/// A request that has been read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Arrival {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The parts of the path, unescaped.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path.split('/').skip(1).map(|segment| unescape(segment, false)).collect()
    }
}

/// Answers a request, and commits what it asks for.
pub(crate) fn handle(state: &mut State, arrival: &Arrival) -> Answer {
    match route(state, arrival) {
        Ok(body) => Answer::json(200, &body),
        Err(answer) => answer,
    }
}

fn route(state: &mut State, arrival: &Arrival) -> Reply {
    let content_type = arrival.header("content-type").unwrap_or_default();
    let segments = arrival.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (arrival.method.as_str(), segments.as_slice()) {
        ("POST", ["token"]) => token::key_flow(state, content_type, &arrival.body),
        ("POST", ["oauth", "v2", "token"]) => token::federation_flow(state, content_type, &arrival.body),
        ("GET", ["v2", "regions", region, "plans"]) => read::plans(state, region),
        (_, ["token"] | ["oauth", "v2", "token"] | ["v2", "regions", _, "plans"]) => Err(unknown(state, 405)),
        (_, ["v2", "projects", project, "regions", region, rest @ ..]) => {
            let key = admit(state, arrival, project, region)?;
            project_route(state, arrival, &key, rest)
        }
        _ => Err(unknown(state, 404)),
    }
}

/// E12, E13 and the syntax of the path.
fn admit(state: &State, arrival: &Arrival, project: &str, region: &str) -> Result<PlaceKey, Answer> {
    let token = arrival.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
    if !token.is_some_and(|token| state.tokens.is_valid(token, state.clock.now())) {
        return Err(Answer::unauthorized());
    }
    require(is_uuid_v4(project), "E13", "projectId", "must be a UUID of version 4")?;
    require(is_region(region), "E13", "region", "is not a region")?;
    if !state.switches.projects.contains(project) {
        return Err(Answer::problem(403, "this project_id is not allowed to try this API"));
    }
    Ok(PlaceKey { project: project.to_owned(), region: region.to_owned() })
}

fn project_route(state: &mut State, arrival: &Arrival, key: &PlaceKey, rest: &[&str]) -> Reply {
    let (method, body) = (arrival.method.as_str(), arrival.body.as_str());
    // A body that cannot be read is refused before anything else is looked at (E18).
    if matches!(method, "POST" | "PUT") {
        require(serde_json::from_str::<Value>(body).is_ok(), "E18", "body", "malformed JSON")?;
    }
    let creates = (method, rest) == ("POST", &["load-balancers"][..]);
    let network = matches!(rest, ["networks", _]);
    if !creates && !network {
        service_enabled(state, key)?;
    }
    match (method, rest) {
        ("GET", ["load-balancers"]) => read::list(state, key, &form(&arrival.query)),
        ("POST", ["load-balancers"]) => write::create(state, key, body),
        ("GET", ["load-balancers", name]) => read::get(state, key, name),
        ("PUT", ["load-balancers", name]) => write::update(state, key, name, body),
        ("DELETE", ["load-balancers", name]) => write::delete(state, key, name),
        ("PUT", ["load-balancers", name, "target-pools", pool]) => write::update_pool(state, key, name, pool, body),
        ("GET", ["credentials"]) => Ok(credential::list(state, key)),
        ("POST", ["credentials"]) => credential::create(state, key, body),
        ("GET", ["credentials", reference]) => credential::get(state, key, reference),
        ("PUT", ["credentials", reference]) => credential::update(state, key, reference, body),
        ("DELETE", ["credentials", reference]) => credential::delete(state, key, reference),
        ("GET", ["quota"]) => Ok(quota::get(state, key)),
        ("DELETE", ["networks", network]) => write::delete_network(state, key, network),
        (
            _,
            ["load-balancers" | "credentials" | "networks", _]
            | ["load-balancers" | "credentials" | "quota"]
            | ["load-balancers", _, "target-pools", _],
        ) => Err(unknown(state, 405)),
        _ => Err(unknown(state, 404)),
    }
}

/// E14.
fn service_enabled(state: &mut State, key: &PlaceKey) -> Result<(), Answer> {
    let (by_default, status) = (state.switches.service_enabled, state.switches.not_enabled_status);
    if state.place(key).enabled.unwrap_or(by_default) {
        return Ok(());
    }
    Err(Answer::problem(status, "Service not enabled: cloud.stackit.loadbalancer"))
}

/// E17.
fn unknown(state: &State, status: u16) -> Answer {
    let text = if status == 405 { "Method Not Allowed" } else { "Not Found" };
    if state.switches.html_not_found {
        return Answer::text(status, "text/html", format!("<html><body><h1>{status} {text}</h1></body></html>"));
    }
    Answer::problem(status, text)
}
