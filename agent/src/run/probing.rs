//! What nodes are judged by, beside their Node objects: probes, static pods, kubelets' Leases, the quorum of etcd.
//!
//! Deliberately not here: verdicts and choices ([`super::worker`] asks `decide` for them).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use decide::Moment;
use decide::endpoints::Quorum;
use decide::health::{NodeView, Roster};
use decide::settings::Settings;
use kube::{Api, Config};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::warn;

use super::settings::Live;
use super::sources::Sources;
use crate::admin::Metrics;
use crate::cluster::client::Access;
use crate::cluster::exposures::Exposed;
use crate::cluster::pods::{self, StaticPod};
use crate::cluster::watch::{Watched, follow};
use crate::host::clock;
use crate::host::reload::Changes;
use crate::probe::{self, Readings, Target, Way};

/// What workers judge nodes by; cheap to clone.
#[derive(Clone)]
pub struct Probing {
    /// What the API servers answer.
    pub readings: watch::Receiver<Readings>,
    /// The static pods.
    pub pods: watch::Receiver<Watched<StaticPod>>,
    /// The latest proof that etcd serves: a renewal of the Lease by this agent, or a read.
    pub quorum: watch::Receiver<Option<Quorum>>,
    /// Asks for a proof now that etcd serves.
    pub doubt: Arc<Notify>,
    /// The nodes that are out for silence, by name; one entry a worker.
    pub silent: Arc<watch::Sender<BTreeMap<String, Silent>>>,
}

/// A node that is out for silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Whom the probes ask.
    pub target: Target,
}

impl Probing {
    /// Starts everything that the settings ask for.
    pub fn start(
        live: &Live,
        access: Option<&Access>,
        sources: &Sources,
        metrics: &Metrics,
        quorum: watch::Receiver<Option<Quorum>>,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Self> {
        let (readings_out, readings) = watch::channel(Readings::default());
        let (targets_out, targets) = watch::channel(BTreeSet::new());
        let (pods_out, pods) = watch::channel(Watched::default());
        let (silent, outside) = watch::channel(BTreeMap::new());
        let way = Origin { configs: access.map(Access::configs), live: live.clone() };
        let first = match way.read() {
            Ok(way) => way,
            Err(problem) => {
                warn!(problem, "probes have no CA to verify with: the Node objects alone decide until they have");
                Way::without_kubernetes(b"").context("making a way that trusts nobody")?
            }
        };
        let (way_out, ways) = watch::channel(first);
        tasks.spawn(way.follow(way_out));
        tasks.spawn(aim(sources.clone(), live.clone(), targets_out));
        tasks.spawn(probe::run(targets, ways, live.clone(), metrics.clone(), readings_out.clone()));
        if let Some(access) = access {
            let settings = Arc::clone(&live.borrow());
            let client = access.client()?;
            if settings.health.pods {
                let api = Api::namespaced(client.clone(), &settings.exposure.namespace);
                tasks.spawn(follow("static Pods", api, Some(pods::SELECTOR.to_owned()), pods::view, pods_out));
            }
            tasks.spawn(super::kubelets::follow(client, outside, readings_out));
        }
        Ok(Self { readings, pods, quorum, doubt: Arc::new(Notify::new()), silent: Arc::new(silent) })
    }

    /// Whether the static pods of a node are known not to be Ready.
    pub fn is_hurried(&self, node: &str) -> bool {
        self.pods.borrow().items.values().any(|pod| pod.ill && pod.node == node)
    }

    /// Something came that may change a verdict.
    pub async fn changed(&mut self) {
        let change = tokio::select! {
            change = self.readings.changed() => change,
            change = self.pods.changed(), if self.pods.has_changed().is_ok() => change,
            // It may end a doubt, and none must be missed.
            change = self.quorum.changed(), if self.quorum.has_changed().is_ok() => change,
        };
        if change.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whom the probes ask for a node; `None` where it has no usable address.
pub fn target(node: &NodeView, port: u16) -> Option<Target> {
    node.internal_ip().map(|ip: IpAddr| Target { uid: node.uid.clone(), ip, port })
}

/// The port of the API servers: as set, else that of the exposure.
pub fn port(sources: &Sources, settings: &Settings) -> u16 {
    if settings.health.probe.port != 0 {
        return settings.health.probe.port;
    }
    let exposures = sources.exposures.as_ref().map(|(_, exposures)| exposures.borrow().items.clone());
    let ours = exposures.iter().flat_map(|items| items.values());
    let mut ports = ours.filter(|exposed| decide::exposure::is_ours(&exposed.view, settings));
    let first = ports.find_map(|exposed| u16::try_from(exposed.view.port).ok().filter(|port| *port != 0));
    first.unwrap_or(settings.exposure.port)
}

/// Whether [`port`] can be relied on: before the exposures were looked at it would be a guess, and another port that refuses
/// says nothing about an API server.
fn is_port_known(sources: &Sources, settings: &Settings) -> bool {
    let looked = |exposures: &Watched<Exposed>| exposures.listed || exposures.problem.is_some();
    settings.health.probe.port != 0
        || sources.exposures.as_ref().is_none_or(|(_, exposures)| looked(&exposures.borrow()))
}

/// Keeps the list of those who are asked.
async fn aim(mut sources: Sources, mut live: Live, out: watch::Sender<BTreeSet<Target>>) {
    let mut roster = Roster::default();
    loop {
        let settings = Arc::clone(&live.borrow_and_update());
        let targets = aims(&sources, &settings, &mut roster, clock::now());
        out.send_if_modified(|before| {
            let changed = *before != targets;
            *before = targets;
            changed
        });
        tokio::select! {
            () = sources.changed() => {}
            Ok(()) = live.changed() => {}
            () = out.closed() => return,
        }
    }
}

/// Who is asked: every control-plane node, and those that have vanished lately. Nobody before it is known at which port.
fn aims(sources: &Sources, settings: &Settings, roster: &mut Roster, now: Moment) -> BTreeSet<Target> {
    let nodes = sources.nodes.borrow();
    if nodes.listed {
        roster.update(&nodes.items, now);
    }
    if !is_port_known(sources, settings) {
        return BTreeSet::new();
    }
    let port = port(sources, settings);
    roster.listed().chain(roster.departed()).filter_map(|node| target(node, port)).collect()
}

/// Where CA and credential come from.
struct Origin {
    configs: Option<watch::Receiver<Config>>,
    live: Live,
}

impl Origin {
    /// As it is now, or why not.
    fn read(&self) -> Result<Way, String> {
        let authority = self.authority()?;
        let way = match &self.configs {
            Some(configs) => {
                let mut config = configs.borrow().clone();
                if let Some(authority) = &authority {
                    let parsed = pem::parse_many(authority).map_err(|error| format!("health.probe.caFile: {error}"))?;
                    config.root_cert = Some(parsed.into_iter().map(pem::Pem::into_contents).collect());
                }
                Way::from_config(&config)
            }
            None => Way::without_kubernetes(&authority.unwrap_or_default()),
        };
        way.map_err(|error| format!("{:#}", anyhow!(error)))
    }

    /// The file that the settings name.
    fn authority(&self) -> Result<Option<Vec<u8>>, String> {
        let settings = Arc::clone(&self.live.borrow());
        let file = Some(&settings.health.probe.ca_file).filter(|path| !path.is_empty());
        let read =
            file.map(|path| std::fs::read(path).map_err(|error| format!("health.probe.caFile `{path}`: {error}")));
        read.transpose()
    }

    /// Follows kubeconfig and file; what cannot be used changes nothing.
    async fn follow(mut self, out: watch::Sender<Way>) {
        let mut seen = self.authority();
        loop {
            let file = self.live.borrow_and_update().health.probe.ca_file.clone();
            let changes = (!file.is_empty()).then(|| Changes::of_file(Path::new(&file)));
            loop {
                let config_changed = async {
                    match &mut self.configs {
                        Some(configs) => configs.changed().await.is_ok(),
                        None => std::future::pending().await,
                    }
                };
                let file_changed = async {
                    match &changes {
                        Some(changes) => changes.next().await,
                        None => std::future::pending().await,
                    }
                };
                let told = tokio::select! {
                    true = config_changed => true,
                    () = file_changed => false,
                    Ok(()) = self.live.changed() => false,
                    () = out.closed() => return,
                };
                let found = self.authority();
                if told || found != seen {
                    seen = found;
                    match self.read() {
                        Ok(way) => drop(out.send_replace(way)),
                        Err(problem) => warn!(problem, "probes go on with the CA and the credential they have"),
                    }
                }
                if self.live.borrow().health.probe.ca_file != file {
                    break;
                }
            }
        }
    }
}

/// How long ago the first requests were sent, as far as a worker can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Since(Option<Moment>);

impl Since {
    /// Takes note of the first time that there was somebody to ask.
    pub fn noted(&mut self, asked: bool, now: Moment) -> Option<Moment> {
        if asked && self.0.is_none() {
            self.0 = Some(now);
        }
        self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests;
