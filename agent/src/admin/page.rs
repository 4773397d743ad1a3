//! The page for people: what `/state` says, as one document without scripts, images or anything else to load. It
//! asks for itself again every few seconds.
//!
//! Everything that comes from outside is escaped; what a browser may do with the page is in [`POLICY`].

use std::fmt::Write;

use serde_json::Value;

/// Nothing but the style in the page itself: no script, no request anywhere, no frame around it.
pub const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--good:#1a7f37;--bad:#c62828;--soft:#8a6d00}
@media(prefers-color-scheme:dark){:root{--good:#4cc26a;--bad:#ff7b72;--soft:#e3b341}}
body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:1.5rem auto;padding:0 1rem}
h1{font-size:1.3rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;white-space:nowrap}.good{color:var(--good)}.bad{color:var(--bad)}.soft{color:var(--soft)}
pre{overflow:auto;padding:.6rem;border:1px solid var(--line);border-radius:.3rem;font-size:13px}
summary{cursor:pointer}p{margin:.3rem 0}";

/// The page.
pub fn render(state: &Value) -> String {
    let mut page = Html(String::with_capacity(16 * 1024));
    let node = text(&state["node"]);
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.raw("<meta http-equiv=\"refresh\" content=\"5\"><meta name=\"viewport\" content=\"width=device-width\">");
    page.raw("<title>shoot-exposure-agent on ");
    page.text(&node);
    page.raw("</title><style>");
    page.raw(STYLE);
    page.raw("</style></head><body>\n<h1>shoot-exposure-agent on ");
    page.text(&node);
    page.raw("</h1>\n<p>");
    let leads = if state["lease"]["leads"] == true { "leads" } else { "follows" };
    page.text(&format!(
        "version {}, {leads}, as of {}; refreshed every 5 s",
        text(&state["version"]),
        text(&state["at"])
    ));
    page.raw(" · <a href=\"/state\">as JSON</a> · <a href=\"/metrics\">metrics</a> · <a href=\"/readyz?verbose\">readiness</a></p>\n");
    for problem in list(&state["problems"]) {
        page.paragraph("bad", &text(problem));
    }
    nodes(&mut page, &state["nodes"]);
    for exposure in list(&state["exposures"]) {
        self::exposure(&mut page, exposure);
    }
    page.heading("Lease");
    page.facts(&state["lease"], &["holder", "renewed", "transitions", "election", "namespace", "name"]);
    page.heading("Credentials");
    page.facts(&state["credentials"], &["flow", "expires", "projectID", "problem"]);
    page.details("Settings", &state["settings"]);
    page.raw("</body></html>\n");
    page.0
}

fn nodes(page: &mut Html, nodes: &Value) {
    page.heading("Nodes");
    page.raw(
        "<table id=\"nodes\"><tr><th>Node</th><th>Address</th><th>Verdict</th><th>Target</th><th>Reason</th></tr>\n",
    );
    for node in list(nodes) {
        let class = match node["verdict"].as_str() {
            Some("healthy") => "good",
            Some("maintenance" | "unproven") => "soft",
            _ => "bad",
        };
        let own = if node["own"] == true { " (this one)" } else { "" };
        page.raw("<tr><td>");
        page.text(&format!("{}{own}", text(&node["name"])));
        page.raw("</td><td>");
        page.text(&text(&node["address"]));
        let _ = write!(page.0, "</td><td class=\"{class}\">");
        page.text(&text(&node["verdict"]));
        page.raw(if node["target"] == true { "</td><td>yes</td><td>" } else { "</td><td>no</td><td>" });
        page.text(&text(&node["reason"]));
        page.raw("</td></tr>\n");
    }
    page.raw("</table>\n");
}

fn exposure(page: &mut Html, exposure: &Value) {
    page.heading(&format!("Exposure {}", text(&exposure["name"])));
    if exposure["paused"] == true {
        page.paragraph("soft", "paused: nothing is written until it is resumed");
    }
    if exposure["deleting"] == true {
        page.paragraph("soft", "it is being deleted");
    }
    if exposure["frozen"].is_object() {
        page.paragraph("soft", &format!("the targets stay as they are: {}", text(&exposure["frozen"]["message"])));
    }
    if exposure["lastError"].is_object() {
        page.paragraph("bad", &text(&exposure["lastError"]["description"]));
    }
    let outcome = &exposure["outcome"];
    if outcome.is_object() {
        let class = match outcome["state"].as_str() {
            Some("done") => "good",
            Some("failed") => "bad",
            _ => "soft",
        };
        page.paragraph(class, &format!("{}, since {}", text(&outcome["message"]), text(&outcome["since"])));
    } else if exposure["lastOperation"].is_object() {
        page.paragraph("", &text(&exposure["lastOperation"]["description"]));
    }
    let seen = if exposure["observed"].is_object() { &exposure["observed"] } else { &exposure["recorded"] };
    page.raw("<table>");
    let targets: Vec<String> =
        list(&seen["targets"]).map(|t| format!("{} {}", text(&t["displayName"]), text(&t["ip"]))).collect();
    for (name, value) in [
        ("Load balancer", text(&seen["name"])),
        ("Address", text(&exposure["ingress"])),
        ("Status", text(&seen["status"])),
        ("Version", text(&seen["version"])),
        ("Targets", targets.join(", ")),
        ("Wanted", list(&exposure["endpoints"]).map(text).collect::<Vec<_>>().join(", ")),
    ] {
        page.row(name, &value);
    }
    page.raw("</table>\n");
    if exposure["plan"].is_object() {
        page.raw("<p>Last plan, of ");
        page.text(&text(&exposure["plan"]["at"]));
        page.raw(":</p><pre>");
        page.text(&text(&exposure["plan"]["text"]));
        page.raw("</pre>\n");
    }
    page.details("Desired", &exposure["desired"]);
    page.details("Observed", &exposure["observed"]);
}

/// The document in the making.
struct Html(String);

impl Html {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    fn heading(&mut self, text: &str) {
        self.raw("<h2>");
        self.text(text);
        self.raw("</h2>\n");
    }

    fn paragraph(&mut self, class: &'static str, text: &str) {
        let _ = write!(self.0, "<p class=\"{class}\">");
        self.text(text);
        self.raw("</p>\n");
    }

    /// A line of a table; what is not known has none.
    fn row(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.raw("<tr><th>");
            self.text(name);
            self.raw("</th><td>");
            self.text(value);
            self.raw("</td></tr>\n");
        }
    }

    fn facts(&mut self, object: &Value, fields: &[&str]) {
        self.raw("<table>");
        for field in fields {
            self.row(field, &text(&object[*field]));
        }
        self.raw("</table>\n");
    }

    /// Something long, folded.
    fn details(&mut self, name: &str, value: &Value) {
        if !value.is_null() {
            self.raw("<details><summary>");
            self.text(name);
            self.raw("</summary><pre>");
            self.text(&format!("{value:#}"));
            self.raw("</pre></details>\n");
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value as people read it; nothing where it is not known.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_from_outside_stays_text() {
        let nasty = "<script>alert('1')</script>&\"";
        let state = json!({
            "node": nasty, "problems": [nasty],
            "nodes": [{"name": nasty, "verdict": nasty, "reason": nasty}],
            "exposures": [{"name": nasty, "lastError": {"description": nasty}, "plan": {"text": nasty, "at": nasty}}],
            "settings": {"x": nasty},
        });
        let page = render(&state);
        assert!(
            !page.contains("<script") && page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;")
        );
    }

    #[test]
    fn every_element_that_is_opened_is_closed() {
        let state = json!({
            "node": "cp-0", "nodes": [{"name": "cp-0", "verdict": "healthy", "target": true}],
            "exposures": [{"name": "root", "paused": true, "plan": {"text": "nothing to do"}, "desired": {}}],
        });
        let page = render(&state);
        for element in ["html", "head", "body", "table", "tr", "td", "th", "p", "pre", "h1", "h2", "details", "a"] {
            let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element} in {page}");
        }
    }
}
