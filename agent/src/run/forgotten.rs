//! Drains and pauses that have lasted for more than an hour: a number for everybody, an event by the leader.

use std::time::Duration;

use decide::exposure::is_ours;
use decide::forgotten::{Forgotten, Memory, Standing, Subject};
use decide::reason::Reason;
use tracing::warn;

use super::worker::Context;
use crate::admin::metrics::Forgettable;
use crate::cluster::events::Regarding;
use crate::cluster::exposures::Exposed;
use crate::host::clock;

/// Pause between two looks, when nothing happens.
const LOOK: Duration = Duration::from_secs(30);

/// Looks after every change of Nodes and exposures, without end.
pub async fn run(context: Context) {
    let mut sources = context.sources.clone();
    let mut memory = Memory::default();
    loop {
        let exposures = ours(&context);
        let found = memory.look(standing(&context, &exposures), clock::wall());
        for (kind, drains) in [(Forgettable::Drain, true), (Forgettable::Pause, false)] {
            let number = found.iter().filter(|one| matches!(one.subject, Subject::Drain(_)) == drains).count();
            context.metrics.set_forgotten(kind, number);
        }
        let leads = context.leadership.borrow().is_some_and(|until| clock::now() < until);
        for forgotten in found.iter().filter(|forgotten| forgotten.is_due && leads) {
            say(&context, &exposures, forgotten);
            memory.said(&forgotten.subject, clock::wall());
        }
        let _ = tokio::time::timeout(LOOK, sources.changed()).await;
    }
}

fn ours(context: &Context) -> Vec<Exposed> {
    let Some((_, exposures)) = &context.sources.exposures else { return Vec::new() };
    let settings = context.live.borrow();
    exposures.borrow().items.values().filter(|exposed| is_ours(&exposed.view, &settings)).cloned().collect()
}

fn standing(context: &Context, exposures: &[Exposed]) -> Vec<Standing> {
    let wall = clock::wall();
    let nodes = context.sources.nodes.borrow().items.clone();
    let drained = nodes.values().filter(|node| node.is_drained(wall));
    let drains = drained.map(|node| Standing { subject: Subject::Drain(node.name.clone()), since: node.drained_at });
    let paused = exposures.iter().map(|exposed| &exposed.view).filter(|view| view.paused);
    let others = paused.map(|view| Standing { subject: Subject::Pause(view.name.clone()), since: view.paused_at });
    drains.chain(others).collect()
}

fn say(context: &Context, exposures: &[Exposed], forgotten: &Forgotten) {
    let hours = forgotten.lasts / 3600;
    let (reason, action, what) = match &forgotten.subject {
        Subject::Drain(node) => {
            let what = format!("node {node} has been drained for {hours} h; `undrain {node}` puts it back");
            (Reason::DrainForgotten, format!("Drain {node}"), what)
        }
        Subject::Pause(name) => {
            let what = format!("exposure {name} has been paused for {hours} h; `resume` ends it");
            (Reason::PauseForgotten, format!("Pause {name}"), what)
        }
    };
    warn!(reason = reason.word(), "{what}");
    let concerned = |exposed: &&Exposed| match &forgotten.subject {
        Subject::Drain(_) => true,
        Subject::Pause(name) => exposed.view.name == *name,
    };
    for exposed in exposures.iter().filter(concerned) {
        let namespace = context.live.borrow().exposure.namespace.clone();
        let (name, uid) = (exposed.view.name.clone(), exposed.view.uid.clone());
        context.announcer.announce(&Regarding { namespace, name, uid }, reason, &action, &what);
    }
}
