//! The verb `status`: nodes, targets, balancer, leader and last error, from the running agent where one answers, else
//! from the objects in Kubernetes.
//!
//! Both are brought into one form, whose names of fields stay as they are. Deliberately not here: the cloud, which is
//! never asked; what the leader has last read of it counts.

use std::fmt::Write;

use anyhow::{Context as _, bail};
use decide::exposure::is_ours;
use decide::health::{Judge, verdict};
use decide::names;
use decide::settings::Settings;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use super::marks::Marks;
use super::{Unusable, ask, state};
use crate::cluster::client;
use crate::cluster::exposures::Exposures;
use crate::cluster::lease;
use crate::cluster::patiently;
use crate::host::clock;

/// A Lease that has not been renewed for this long past its end is nobody's, whatever clocks say.
const LATE: i64 = 30;

/// How it is.
pub async fn look(settings: &Settings) -> anyhow::Result<Value> {
    let unanswered = match ask::state(settings).await {
        Ok(state) => return Ok(summary(&state, "agent")),
        Err(why) => why,
    };
    let access = client::find(settings).await.context("looking for a way to Kubernetes")?;
    let Some(access) = access else {
        bail!(Unusable(format!("{unanswered}; and there is no kubeconfig to ask Kubernetes with instead")));
    };
    let asked = async {
        let client = access.client()?;
        let marks = Marks::find(settings, Some(&access))?.context("there is nowhere to read Nodes")?;
        let nodes = marks.nodes(&settings.nodes.selector).await?;
        let namespace = &settings.exposure.namespace;
        let exposures = Exposures::new(Api::namespaced(client.clone(), namespace));
        let exposures = patiently(|| exposures.list()).await;
        let exposures = exposures.map_err(|failure| anyhow::anyhow!("listing SelfHostedShootExposures: {failure}"))?;
        let leases: Api<Lease> = Api::namespaced(client, &settings.leader_election.lease_namespace);
        let lease = leases.get_opt(&settings.leader_election.lease_name).await;
        let lease = lease.map_err(|error| anyhow::anyhow!("reading the Lease: {}", crate::cluster::explain(&error)))?;
        anyhow::Ok((nodes, exposures, lease))
    };
    let (nodes, exposures, lease) = asked.await.with_context(|| format!("{unanswered}; asking Kubernetes instead"))?;
    let namespace = &settings.exposure.namespace;
    let ours = exposures.iter().map(|exposed| &exposed.view).filter(|view| is_ours(view, settings));
    let exposures: Vec<Value> = ours.map(|view| state::exposure(&view.name, namespace, view, None)).collect();
    let judge = Judge { health: &settings.health, own_node: "", wall: clock::wall() };
    let nodes = nodes.values().map(|node| {
        let verdict = verdict(node, None, judge);
        let target = names::target(&node.name);
        json!({
            "name": node.name, "address": verdict.ip.map(|ip| ip.to_string()), "verdict": verdict.class.word(),
            "reason": verdict.class.to_string(), "target": exposures.iter().any(|e| state::has_target(e, &target)),
        })
    });
    let (holder, problem) = lease.as_ref().map(held).unwrap_or_default();
    let state = json!({
        "nodes": nodes.collect::<Vec<_>>(),
        "problems": problem.into_iter().collect::<Vec<_>>(),
        "ready": true,
        "lease": {"election": settings.leader_election.enabled, "holder": holder},
        "exposures": exposures,
    });
    Ok(summary(&state, "kubernetes"))
}

/// Who holds the Lease, and what is wrong with that.
fn held(found: &Lease) -> (Option<String>, Option<String>) {
    let holder = Some(lease::record(found).holder).filter(|holder| !holder.is_empty());
    let spec = found.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map_or(0, |time| time.0.as_second());
    let duration = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    let late = clock::wall() - renewed - i64::from(duration);
    let problem = holder
        .as_ref()
        .filter(|_| late > LATE)
        .map(|holder| format!("{holder} leads no more: its Lease ran out {late} s ago"));
    (holder.filter(|_| problem.is_none()), problem)
}

/// The form in which it is told, whoever was asked.
fn summary(state: &Value, source: &str) -> Value {
    let nodes: Vec<Value> =
        list(&state["nodes"]).map(|node| pick(node, &["name", "address", "verdict", "reason", "target"])).collect();
    let exposures: Vec<Value> = list(&state["exposures"]).map(exposure).collect();
    let problems = problems(state, &nodes, &exposures);
    json!({
        "healthy": problems.is_empty(),
        "problems": problems,
        "source": source,
        "agent": state["node"],
        "leader": state["lease"]["holder"],
        "nodes": nodes,
        "exposures": exposures,
    })
}

fn exposure(exposure: &Value) -> Value {
    let seen = if exposure["observed"].is_object() { &exposure["observed"] } else { &exposure["recorded"] };
    json!({
        "name": exposure["name"],
        "namespace": exposure["namespace"],
        "paused": exposure["paused"],
        "deleting": exposure["deleting"],
        "frozen": exposure["frozen"]["message"],
        "loadBalancer": pick(seen, &["name", "status", "version", "settled"]),
        "address": exposure["ingress"],
        "targets": seen["targets"],
        "wanted": exposure["endpoints"],
        "lastOperation": exposure["lastOperation"]["description"],
        "lastError": exposure["lastError"]["description"],
        "outcome": exposure["outcome"]["message"],
        "failed": exposure["outcome"]["state"] == "failed",
    })
}

/// Everything that is not as it should be.
fn problems(state: &Value, nodes: &[Value], exposures: &[Value]) -> Vec<String> {
    let mut problems: Vec<String> = list(&state["problems"]).map(text).collect();
    problems.extend(state["credentials"]["problem"].as_str().map(|problem| format!("credentials: {problem}")));
    if state["lease"]["election"] == true && text(&state["lease"]["holder"]).is_empty() {
        problems.push("no agent leads".to_owned());
    }
    if nodes.is_empty() {
        problems.push("there is no control-plane node".to_owned());
    }
    for node in nodes {
        let name = text(&node["name"]);
        if node["verdict"] != "healthy" {
            problems.push(format!("node {name}: {}", text(&node["reason"])));
        } else if node["target"] == false && !exposures.is_empty() {
            problems.push(format!("node {name} is healthy and no target"));
        }
    }
    if exposures.is_empty() {
        problems.push("there is no exposure of ours".to_owned());
    }
    for exposure in exposures {
        let name = text(&exposure["name"]);
        let balancer = &exposure["loadBalancer"];
        let failed = text(&exposure["outcome"]);
        let found = [
            (exposure["paused"] == true, "paused".to_owned()),
            (exposure["deleting"] == true, "being deleted".to_owned()),
            (exposure["frozen"].is_string(), format!("the targets are frozen: {}", text(&exposure["frozen"]))),
            (exposure["lastError"].is_string(), text(&exposure["lastError"])),
            (exposure["failed"] == true && !exposure["lastError"].is_string(), failed),
            (balancer["name"].is_null(), "no load balancer is known".to_owned()),
            (
                balancer["name"].is_string() && balancer["settled"] == false,
                format!("load balancer {} is not ready", text(&balancer["name"])),
            ),
        ];
        problems
            .extend(found.into_iter().filter(|(holds, _)| *holds).map(|(_, what)| format!("exposure {name}: {what}")));
    }
    problems
}

/// One table for people.
pub fn table(status: &Value) -> String {
    let mut rows = vec![["NODE", "ADDRESS", "VERDICT", "TARGET", "REASON"].map(str::to_owned)];
    for node in list(&status["nodes"]) {
        let target = if node["target"] == true { "yes" } else { "no" };
        rows.push([
            text(&node["name"]),
            text(&node["address"]),
            text(&node["verdict"]),
            target.to_owned(),
            text(&node["reason"]),
        ]);
    }
    let mut out = columns(&rows);
    out.push('\n');
    let mut facts = Vec::new();
    for exposure in list(&status["exposures"]) {
        let balancer = &exposure["loadBalancer"];
        let word = if balancer["settled"] == true { "ready" } else { "not ready" };
        let state = if balancer["status"].is_string() { text(&balancer["status"]) } else { word.to_owned() };
        let targets: Vec<String> = list(&exposure["targets"]).map(|target| text(&target["displayName"])).collect();
        let of = text(&exposure["name"]);
        let shown = if balancer["name"].is_null() {
            "none".to_owned()
        } else {
            format!(
                "{} {state}, version {}, at {}",
                text(&balancer["name"]),
                text(&balancer["version"]),
                or_none(&exposure["address"])
            )
        };
        facts.push(["BALANCER".to_owned(), of.clone(), shown]);
        facts.push([
            "TARGETS".to_owned(),
            of.clone(),
            if targets.is_empty() { "none".to_owned() } else { targets.join(", ") },
        ]);
        facts.push(["LAST ERROR".to_owned(), of, or_none(&exposure["lastError"])]);
    }
    facts.push(["LEADER".to_owned(), String::new(), or_none(&status["leader"])]);
    let told = match status["source"].as_str() {
        Some("agent") => format!("the agent on {}", text(&status["agent"])),
        _ => "the objects in Kubernetes (no agent answers here)".to_owned(),
    };
    facts.push(["TOLD BY".to_owned(), String::new(), told]);
    out += &columns(&facts);
    out.push('\n');
    if status["healthy"] == true {
        out += "healthy\n";
    } else {
        out += "degraded:\n";
        for problem in list(&status["problems"]) {
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {}", text(problem));
        }
    }
    out
}

/// Lines of columns, each as wide as its widest entry.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
        let line: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        out += line.join("  ").trim_end();
        out.push('\n');
    }
    out
}

fn pick(value: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| ((*field).to_owned(), value[*field].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn or_none(value: &Value) -> String {
    Some(text(value)).filter(|text| !text.is_empty()).unwrap_or_else(|| "none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Value {
        json!({
            "node": "cp-0", "ready": true, "problems": [],
            "lease": {"election": true, "holder": "cp-1_x"}, "credentials": {"problem": null},
            "nodes": [
                {"name": "cp-0", "address": "10.0.0.1", "verdict": "healthy", "reason": "healthy", "target": true},
                {"name": "cp-1", "address": "10.0.0.2", "verdict": "healthy", "reason": "healthy", "target": true},
            ],
            "exposures": [{
                "name": "root", "namespace": "kube-system", "paused": false, "deleting": false, "frozen": null,
                "observed": null, "ingress": "1.2.3.4", "endpoints": ["cp-0", "cp-1"],
                "recorded": {
                    "name": "lb", "version": "7", "settled": true,
                    "targets": [{"displayName": "cp-0", "ip": "10.0.0.1"}, {"displayName": "cp-1", "ip": "10.0.0.2"}],
                },
                "lastError": null, "outcome": null,
            }],
        })
    }

    #[test]
    fn all_well_is_one_table_and_healthy() {
        let table = table(&summary(&state(), "agent"));
        let expected = "\
NODE  ADDRESS   VERDICT  TARGET  REASON
cp-0  10.0.0.1  healthy  yes     healthy
cp-1  10.0.0.2  healthy  yes     healthy

BALANCER    root  lb ready, version 7, at 1.2.3.4
TARGETS     root  cp-0, cp-1
LAST ERROR  root  none
LEADER            cp-1_x
TOLD BY           the agent on cp-0

healthy
";
        assert_eq!(table, expected);
    }

    #[test]
    fn whatever_is_not_as_it_should_be_degrades_it() {
        let broken = |path: &str, value: Value| {
            let mut state = state();
            *state.pointer_mut(path).unwrap() = value;
            summary(&state, "agent")["problems"].clone()
        };
        assert_eq!(broken("/lease/holder", Value::Null), json!(["no agent leads"]));
        assert_eq!(broken("/nodes/0/target", json!(false)), json!(["node cp-0 is healthy and no target"]));
        assert_eq!(broken("/exposures/0/paused", json!(true)), json!(["exposure root: paused"]));
        assert_eq!(
            broken("/exposures/0/recorded/settled", json!(false)),
            json!(["exposure root: load balancer lb is not ready"])
        );
        assert_eq!(broken("/exposures/0/recorded", Value::Null), json!(["exposure root: no load balancer is known"]));
        assert_eq!(broken("/exposures/0/lastError", json!({"description": "no"})), json!(["exposure root: no"]));
        assert_eq!(broken("/credentials/problem", json!("refused")), json!(["credentials: refused"]));
        assert_eq!(broken("/exposures", json!([])), json!(["there is no exposure of ours"]));
        let mut drained = state();
        drained["nodes"][1]["verdict"] = json!("maintenance");
        drained["nodes"][1]["reason"] = json!("maintenance (drained)");
        assert_eq!(summary(&drained, "agent")["problems"], json!(["node cp-1: maintenance (drained)"]));
    }
}
