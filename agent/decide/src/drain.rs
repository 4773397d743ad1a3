//! A drain as an operator sees it: whether it may be asked for, and what it still waits for.
//!
//! Deliberately not here: taking the target out. The agents do that by the mark on the Node ([`crate::health`]), and
//! their rules hold whatever an operator was told here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::Moment;
use crate::endpoints::{LastGood, Outlook, Pool, Round, choose};
use crate::exposure::ExposureView;
use crate::health::{Class, DRAIN, DRAIN_UNTIL, Judge, NodeView, Verdict, verdict};
use crate::names;
use crate::settings::Health;

/// What is known when a drain is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The node that is to leave.
    pub node: &'a str,
    /// The control-plane Nodes by name.
    pub nodes: &'a BTreeMap<String, NodeView>,
    /// The targets.
    pub last_good: &'a LastGood,
    /// Nodes whose API servers a running agent knows not to serve.
    pub ill: &'a BTreeSet<String>,
    /// The settings.
    pub health: &'a Health,
    /// Seconds since 1970.
    pub wall: i64,
}

/// Nothing would be left; every other node with what keeps it from being enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The node that was to leave.
    pub node: String,
    /// The others, in words.
    pub others: Vec<(String, String)>,
}

/// Whether a target would stay that nothing speaks against. Where none would, the agents would not take the node out
/// either, so that whoever goes on to stop it would take down the last one.
pub fn permitted(question: &Question<'_>) -> Result<(), Refusal> {
    let judge = Judge { health: question.health, own_node: "", wall: question.wall };
    let judged = |node: &NodeView| {
        if node.name != question.node {
            return verdict(node, None, judge);
        }
        let mut marked = NodeView { drain_until: None, ..node.clone() };
        marked.annotations.remove(DRAIN_UNTIL);
        marked.annotations.insert(DRAIN.to_owned(), "true".to_owned());
        verdict(&marked, None, judge)
    };
    let verdicts: Vec<Verdict> = question.nodes.values().map(judged).collect();
    let choice = choose(&Round {
        verdicts: &verdicts,
        last_good: question.last_good,
        pool: &Pool::default(),
        now: Moment::default(),
        health: question.health,
        outlook: Outlook::default(),
    });
    let own_target = names::target(question.node);
    let is_own = |name: &str| name == question.node || name == own_target;
    let leaves = !choice.endpoints.iter().any(|endpoint| is_own(&endpoint.node_name));
    let serves = |name: &str| {
        let found = verdicts.iter().find(|verdict| verdict.node == name || names::target(&verdict.node) == name);
        found.is_some_and(|verdict| verdict.class == Class::Healthy && !question.ill.contains(&verdict.node))
    };
    if leaves && choice.endpoints.iter().any(|endpoint| serves(&endpoint.node_name)) {
        return Ok(());
    }
    let why = |verdict: &Verdict| {
        let ill = question.ill.contains(&verdict.node) && verdict.class == Class::Healthy;
        let words = if ill { "its API server does not serve".to_owned() } else { verdict.class.to_string() };
        (verdict.node.clone(), words)
    };
    let others = verdicts.iter().filter(|verdict| verdict.node != question.node).map(why).collect();
    Err(Refusal { node: question.node.to_owned(), others })
}

/// What a drain of this node still waits for at this exposure; `None`: its target is gone, and the balancer carries
/// out the version that says so.
pub fn awaited(view: &ExposureView, node: &str) -> Option<String> {
    let Some(record) = &view.status.record else {
        // Somebody else makes the balancer: what it has worked on is all that is known.
        if view.endpoints.iter().any(|endpoint| endpoint.node_name == node) {
            return Some(format!("`{node}` to leave spec.endpoints of exposure `{}`", view.name));
        }
        let succeeded = view.status.operation.as_ref().is_some_and(|last| last.state == "Succeeded");
        let seen = view.status.observed_generation == view.generation;
        return (!(succeeded && seen)).then(|| format!("exposure `{}` to be reconciled with its endpoints", view.name));
    };
    let (balancer, version) = (&record.identity.name, &record.version);
    let target = names::target(node);
    if let Some(found) = record.targets.iter().find(|found| found.name == target) {
        return Some(format!("target {} ({}) to leave load balancer `{balancer}`", found.name, found.ip));
    }
    (!record.settled).then(|| format!("load balancer `{balancer}` to be ready with version {version}"))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "without `{}` no target would be left", self.node)?;
        for (index, (node, why)) in self.others.iter().enumerate() {
            write!(f, "{} {node}: {why}", if index == 0 { ";" } else { "," })?;
        }
        if self.others.is_empty() { f.write_str("; it is the only control-plane node") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
