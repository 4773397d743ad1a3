//! The election task: watches the Lease, sends what [`decide::leader`] decides, and tells until when this agent leads.
//!
//! Losing the Lease demotes in place: nothing ends, caches stay warm. The Lease is released last, after the work.

use std::sync::Arc;

use decide::Moment;
use decide::endpoints::Quorum;
use decide::leader::{Election, Record, Timings, Turn};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use crate::admin::{Check, Metrics, Progress};
use crate::cluster::ApiFailure;
use crate::cluster::lease::{self, Leases};
use crate::cluster::watch::{Watched, follow};
use crate::host::clock;

/// The task looks up this often, so that its silence means something.
const LOOK_UP: std::time::Duration = std::time::Duration::from_secs(20);

/// Until when this agent may act as the leader; `None`: it is not.
pub type Leadership = Option<Moment>;

/// What the election task works with.
pub struct Candidate {
    /// A client that nothing else uses.
    pub client: Client,
    /// `leaderElection.leaseNamespace`.
    pub namespace: String,
    /// `leaderElection.leaseName`.
    pub name: String,
    /// `<nodeName>_<random>`.
    pub identity: String,
    /// The timings.
    pub timings: Timings,
    /// For `/readyz`.
    pub check: Check,
    /// For `/livez`.
    pub progress: Progress,
    /// The numbers.
    pub metrics: Metrics,
    /// Told of each renewal: etcd served then.
    pub quorum: watch::Sender<Option<Quorum>>,
    /// Somebody wants to know now whether etcd serves.
    pub hurry: Arc<Notify>,
}

/// Runs until `stop` turns true, then releases the Lease.
pub async fn run(candidate: Candidate, out: watch::Sender<Leadership>, mut stop: watch::Receiver<bool>) {
    let Candidate { client, namespace, name, identity, timings, check, progress, metrics, quorum, hurry } = candidate;
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let leases = Leases::new(api.clone(), name.clone(), identity.clone(), timings);
    let (seen, mut watched) = watch::channel(Watched::default());
    let following = follow("the Lease", api, Some(format!("metadata.name={name}")), lease::view, seen);
    tokio::pin!(following);
    let mut election = Election::new(identity.clone(), timings);
    let mut holder = None;
    while !*stop.borrow() {
        progress.beat();
        tell(&election, &out, &metrics, &mut holder);
        match election.turn(clock::now()) {
            Turn::Wait(until) => tokio::select! {
                () = clock::sleep_until(until.min(clock::now() + LOOK_UP)) => {}
                () = hurry.notified() => election.hurry(clock::now()),
                () = &mut following => return,
                Ok(()) = watched.changed() => take_in(&mut election, &watched.borrow_and_update(), &name, &check),
                Ok(()) = stop.changed() => {}
            },
            Turn::StepDown => {
                warn!(lease = name, "the Lease was not renewed in time; standing back");
                election.stepped_down();
            }
            Turn::Create => attempt(&leases, None, &mut election, &identity, &quorum).await,
            Turn::Take(base) | Turn::Renew(base) => {
                attempt(&leases, Some(base), &mut election, &identity, &quorum).await;
            }
        }
    }
    let held = election.record().filter(|record| record.holder == identity).cloned();
    election.stepped_down();
    tell(&election, &out, &metrics, &mut holder);
    if let Some(record) = held {
        match leases.release(&record).await {
            Ok(()) => info!(lease = name, "released the Lease"),
            Err(failure) => warn!(lease = name, %failure, "cannot release the Lease; others take it when it expires"),
        }
    }
}

fn take_in(election: &mut Election, watched: &Watched<Record>, name: &str, check: &Check) {
    match &watched.problem {
        Some(problem) => check.fail(problem),
        None => check.ok(),
    }
    if watched.listed {
        election.observe(watched.items.get(name).cloned(), clock::now());
    }
}

/// One try to hold the Lease.
async fn attempt(
    leases: &Leases,
    base: Option<Record>,
    election: &mut Election,
    identity: &str,
    quorum: &watch::Sender<Option<Quorum>>,
) {
    let sent = clock::now();
    let renewed = lease::now();
    let stored = match &base {
        None => leases.create(&renewed).await,
        Some(base) => leases.hold(base, &renewed).await,
    };
    match stored {
        Ok(record) => {
            election.stored(record, sent);
            quorum.send_replace(Some(Quorum { sent, answered: clock::now() }));
        }
        Err(ApiFailure::Conflict) => {
            debug!("the Lease has changed meanwhile");
            election.failed(sent, rand::random());
            let current = match leases.read().await {
                Ok(current) => current,
                // The watch brings it, a little later.
                Err(failure) => return warn!(%failure, "cannot read the Lease"),
            };
            // An answer that was lost: the write we think has failed is the one that is stored.
            let ours = current
                .as_ref()
                .is_some_and(|record| record.holder == identity && record.renewed == lease::text(Some(&renewed)));
            match current {
                Some(record) if ours => election.stored(record, sent),
                current => election.observe(current, clock::now()),
            }
        }
        Err(failure) => {
            warn!(%failure, "cannot write the Lease");
            election.failed(sent, rand::random());
        }
    }
}

/// Tells the others, and the log when it is news.
fn tell(election: &Election, out: &watch::Sender<Leadership>, metrics: &Metrics, holder: &mut Option<String>) {
    let until = election.leads_until();
    out.send_if_modified(|leadership| {
        let changed = *leadership != until;
        if leadership.is_some() != until.is_some() {
            info!(leads = until.is_some(), "leadership has changed");
            metrics.set_leader(until.is_some());
        }
        *leadership = until;
        changed
    });
    let current = election.record().map(|record| record.holder.clone()).filter(|holder| !holder.is_empty());
    if current.is_some() && *holder != current {
        if holder.is_some() {
            metrics.leader_changed();
        }
        info!(holder = current, "the Lease is held");
        *holder = current;
    }
}
