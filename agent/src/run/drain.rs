//! The verbs `drain` and `undrain`: a mark on the Node, set or removed. The agents do the rest.
//!
//! Waiting for it needs no credential of the cloud: what the leader last saw of the balancer is in
//! `status.providerStatus`, and without Kubernetes the running agent tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use decide::drain::{Question, awaited, permitted};
use decide::endpoints::LastGood;
use decide::exposure::{ExposureView, is_ours};
use decide::health::{DRAIN, DRAIN_BOOT, DRAIN_UNTIL, DRAINED_AT, Judge, NodeView, verdict};
use decide::names;
use decide::settings::{Settings, duration};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use serde_json::Value;
use tokio::time::Instant;

use super::marks::Marks;
use super::{TimedOut, Unusable, ask};
use crate::cluster::client;
use crate::cluster::exposures::Exposures;
use crate::cluster::lease;
use crate::cluster::patiently;
use crate::host::clock;

/// Time for connections to leave after the balancer says that it is done.
const SETTLES: Duration = Duration::from_secs(2);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Verdicts of a running agent that say that an API server does not serve.
const ILL: [&str; 6] = ["refused", "shutdown", "red", "etcd_cut", "silent", "denied"];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The node.
    pub node: String,
    /// Return when the balancer sends nobody there any more.
    pub wait: bool,
    /// For how long at most.
    pub timeout: Duration,
    /// The drain ends by itself after this.
    pub lasts: Option<Duration>,
}

/// What a verb works with.
struct Scene {
    marks: Marks,
    nodes: BTreeMap<String, NodeView>,
    cluster: Option<Cluster>,
}

struct Cluster {
    exposures: Exposures,
    leases: Api<Lease>,
}

/// Marks the node, waits where that is asked for, and says what came of it. `tell` hears what is waited for.
pub async fn drain(settings: &Settings, wish: &Wish, tell: impl Fn(&str)) -> anyhow::Result<String> {
    let ineffective = [
        (!settings.health.maintenance, "health.maintenance is false, so marks of maintenance are not looked at"),
        (!settings.controllers.endpoints, "controllers.endpoints is false, so the agents do not decide the targets"),
    ];
    if let Some((_, why)) = ineffective.iter().find(|(holds, _)| *holds) {
        bail!(Unusable(format!("{why}: a drain would have no effect")));
    }
    let scene = Scene::find(settings, &wish.node).await?;
    scene.may_leave(settings, &wish.node).await?;
    let now = Timestamp::now();
    let after =
        |lasts: Duration| i64::try_from(lasts.as_secs()).ok().and_then(|lasts| now.as_second().checked_add(lasts));
    let until = wish.lasts.and_then(after).map(text);
    let changes =
        [(DRAIN, Some("true".to_owned())), (DRAIN_UNTIL, until.clone()), (DRAINED_AT, Some(text(now.as_second())))];
    scene.marks.annotate(&wish.node, &changes).await?;
    let node = &wish.node;
    let until = until.map_or_else(|| format!("until `undrain {node}`"), |until| format!("until {until}"));
    if !wish.wait {
        return Ok(format!("`{node}` is drained {until}; its target leaves now\n"));
    }
    scene.settled(settings, wish, tell).await?;
    Ok(format!("`{node}` is drained {until}; no load balancer sends anybody there any more\n"))
}

/// Takes every mark of a drain off the node, and says so.
pub async fn undrain(settings: &Settings, node: &str) -> anyhow::Result<String> {
    let scene = Scene::find(settings, node).await?;
    let view = &scene.nodes[node];
    let marks = [DRAIN, DRAIN_UNTIL, DRAINED_AT, DRAIN_BOOT];
    let there: Vec<&str> = marks.into_iter().filter(|mark| view.annotations.contains_key(*mark)).collect();
    let said = if there.is_empty() {
        format!("`{node}` is not drained")
    } else {
        let changes: Vec<(&str, Option<String>)> = there.iter().map(|mark| (*mark, None)).collect();
        scene.marks.annotate(node, &changes).await?;
        format!("`{node}` is not drained any more")
    };
    let mut without = view.clone();
    without.annotations.retain(|key, _| !marks.contains(&key.as_str()));
    without.drain_until = None;
    let judge = Judge { health: &settings.health, own_node: "", wall: clock::wall() };
    let class = verdict(&without, None, judge).class;
    let rest = if class == decide::health::Class::Healthy { String::new() } else { format!("; it stays out: {class}") };
    Ok(format!("{said}{rest}\n"))
}

impl Scene {
    async fn find(settings: &Settings, node: &str) -> anyhow::Result<Self> {
        let access = client::find(settings).await.context("looking for a way to Kubernetes")?;
        let Some(marks) = Marks::find(settings, access.as_ref())? else {
            bail!(Unusable(
                "there is no kubeconfig (--kubeconfig, setting `kubeconfig`, $KUBECONFIG, \
                 /etc/shoot-exposure-agent/kubeconfig), and the mark is set on the Node; name one, or set nodes.source \
                 to File where there is no Kubernetes"
                    .to_owned()
            ));
        };
        let nodes = marks.nodes(&settings.nodes.selector).await?;
        if !nodes.contains_key(node) {
            let there: Vec<&str> = nodes.keys().map(String::as_str).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            bail!(
                "there is no control-plane node `{node}`; there are: {there} (nodes.selector {})",
                settings.nodes.selector
            );
        }
        let cluster = access.map(|access| -> anyhow::Result<Cluster> {
            let client = access.client()?;
            let exposures = Exposures::new(Api::namespaced(client.clone(), &settings.exposure.namespace));
            let leases = Api::namespaced(client, &settings.leader_election.lease_namespace);
            Ok(Cluster { exposures, leases })
        });
        Ok(Self { marks, nodes, cluster: cluster.transpose()? })
    }

    /// Refuses what would leave nothing.
    async fn may_leave(&self, settings: &Settings, node: &str) -> anyhow::Result<()> {
        let agent = ask::state(settings).await.ok();
        let ill = agent.as_ref().map(ill).unwrap_or_default();
        let pools: Vec<LastGood> = match &self.cluster {
            Some(cluster) => cluster.views(settings).await?.iter().map(pool).collect(),
            None => agent.iter().flat_map(balancers).map(|balancer| told(balancer).0).collect(),
        };
        // Before there is a balancer, the nodes say what it will have.
        let pools = if pools.is_empty() { vec![LastGood::default()] } else { pools };
        for last_good in &pools {
            let (nodes, health, wall) = (&self.nodes, &settings.health, clock::wall());
            permitted(&Question { node, nodes, last_good, ill: &ill, health, wall }).map_err(|refusal| {
                anyhow!("{refusal}; nothing was changed: put another back first (`undrain`), or wait until it serves")
            })?;
        }
        Ok(())
    }

    /// Returns when no balancer sends anybody to the node any more.
    async fn settled(&self, settings: &Settings, wish: &Wish, tell: impl Fn(&str)) -> anyhow::Result<()> {
        let deadline = Instant::now() + wish.timeout;
        let mut said = String::new();
        let mut since = None;
        loop {
            let waits = match self.awaited(settings, &wish.node).await {
                Ok(None) => {
                    let since = *since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= SETTLES {
                        return Ok(());
                    }
                    format!("{} after the balancer is done", duration::print(SETTLES))
                }
                Ok(Some(what)) => {
                    since = None;
                    what
                }
                Err(problem) => {
                    since = None;
                    format!("an answer: {problem:#}")
                }
            };
            if waits != said {
                tell(&format!("waiting for {waits}"));
                said = waits;
            }
            if Instant::now() >= deadline {
                let (node, timeout) = (&wish.node, duration::print(wish.timeout));
                let hint = self.hint(settings).await;
                bail!(TimedOut(format!(
                    "`{node}` is marked and stays so, but after {timeout} this is still waited for: {said}{hint}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is still waited for.
    async fn awaited(&self, settings: &Settings, node: &str) -> anyhow::Result<Option<String>> {
        if let Some(cluster) = &self.cluster {
            return Ok(cluster.views(settings).await?.iter().find_map(|view| awaited(view, node)));
        }
        let state = ask::state(settings).await.map_err(|problem| anyhow!("{problem}"))?;
        let target = names::target(node);
        let waits = |balancer: &Value| {
            let (pool, settled) = told(balancer);
            let name = balancer["name"].as_str().unwrap_or_default();
            if let Some(found) = pool.members.iter().find(|member| member.node_name == target) {
                return Some(format!("target {target} ({}) to leave load balancer `{name}`", found.ip));
            }
            let version = balancer["version"].as_str().unwrap_or_default();
            (!settled).then(|| format!("load balancer `{name}` to be ready with version {version}"))
        };
        let waits = balancers(&state).find_map(waits);
        Ok(waits.or_else(|| balancers(&state).next().is_none().then(|| "the agent to read the balancer".to_owned())))
    }

    /// What may be the reason that nothing happens.
    async fn hint(&self, settings: &Settings) -> String {
        let Some(cluster) = &self.cluster else { return String::new() };
        let paused = cluster.views(settings).await.unwrap_or_default().into_iter().find(|view| view.paused);
        if let Some(view) = paused {
            return format!("; exposure `{}` is paused (`resume` ends it)", view.name);
        }
        match cluster.leases.get_opt(&settings.leader_election.lease_name).await {
            Ok(found) => {
                match found.as_ref().map(|found| lease::record(found).holder).filter(|holder| !holder.is_empty()) {
                    Some(holder) => format!("; the leader is {holder}"),
                    None => "; no agent leads".to_owned(),
                }
            }
            Err(_) => String::new(),
        }
    }
}

impl Cluster {
    /// The exposures that are ours.
    async fn views(&self, settings: &Settings) -> anyhow::Result<Vec<ExposureView>> {
        let namespace = &settings.exposure.namespace;
        let all = patiently(|| self.exposures.list()).await;
        let all = all.map_err(|failure| anyhow!("listing SelfHostedShootExposures in `{namespace}`: {failure}"))?;
        let ours = |view: &ExposureView| is_ours(view, settings) && !view.deleting;
        Ok(all.into_iter().map(|exposed| exposed.view).filter(ours).collect())
    }
}

/// The targets that an exposure has on record, else those it asks for.
fn pool(view: &ExposureView) -> LastGood {
    let (known, _) = view.usable_endpoints();
    match view.status.record.as_ref().filter(|record| !record.targets.is_empty()) {
        Some(record) => {
            LastGood::from_targets(record.targets.iter().map(|target| (target.name.clone(), target.ip)), &known)
        }
        None => LastGood { members: known },
    }
}

/// Nodes that a running agent knows not to serve.
fn ill(state: &Value) -> BTreeSet<String> {
    let nodes = state["nodes"].as_array().into_iter().flatten();
    let ill = nodes.filter(|node| node["verdict"].as_str().is_some_and(|word| ILL.contains(&word)));
    ill.filter_map(|node| node["name"].as_str()).map(str::to_owned).collect()
}

/// The balancers that a running agent has read.
fn balancers(state: &Value) -> impl Iterator<Item = &Value> {
    state["exposures"].as_array().into_iter().flatten().map(|exposure| &exposure["observed"]).filter(|o| o.is_object())
}

/// The targets of such a balancer, and whether it carries them out.
fn told(balancer: &Value) -> (LastGood, bool) {
    let targets = balancer["targets"].as_array().into_iter().flatten();
    let targets = targets
        .filter_map(|target| Some((target["displayName"].as_str()?.to_owned(), target["ip"].as_str()?.parse().ok()?)));
    (LastGood::from_targets(targets, &[]), balancer["settled"].as_bool().unwrap_or_default())
}

/// RFC 3339 in seconds.
fn text(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}
