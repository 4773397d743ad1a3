//! One worker for each exposure of ours.
//!
//! A worker stays for the rest of the process once its exposure was seen, so that an object that is deleted and made
//! anew finds the same owner.

use std::collections::BTreeSet;
use std::time::Duration;

use decide::exposure::is_ours;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use super::worker::{Context, Worker};
use crate::admin::Health;

/// Time a worker has for a turn of its loop before `/livez` says that it is stuck.
pub(super) const STUCK: Duration = Duration::from_secs(90);

/// Runs until `stop` turns true and every worker has ended.
pub async fn run(mut context: Context, health: Health, mut stop: watch::Receiver<bool>) {
    let mut workers = JoinSet::new();
    let mut known = BTreeSet::new();
    let mut live = context.live.clone();
    while !*stop.borrow_and_update() {
        context.settings = live.borrow_and_update().clone();
        for name in names(&context) {
            if known.insert(name.clone()) {
                info!(exposure = name, "taking care of it");
                let progress = health.progress("worker", STUCK);
                workers.spawn(Worker::new(name, context.clone(), progress).run(stop.clone()));
            }
        }
        tokio::select! {
            () = context.sources.changed() => {}
            Ok(()) = live.changed() => {}
            // A worker never ends before it is told to: the process ends with it.
            Some(_) = workers.join_next() => return,
            _ = stop.changed() => {}
        }
    }
    while workers.join_next().await.is_some() {}
}

/// The exposures to take care of: those that are ours, and the one that may have to be made.
fn names(context: &Context) -> Vec<String> {
    let settings = &context.settings;
    let named = Some(settings.exposure.name.clone()).filter(|name| !name.is_empty());
    let Some((_, exposures)) = &context.sources.exposures else {
        return named.into_iter().collect();
    };
    let exposures = exposures.borrow();
    let ours = exposures.items.values().filter(|exposed| is_ours(&exposed.view, settings));
    let wanted = named.filter(|_| settings.exposure.create_if_missing);
    ours.map(|exposed| exposed.view.name.clone()).chain(wanted).collect()
}
