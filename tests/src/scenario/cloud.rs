//! STACKIT on the stage: the emulator, the agent's own client for it, and how long provisioning takes in the story's time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use decide::Moment;
use decide::desired::Identity;
use decide::pass::{Carried, CloudStep};
use decide::retry::{Fault, FaultKind};
use serde_json::Value;
use shoot_exposure_agent::cloud::carry_out::carry_out;
use shoot_exposure_agent::cloud::{LoadBalancers as _, Place, Rest, Tokens, credentials};
use shoot_exposure_agent::cluster::exposures::{Exposed, Exposures};
use shoot_exposure_agent::run::proof::prove;

use super::cluster::merge;
use crate::emulator::{Action, Emulator, KeyOptions, Options, Profile};

/// Where a story's credentials are said to come from.
const SECRET: &str = "kube-system/cloudprovider";
/// Time limit of requests, on the wall: nothing on loopback takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same while requests are made to hang; the story's time goes on by the real limit.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// STACKIT as a story sees it.
pub(super) struct Cloud {
    pub(super) emulator: Emulator,
    /// Time from an accepted write to what comes of it.
    pub(super) create: Duration,
    pub(super) update: Duration,
    pub(super) delete: Duration,
    /// Nothing under way ever ends.
    pub(super) stuck: bool,
    tokens: Result<Tokens, Fault>,
    clients: BTreeMap<(String, String, Duration), Arc<Rest>>,
    /// When what was written with this version is done.
    due: BTreeMap<String, Moment>,
    /// Balancers that have been ready.
    made: BTreeSet<String>,
}

impl Cloud {
    pub(super) async fn start() -> Result<Self> {
        let mut options = Options { profile: Profile::Instant, ..Options::default() };
        // The story says when something is done, not the clock on the wall.
        options.switches.hold_pending = true;
        options.switches.hold_terminating = true;
        let emulator = Emulator::start(options).await?;
        let tokens = Err(missing());
        let (create, update, delete) = (Duration::from_secs(4), Duration::from_secs(2), Duration::from_secs(3));
        let (clients, due, made) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut cloud = Self { emulator, create, update, delete, stuck: false, tokens, clients, due, made };
        cloud.credentials()?;
        Ok(cloud)
    }

    /// A fresh service account key.
    pub(super) fn credentials(&mut self) -> Result<()> {
        let key = self.emulator.service_account_key(&KeyOptions::default())?;
        let files = BTreeMap::from([("serviceaccount.json".to_owned(), key.to_string().into_bytes())]);
        self.take(&files)
    }

    /// The files of the Secret, whatever is in them.
    pub(super) fn take(&mut self, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        self.clients.clear();
        self.tokens = match credentials::from_secret(SECRET, files, None, SystemTime::now()) {
            Ok(read) => Ok(Tokens::new(read.source, PATIENCE, None, Arc::new(()))?),
            Err(fault) => Err(fault),
        };
        Ok(())
    }

    /// Carries a step out as the agent does, proof of a DELETE included.
    pub(super) async fn carry_out(
        &mut self,
        step: &CloudStep,
        identity: &Identity,
        object: Option<&Exposed>,
        exposures: &Exposures,
    ) -> Result<Carried> {
        let balancers = match self.client(identity)? {
            Ok(balancers) => balancers,
            Err(fault) => return Ok(Carried::failed(step, fault)),
        };
        if let (CloudStep::Delete(identity), Some(object)) = (step, object)
            && let Err(fault) = prove(identity, object, Some(exposures), balancers.as_ref()).await
        {
            return Ok(Carried::failed(step, steady(fault)));
        }
        Ok(match carry_out(step, balancers.as_ref()).await {
            Carried::Read(result) => Carried::Read(result.map_err(steady)),
            Carried::Written { result, sent } => Carried::Written { result: result.map_err(steady), sent },
            Carried::Deleted(result) => Carried::Deleted(result.map_err(steady)),
        })
    }

    fn client(&mut self, identity: &Identity) -> Result<Result<Arc<Rest>, Fault>> {
        let tokens = match &self.tokens {
            Ok(tokens) => tokens.clone(),
            Err(fault) => return Ok(Err(fault.clone())),
        };
        let hangs = self.emulator.faults().iter().any(|fault| matches!(fault.action, Action::Hang { .. }));
        let limit = if hangs { IMPATIENCE } else { PATIENCE };
        let key = (identity.project_id.clone(), identity.region.clone(), limit);
        if let Some(client) = self.clients.get(&key) {
            return Ok(Ok(Arc::clone(client)));
        }
        let endpoint = self.emulator.url();
        let place = Place { endpoint, project_id: &identity.project_id, region: &identity.region };
        let client = Arc::new(Rest::new(place, limit, None, tokens, Arc::new(()))?);
        self.clients.insert(key, Arc::clone(&client));
        Ok(Ok(client))
    }

    /// Somebody else makes a balancer; `patch` is laid over it.
    pub(super) async fn make(&mut self, identity: &Identity, step: &CloudStep, patch: &Value) -> Result<()> {
        let client = self.client(identity)?.map_err(|fault| anyhow::anyhow!(fault.message))?;
        let CloudStep::Create(wish) = step else { return Ok(()) };
        client.create(wish).await.map_err(|fault| anyhow::anyhow!(fault.message))?;
        self.settle();
        self.made.insert(wish.name.clone());
        self.edit(&wish.name, patch);
        self.settle();
        Ok(())
    }

    /// Another client writes. False if there is no such balancer.
    pub(super) fn edit(&self, name: &str, patch: &Value) -> bool {
        self.emulator.edit(name, |balancer| merge(balancer, patch))
    }

    /// Lays `patch` over the emulator's switches.
    pub(super) fn switch(&self, patch: &Value) -> Result<()> {
        let mut switches = serde_json::to_value(self.emulator.switches())?;
        merge(&mut switches, patch);
        let switches = serde_json::from_value(switches).context("no such switch")?;
        self.emulator.set_switches(|all| *all = switches);
        self.emulator.advance(Duration::ZERO);
        Ok(())
    }

    /// What is due is done; gives back when something is due next.
    pub(super) fn provision(&mut self, now: Moment) -> Option<Moment> {
        let mut under_way = BTreeMap::new();
        for balancer in self.emulator.balancers() {
            let text = |field: &str| balancer[field].as_str().unwrap_or_default().to_owned();
            let (name, version) = (text("name"), text("version"));
            let takes = match text("status").as_str() {
                "STATUS_TERMINATING" => self.delete,
                "STATUS_PENDING" if self.made.contains(&name) => self.update,
                "STATUS_PENDING" => self.create,
                _ => {
                    self.made.insert(name);
                    continue;
                }
            };
            let due = self.due.get(&version).copied().unwrap_or(now + takes);
            under_way.insert(version, due);
        }
        self.due = under_way;
        if self.stuck {
            return None;
        }
        if self.due.values().any(|due| *due <= now) {
            self.settle();
            return self.provision(now);
        }
        self.due.values().min().copied()
    }

    /// Everything under way is done at once.
    fn settle(&self) {
        let hold = |hold: bool| {
            self.emulator.set_switches(|switches| {
                switches.hold_pending = hold;
                switches.hold_terminating = hold;
            });
        };
        hold(false);
        self.emulator.advance(Duration::ZERO);
        hold(true);
    }
}

fn missing() -> Fault {
    let message = "not read yet".to_owned();
    Fault { kind: FaultKind::CredentialsMissing, http_status: None, message, retry_after: None, outcome_unknown: false }
}

/// How a connection breaks is the kernel's mood and has many words; a story has one.
fn steady(mut fault: Fault) -> Fault {
    if fault.kind == FaultKind::Unreachable
        && let Some((doing, _)) = fault.message.split_once(": ")
    {
        fault.message = format!("{doing}: the connection broke");
    }
    fault
}
