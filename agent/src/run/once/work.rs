//! One worker, the election and all that they look at, from the start until they are told to end.

use std::sync::Arc;

use anyhow::anyhow;
use decide::errand::{Leader, Scene};
use decide::exposure::ExposureView;
use decide::health::NodeView;
use decide::settings::Settings;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::super::DRAIN;
use super::super::assembly::{self, Assembly, Wiring};
use super::super::settings::Live;
use super::super::sources::UNLISTED;
use super::super::supervisor::STUCK;
use super::super::worker::{Context, Errand, Told, Witness, Worker};
use super::holder::Holder;
use crate::admin::{Health, Metrics};
use crate::cluster::client::Access;
use crate::host::clock;
use crate::{REVISION, VERSION};

/// All of it, at work.
pub(super) struct Work {
    name: String,
    context: Context,
    health: Health,
    told: watch::Receiver<Told>,
    holder: Option<Holder>,
    worker: JoinHandle<()>,
    election: JoinHandle<()>,
    watches: JoinSet<()>,
    stop: watch::Sender<bool>,
    stop_lease: watch::Sender<bool>,
    /// Settings that nobody reads again.
    _settings: watch::Sender<Arc<Settings>>,
}

/// Whether there are objects in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objects {
    /// There is a balancer alone.
    None,
    /// They were not read yet.
    Unlisted,
    /// Read: one that is not seen is not there.
    Listed,
}

/// What can be seen of it.
pub(super) struct Sight {
    /// What the worker has told.
    pub(super) told: Told,
    /// The exposure as stored; `None`: there is none, or it was not read yet.
    pub(super) view: Option<ExposureView>,
    /// This process leads.
    pub(super) leads: bool,
    /// The objects.
    pub(super) objects: Objects,
    /// The balancer is made here (`controllers.exposure`).
    pub(super) makes: bool,
    /// Who else holds the Lease, and whether they live.
    pub(super) other: Option<(String, bool)>,
    unread: Vec<String>,
    lease: Option<String>,
    refused: Option<String>,
}

impl Work {
    /// Starts everything for the exposure that the settings name.
    pub(super) fn start(
        settings: Settings,
        access: Option<Access>,
        errand: Errand,
        named: Vec<NodeView>,
    ) -> anyhow::Result<Self> {
        let settings = Arc::new(settings);
        let health = Health::default();
        let metrics = Metrics::new(&settings.leader_election.lease_name, VERSION, REVISION);
        let mut watches = JoinSet::new();
        let elects = access.as_ref().filter(|_| settings.leader_election.enabled);
        let holder = elects.map(|access| Holder::follow(access, &settings, &mut watches)).transpose()?;
        let (witness, told) = Witness::new();
        let (out, live): (_, Live) = watch::channel(Arc::clone(&settings));
        let name = settings.exposure.name.clone();
        let wiring = Wiring { live, access, health: health.clone(), metrics, errand, witness, named };
        let Assembly { mut context, election, stop_lease, .. } = assembly::start(wiring, &mut watches)?;
        if errand == Errand::Remove {
            // The balancer alone: there is no object that could be written to.
            context.sources.exposures = None;
        }
        let (stop, stopped) = watch::channel(false);
        let worker = Worker::new(name.clone(), context.clone(), health.progress("worker", STUCK));
        let worker = tokio::spawn(worker.run(stopped));
        Ok(Self { name, context, health, told, holder, worker, election, watches, stop, stop_lease, _settings: out })
    }

    /// Returns when something has changed; an error is a defect.
    pub(super) async fn changed(&mut self) -> anyhow::Result<()> {
        let defect = |task: &str| Err(anyhow!("{task} ended by itself, which is a defect of the agent"));
        let exposure = async {
            match &mut self.context.sources.exposures {
                Some((_, watched)) => watched.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let held = async {
            match &mut self.holder {
                Some(holder) => holder.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = self.told.changed() => Ok(()),
            true = exposure => Ok(()),
            () = held => Ok(()),
            // Checks of the others have no channel.
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => Ok(()),
            _ = &mut self.worker => defect("the work"),
            _ = &mut self.election => defect("the election"),
            Some(_) = self.watches.join_next() => defect("a watch"),
        }
    }

    /// How it stands.
    pub(super) fn look(&mut self) -> Sight {
        let told = self.told.borrow_and_update().clone();
        // Marked as seen, or it would be news for ever.
        let exposures = &mut self.context.sources.exposures;
        let exposures = exposures.as_mut().map(|(_, watched)| watched.borrow_and_update().clone());
        let objects = match &exposures {
            None => Objects::None,
            Some(exposures) if exposures.listed => Objects::Listed,
            Some(_) => Objects::Unlisted,
        };
        let view = exposures.and_then(|exposures| exposures.items.get(&self.name).map(|exposed| exposed.view.clone()));
        let leads = self.context.leadership.borrow().is_some_and(|until| clock::now() < until);
        let mut refused: Vec<String> = told.refused.iter().map(|(what, why)| format!("{what}: {why}")).collect();
        let nodes = self.context.sources.nodes.borrow().clone();
        if view.is_none() && self.context.errand == Errand::Make && nodes.listed && nodes.items.is_empty() {
            let selector = &self.context.settings.nodes.selector;
            refused.push(format!("no Node fits nodes.selector `{selector}` yet, and none is named by --endpoint"));
        }
        Sight {
            view,
            leads,
            objects,
            makes: self.context.settings.controllers.exposure,
            other: self.holder.as_mut().and_then(Holder::look).filter(|_| !leads),
            unread: self.health.trouble("caches").filter(|trouble| trouble != UNLISTED).into_iter().collect(),
            lease: self.health.trouble("election"),
            refused: Some(refused.join("; ")).filter(|refused| !refused.is_empty()),
            told,
        }
    }

    /// The way down: the work first, the Lease last.
    pub(super) async fn end(mut self) {
        let _ = self.stop.send(true);
        // What takes longer is given up with the process; the next run reads what became of it.
        let _ = tokio::time::timeout(DRAIN, &mut self.worker).await;
        let _ = self.stop_lease.send(true);
        let _ = tokio::time::timeout(DRAIN, &mut self.election).await;
    }
}

impl Sight {
    /// The same for deciding what is waited for.
    pub(super) fn scene<R>(&self, then: impl FnOnce(&Scene<'_>) -> R) -> R {
        let held = self.other.as_ref().map(|(holder, _)| format!("`{holder}` holds it"));
        let leader = match &self.other {
            _ if self.leads => Leader::Us,
            Some((holder, true)) => Leader::Other(holder),
            _ => Leader::Nobody(held.as_deref().or(self.lease.as_deref())),
        };
        let turn = self.told.turn.as_ref().filter(|_| self.leads);
        then(&Scene {
            unread: &self.unread,
            leader,
            outcome: turn.and_then(|turn| turn.pass.outcome.as_ref()),
            view: self.view.as_ref(),
            kubernetes: self.objects != Objects::None,
            refused: self.refused.as_deref(),
        })
    }
}
