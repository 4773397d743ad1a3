//! What this agent knows, as one value: `/state` as JSON, and `/` for people.
//!
//! It is put together when somebody asks, of what the tasks hold anyway, and never waits for any of them. Nothing in it
//! is a secret. Names of fields stay as they are; more may come.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use decide::desired::Observed;
use decide::exposure::{ExposureView, is_ours};
use decide::health::{Judge, NodeView, verdict};
use decide::leader::Record;
use decide::names;
use decide::plan::{Plan, Step};
use decide::settings::Settings;
use decide::status::Outcome;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::board::Notice;
use super::clouds::Shown;
use super::probing::{port, target};
use super::worker::Context;
use crate::admin::routes::NOTHING;
use crate::admin::{Health, Page, page};
use crate::host::{clock, config};
use crate::{REVISION, VERSION};

/// The pages of the admin server; they show the settings alone until the work has begun.
#[derive(Clone, Default)]
pub struct Pages(Arc<OnceLock<Source>>);

/// What the pages are made of.
struct Source {
    context: Context,
    lease: watch::Receiver<Option<Record>>,
    credentials: watch::Receiver<Shown>,
    health: Health,
}

impl Pages {
    /// `/state` and `/`.
    pub fn pages(&self, settings: &Settings) -> Vec<Page> {
        let settings = Arc::new(settings.clone());
        let value = || {
            let (pages, settings) = (self.clone(), Arc::clone(&settings));
            move || pages.0.get().map_or_else(|| starting(&settings), Source::value)
        };
        let (json, html) = (value(), value());
        vec![
            Page {
                path: "/state",
                content_type: "application/json",
                policy: NOTHING,
                render: Box::new(move || format!("{:#}\n", json())),
            },
            Page {
                path: "/",
                content_type: "text/html; charset=utf-8",
                policy: page::POLICY,
                render: Box::new(move || page::render(&html())),
            },
        ]
    }

    /// The work has begun.
    pub fn show(&self, context: Context, lease: watch::Receiver<Option<Record>>, health: Health) {
        let credentials = context.clouds.shown();
        // Said once; a second time changes nothing.
        let _ = self.0.set(Source { context, lease, credentials, health });
    }
}

/// Before anything is known.
fn starting(settings: &Settings) -> Value {
    json!({
        "version": VERSION, "revision": REVISION, "node": super::node_name(settings), "at": time(clock::wall()),
        "ready": false, "problems": ["starting: the way to Kubernetes is not known yet"],
        "nodes": [], "exposures": [], "lease": null, "credentials": null, "settings": config::redacted(settings),
    })
}

impl Source {
    fn value(&self) -> Value {
        let settings = Arc::clone(&self.context.live.borrow());
        let exposures = self.exposures(&settings);
        let report = self.health.readyz(&[]);
        let troubles = report.text.lines().filter_map(trouble).collect::<Vec<_>>();
        json!({
            "version": VERSION,
            "revision": REVISION,
            "node": self.context.place.own_node,
            "at": time(clock::wall()),
            "ready": report.healthy,
            "problems": troubles,
            "nodes": self.nodes(&settings, &exposures),
            "exposures": exposures,
            "lease": self.lease(&settings),
            "credentials": self.credentials(),
            "settings": config::redacted(&settings),
        })
    }

    /// Every control-plane node with its verdict, as the workers judge it.
    fn nodes(&self, settings: &Settings, exposures: &[Value]) -> Value {
        let Context { sources, probing, place, .. } = &self.context;
        let nodes = sources.nodes.borrow().items.clone();
        let health = &settings.health;
        let port = port(sources, settings);
        let wall = clock::wall();
        let judge = Judge { health, own_node: &place.own_node, wall };
        let now = clock::now();
        let shown = |node: &NodeView| {
            let hurried = health.pods && probing.is_hurried(&node.name);
            let asked = target(node, port).filter(|_| health.probe.enabled);
            let readings = probing.readings.borrow();
            let reading = asked.and_then(|asked| readings.reading(&asked, now, health.probe.slow, hurried));
            let verdict = verdict(node, reading.as_ref(), judge);
            let name = names::target(&node.name);
            json!({
                "name": node.name,
                "uid": node.uid,
                "address": verdict.ip.map(|ip| ip.to_string()),
                "verdict": verdict.class.word(),
                "reason": verdict.class.to_string(),
                "probe": reading.as_ref().map(|reading| reading.class.word()),
                "own": verdict.own,
                "target": exposures.iter().any(|exposure| has_target(exposure, &name)),
                "drained": node.is_drained(wall),
                "drainedUntil": node.drain_until.filter(|_| node.is_drained(wall)).map(time),
            })
        };
        nodes.values().map(shown).collect()
    }

    fn exposures(&self, settings: &Settings) -> Vec<Value> {
        let namespace = &settings.exposure.namespace;
        let notices = self.context.board.read();
        let Some((_, exposures)) = &self.context.sources.exposures else {
            let without_object = ExposureView::default();
            return notices.iter().map(|(name, n)| exposure(name, namespace, &without_object, Some(n))).collect();
        };
        let items = exposures.borrow().items.clone();
        let ours = items.values().map(|exposed| &exposed.view).filter(|view| is_ours(view, settings));
        ours.map(|view| exposure(&view.name, namespace, view, notices.get(&view.name).map(AsRef::as_ref))).collect()
    }

    fn lease(&self, settings: &Settings) -> Value {
        let wish = &settings.leader_election;
        let lease = self.lease.borrow();
        let lease = lease.as_ref();
        json!({
            "election": self.context.place.election,
            "namespace": wish.lease_namespace,
            "name": wish.lease_name,
            "holder": lease.map(|lease| lease.holder.clone()).filter(|holder| !holder.is_empty()),
            "renewed": lease.map(|lease| lease.renewed.clone()).filter(|renewed| !renewed.is_empty()),
            "transitions": lease.map(|lease| lease.transitions),
            "leads": self.context.leadership.borrow().is_some_and(|until| clock::now() < until),
        })
    }

    fn credentials(&self) -> Value {
        let shown = self.credentials.borrow();
        let expires = shown.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
        let over = shown.expires.is_some_and(|at| at <= SystemTime::now());
        json!({
            "flow": shown.flow,
            "expires": expires.and_then(|at| i64::try_from(at).ok()).map(time),
            "expired": over,
            "projectID": shown.project_id,
            "problem": shown.problem,
        })
    }
}

/// An exposure, as its object and this agent's worker know it.
pub(super) fn exposure(name: &str, namespace: &str, view: &ExposureView, notice: Option<&Notice>) -> Value {
    let choice = notice.map(|notice| &notice.choice);
    let endpoints = choice.map(|choice| choice.endpoints.iter().map(|e| e.node_name.as_str()).collect::<Vec<_>>());
    let plan = notice.and_then(|notice| notice.plan.as_ref());
    let observed = notice.and_then(|notice| notice.observed.as_ref());
    let desired = plan.and_then(|(plan, _)| match &plan.step {
        Step::Create(wish) => Some(json!(wish)),
        Step::Update(update) => Some(json!(update.wish)),
        Step::Nothing => observed.map(|observed| json!(observed.balancer)),
        Step::Delete(_) | Step::AwaitGone | Step::Gone => None,
    });
    json!({
        "name": name,
        "namespace": namespace,
        "paused": view.paused,
        "deleting": view.deleting,
        "endpoints": endpoints,
        "frozen": choice.and_then(|choice| choice.frozen).map(|frozen| json!({"reason": frozen.word(), "message": frozen.to_string()})),
        "desired": desired,
        "observed": observed.map(self::observed),
        "recorded": view.status.record.as_ref().map(|record| json!({
            "name": record.identity.name, "projectID": record.identity.project_id, "region": record.identity.region,
            "targets": record.targets, "settled": record.settled, "version": record.version,
        })),
        "ingress": view.status.ingress.first().cloned().or_else(|| observed?.ingress().map(|ip| ip.to_string())),
        "plan": plan.map(|(plan, at)| {
            let mut value = self::plan(plan);
            value["at"] = json!(time(*at));
            value
        }),
        "outcome": notice.and_then(|notice| notice.outcome.as_ref()).map(|(outcome, at)| self::outcome(outcome, *at)),
        "lastOperation": view.status.operation.as_ref().map(|last| json!({
            "type": last.kind, "state": last.state, "progress": last.progress, "description": last.description,
            "lastUpdateTime": time(last.at),
        })),
        "lastError": view.status.error.as_ref().map(|last| json!({
            "description": last.description, "codes": last.codes,
        })),
    })
}

/// A balancer as read: what the agent manages, and how it is.
fn observed(observed: &Observed) -> Value {
    let errors = observed.errors.iter().map(|error| json!({"type": error.kind, "description": error.description}));
    json!({
        "name": observed.balancer.name,
        "version": observed.version,
        "status": observed.status.word(),
        "errors": errors.collect::<Vec<_>>(),
        "settled": observed.is_settled(),
        "address": observed.ingress().map(|ip| ip.to_string()),
        "targets": observed.balancer.targets(),
        "fields": observed.balancer,
    })
}

/// A plan: the step, what differs, and what cannot be met.
pub fn plan(plan: &Plan) -> Value {
    let (step, changes) = match &plan.step {
        Step::Nothing => ("nothing", Vec::new()),
        Step::Create(_) => ("create", Vec::new()),
        Step::Update(update) => ("update", update.changes.clone()),
        Step::Delete(_) => ("delete", Vec::new()),
        Step::AwaitGone => ("awaitGone", Vec::new()),
        Step::Gone => ("gone", Vec::new()),
    };
    let change = |change: &decide::plan::Change| json!({"field": change.field, "from": change.from, "to": change.to});
    json!({
        "step": step,
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
        "unmet": plan.unmet.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "text": plan.to_string(),
    })
}

fn outcome(outcome: &Outcome, since: i64) -> Value {
    let (state, message, codes) = match outcome {
        Outcome::Done(Some(ip)) => ("done", format!("as desired and ready at {ip}"), Vec::new()),
        Outcome::Done(None) => ("done", "nothing is left to do".to_owned(), Vec::new()),
        Outcome::Waiting(waiting) => ("waiting", waiting.to_string(), Vec::new()),
        Outcome::Failed(failure) => ("failed", failure.message.clone(), failure.codes.clone()),
    };
    json!({"state": state, "message": message, "codes": codes, "since": time(since)})
}

/// Whether a balancer has this target, as this agent or whoever leads has last seen it.
pub(super) fn has_target(exposure: &Value, name: &str) -> bool {
    let seen = [&exposure["observed"], &exposure["recorded"]].into_iter().find(|seen| seen.is_object());
    let targets = seen.and_then(|seen| seen["targets"].as_array()).into_iter().flatten();
    targets.into_iter().any(|target| target["displayName"] == name)
}

/// A line of `/readyz?verbose` that is not fine.
fn trouble(line: &str) -> Option<&str> {
    line.strip_prefix("[-]").or_else(|| line.strip_prefix("[+]").filter(|line| line.contains(" degraded: ")))
}

/// RFC 3339 in seconds.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
