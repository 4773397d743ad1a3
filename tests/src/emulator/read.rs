//! Get, list and its pages, plans.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::answer::{Answer, Reply, require};
use super::state::{PlaceKey, State};
use super::validate::is_region;

/// GET of a load balancer (E50, E51).
pub(crate) fn get(state: &State, key: &PlaceKey, name: &str) -> Reply {
    state.shown(key).remove(name).ok_or_else(Answer::not_found)
}

/// LIST by name, page by page (E52 to E55).
pub(crate) fn list(state: &State, key: &PlaceKey, query: &[(String, String)]) -> Reply {
    let parameter = |name: &str| query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let size = match parameter("pageSize") {
        None | Some("") => 1_000,
        Some(text) => {
            let size = text.parse::<usize>().ok().filter(|size| (1..=1_000).contains(size));
            require(size.is_some(), "E54", "pageSize", "must be 1 to 1000")?;
            size.unwrap_or_default()
        }
    };
    let start = match parameter("pageId") {
        None | Some("") => String::new(),
        Some(id) => page_start(state, id)?,
    };
    let mut all = state.shown(key).into_iter().skip_while(|(name, _)| *name < start);
    let page: Vec<Value> = all.by_ref().take(size).map(|(_, shown)| shown).collect();
    let mut answer = json!({});
    if !page.is_empty() || state.switches.show_empty_list {
        answer["loadBalancers"] = json!(page);
    }
    if let Some((next, _)) = all.next() {
        answer["nextPageId"] = json!(page_id(state, &next));
    }
    Ok(answer)
}

/// Looks like the continue token of a Kubernetes list; `rv` is when it was made.
fn page_id(state: &State, start: &str) -> String {
    let made = u64::try_from(state.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    BASE64_URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": made, "start": start}).to_string())
}

fn page_start(state: &State, id: &str) -> Result<String, Answer> {
    let page: Option<Value> = BASE64_URL_SAFE_NO_PAD
        .decode(id.trim_end_matches('='))
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok());
    let page = page.unwrap_or_default();
    let (Some(start), Some(made)) = (page["start"].as_str(), page["rv"].as_u64()) else {
        require(false, "E55", "pageId", "is not a page id")?;
        return Ok(String::new());
    };
    if u128::from(made) + state.switches.page_lifetime.as_millis() <= state.clock.elapsed().as_millis() {
        return Err(Answer::problem(410, "page_id is expired"));
    }
    Ok(start.to_owned())
}

/// Plans on offer, without authentication (E16).
pub(crate) fn plans(state: &State, region: &str) -> Reply {
    require(is_region(region), "E16", "region", "is not a region")?;
    let plans = state.switches.plans.iter().map(|plan| {
        let (flavor, connections) = (flavor(plan), max_connections(plan));
        let name =
            format!("Essential-Network-Load-Balancer-{}-{}", plan.trim_start_matches('p'), region.to_uppercase());
        json!({"planId": plan, "name": name, "flavorName": flavor, "maxConnections": connections, "region": region,
            "description": format!("Network load balancer {plan}")})
    });
    Ok(json!({"validPlans": plans.collect::<Vec<_>>()}))
}

/// Id, flavor and connections at once.
const PLANS: [(&str, &str, usize); 4] =
    [("p10", "t1.2", 10_000), ("p50", "s1a.4d", 50_000), ("p250", "s1a.8d", 250_000), ("p750", "s1a.16d", 750_000)];

fn flavor(plan: &str) -> &'static str {
    PLANS.iter().find(|(id, ..)| *id == plan).map_or("t1.2", |(_, flavor, _)| flavor)
}

/// Connections that a plan allows at once (E107).
pub(crate) fn max_connections(plan: &str) -> usize {
    PLANS.iter().find(|(id, ..)| *id == plan).map_or(10_000, |(.., connections)| *connections)
}
