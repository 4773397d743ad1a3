//! The verb `plan`: what a pass would change now, and nothing is changed.
//!
//! It is the daemon's own work with hands that only read: the same watches, one round of probes, one GET at STACKIT.
//! It is no candidate for the Lease, writes no object, no status and no event.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use decide::exposure::ExposureView;
use decide::pass::{sorted_endpoints, spec_endpoints};
use decide::plan::Step;
use decide::settings::{NodeSource, Settings};
use decide::status::{Outcome, Waiting};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::assembly::{self, Assembly, Wiring};
use super::board::Notice;
use super::worker::{Context, Errand, Witness};
use super::{TimedOut, Unusable, standalone, state, supervisor};
use crate::admin::{Health, Metrics};
use crate::cluster::client;
use crate::{REVISION, VERSION};

/// Time for everything that has to be read.
const DEADLINE: Duration = Duration::from_secs(20);
/// Pause between two looks at what has come in.
const LOOK: Duration = Duration::from_millis(50);

/// What a pass would change: pending or not, and the diff of each exposure.
pub async fn plan(settings: Settings) -> anyhow::Result<Value> {
    let settings = Arc::new(settings);
    let access = client::find(&settings).await.context("looking for a way to Kubernetes")?;
    match (&access, settings.nodes.source) {
        (None, NodeSource::Kubernetes) => bail!(Unusable(
            "nodes.source is Kubernetes, but there is no kubeconfig (--kubeconfig, setting `kubeconfig`, $KUBECONFIG, \
             /etc/shoot-exposure-agent/kubeconfig); name one, or set nodes.source to File"
                .to_owned()
        )),
        (None, NodeSource::File) => standalone(&settings)?,
        (Some(_), _) => {}
    }
    let (_settings, live) = watch::channel(Arc::clone(&settings));
    let health = Health::default();
    let wiring = Wiring {
        live,
        access,
        health: health.clone(),
        metrics: Metrics::new(&settings.leader_election.lease_name, VERSION, REVISION),
        errand: Errand::Look,
        witness: Witness::default(),
        named: Vec::new(),
    };
    let mut tasks = JoinSet::new();
    let Assembly { context, stop_lease: _held, .. } = assembly::start(wiring, &mut tasks)?;
    let (_stop, stopped) = watch::channel(false);
    tasks.spawn(supervisor::run(context.clone(), health, stopped));
    let probe = &settings.health.probe;
    // Two fresh answers of everybody, or one that is slow.
    let round = if probe.enabled { probe.slow + probe.interval.saturating_mul(3) } else { Duration::ZERO };
    let started = Instant::now();
    loop {
        let waits = match told(&context) {
            Ok(exposures) if started.elapsed() >= round => {
                let pending = exposures.iter().any(|exposure| exposure["pending"] == true);
                return Ok(json!({"pending": pending, "exposures": exposures}));
            }
            Ok(_) => "the probes".to_owned(),
            Err(waits) => waits,
        };
        if started.elapsed() >= DEADLINE + round {
            bail!(TimedOut(format!("nothing can be said yet; waiting for {waits}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The diff of every exposure, or what is still waited for.
fn told(context: &Context) -> Result<Vec<Value>, String> {
    let settings = &context.settings;
    let why = |problem: &Option<String>| problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
    let nodes = context.sources.nodes.borrow();
    if !nodes.listed {
        return Err(format!("the list of Nodes{}", why(&nodes.problem)));
    }
    let notices = context.board.read();
    let Some((_, exposures)) = &context.sources.exposures else {
        let view = ExposureView::default();
        let told = notices.iter().map(|(name, notice)| diff(settings, name, &view, notice));
        let told: Vec<Value> = told.collect::<Result<_, _>>()?;
        return if told.is_empty() { Err("a first look at the balancer".to_owned()) } else { Ok(told) };
    };
    let exposures = exposures.borrow();
    if !exposures.listed {
        return Err(format!("the list of SelfHostedShootExposures{}", why(&exposures.problem)));
    }
    let ours: Vec<&ExposureView> = exposures
        .items
        .values()
        .map(|exposed| &exposed.view)
        .filter(|view| decide::exposure::is_ours(view, settings))
        .collect();
    let wish = &settings.exposure;
    if ours.is_empty() && wish.create_if_missing && !wish.name.is_empty() {
        let text = format!("create SelfHostedShootExposure `{}` and its load balancer", wish.name);
        return Ok(vec![json!({
            "name": wish.name, "namespace": wish.namespace, "pending": true, "create": true, "text": text,
            "endpoints": {"add": [], "remove": []}, "loadBalancer": null, "waiting": null, "failed": null,
        })]);
    }
    let told = |view: &ExposureView| {
        let notice = notices.get(&view.name).ok_or_else(|| format!("a first look at exposure `{}`", view.name))?;
        diff(settings, &view.name, view, notice)
    };
    ours.into_iter().map(told).collect()
}

/// The diff of one exposure, or what is still waited for.
fn diff(settings: &Settings, name: &str, view: &ExposureView, notice: &Notice) -> Result<Value, String> {
    let outcome = notice.outcome.as_ref().map(|(outcome, _)| outcome);
    let (mut waiting, failed) = match outcome {
        Some(Outcome::Failed(failure)) => (None, Some(failure.message.clone())),
        // What would be written is in the plan.
        Some(Outcome::Waiting(Waiting::Write(_) | Waiting::Record) | Outcome::Done(_)) | None => (None, None),
        Some(Outcome::Waiting(waiting)) => (Some(waiting.to_string()), None),
    };
    let ours = settings.controllers.exposure;
    if ours && notice.plan.is_none() && waiting.is_none() && failed.is_none() {
        return Err(format!("the load balancer of exposure `{name}`"));
    }
    let has_object = !view.name.is_empty();
    let (there, wanted) = (sorted_endpoints(view), spec_endpoints(&notice.choice));
    let applies = has_object && settings.controllers.endpoints && !view.deleting && !view.paused && !wanted.is_empty();
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    if applies {
        add.extend(wanted.iter().filter(|endpoint| !there.contains(endpoint)).map(|e| e.node_name.clone()));
        remove.extend(there.iter().filter(|endpoint| !wanted.contains(endpoint)).map(|e| e.node_name.clone()));
    }
    let plan = notice.plan.as_ref().map(|(plan, _)| plan);
    let writes = plan.is_some_and(|plan| matches!(plan.step, Step::Create(_) | Step::Update(_) | Step::Delete(_)));
    if view.paused && writes {
        waiting = Some(format!("exposure `{name}` to be resumed"));
    }
    let mut text = Vec::new();
    if !(add.is_empty() && remove.is_empty()) {
        text.push("spec.endpoints".to_owned());
        text.extend(remove.iter().filter(|node| !add.contains(node)).map(|node| format!("  - {node}")));
        text.extend(add.iter().filter(|node| !remove.contains(node)).map(|node| format!("  + {node}")));
        text.extend(add.iter().filter(|node| remove.contains(node)).map(|node| format!("  ~ {node}: its addresses")));
    }
    text.extend(plan.map(|plan| format!("load balancer: {plan}")));
    text.extend(waiting.as_ref().map(|waiting| format!("waiting: {waiting}")));
    text.extend(failed.as_ref().map(|failed| format!("failed: {failed}")));
    Ok(json!({
        "name": name,
        "namespace": settings.exposure.namespace,
        "pending": writes || !add.is_empty() || !remove.is_empty(),
        "create": false,
        "endpoints": {"add": add, "remove": remove},
        "loadBalancer": plan.map(state::plan),
        "waiting": waiting,
        "failed": failed,
        "text": text.join("\n"),
    }))
}

/// For people.
pub fn text(plan: &Value) -> String {
    let exposures = plan["exposures"].as_array().into_iter().flatten();
    let told = exposures.map(|exposure| {
        let line = |field: &str| exposure[field].as_str().unwrap_or_default().to_owned();
        let text = line("text").replace('\n', "\n  ");
        format!("exposure {} in {}\n  {text}\n", line("name"), line("namespace"))
    });
    let told: String = told.collect();
    if told.is_empty() { "there is no exposure of ours: nothing to do\n".to_owned() } else { told }
}
