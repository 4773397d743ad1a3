//! The election task: watches the Lease, sends what [`decide::leader`] decides, and tells until when this agent leads.
//!
//! Losing the Lease demotes in place: nothing ends, caches stay warm. The Lease is released last, after the work. An
//! ailing leader does not wait for its work, which may hang: a PUT of it carries a version, and a name rests after a
//! DELETE of others.

use std::mem::discriminant;
use std::sync::Arc;

use decide::Moment;
use decide::endpoints::Quorum;
use decide::leader::{Election, Record, Timings, Turn};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::quorum;
use super::strains::Strains;
use crate::admin::{Check, Metrics, Progress};
use crate::cluster::ApiFailure;
use crate::cluster::lease::{self, Leases};
use crate::cluster::reach::Reach;
use crate::cluster::watch::{Watched, follow};
use crate::host::clock;

/// The task looks up this often, so that its silence means something.
const LOOK_UP: std::time::Duration = std::time::Duration::from_secs(20);

/// Until when this agent may act as the leader; `None`: it is not.
pub type Leadership = Option<Moment>;

/// What the election task works with.
pub struct Candidate {
    /// Connections that nothing else uses.
    pub reach: Reach,
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
    /// Told of each renewal, and each read that was asked for: etcd served then.
    pub quorum: watch::Sender<Option<Quorum>>,
    /// Somebody wants to know now whether etcd serves.
    pub doubt: Arc<Notify>,
    /// Told of the Lease whenever it is seen.
    pub seen: watch::Sender<Option<Record>>,
    /// How fit this agent is to lead.
    pub strains: Strains,
}

/// Runs until `stop` turns true, then releases the Lease.
pub async fn run(candidate: Candidate, out: watch::Sender<Leadership>, mut stop: watch::Receiver<bool>) {
    let Candidate {
        reach,
        namespace,
        name,
        identity,
        timings,
        check,
        progress,
        metrics,
        quorum: proven,
        doubt,
        strains,
        seen: told,
    } = candidate;
    let api: Api<Lease> = Api::namespaced(reach.client(), &namespace);
    let leases = Leases::new(reach, namespace, name.clone(), identity.clone(), timings);
    // Goes with this task.
    let mut seeking = JoinSet::new();
    seeking.spawn(quorum::seek(reads(leases.clone()), doubt, proven.clone()));
    let (seen, mut watched) = watch::channel(Watched::default());
    let following = follow("the Lease", api, Some(format!("metadata.name={name}")), lease::view, seen);
    tokio::pin!(following);
    let mut election = Election::new(identity.clone(), timings);
    let (mut holder, mut failing) = (None, None);
    let mut strained = strains.changes();
    while !*stop.borrow() {
        progress.beat();
        election.strained(strains.together());
        tell(&election, &out, &metrics, &mut holder);
        told.send_if_modified(|before| {
            let changed = before.as_ref() != election.record();
            *before = election.record().cloned();
            changed
        });
        match election.turn(clock::now()) {
            Turn::Wait(until) => tokio::select! {
                () = clock::sleep_until(until.min(clock::now() + LOOK_UP)) => {}
                Ok(()) = strained.changed() => {}
                () = &mut following => return,
                Ok(()) = watched.changed() => take_in(&mut election, &watched.borrow_and_update(), &name, &check),
                Ok(()) = stop.changed() => {}
            },
            Turn::StepDown => {
                warn!(lease = name, "the Lease was not renewed in time; standing back");
                election.stepped_down();
            }
            Turn::HandOver(record, ailment) => {
                warn!(lease = name, "{ailment}: somebody else is to lead");
                election.stepped_down();
                tell(&election, &out, &metrics, &mut holder);
                if release(&leases, &record, &name).await {
                    election.handed_over(ailment, clock::now());
                } else {
                    election.failed(clock::now(), rand::random());
                }
            }
            turn @ (Turn::Create | Turn::Take(_) | Turn::Renew(_)) => {
                let base = if let Turn::Take(base) | Turn::Renew(base) = turn { Some(base) } else { None };
                let failure = attempt(&leases, base, &mut election, &proven).await;
                // Once for each kind of failure in a row, however often it is tried.
                let kind = failure.as_ref().map(discriminant);
                match &failure {
                    Some(failure) if kind != failing => warn!(lease = name, %failure, "cannot write the Lease"),
                    None if failing.is_some() => info!(lease = name, "the Lease can be written again"),
                    _ => {}
                }
                failing = kind;
            }
        }
    }
    let held = election.record().filter(|record| record.holder == identity).cloned();
    election.stepped_down();
    tell(&election, &out, &metrics, &mut holder);
    if let Some(record) = held {
        // It expires by itself otherwise.
        let _ = release(&leases, &record, &name).await;
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

/// A read of the Lease with a quorum through each API server that may answer.
fn reads(leases: Leases) -> impl Fn() -> Vec<BoxFuture<'static, bool>> {
    move || {
        let read = |server| {
            let leases = leases.clone();
            async move { leases.read(server).await.is_ok() }.boxed()
        };
        leases.order().into_iter().map(read).collect()
    }
}

/// One turn to hold the Lease: a try through each API server, best first, until one has answered for etcd. The last failure
/// if none has.
async fn attempt(
    leases: &Leases,
    base: Option<Record>,
    election: &mut Election,
    proven: &watch::Sender<Option<Quorum>>,
) -> Option<ApiFailure> {
    let (mut tried, mut last) = (Vec::new(), None);
    // Asked for anew each time: what is learned by a try changes it.
    while let Some(server) = leases.order().into_iter().find(|server| !tried.contains(server)) {
        tried.push(server);
        let sent = clock::now();
        if election.leads_until().is_some_and(|until| sent >= until) {
            break;
        }
        let renewed = lease::now();
        election.tried(lease::text(Some(&renewed)), sent);
        let stored = match &base {
            None => leases.create(server, &renewed).await,
            Some(base) => leases.hold(server, base, &renewed).await,
        };
        match stored {
            Ok(record) => {
                election.stored(record, sent);
                proven.send_replace(Some(Quorum { sent, answered: clock::now() }));
                return None;
            }
            Err(ApiFailure::Conflict) => {
                debug!(%server, "the Lease has changed meanwhile");
                election.failed(sent, rand::random());
                // Perhaps by ourselves: the answer to an earlier try was lost.
                match leases.read(server).await {
                    Ok(current) => {
                        election.observe(current, clock::now());
                        return None;
                    }
                    // The watch brings it, a little later.
                    Err(failure) => warn!(%server, %failure, "cannot read the Lease"),
                }
            }
            Err(failure) => {
                debug!(%server, %failure, "cannot write the Lease here");
                election.failed(sent, rand::random());
                last = Some(failure);
            }
        }
    }
    last
}

/// Whether some API server has stored that.
async fn release(leases: &Leases, record: &Record, name: &str) -> bool {
    for server in leases.order() {
        match leases.release(server, record).await {
            Ok(()) => {
                info!(lease = name, "released the Lease");
                return true;
            }
            Err(failure) => {
                warn!(lease = name, %server, %failure, "cannot release the Lease; others take it when it expires");
            }
        }
    }
    false
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
