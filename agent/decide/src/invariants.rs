//! What every write must hold, whatever led to it. Checked right before a plan is carried out; a plan that breaks
//! one is refused and reported, because it can only come from a defect of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::desired::LoadBalancer;
use crate::plan::{Plan, Step};

/// Targets per pool that the API takes.
const MOST_TARGETS: usize = 250;

/// The invariants that a plan breaks, each in words.
///
/// `known` are the addresses of control-plane nodes and of endpoints that are on record: a target comes from there
/// or is in the pool already.
pub fn broken(plan: &Plan, known: &BTreeSet<IpAddr>) -> Vec<String> {
    match &plan.step {
        Step::Nothing | Step::AwaitGone | Step::Gone | Step::Delete(_) => Vec::new(),
        Step::Create(wish) => pool(wish, known),
        Step::Update(update) => {
            let read = &update.base.balancer;
            let known: BTreeSet<IpAddr> = known.iter().copied().chain(read.targets().iter().map(|t| t.ip)).collect();
            let mut broken = pool(&update.wish, &known);
            let rules = [
                (!update.base.version.is_empty(), "an update carries the version it was computed from"),
                (update.wish.name == read.name, "the name never changes"),
                (update.wish.network_id == read.network_id, "the network never changes"),
                (update.wish.address == read.address, "the addressing mode never changes"),
                (
                    read.labels.iter().all(|(key, value)| match update.wish.labels.get(key) {
                        Some(wanted) => wanted == value,
                        None => false,
                    }),
                    "labels that are there stay as they are",
                ),
            ];
            broken.extend(rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule.to_owned()));
            broken
        }
    }
}

fn pool(wish: &LoadBalancer, known: &BTreeSet<IpAddr>) -> Vec<String> {
    let targets = wish.targets();
    let addresses: BTreeSet<IpAddr> = targets.iter().map(|target| target.ip).collect();
    let mut broken = Vec::new();
    if targets.is_empty() {
        broken.push("the pool is never empty".to_owned());
    }
    if targets.len() > MOST_TARGETS {
        broken.push(format!("the pool has at most {MOST_TARGETS} targets"));
    }
    if addresses.len() != targets.len() {
        broken.push("each address is in the pool once".to_owned());
    }
    for stranger in addresses.difference(known) {
        broken.push(format!("every target is a known node, and {stranger} is none"));
    }
    broken
}
