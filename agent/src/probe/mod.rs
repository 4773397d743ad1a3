//! What talks to the API servers to see whether they serve.
//!
//! | module | what it is |
//! |---|---|
//! | [`way`] | with which CA and credential they are asked |
//! | [`readings`] | the evidence of all nodes, and whom a change of it wakes |
//! | [`node`] | one node: what is due, sent, waiting, held |
//! | [`connection`] | a dial, a request, and how they end |
//!
//! Each node has a task of its own. Every interval it asks for `path` and `alivePath`, each on its own stream of one
//! held connection, or both on a fresh one. A request counts from the moment it is due; one that waits for a
//! connection waits like one that waits for an answer.
//!
//! Deliberately not here: what an answer means (`decide::probe`), what a class means for the target (`decide::health`),
//! proxies, redirects, retries, TLS session resumption (it would skip the certificate), the balancer's address, and
//! kubeconfigs that run a program for a credential.

mod connection;
mod node;
mod readings;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use decide::settings::Settings;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::error;

pub use readings::Readings;
pub use way::{Way, WayError};

use crate::admin::metrics::Metrics;
use node::{Alarm, Node};

/// Whom to ask: evidence belongs to a Node UID at one address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The Node's `metadata.uid`.
    pub uid: String,
    /// Its InternalIP.
    pub ip: IpAddr,
    /// The API server's port.
    pub port: u16,
}

/// Asks all targets, for ever. `out` holds what is known of each of them; its readers are woken when that may change
/// a decision, so while all is green never.
pub async fn run(
    mut targets: watch::Receiver<BTreeSet<Target>>,
    way: watch::Receiver<Way>,
    mut live: watch::Receiver<Arc<Settings>>,
    metrics: Metrics,
    out: watch::Sender<Readings>,
) {
    let alarm = Arc::new(watch::Sender::new(Alarm::default()));
    let mut tasks = JoinSet::new();
    let mut nodes: BTreeMap<Target, AbortHandle> = BTreeMap::new();
    loop {
        let enabled = live.borrow_and_update().health.probe.enabled;
        let wanted = if enabled { targets.borrow_and_update().clone() } else { BTreeSet::new() };
        nodes.retain(|target, task| {
            if !wanted.contains(target) {
                task.abort();
            }
            !task.is_finished() && wanted.contains(target)
        });
        out.send_if_modified(|readings| readings.keep(&wanted));
        for target in wanted {
            nodes.entry(target).or_insert_with_key(|target| {
                let alarm = Arc::clone(&alarm);
                let node = Node::new(target.clone(), way.clone(), live.clone(), metrics.clone(), out.clone(), alarm);
                tasks.spawn(node.run())
            });
        }
        tokio::select! {
            Ok(()) = targets.changed() => {}
            Ok(()) = live.changed() => {}
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if ended.is_err_and(|error| !error.is_cancelled()) {
                    error!("the probes of a node have ended by a defect; they start again");
                }
            }
            else => std::future::pending().await,
        }
    }
}

/// Its kubelet is alive: the path to it is broken, so its silence does not count until it answers.
pub fn mute_silence(out: &watch::Sender<Readings>, target: &Target) {
    out.send_if_modified(|readings| readings.mute_silence(target));
}

#[cfg(test)]
mod tests;
