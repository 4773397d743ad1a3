//! Which nodes are endpoints: the rules over all verdicts.
//!
//! Doubt ends in "keep". Members stay until evidence, others enter on evidence; where the evidence would leave
//! nothing that serves, the last good set stands in, and the choice says that it is frozen and why. Order never
//! matters: endpoints are sorted by node name.
//!
//! | rule | where |
//! |---|---|
//! | 1 nothing leaves unless a target that stays has answered green since the evidence began | [`removal`] |
//! | 2 witnesses against etcd-cut and silent | [`removal`] |
//! | 3 green nodes that are only marked come back before nothing is left | [`choose`] |
//! | 4 nothing green: the last good set that exists, else what is not drained, else the pool as it is | [`choose`] |
//! | 5 removals that leave less than a majority: 3 s old, 5 s apart; never the last | [`removal`] |
//! | 6 out for silence: back while the kubelet is alive | [`crate::probe::Evidence::mute_silence`] |
//! | 7 stale Nodes freeze conditions, marks and absence, never probes | [`removal`] |
//! | 8 evidence belongs to a UID and an address; a new address replaces the old one | [`choose`] |
//! | 9 a prober that overslept throws its silence away | [`crate::probe::Evidence::overslept`] |
//! | 10 without an election never silence | [`removal`] |
//!
//! Deliberately not here: time that passes. What a later moment changes is named as [`Choice::wake`].

mod frozen;
mod pool;
mod quorum;
mod removal;
mod sight;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::Moment;
use crate::health::{Class, Mark, NodeAddress, Verdict};
use crate::names;
use crate::probe::ProbeClass;
use crate::settings::{Health, ReAddDelay};

pub use frozen::Frozen;
pub use pool::Pool;
pub use quorum::{Quorum, Quorums};
pub use removal::{Cause, Leaving};
pub use sight::Sight;

/// A node that clients are sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The node's name; a target's display name where no Node of that name exists any more.
    pub node_name: String,
    /// The address of the target.
    pub ip: IpAddr,
    /// All addresses of the node as `spec.endpoints` lists them.
    pub addresses: Vec<NodeAddress>,
}

/// The set that served last: the balancer as read, or, before it was read, `spec.endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastGood {
    /// Endpoints by node name or by target name.
    pub members: Vec<Endpoint>,
}

/// The choice of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Sorted by node name; empty only where nothing is known at all.
    pub endpoints: Vec<Endpoint>,
    /// Set where evidence is held back: what stands leans on the last good set.
    pub frozen: Option<Frozen>,
    /// Nodes that stay out, with the verdict that keeps them out.
    pub left_out: Vec<(String, Class)>,
    /// Members that leave.
    pub leaving: Vec<Leaving>,
    /// UIDs of the nodes that are in.
    pub uids: BTreeSet<String>,
    /// When to choose again although nothing happens.
    pub wake: Option<Moment>,
}

/// Everything a choice looks at.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// One for each control-plane node; nodes that have vanished lately may come with the class `Absent`.
    pub verdicts: &'a [Verdict],
    /// The targets.
    pub last_good: &'a LastGood,
    /// What has left lately.
    pub pool: &'a Pool,
    /// The time.
    pub now: Moment,
    /// The settings.
    pub health: &'a Health,
    /// How far what is known can be relied on.
    pub outlook: Outlook,
}

/// How far what is known can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The probes.
    pub sight: Sight,
    /// The Nodes may have changed since they were seen.
    pub stale: bool,
    /// Others would take over from an agent that is wrong about the network.
    pub election: bool,
    /// The latest renewals and reads of the Lease: etcd served then.
    pub quorums: Quorums,
}

/// Chooses the endpoints.
pub fn choose(round: &Round<'_>) -> Choice {
    let members: Vec<Member<'_>> = members(round);
    if round.verdicts.iter().all(|verdict| verdict.class == Class::Absent) {
        let kept = round.last_good.members.clone();
        return choice(kept, Some(Frozen::NoNodes), round, Vec::new(), None);
    }
    let mut wake = None;
    let entering = entering(round, &members, &mut wake);
    let settling = members.is_empty() && round.verdicts.iter().any(|verdict| is_settling(round, verdict));
    if settling {
        // A first set that is complete a second later is better than three writes.
        return choice(Vec::new(), None, round, Vec::new(), wake);
    }
    if round.outlook.sight == Sight::Starting && !members.is_empty() {
        // What stands stands, and nothing is frozen yet either.
        return choice(members.iter().map(Member::endpoint).collect(), None, round, Vec::new(), wake);
    }
    let removal = removal::decide(round, &members, &entering);
    wake = earlier(wake, removal.wake);
    let mut standing: Vec<&Verdict> = removal.staying.iter().filter_map(|member| member.verdict).collect();
    standing.extend(&entering);
    let mut frozen = removal.frozen;
    let mut leaving = removal.leaving;
    let mut endpoints: Vec<Endpoint> = removal.staying.iter().map(Member::endpoint).collect();
    endpoints.extend(entering.iter().filter_map(|verdict| endpoint(verdict)));

    let unmarked_green = |verdict: &&&Verdict| is_green(round, verdict) && class(round, verdict) == Class::Healthy;
    if standing.iter().filter(unmarked_green).count() == 0 {
        let marked: Vec<&Verdict> = round.verdicts.iter().filter(|verdict| may_return(round, verdict)).collect();
        if marked.is_empty() {
            if !round.verdicts.iter().any(|verdict| is_green(round, verdict)) || endpoints.is_empty() {
                let kept = last_resort(round, &members);
                let frozen = frozen.filter(|frozen| *frozen == Frozen::CredentialRefused);
                return choice(kept, frozen.or(Some(Frozen::NoHealthyNodes)), round, Vec::new(), wake);
            }
        } else {
            // Those who come back are the proof that others may go.
            let is_back = |member: &Member<'_>| member.verdict.is_some_and(|v| marked.iter().any(|m| m.uid == v.uid));
            let others: Vec<Member<'_>> = members.iter().filter(|member| !is_back(member)).copied().collect();
            let again = removal::decide(round, &others, &marked);
            endpoints = again.staying.iter().map(Member::endpoint).collect();
            endpoints.extend(marked.into_iter().filter_map(endpoint));
            (leaving, frozen, wake) = (again.leaving, again.frozen, earlier(wake, again.wake));
        }
    }
    choice(endpoints, frozen, round, leaving, wake)
}

/// A target, with its node where that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) verdict: Option<&'a Verdict>,
}

impl Member<'_> {
    /// The endpoint as it should stand: a node's new address replaces the old one.
    fn endpoint(&self) -> Endpoint {
        let current = self.verdict.filter(|verdict| verdict.class != Class::Absent).and_then(endpoint);
        current.unwrap_or_else(|| self.endpoint.clone())
    }
}

fn members<'a>(round: &Round<'a>) -> Vec<Member<'a>> {
    let by_name: BTreeMap<&str, &Verdict> = round.verdicts.iter().map(|v| (v.node.as_str(), v)).collect();
    let by_target: BTreeMap<String, &Verdict> = round.verdicts.iter().map(|v| (names::target(&v.node), v)).collect();
    let found = |name: &str| by_name.get(name).or_else(|| by_target.get(name)).copied();
    let member = |endpoint: &'a Endpoint| Member { endpoint, verdict: found(&endpoint.node_name) };
    round.last_good.members.iter().map(member).collect()
}

/// The class that counts: without sight the Node objects alone.
pub(crate) fn class(round: &Round<'_>, verdict: &Verdict) -> Class {
    let by_probes = verdict.class == verdict.by_probe;
    if round.outlook.sight == Sight::Blind && by_probes { Class::Healthy } else { verdict.class.clone() }
}

/// Whether it serves as far as anybody can tell.
pub(crate) fn is_green(round: &Round<'_>, verdict: &Verdict) -> bool {
    let exists = verdict.ip.is_some() && verdict.class != Class::Absent;
    exists
        && match round.outlook.sight {
            Sight::Blind => verdict.serves,
            Sight::Starting | Sight::Seeing => verdict.probe.class == ProbeClass::Green,
        }
}

/// Nodes that are no members and may become one.
fn entering<'a>(round: &Round<'a>, members: &[Member<'_>], wake: &mut Option<Moment>) -> Vec<&'a Verdict> {
    let is_member = |verdict: &Verdict| members.iter().any(|m| m.verdict.is_some_and(|v| v.node == verdict.node));
    let mut entering = Vec::new();
    for verdict in round.verdicts.iter().filter(|verdict| !is_member(verdict)) {
        if verdict.ip.is_none() || class(round, verdict) != Class::Healthy || !is_proven(round, verdict) {
            continue;
        }
        let due = round.pool.back_at(&verdict.uid, &round.health.re_add_delay, round.now);
        if due > round.now {
            *wake = earlier(*wake, Some(due));
        } else {
            entering.push(verdict);
        }
    }
    entering
}

/// Whether a node has shown enough to enter.
fn is_proven(round: &Round<'_>, verdict: &Verdict) -> bool {
    match round.outlook.sight {
        // Where the probes say the same of all, they may ask in the wrong place. Of one alone they know enough: who starts
        // on a busy machine must not bring back what others have taken out.
        Sight::Blind => {
            let asked = round.verdicts.iter().filter(|other| other.ip.is_some() && other.class != Class::Absent);
            !verdict.by_probe.is_bad() || asked.into_iter().all(|other| other.by_probe.is_bad())
        }
        Sight::Starting => false,
        Sight::Seeing => match verdict.probe.class {
            ProbeClass::Green => verdict.probe.fresh_greens >= round.health.probe.success_threshold,
            // A word that says nothing about the node (an operator's is one): its conditions decide.
            ProbeClass::Unknown => verdict.probe.heard,
            _ => false,
        },
    }
}

/// Whether it is about to enter: first answers are on their way.
fn is_settling(round: &Round<'_>, verdict: &Verdict) -> bool {
    let candidate = verdict.ip.is_some() && class(round, verdict) == Class::Healthy;
    match round.outlook.sight {
        Sight::Blind => false,
        Sight::Starting => true,
        Sight::Seeing => candidate && !is_proven(round, verdict),
    }
}

/// Rule 3: it is green and only marked, and not on its way out of existence.
fn may_return(round: &Round<'_>, verdict: &Verdict) -> bool {
    let marked = match &verdict.class {
        Class::Maintenance(Mark::Deletion | Mark::OutOfService) => false,
        Class::Maintenance(_) => true,
        // Without probes a condition is all there is.
        Class::NotReady(_) | Class::Pressure(_) => round.outlook.sight == Sight::Seeing,
        _ => false,
    };
    marked && is_green(round, verdict)
}

/// Rule 4: the last good set that still exists as Nodes; else Nodes that are not drained; else the pool as it is.
fn last_resort(round: &Round<'_>, members: &[Member<'_>]) -> Vec<Endpoint> {
    let exists = |verdict: &&Verdict| verdict.class != Class::Absent && verdict.ip.is_some();
    // A list that has lost most Nodes may be wrong; who answers is there.
    let doubted = removal::most_are_absent(members);
    let answers = |verdict: &&Verdict| doubted && verdict.probe.class == ProbeClass::Green;
    let remains = |verdict: &&Verdict| exists(verdict) || answers(verdict);
    let remaining = members.iter().filter(|member| round.outlook.stale || member.verdict.as_ref().is_some_and(remains));
    let remaining: Vec<Endpoint> = remaining.map(Member::endpoint).collect();
    if !remaining.is_empty() {
        return remaining;
    }
    let undrained = |verdict: &&Verdict| exists(verdict) && verdict.class != Class::Maintenance(Mark::Drained);
    let existing: Vec<Endpoint> = round.verdicts.iter().filter(undrained).filter_map(endpoint).collect();
    if existing.is_empty() { round.last_good.members.clone() } else { existing }
}

fn choice(
    mut endpoints: Vec<Endpoint>,
    frozen: Option<Frozen>,
    round: &Round<'_>,
    mut leaving: Vec<Leaving>,
    wake: Option<Moment>,
) -> Choice {
    endpoints.sort();
    // The API wants each address once per pool; of two Nodes that claim one address, the first by name has it.
    let mut seen = BTreeSet::new();
    endpoints.retain(|endpoint| seen.insert(endpoint.ip));
    leaving.sort();
    let chosen: BTreeSet<&str> = endpoints.iter().map(|e| e.node_name.as_str()).collect();
    let out = |verdict: &&Verdict| !chosen.contains(verdict.node.as_str());
    let mut left_out: Vec<(String, Class)> =
        round.verdicts.iter().filter(out).map(|verdict| (verdict.node.clone(), class(round, verdict))).collect();
    left_out.sort();
    let uids = round.verdicts.iter().filter(|verdict| !out(verdict)).map(|verdict| verdict.uid.clone()).collect();
    Choice { endpoints, frozen, left_out, leaving, uids, wake }
}

fn endpoint(verdict: &Verdict) -> Option<Endpoint> {
    let ip = verdict.ip?;
    Some(Endpoint { node_name: verdict.node.clone(), ip, addresses: verdict.addresses.clone() })
}

pub(crate) fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl LastGood {
    /// From a balancer's targets. Those that stand for a listed node take its name and addresses; the others keep
    /// what `spec.endpoints` or the target itself says.
    pub fn from_targets(targets: impl IntoIterator<Item = (String, IpAddr)>, known: &[Endpoint]) -> Self {
        let by_target: BTreeMap<String, &Endpoint> = known.iter().map(|e| (names::target(&e.node_name), e)).collect();
        let members = targets.into_iter().map(|(name, ip)| match by_target.get(&name) {
            Some(endpoint) if endpoint.ip == ip => (*endpoint).clone(),
            _ => Endpoint { node_name: name, ip, addresses: vec![internal(ip)] },
        });
        Self { members: members.collect() }
    }
}

/// The one address that a target has.
fn internal(ip: IpAddr) -> NodeAddress {
    NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_string() }
}

impl Endpoint {
    /// An entry of `spec.endpoints`; `None` where it has no usable InternalIP.
    pub fn from_spec(node_name: &str, addresses: &[NodeAddress]) -> Option<Self> {
        let ip = addresses.iter().filter(|a| a.kind == "InternalIP").find_map(|a| a.address.parse().ok())?;
        Some(Self { node_name: node_name.to_owned(), ip, addresses: addresses.to_vec() })
    }
}

#[cfg(test)]
mod tests;
