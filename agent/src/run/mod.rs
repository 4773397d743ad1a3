//! What keeps it running: start order, one owner per task, and the way down.
//!
//! | task | owns | tells |
//! |---|---|---|
//! | nodes (watch or file) | the control-plane Nodes | every worker |
//! | exposures | the exposure objects | the supervisor, every worker |
//! | cluster, infrastructure | facts about the shoot | every worker |
//! | [`settings`] | the settings file | everybody |
//! | [`clouds`] | credentials and endpoints of STACKIT | every worker |
//! | [`probing`] | probes, static pods, kubelets' Leases | every worker |
//! | [`routing`] | how each API server is | every client of Kubernetes |
//! | [`leader`] | the Lease | every worker: until when it may write |
//! | [`worker`], one an exposure | the balancer, object and status of it | STACKIT, Kubernetes |
//! | [`dns`], where it is asked for | the external DNS records | Kubernetes |
//! | [`forgotten`] | drains and pauses older than an hour | people |
//! | [`leaving`] | the mark of a shutdown on the own node | the agents |
//! | [`signs`] | what systemd is told | systemd, where it listens |
//! | events | the queue of events | Kubernetes |
//! | admin server, on a thread of its own | the sockets | probes, Prometheus, people |
//!
//! [`once`]: the verbs that do one thing and end, with the same tasks.
//!
//! Any task that ends by itself ends the process: systemd or the kubelet starts it again, which is better than an
//! agent that limps. On the way down readiness goes first, then, where the machine stops as well, this node's target, then
//! the work, the Lease last.

mod ask;
mod assembly;
pub mod board;
pub mod clouds;
pub mod dns;
pub mod drain;
pub mod forgotten;
pub mod hands_off;
pub mod kubelets;
pub mod leader;
pub mod leaving;
pub mod marks;
mod named_nodes;
pub mod once;
pub mod plan;
pub mod probing;
pub mod proof;
pub mod quorum;
pub mod routing;
pub mod settings;
pub mod signs;
pub mod sources;
pub mod state;
pub mod status;
pub mod strains;
pub mod supervisor;
pub mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use decide::Moment;
use decide::endpoints::Quorum;
use decide::leader::{Record, Timings};
use decide::settings::{CredentialsSource, NodeSource, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::admin::{AdminServer, Health, LogHandle, Metrics, Routes};
use crate::cluster::client::{self, Access};
use crate::cluster::events::Announcer;
use crate::host::config::Source;
use crate::host::systemd::Notifier;
use crate::{REVISION, VERSION};
use assembly::{Assembly, Wiring};
use leader::{Candidate, Leadership};
use settings::{Live, Reloading};
use strains::Strains;
use worker::{Errand, Witness};

/// Time for the work under way to end on shutdown; every request has a shorter limit of its own.
const DRAIN: Duration = Duration::from_secs(15);
/// Pause between two looks at a kubeconfig that is not there yet.
const LOOK: Duration = Duration::from_secs(2);
/// Time the election has for a turn of its loop before `/livez` says that it is stuck.
const ELECTION_STUCK: Duration = Duration::from_secs(60);

/// Settings that cannot work together with what this machine offers: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub(crate) String);

/// What was waited for has not come in time: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TimedOut(pub(crate) String);

/// Runs until SIGTERM or SIGINT; a second signal ends it at once. `source` is where `settings` come from: they are
/// read again when the file changes, and on SIGHUP.
pub async fn run(settings: Settings, source: Source, log: LogHandle) -> anyhow::Result<()> {
    let settings = Arc::new(settings);
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let metrics = Metrics::new(&settings.leader_election.lease_name, VERSION, REVISION);
    let health = Health::default();
    let state = state::Pages::default();
    let _admin = admin(&settings, &health, &metrics, &state)?;
    let (out, live) = watch::channel(Arc::clone(&settings));
    let check = health.gate("settings", "not read yet");
    let systemd = Notifier::from_environment();
    let mut watches = JoinSet::new();
    watches.spawn(signs::give(systemd.clone(), health.clone(), metrics.clone()));
    let told = (metrics.clone(), systemd.clone());
    watches.spawn(Reloading { source, out, log, hangup, check, metrics: told.0, systemd: told.1 }.run());
    let access = tokio::select! {
        access = access(&live, &health, &systemd) => access?,
        () = signals.next() => return Ok(()),
    };
    let wiring = Wiring {
        live,
        access: access.clone(),
        health: health.clone(),
        metrics,
        errand: Errand::Keep,
        witness: Witness::default(),
        named: Vec::new(),
    };
    let Assembly { context, mut election, lease, stop_lease } = assembly::start(wiring, &mut watches)?;
    state.show(context.clone(), lease, health.clone());
    let leaving = leaving::Leaving::new(&context, access.as_ref())?;
    let tidying = watches.spawn(leaving.clone().tidy());
    watches.spawn(forgotten::run(context.clone()));
    let (stop, stopped) = watch::channel(false);
    dns::start(&context, access.as_ref(), &mut watches)?;
    let mut work = tokio::spawn(supervisor::run(context, health.clone(), stopped));
    info!(version = VERSION, "running");
    systemd.ready();

    let defect = |task: &str| Err(anyhow!("{task} ended by itself, which is a defect of the agent"));
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        _ = &mut work => defect("the work"),
        Some(_) = watches.join_next() => defect("a watch"),
        _ = &mut election => defect("the election"),
    };
    info!("stopping: the work first, the Lease last");
    systemd.stopping();
    health.begin_shutdown();
    tidying.abort();
    let down = async {
        if ended.is_ok() {
            leaving.leave().await;
        }
        let _ = stop.send(true);
        if !work.is_finished() && tokio::time::timeout(DRAIN, &mut work).await.is_err() {
            warn!("the work has not ended within {DRAIN:?}; going on without it");
        }
        let _ = stop_lease.send(true);
        if !election.is_finished() && tokio::time::timeout(DRAIN, &mut election).await.is_err() {
            warn!("the Lease was not released within {DRAIN:?}; it expires");
        }
    };
    tokio::select! {
        () = down => {}
        () = signals.next() => bail!("ended at once by a second signal"),
    }
    ended
}

/// The admin server, bound before anything else starts, so that a port in use is said at once.
fn admin(settings: &Settings, health: &Health, metrics: &Metrics, state: &state::Pages) -> anyhow::Result<AdminServer> {
    let address = |path: &str, text: &str| -> anyhow::Result<SocketAddr> {
        text.parse().with_context(|| format!("{path}: `{text}` is no address with a port"))
    };
    let server = &settings.server;
    let main = address("server.bindAddress", &server.bind_address)?;
    let second = Some(server.metrics_bind_address.as_str()).filter(|text| !text.is_empty());
    let second = second.map(|text| address("server.metricsBindAddress", text)).transpose()?;
    let started =
        AdminServer::start(main, second, Routes::new(health.clone(), metrics.clone(), state.pages(settings)))?;
    for address in started.addresses() {
        info!(%address, "admin server listens");
    }
    Ok(started)
}

/// The way to the API server. A kubeconfig that is named and not there yet, or half written, is waited for; none at
/// all is fine where nodes come from a file.
async fn access(live: &Live, health: &Health, systemd: &Notifier) -> anyhow::Result<Option<Access>> {
    let gate = health.gate("kubeconfig", "not read yet");
    let mut said = String::new();
    loop {
        let settings = Arc::clone(&live.borrow());
        match client::find(&settings).await {
            Ok(Some(access)) => {
                info!(origin = access.origin, server = %access.config.cluster_url, "using Kubernetes");
                gate.ok();
                return Ok(Some(access));
            }
            Ok(None) if settings.nodes.source == NodeSource::Kubernetes => bail!(Unusable(
                "nodes.source is Kubernetes, but there is no kubeconfig (setting `kubeconfig`, $KUBECONFIG, a pod's \
                 service account, /etc/shoot-exposure-agent/kubeconfig); set one, or set nodes.source to File"
                    .to_owned()
            )),
            Ok(None) => {
                standalone(&settings)?;
                gate.ok();
                return Ok(None);
            }
            Err(error) => {
                let problem = format!("{:#}", anyhow!(error));
                if problem != said {
                    warn!(problem, "waiting for a usable kubeconfig");
                    gate.fail(&problem);
                    said = problem;
                }
                // It may take as long as a cluster takes to be made, and nobody must kill the agent for that.
                systemd.ready();
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Without Kubernetes nobody else can say where the balancer lives: everything that is missing, at once.
fn standalone(settings: &Settings) -> Result<(), Unusable> {
    let stackit = &settings.stackit;
    let missing: Vec<&str> = [
        ("exposure.name", &settings.exposure.name),
        ("stackit.region", &stackit.region),
        ("stackit.networkID", &stackit.network_id),
        ("stackit.technicalID", &stackit.technical_id),
    ]
    .into_iter()
    .filter(|(_, value)| value.is_empty())
    .map(|(path, _)| path)
    .collect();
    if stackit.credentials == CredentialsSource::SecretRef {
        let what = "stackit.credentials is SecretRef, which needs a Kubernetes API; set it to Mounted".to_owned();
        return Err(Unusable(what));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Unusable(format!("without a Kubernetes API these must be set: {}", missing.join(", "))))
}

/// What the election tells the workers, and is told by them, beside who leads.
struct Ties {
    quorum: watch::Sender<Option<Quorum>>,
    doubt: Arc<Notify>,
    strains: Strains,
    seen: watch::Sender<Option<Record>>,
}

/// The election, or leadership without end where it is off.
fn elect(
    settings: &Settings,
    access: Option<&Access>,
    health: &Health,
    metrics: &Metrics,
    ties: Ties,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<(watch::Receiver<Leadership>, JoinHandle<()>)> {
    let wish = &settings.leader_election;
    let (tell, leadership) = watch::channel(None);
    let Some(access) = access.filter(|_| wish.enabled) else {
        info!("the election is off; the balancer's version alone guards against a second writer");
        metrics.set_leader(true);
        let _ = tell.send(Some(Moment(Duration::MAX)));
        return Ok((leadership, tokio::spawn(stay(stopped, tell))));
    };
    let candidate = Candidate {
        reach: access.reach()?,
        namespace: wish.lease_namespace.clone(),
        name: wish.lease_name.clone(),
        identity: format!("{}_{:08x}", node_name(settings), rand::random::<u32>()),
        timings: Timings {
            lease_duration: wish.lease_duration,
            renew_deadline: wish.renew_deadline,
            retry_period: wish.retry_period,
        },
        check: health.gate("election", "the Lease has not been read yet"),
        progress: health.progress("election", ELECTION_STUCK),
        metrics: metrics.clone(),
        quorum: ties.quorum,
        doubt: ties.doubt,
        strains: ties.strains,
        seen: ties.seen,
    };
    Ok((leadership, tokio::spawn(leader::run(candidate, tell, stopped))))
}

/// Where events are handed in; without Kubernetes they are forgotten.
fn announcer(settings: &Settings, access: Option<&Access>, tasks: &mut JoinSet<()>) -> anyhow::Result<Announcer> {
    let Some(access) = access else { return Ok(Announcer::default()) };
    let (announcer, writer) = Announcer::new();
    tasks.spawn(writer.run(access.client()?, node_name(settings)));
    Ok(announcer)
}

/// Keeps leadership told until the end.
async fn stay(mut stopped: watch::Receiver<bool>, tell: watch::Sender<Leadership>) {
    let _ = stopped.wait_for(|stop| *stop).await;
    let _ = tell.send(None);
}

/// This node's name: the setting, `$NODE_NAME`, the hostname.
fn node_name(settings: &Settings) -> String {
    let set = Some(settings.node_name.clone()).filter(|name| !name.is_empty());
    let environment = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let hostname = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    set.or_else(environment).or_else(hostname).unwrap_or_else(|| "unknown".to_owned())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
