//! This agent's own node leaves before a planned shutdown, by a mark that is void after the reboot.
//!
//! Told to stop while the machine is on its way down, the agent writes the boot ID of its Node onto it
//! (`exposure.gardener.cloud/drain-boot`), goes on until the balancer sends nobody there any more, and stops then. Such
//! a mark holds for that boot alone, and the agent takes it away when it starts: a userspace that is restarted keeps the
//! boot ID. Where nobody can say whether the machine stops, as in a pod, nothing is marked.
//!
//! Deliberately not here: an operator's drain, which outlives a reboot and is nobody's but the operator's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use decide::drain::{Question, awaited, permitted};
use decide::endpoints::LastGood;
use decide::exposure::is_ours;
use decide::health::{DRAIN_BOOT, NodeView};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::board::Board;
use super::marks::Marks;
use super::settings::Live;
use super::sources::Sources;
use super::worker::Context;
use crate::cluster::client::Access;
use crate::cluster::watch::Watched;
use crate::host::{clock, stopping};

/// systemd's word for a machine on its way down.
const STOPPING: &str = "stopping";
/// Time for the target to leave. With the rest of the way down it fits well into systemd's 90 s.
const LEAVES: Duration = Duration::from_secs(20);
/// Time for connections to leave after that.
const SETTLES: Duration = Duration::from_secs(2);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Pause before a mark that could not be taken away is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// What the own node leaves with.
#[derive(Clone)]
pub struct Leaving {
    /// The own node's name.
    pub own_node: String,
    /// The settings.
    pub live: Live,
    /// Nodes and exposures.
    pub sources: Sources,
    /// Where marks are written; `None`: nowhere.
    pub marks: Option<Marks>,
    /// What the workers have last seen, where there is no Kubernetes.
    pub board: Board,
}

impl Leaving {
    /// With what the workers work with.
    pub fn new(context: &Context, access: Option<&Access>) -> anyhow::Result<Self> {
        let Context { live, sources, place, board, .. } = context.clone();
        let marks = Marks::find(&context.settings, access)?;
        Ok(Self { own_node: place.own_node, live, sources, marks, board })
    }

    /// Takes a mark of an earlier shutdown away, whenever one shows up, without end.
    pub async fn tidy(self) {
        let mut nodes = self.sources.nodes.clone();
        let mut said = String::new();
        loop {
            let marked = own(&nodes.borrow_and_update(), &self.own_node)
                .is_some_and(|node| node.annotations.contains_key(DRAIN_BOOT));
            let mut again = None;
            if let (true, Some(marks)) = (marked, &self.marks) {
                match marks.annotate(&self.own_node, &[(DRAIN_BOOT, None)]).await {
                    Ok(()) => info!(node = self.own_node, "the machine is up again: its mark of a shutdown is gone"),
                    Err(error) => {
                        let problem = format!("{error:#}");
                        if said != problem {
                            warn!(
                                problem,
                                "cannot take the mark of a shutdown away; a reboot makes it void all the same"
                            );
                            said = problem;
                        }
                        again = Some(AGAIN);
                    }
                }
            }
            let changed = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None if nodes.changed().await.is_ok() => {}
                    None => std::future::pending().await,
                }
            };
            changed.await;
        }
    }

    /// Told to stop: where the machine stops as well, leaves the balancer first, for a bounded time.
    pub async fn leave(&self) {
        let state = stopping::system_state().await;
        if state.as_deref() != Some(STOPPING) {
            debug!(state, "the machine goes on, as far as can be seen from here: nothing is marked");
            return;
        }
        if let Err(why) = self.mark().await {
            info!(node = self.own_node, "the machine stops, and its node is not marked: {why}");
            return;
        }
        info!(node = self.own_node, "the machine stops: its target leaves first");
        match tokio::time::timeout(LEAVES, self.gone()).await {
            Ok(()) => info!(node = self.own_node, "no load balancer sends anybody here any more"),
            Err(_) => {
                warn!(
                    node = self.own_node,
                    "still waiting after {LEAVES:?} for {}",
                    self.awaited().unwrap_or_default()
                );
            }
        }
    }

    /// Marks the own node, or says why not.
    async fn mark(&self) -> Result<(), String> {
        let settings = Arc::clone(&self.live.borrow());
        if !settings.health.maintenance || !settings.controllers.endpoints {
            return Err("by its settings the agents do not take marked nodes out".to_owned());
        }
        let Some(marks) = &self.marks else { return Err("there is nothing to mark it in".to_owned()) };
        let nodes = self.sources.nodes.borrow().items.clone();
        let Some(node) = nodes.get(&self.own_node) else {
            return Err(format!("there is no control-plane node `{}`", self.own_node));
        };
        if node.boot_id.is_empty() {
            return Err("it has no status.nodeInfo.bootID, so the mark could not end by itself".to_owned());
        }
        let (last_good, ill) = (LastGood::default(), BTreeSet::new());
        let (health, wall) = (&settings.health, clock::wall());
        permitted(&Question { node: &node.name, nodes: &nodes, last_good: &last_good, ill: &ill, health, wall })
            .map_err(|refusal| refusal.to_string())?;
        marks
            .annotate(&node.name, &[(DRAIN_BOOT, Some(node.boot_id.clone()))])
            .await
            .map_err(|error| format!("{error:#}"))
    }

    /// Returns a moment after nobody is sent here any more.
    async fn gone(&self) {
        while self.awaited().is_some() {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(SETTLES).await;
    }

    /// What is still waited for.
    fn awaited(&self) -> Option<String> {
        let Some((_, exposures)) = &self.sources.exposures else { return self.board.awaited(&self.own_node) };
        let settings = self.live.borrow();
        let exposures = exposures.borrow();
        let ours = exposures.items.values().map(|exposed| &exposed.view);
        ours.filter(|view| is_ours(view, &settings) && !view.deleting).find_map(|view| awaited(view, &self.own_node))
    }
}

fn own<'a>(nodes: &'a watch::Ref<'_, Watched<NodeView>>, name: &str) -> Option<&'a NodeView> {
    nodes.items.get(name)
}
