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
        (_, ["token"] | ["oauth", "v2", "token"]) => Err(unknown(state, &["POST"])),
        (_, ["v2", "regions", _, "plans"]) => Err(unknown(state, &["GET"])),
        (_, ["v2", "projects", project, "regions", region, rest @ ..]) => {
            let key = admit(state, arrival, project, region)?;
            project_route(state, arrival, &key, rest)
        }
        _ => Err(unknown(state, &[])),
    }
}

/// What may be done at a path below the project and region; nothing: there is no such path.
fn methods(rest: &[&str]) -> &'static [&'static str] {
    match rest {
        ["load-balancers" | "credentials"] => &["GET", "POST"],
        ["load-balancers" | "credentials", _] => &["GET", "PUT", "DELETE"],
        ["load-balancers", _, "target-pools", _] => &["PUT"],
        ["quota"] => &["GET"],
        ["networks", _] => &["DELETE"],
        _ => &[],
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
    if !methods(rest).contains(&method) {
        return Err(unknown(state, methods(rest)));
    }
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
        _ => Err(unknown(state, &[])),
    }
}

/// E14.
fn service_enabled(state: &mut State, key: &PlaceKey) -> Result<(), Answer> {
    let (by_default, status) = (state.switches.service_enabled, state.switches.not_enabled_status);
    if state.place(key).enabled.unwrap_or(by_default) {
        return Ok(());
    }
    let text = "Service not enabled: cloud.stackit.loadbalancer";
    // E12: whatever a 401 says, it says as text.
    Err(if status == 401 { Answer::text(401, "text/plain", text) } else { Answer::problem(status, text) })
}

/// E17: 404, or 405 with what may be done there.
fn unknown(state: &State, allowed: &[&str]) -> Answer {
    let (status, text) = if allowed.is_empty() { (404, "Not Found") } else { (405, "Method Not Allowed") };
    let mut answer = if state.switches.html_not_found {
        Answer::text(status, "text/html", format!("<html><body><h1>{status} {text}</h1></body></html>"))
    } else {
        Answer::problem(status, text)
    };
    if !allowed.is_empty() {
        answer.headers.push(("Allow".to_owned(), allowed.join(", ")));
    }
    answer
}
