//! What every worker looks at, and what it is there for.

use std::sync::Arc;

use decide::settings::Settings;
use tokio::sync::watch;

use super::Witness;
use crate::admin::Metrics;
use crate::cluster::events::Announcer;
use crate::cluster::watch::Watched;
use crate::run::board::Board;
use crate::run::clouds::Clouds;
use crate::run::leader::Leadership;
use crate::run::probing::Probing;
use crate::run::settings::Live;
use crate::run::sources::Sources;
use crate::run::strains::Strains;

/// What every worker looks at; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The settings as they are read again.
    pub live: Live,
    /// The settings at the beginning of a turn.
    pub settings: Arc<Settings>,
    /// Nodes, exposures and facts.
    pub sources: Sources,
    /// What nodes are judged by beside their objects.
    pub probing: Probing,
    /// Where this agent runs.
    pub place: Place,
    /// Until when this agent leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Where it is told how fit this agent is to lead.
    pub strains: Strains,
    /// The way to STACKIT.
    pub clouds: Arc<Clouds>,
    /// The numbers.
    pub metrics: Metrics,
    /// Where events are handed in.
    pub announcer: Announcer,
    /// What the workers are there for.
    pub errand: Errand,
    /// Who is told what comes of each turn.
    pub witness: Witness,
    /// Where everybody sees what came of the last.
    pub board: Board,
}

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Keeps the balancer as it should be.
    Keep,
    /// Has it made once. The object is made even while somebody else leads: who works on it is the leader's business.
    Make,
    /// Has it removed, where there is no object that could ask for it.
    Remove,
    /// Says what would be done, and writes nothing anywhere.
    Look,
}

impl Context {
    /// Whether the nodes and everything that a balancer is made of were looked at, with or without success.
    pub(super) fn is_informed(&self) -> bool {
        fn looked<V>(watched: &watch::Receiver<Watched<V>>) -> bool {
            let watched = watched.borrow();
            watched.listed || watched.problem.is_some()
        }
        let cluster = || looked(&self.sources.clusters) && looked(&self.sources.infrastructures);
        let facts = || self.sources.exposures.is_none() || cluster();
        looked(&self.sources.nodes) && facts() && self.clouds.have_looked()
    }
}

/// Where this agent runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its node.
    pub own_node: String,
    /// Others would take over.
    pub election: bool,
}
