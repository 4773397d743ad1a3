//! Which members leave: the rows of the evidence table, and the rules that hold them back.

use std::time::Duration;

use super::{Frozen, Member, Round, Sight, class, earlier, is_green};
use crate::Moment;
use crate::health::{Class, Verdict};
use crate::names;
use crate::probe::{ProbeClass, SETTLED};

/// A removal that leaves less than a majority rests on evidence that is this old…
const PROVEN: Duration = Duration::from_secs(3);
/// …and is this far from the one before.
const APART: Duration = Duration::from_secs(5);
/// After etcd has answered, an API server that is still cut off this much later is so for itself. A shared stall ends for
/// all within less: requests that wait are answered at once, and an answer from before is given for a second at most.
const RECOVERY: Duration = Duration::from_millis(1_250);
/// While etcd is doubted, how soon to look again.
const DOUBT: Duration = Duration::from_millis(250);
/// How long one API server must refuse what others accept.
const DENIED: Duration = Duration::from_secs(30);

/// A member that leaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaving {
    /// The target's name.
    pub target: String,
    /// The Node's UID; empty where it is not known.
    pub uid: String,
    /// Why.
    pub cause: Cause,
    /// When the evidence began, as far as this agent has seen it.
    pub since: Moment,
}

/// Why a member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A mark of maintenance.
    Marked,
    /// Its Node is gone, or has no address.
    Gone,
    /// A condition of its Node.
    Condition,
    /// Nobody listens.
    Refused,
    /// It shuts down.
    Shutdown,
    /// It says that it is not ready.
    Red,
    /// It has lost its etcd.
    EtcdCut,
    /// It does not answer.
    Silent,
    /// It refuses what others accept.
    Denied,
}

impl Cause {
    /// Whether somebody wants it out, so that nothing delays its return.
    pub fn is_forced(self) -> bool {
        matches!(self, Cause::Marked | Cause::Gone)
    }

    /// Whether the probes say so.
    pub fn is_by_probe(self) -> bool {
        !matches!(self, Cause::Marked | Cause::Gone | Cause::Condition)
    }

    /// Whether it rests on silence.
    pub fn is_silence(self) -> bool {
        self == Cause::Silent
    }
}

/// What becomes of the members.
#[derive(Debug, Default)]
pub(super) struct Removal<'a> {
    pub(super) staying: Vec<Member<'a>>,
    pub(super) leaving: Vec<Leaving>,
    pub(super) frozen: Option<Frozen>,
    pub(super) wake: Option<Moment>,
}

impl Removal<'_> {
    fn freeze(&mut self, why: Frozen) {
        // One word is shown: the first by the order of the enum.
        self.frozen = Some(self.frozen.map_or(why, |frozen| frozen.min(why)));
    }
}

/// Decides which members leave. `entering`: nodes that stand from now on, and can be the proof that others may go.
pub(super) fn decide<'a>(round: &Round<'a>, members: &[Member<'a>], entering: &[&Verdict]) -> Removal<'a> {
    let mut removal = Removal::default();
    if round.outlook.sight == Sight::Starting {
        removal.staying = members.to_vec();
        return removal;
    }
    let mut suspects: Vec<(Member<'a>, Cause, Moment)> = Vec::new();
    for member in members {
        match suspicion(round, members, *member, &mut removal) {
            Some((cause, since)) => suspects.push((*member, cause, since)),
            None => removal.staying.push(*member),
        }
    }
    // Forced first, then the oldest evidence: which one goes first must not depend on the order of a list.
    suspects.sort_by_key(|(member, cause, since)| (cause.is_by_probe(), *since, member.endpoint.node_name.clone()));
    let standing = removal.staying.iter().filter_map(|member| member.verdict).chain(entering.iter().copied());
    let proofs: Vec<&Verdict> = standing.filter(|verdict| is_green(round, verdict)).collect();
    let mut left = removal.staying.len() + suspects.len() + entering.len();
    let nodes = round.verdicts.iter().filter(|verdict| verdict.class != Class::Absent).count();
    for (member, cause, since) in suspects {
        let hold = hold(round, cause, since, &proofs, left - 1, nodes, &removal);
        match hold {
            None => {
                left -= 1;
                let uid = member.verdict.map(|verdict| verdict.uid.clone()).unwrap_or_default();
                let target = names::target(&member.endpoint.node_name);
                removal.leaving.push(Leaving { target, uid, cause, since });
            }
            Some(hold) => {
                match hold {
                    Hold::Frozen(why, again) => {
                        removal.freeze(why);
                        removal.wake = earlier(removal.wake, again);
                    }
                    Hold::Until(at) => removal.wake = earlier(removal.wake, Some(at)),
                }
                removal.staying.push(member);
            }
        }
    }
    removal
}

enum Hold {
    /// And when to look again.
    Frozen(Frozen, Option<Moment>),
    Until(Moment),
}

/// Rules 1 and 5: what holds back a removal that the evidence asks for.
fn hold(
    round: &Round<'_>,
    cause: Cause,
    since: Moment,
    proofs: &[&Verdict],
    left: usize,
    nodes: usize,
    removal: &Removal<'_>,
) -> Option<Hold> {
    if left == 0 {
        return Some(Hold::Frozen(Frozen::NoHealthyNodes, None));
    }
    if round.outlook.sight == Sight::Seeing {
        // What a Node object says began before anybody could see it: an answer of the last round is proof enough.
        let begun = if cause.is_by_probe() { since } else { round.now - recent(round) };
        let answered = |verdict: &&&Verdict| verdict.probe.green.is_some_and(|green| green.came >= begun);
        // Who was down itself when it began says nothing about the others: after an outage of all, the first that is
        // back must not see the others off.
        // An API server that starts takes its time however short the outage was.
        let settled = |verdict: &&Verdict| match cause {
            Cause::EtcdCut => verdict.probe.others_back,
            _ => verdict.probe.green_since.map(|since| since + SETTLED),
        };
        let was_there = |verdict: &&&Verdict| {
            let since = verdict.probe.green_since;
            !cause.is_by_probe()
                || since.is_some_and(|since| since <= begun)
                || settled(verdict).is_some_and(|settled| settled <= round.now)
        };
        if !proofs.iter().filter(answered).any(|verdict| was_there(&verdict)) {
            let ripens = proofs.iter().filter_map(settled);
            return Some(Hold::Frozen(Frozen::NoProof, ripens.filter(|at| *at > round.now).min()));
        }
    }
    if cause.is_by_probe() && left * 2 <= nodes {
        let ripe = since + PROVEN;
        let this_round = removal.leaving.iter().any(|leaving| leaving.cause.is_by_probe()).then_some(round.now);
        let apart = round.pool.last_by_probe.max(this_round).map_or(ripe, |last| ripe.max(last + APART));
        if round.now < apart {
            return Some(Hold::Until(apart));
        }
    }
    None
}

/// Answers that are no older belong to the last round of probes.
fn recent(round: &Round<'_>) -> Duration {
    round.health.probe.interval.saturating_mul(2) + round.health.probe.slow
}

/// What the table asks for, with when it began; `None`: it stays. Says what is held back.
fn suspicion(
    round: &Round<'_>,
    members: &[Member<'_>],
    member: Member<'_>,
    removal: &mut Removal<'_>,
) -> Option<(Cause, Moment)> {
    let Some(verdict) = member.verdict else { return absent(round, members, None, removal) };
    let shown = class(round, verdict);
    if shown == Class::Absent {
        return absent(round, members, Some(verdict), removal);
    }
    let by_node = match &shown {
        Class::Maintenance(_) => Some(Cause::Marked),
        Class::NoAddress => Some(Cause::Gone),
        Class::NotReady(_) | Class::Pressure(_) => Some(Cause::Condition),
        _ => None,
    };
    if let Some(cause) = by_node {
        if !round.outlook.stale {
            return Some((cause, round.now));
        }
        // The probes are as fresh as ever.
        let by_probe = if round.outlook.sight == Sight::Seeing { &verdict.by_probe } else { &Class::Healthy };
        let suspicion = probed(round, members, verdict, by_probe, removal);
        if suspicion.is_none() {
            removal.freeze(Frozen::StaleNodes);
        }
        return suspicion;
    }
    probed(round, members, verdict, &shown, removal)
}

/// A member without a Node.
fn absent(
    round: &Round<'_>,
    members: &[Member<'_>],
    verdict: Option<&Verdict>,
    removal: &mut Removal<'_>,
) -> Option<(Cause, Moment)> {
    if round.outlook.stale {
        removal.freeze(Frozen::StaleNodes);
        return None;
    }
    if !most_are_absent(members) {
        return Some((Cause::Gone, round.now));
    }
    // A list that has lost most Nodes may be wrong; an API server that is gone as well makes it true.
    match verdict.map(|verdict| (&verdict.by_probe, verdict.probe.since)) {
        Some((Class::Refused, since)) if round.outlook.sight == Sight::Seeing => Some((Cause::Gone, since)),
        _ => {
            removal.freeze(Frozen::MostNodesAbsent);
            None
        }
    }
}

/// Whether most members have no Node.
pub(super) fn most_are_absent(members: &[Member<'_>]) -> bool {
    let is_absent = |member: &&Member<'_>| member.verdict.is_none_or(|verdict| verdict.class == Class::Absent);
    members.iter().filter(is_absent).count() * 2 > members.len()
}

/// What the probes ask for.
fn probed(
    round: &Round<'_>,
    members: &[Member<'_>],
    verdict: &Verdict,
    shown: &Class,
    removal: &mut Removal<'_>,
) -> Option<(Cause, Moment)> {
    let since = verdict.probe.since;
    let testified = witnesses(round, verdict);
    let witnessed = |cause, holds: bool| if holds && testified { Ok(cause) } else { Err(Frozen::SharedCause) };
    let cause = match shown {
        Class::Refused => Ok(Cause::Refused),
        Class::Shutdown => Ok(Cause::Shutdown),
        // Rule 10: nobody would take over from an agent that is wrong.
        Class::Red(_) | Class::EtcdCut | Class::Silent | Class::Denied(..) if !round.outlook.election => return None,
        Class::Red(_) => Ok(Cause::Red),
        Class::EtcdCut => {
            let serves = etcd_serves(round, verdict);
            if !serves {
                // That a request still waits, and so the doubt ends, is no event.
                removal.wake = earlier(removal.wake, Some(round.now + DOUBT));
            }
            witnessed(Cause::EtcdCut, serves)
        }
        Class::Silent if members.len() == 2 => Err(Frozen::PoolOfTwo),
        Class::Silent if verdict.ready_unknown && !round.outlook.stale => Ok(Cause::Silent),
        Class::Silent => witnessed(Cause::Silent, true),
        Class::Denied(since, _) => return denied(round, *since, removal),
        _ => return None,
    };
    match cause {
        Ok(cause) => Some((cause, since)),
        Err(why) => {
            removal.freeze(why);
            None
        }
    }
}

/// One API server that refuses what two others accept, for a while.
fn denied(round: &Round<'_>, since: Moment, removal: &mut Removal<'_>) -> Option<(Cause, Moment)> {
    let accepting = round.verdicts.iter().filter(|verdict| is_green(round, verdict)).count();
    let asked = round.verdicts.iter().filter(|verdict| verdict.ip.is_some());
    if asked.clone().all(|verdict| verdict.probe.denied_since.is_some()) {
        removal.freeze(Frozen::CredentialRefused);
        return None;
    }
    if accepting < 2 {
        return None;
    }
    if round.now.since(since) < DENIED {
        removal.wake = earlier(removal.wake, Some(since + DENIED));
        return None;
    }
    Some((Cause::Denied, since))
}

/// Rule 2: every node that is not itself cut off or silent is green by a request that began after the first bad one, and
/// after that was slow already; those are a majority of the control-plane nodes; and one of them is not the prober's own.
///
/// The first bad request may have begun while all was well, and a good one beside it may have been answered in the
/// last moment before all went down. And who was stopped or away itself meanwhile is no witness at once: what ends for
/// several need not end for all in the same moment.
fn witnesses(round: &Round<'_>, bad: &Verdict) -> bool {
    let nodes = || round.verdicts.iter().filter(|verdict| verdict.class != Class::Absent && verdict.ip.is_some());
    let suspect = |verdict: &&Verdict| matches!(verdict.probe.class, ProbeClass::EtcdCut | ProbeClass::Silent);
    let others: Vec<&Verdict> = nodes().filter(|verdict| !suspect(verdict)).collect();
    let slow = round.health.probe.slow;
    let testifies = |verdict: &&Verdict| {
        let probe = &verdict.probe;
        let green = probe.green.filter(|_| probe.class == ProbeClass::Green);
        let lived = |since: Moment| since <= bad.probe.since + slow || since + slow + RECOVERY <= round.now;
        green.is_some_and(|green| green.asked >= bad.probe.since + slow) && probe.lives_since.is_some_and(lived)
    };
    others.iter().all(testifies) && others.len() * 2 > nodes().count() && others.iter().any(|verdict| !verdict.own)
}

/// Whether etcd itself is known to serve while this API server is cut off from it.
///
/// A kube-apiserver asks its etcd every two seconds at most and answers from that meanwhile: for up to four seconds
/// after etcd has hung for all, some still say 200 to one prober while others say 500. So a 200 is no witness here. A
/// write or read with a quorum is, if it began when the first bad answer had come or was slow already (the request itself may
/// have begun while all was well), and if the bad answers go on after it.
fn etcd_serves(round: &Round<'_>, bad: &Verdict) -> bool {
    let slow = bad.probe.since + round.health.probe.slow;
    let begun = bad.probe.named.map_or(slow, |named| slow.min(named));
    round.outlook.quorums.any(|quorum| quorum.sent >= begun && bad.probe.until >= quorum.answered + RECOVERY)
}
