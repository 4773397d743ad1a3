//! The leader keeps the external DNS records at the exposures' ingress.
//!
//! Level-triggered like everything else: after every change of an exposure, a record, the Cluster or leadership each
//! record is decided on anew. A write that fails is tried again with pauses; what cannot be done is said once.

use std::collections::BTreeMap;
use std::time::Duration;

use decide::dns::{self, Record, Step};
use decide::exposure::is_ours;
use decide::reason::Reason;
use decide::retry::Pause;
use kube::Api;
use kube::api::DynamicObject;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::worker::Context;
use crate::admin::metrics::{Controller, PassResult};
use crate::cluster::client::Access;
use crate::cluster::events::Regarding;
use crate::cluster::exposures::Exposed;
use crate::cluster::facts::{CLUSTER, kind};
use crate::cluster::watch::{Watched, follow};
use crate::host::clock;

/// Time for the watch to bring back what was written.
const ECHO: Duration = Duration::from_millis(400);
/// A task that nothing happens to looks up this often.
const LOOK_UP: Duration = Duration::from_secs(30);

/// The task that owns the records.
struct Owner {
    context: Context,
    api: Api<DynamicObject>,
    records: watch::Receiver<Watched<Record>>,
    /// What was said last of each exposure.
    said: BTreeMap<String, String>,
    pause: Pause,
}

/// Starts to follow the records and to keep them, where the settings ask for it.
pub fn start(context: &Context, access: Option<&Access>, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let (true, Some(access)) = (context.settings.controllers.dns, access) else { return Ok(()) };
    let namespace = &context.settings.exposure.namespace;
    let api: Api<DynamicObject> = Api::namespaced_with(access.client()?, namespace, &kind("DNSRecord"));
    let (out, records) = watch::channel(Watched::default());
    tasks.spawn(follow("DNSRecords", api.clone(), None, crate::cluster::dns::view, out));
    let context = context.clone();
    let owner = Owner { context, api, records, said: BTreeMap::new(), pause: Pause::default() };
    tasks.spawn(owner.run());
    Ok(())
}

impl Owner {
    async fn run(mut self) {
        let mut sources = self.context.sources.clone();
        let mut leadership = self.context.leadership.clone();
        loop {
            self.turn().await;
            let now = clock::now();
            let wake = self.pause.wake(now, now + LOOK_UP);
            tokio::select! {
                () = sources.changed() => {}
                Ok(()) = leadership.changed() => {}
                Ok(()) = self.records.changed() => {}
                () = clock::sleep_until(wake) => {}
            }
        }
    }

    /// One look at every exposure of ours.
    async fn turn(&mut self) {
        let now = clock::now();
        let leads = self.context.leadership.borrow().is_some_and(|until| now < until);
        let records = self.records.borrow_and_update().clone();
        if !leads || !records.listed || now < self.pause.not_before {
            return;
        }
        let cluster = self.context.sources.clusters.borrow().items.get(CLUSTER).cloned();
        for exposed in self.exposures() {
            let name = dns::name(&exposed.view.name);
            let step = match &cluster {
                Some(cluster) => dns::step(&name, &exposed.ingress, &cluster.ip_families, records.items.get(&name)),
                // Without the shoot's families a guess could publish the wrong one.
                None => Step::Waiting(format!("Cluster `{CLUSTER}`, which knows the address families, is not there")),
            };
            self.carry_out(&exposed, &name, step).await;
        }
    }

    /// Those whose record is to follow: a deleted one's is Gardener's again, a paused one's is nobody's.
    fn exposures(&self) -> Vec<Exposed> {
        let Some((_, exposures)) = &self.context.sources.exposures else { return Vec::new() };
        let exposures = exposures.borrow();
        let wanted = |exposed: &&Exposed| {
            let view = &exposed.view;
            let left_alone = view.deleting || view.paused || view.waits_for_state() || view.is_migrated();
            is_ours(view, &self.context.settings) && !left_alone
        };
        exposures.items.values().filter(wanted).cloned().collect()
    }

    async fn carry_out(&mut self, exposed: &Exposed, name: &str, step: Step) {
        let metrics = self.context.metrics.clone();
        let started = clock::now();
        let ended = |result| metrics.reconciled(Controller::Dns, result, clock::now().since(started));
        match step {
            Step::Nothing => drop(self.said.remove(&exposed.view.name)),
            Step::Waiting(what) => {
                if self.is_news(exposed, &what) {
                    info!(exposure = exposed.view.name, "the DNS record waits: {what}");
                    ended(PassResult::Waiting);
                }
            }
            Step::Unfit(what) => self.cannot(exposed, Reason::ConfigurationInvalid, &what),
            Step::Immutable { found, wanted } => {
                let what = format!(
                    "DNSRecord `{name}` is of type {found}, the ingress needs {} {}, and the type never changes; \
                     have Gardener make the record anew",
                    wanted.kind,
                    wanted.values.join(", ")
                );
                self.cannot(exposed, Reason::DnsRecordImmutable, &what);
            }
            Step::Write(record) => match crate::cluster::dns::write(&self.api, name, &record).await {
                Ok(_) => {
                    info!(exposure = exposed.view.name, record = name, values = ?record.values, "wrote the DNS record");
                    // The watch brings it back; until then the same would be written again.
                    self.pause = Pause { failures: 0, not_before: clock::now() + ECHO };
                    self.said.remove(&exposed.view.name);
                    ended(PassResult::Success);
                }
                Err(failure) => {
                    self.pause.failed(clock::now());
                    let what = format!("writing DNSRecord `{name}`: {failure}");
                    if self.is_news(exposed, &what) {
                        warn!(exposure = exposed.view.name, "{what}; trying again");
                    }
                    ended(PassResult::Error);
                }
            },
        }
    }

    /// Somebody has to do something: said once, and not tried without end.
    fn cannot(&mut self, exposed: &Exposed, reason: Reason, what: &str) {
        if !self.is_news(exposed, what) {
            return;
        }
        warn!(exposure = exposed.view.name, reason = reason.word(), "{what}");
        let regarding = Regarding {
            namespace: self.context.settings.exposure.namespace.clone(),
            name: exposed.view.name.clone(),
            uid: exposed.view.uid.clone(),
        };
        self.context.announcer.announce(&regarding, reason, "Publish", what);
        self.context.metrics.reconciled(Controller::Dns, PassResult::Error, Duration::ZERO);
    }

    fn is_news(&mut self, exposed: &Exposed, what: &str) -> bool {
        self.said.insert(exposed.view.name.clone(), what.to_owned()).as_deref() != Some(what)
    }
}
