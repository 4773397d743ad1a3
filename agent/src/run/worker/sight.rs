//! What a worker sees of the nodes, and what it tells others of them.

use std::collections::BTreeSet;

use decide::Moment;
use decide::endpoints::{Outlook, Sight};
use decide::health::{Judge, NodeView, Verdict, verdict};
use decide::leader::Signs;
use decide::pass::Pass;
use decide::probe::ProbeClass;

use super::super::probing::{Silent, port, target};
use super::{Context, Worker};
use crate::host::clock;

impl Worker {
    /// The verdicts on all control-plane nodes, and on those that have vanished lately; `None`: never listed.
    pub(super) fn verdicts(&mut self, now: Moment) -> (Option<Vec<Verdict>>, Outlook) {
        let Context { settings, probing, place, sources, .. } = &self.context;
        let health = &settings.health;
        let nodes = sources.nodes.borrow().clone();
        if nodes.listed {
            self.roster.update(&nodes.items, now);
        }
        let port = port(sources, settings);
        let judge = Judge { health, own_node: &place.own_node, wall: clock::wall() };
        let readings = probing.readings.borrow();
        let mut doubted = false;
        let mut judged = |node: &NodeView| {
            let hurried = health.pods && probing.is_hurried(&node.name);
            let target = target(node, port).filter(|_| health.probe.enabled);
            // Of whom nobody asks yet nothing is known.
            let read = |hurried| {
                let read = |target| readings.reading(target, now, health.probe.slow, hurried).unwrap_or_default();
                target.as_ref().map(read)
            };
            doubted |= read(true).is_some_and(|reading| reading.class == ProbeClass::EtcdCut);
            verdict(node, read(hurried).as_ref(), judge)
        };
        let mut verdicts: Vec<Verdict> = self.roster.listed().map(&mut judged).collect();
        verdicts.extend(self.roster.departed().map(&mut judged).map(Verdict::absent));
        drop(readings);
        self.ever_green |= verdicts.iter().any(|verdict| verdict.probe.green.is_some());
        let since = self.asked.noted(nodes.listed, now).filter(|_| health.probe.enabled);
        let asked = verdicts.iter().filter(|verdict| verdict.ip.is_some()).map(|verdict| &verdict.probe);
        self.quorums.note(*probing.quorum.borrow());
        let outlook = Outlook {
            sight: Sight::judge(since, self.ever_green, asked, now, health),
            stale: nodes.problem.is_some(),
            election: place.election,
            quorums: self.quorums,
        };
        // Whether etcd serves is worth knowing from the first request on that is slow: what counts against an API server
        // later is what was written meanwhile.
        if self.led && doubted {
            probing.doubt.notify_one();
        }
        (nodes.listed.then_some(verdicts), outlook)
    }

    /// Tells whose kubelets are worth a look: the nodes that this agent has taken out for silence.
    pub(super) fn tell_silent(&self) {
        let Context { settings, probing, sources, .. } = &self.context;
        let out: BTreeSet<&str> = self.memory.pool.silent().collect();
        let port = port(sources, settings);
        let entry = |node: &NodeView| Some((node.name.clone(), Silent { target: target(node, port)? }));
        let silent = self.roster.listed().filter(|node| out.contains(node.uid.as_str())).filter_map(entry).collect();
        probing.silent.send_if_modified(|before| {
            let changed = *before != silent;
            *before = silent;
            changed
        });
    }

    /// Tells how fit this agent is to lead; whether anything speaks against it.
    pub(super) fn tell_strain(&mut self, verdicts: Option<&[Verdict]>, pass: Option<&Pass>, now: Moment) -> bool {
        let verdicts = verdicts.unwrap_or_default();
        let own = verdicts.iter().find(|verdict| verdict.own).and_then(|verdict| verdict.ip);
        // Whoever follows does not know, and is out of no balancer that it would have to write.
        let target = match self.memory.observed() {
            Some(observed) => observed.balancer.targets().iter().any(|target| Some(target.ip) == own),
            None => self.led,
        };
        let signs = Signs {
            verdicts,
            pending: pass.is_some_and(|pass| pass.pending),
            answered: self.context.clouds.answered(),
            token: self.context.clouds.has_token(),
            target,
        };
        self.strain = self.strain.next(&signs, now);
        self.context.strains.tell(&self.name, self.strain);
        self.strain.is_any()
    }
}
