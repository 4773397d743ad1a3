//! The state for people: one page that refreshes itself, and the same as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::answer::Answer;
use super::data_plane::BalancerReport;
use super::handle::Handle;

/// Requests that are shown.
const LAST: usize = 20;

/// Everything of the home project and region, and all that carries bytes.
pub(crate) fn state(emulator: &Handle) -> Value {
    let switches = emulator.switches();
    let mut defaults = super::Switches::default();
    defaults.projects.insert(emulator.project().to_owned());
    let defaults = json!(defaults);
    let changed = json!(switches).as_object().cloned().unwrap_or_default().into_iter();
    let changed: serde_json::Map<String, Value> = changed.filter(|(name, value)| defaults[name] != *value).collect();
    json!({"url": emulator.url(), "project": emulator.project(), "region": emulator.region(),
        "balancers": emulator.balancers(), "dataPlane": emulator.data_plane(), "addresses": emulator.addresses(),
        "faults": emulator.faults(), "changedSwitches": changed, "writesPerMinute": emulator.writes_per_minute(),
        "requests": emulator.with_journal(<[_]>::len)})
}

/// The page at `/`.
pub(crate) fn page(emulator: &Handle) -> Answer {
    let state = state(emulator);
    let mut body = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
         <title>STACKIT emulator</title><style>{STYLE}</style></head><body><h1>STACKIT emulator</h1>\
         <p>{} · project {} · region {} · {} requests, {} writes in the last minute</p>",
        text(&state["url"]),
        text(&state["project"]),
        text(&state["region"]),
        state["requests"],
        state["writesPerMinute"],
    );
    for balancer in state["balancers"].as_array().into_iter().flatten() {
        let name = balancer["name"].as_str().unwrap_or_default();
        balancer_section(&mut body, balancer, emulator.traffic(name).as_ref());
    }
    requests(&mut body, emulator);
    for (title, value) in [("Faults", &state["faults"]), ("Changed switches", &state["changedSwitches"])] {
        add(&mut body, format_args!("<h2>{title}</h2><pre>{}</pre>", escape(&format!("{value:#}"))));
    }
    body.push_str(
        "<p><a href=\"/_emulator/state\">as JSON</a> · <a href=\"/_emulator/journal\">journal</a> · \
         <a href=\"/_emulator/\">all controls</a></p></body></html>\n",
    );
    Answer::text(200, "text/html; charset=utf-8", body)
}

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;color-scheme:light dark}\
    table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #8884}\
    .good{color:#2a2}.bad{color:#c33}";

fn balancer_section(body: &mut String, balancer: &Value, traffic: Option<&BalancerReport>) {
    let status = text(&balancer["status"]);
    let class = if status == "STATUS_READY" { "good" } else { "bad" };
    add(body, format_args!("<h2>{} <span class=\"{class}\">{status}</span></h2>", text(&balancer["name"])));
    add(
        body,
        format_args!("<p>version {} · address {}", text(&balancer["version"]), text(&balancer["externalAddress"])),
    );
    let Some(traffic) = traffic else {
        body.push_str("</p>");
        return;
    };
    add(
        body,
        format_args!(
            " · {} connections open, {} accepted, {} refused, {} too many, {} without a target</p>",
            traffic.open, traffic.accepted, traffic.refused, traffic.excess, traffic.unserved
        ),
    );
    for listener in &traffic.listeners {
        let state = listener.error.as_ref().map_or_else(|| "listens".to_owned(), |error| escape(error));
        add(body, format_args!("<p>port {}: {state} on {}</p>", listener.port, listener.address));
    }
    body.push_str(
        "<table><tr><th>pool<th>target<th>address<th>health<th>open<th>connections<th>bytes to<th>bytes from</tr>",
    );
    for target in &traffic.targets {
        let (class, health) = match (target.in_pool, target.healthy) {
            (true, true) => ("good", "healthy"),
            (true, false) => ("bad", "unhealthy"),
            (false, _) => ("", "removed"),
        };
        let dial = target.dial.map_or_else(|| format!("{} (nowhere)", target.ip), |dial| dial.to_string());
        add(
            body,
            format_args!(
                "<tr><td>{}<td>{}<td>{dial}<td class=\"{class}\">{health}<td>{}<td>{}<td>{}<td>{}</tr>",
                escape(&target.pool),
                escape(&target.name),
                target.open,
                target.connections,
                target.bytes_to,
                target.bytes_from
            ),
        );
    }
    body.push_str("</table>");
}

fn requests(body: &mut String, emulator: &Handle) {
    body.push_str("<h2>Last requests</h2><table>");
    emulator.with_journal(|entries| {
        for entry in entries.iter().rev().take(LAST) {
            let status = entry.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let (method, path) = (escape(&entry.method), escape(&entry.path));
            add(body, format_args!("<tr><td>{} ms<td>{method}<td>{path}<td>{status}</tr>", entry.at_milliseconds));
        }
    });
    body.push_str("</table>");
}

fn add(body: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = body.write_fmt(arguments);
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or("none"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
