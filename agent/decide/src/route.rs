//! Which API server to talk to: the node's own first, while that is away another control-plane node's, never the balancer.
//!
//! | own server | others | goes to |
//! |---|---|---|
//! | good, or nothing is known | any | own |
//! | bad | one is good | that one, the one in use first |
//! | bad | nothing is known of one | that one |
//! | bad | all bad | where the last request was answered |
//! | good again for [`Rules::settle`] | any | own |
//!
//! A server is bad while a probe or check says so, and for [`PENALTY`] after requests through it have failed
//! ([`Outcome`]); an answer ends that. What is under way through a server that is bad is given up ([`Way::leaves`]);
//! what is under way through one that was only left for the own one may end there. Time is an argument.
//!
//! Deliberately not here: how a server is asked how it is, and TLS. A server that cannot prove who it is ends a request
//! before a credential is sent, which is an [`Outcome::Refused`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::Moment;

#[cfg(test)]
mod tests;

/// How long a server is bad after requests through it have failed.
pub const PENALTY: Duration = Duration::from_secs(10);
/// Failures that could be chance count together within this time.
const TOGETHER: Duration = Duration::from_secs(30);

/// An API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// The one of the kubeconfig.
    #[default]
    Own,
    /// The one of the control-plane node with this address.
    Other(IpAddr),
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Server::Own => f.write_str("own"),
            Server::Other(address) => address.fmt(f),
        }
    }
}

/// What probes or checks say about an API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerHealth {
    /// Ready.
    Green,
    /// Refused, hanging, or not ready.
    Ill,
    /// Nothing that says anything about it.
    #[default]
    Unknown,
}

/// What a request through a server has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Answered by the server, whatever the answer.
    Answered,
    /// No connection: refused, unreachable, or its certificate is not trusted. One is enough.
    Refused,
    /// The connection ended before the answer. Two in a row: a pooled connection may have been idle too long.
    Reset,
    /// No answer in time. Two in a row: a webhook may have been slow.
    Hanging,
    /// 503, 504 or 401: it does not serve us. Two in a row.
    NotReady,
    /// A watch has shown neither event nor bookmark for much longer than one of them is due. One is enough.
    Quiet,
}

/// What is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `kubernetes.fallback`.
    pub fallback: bool,
    /// How long the own server must have been good before it is used again.
    pub settle: Duration,
}

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The server for all requests.
    pub server: Server,
    /// Whether probes, checks or requests say that it is not ready: what it shows may be old.
    pub ill: bool,
    /// The servers to try when `server` does not answer in time, best first, `server` being the first.
    pub order: Vec<Server>,
}

impl Way {
    /// Whether what is under way through this server is to be given up: it is bad, and not the one in use.
    pub fn leaves(&self, server: Server) -> bool {
        !self.order.is_empty() && !self.order.contains(&server)
    }
}

/// How a server is taken. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Good,
    Unsure,
    Bad,
}

/// What is known about one server.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    health: ServerHealth,
    /// Since when it has been good without a break.
    good_since: Option<Moment>,
    /// Failures in a row that could be chance, and when the last one was.
    failures: Option<(u32, Moment)>,
    bad_until: Moment,
}

impl Known {
    fn grade(&self, now: Moment) -> Grade {
        match self.health {
            _ if now < self.bad_until => Grade::Bad,
            ServerHealth::Ill => Grade::Bad,
            ServerHealth::Green => Grade::Good,
            ServerHealth::Unknown => Grade::Unsure,
        }
    }

    fn look(&mut self, now: Moment) {
        if self.grade(now) == Grade::Good {
            self.good_since.get_or_insert(now);
        } else {
            self.good_since = None;
        }
    }
}

/// What is known about all servers, and which one is in use.
#[derive(Clone, Debug, Default)]
pub struct Route {
    own: Known,
    others: BTreeMap<IpAddr, Known>,
    current: Server,
    /// Where the last request was answered.
    answered: Server,
}

impl Route {
    /// The servers beside the own one, by their nodes' addresses. `never` are addresses that must not be used: the own
    /// node's, and the balancer's.
    pub fn others(&mut self, addresses: &BTreeSet<IpAddr>, never: &BTreeSet<IpAddr>) {
        self.others.retain(|address, _| addresses.contains(address) && !never.contains(address));
        for address in addresses.difference(never) {
            self.others.entry(*address).or_default();
        }
    }

    /// Takes in what probes or checks say now.
    pub fn health(&mut self, server: Server, health: ServerHealth, now: Moment) {
        if let Some(known) = self.known(server) {
            known.health = health;
            known.look(now);
        }
    }

    /// Takes in what a request has come to.
    pub fn outcome(&mut self, server: Server, outcome: Outcome, now: Moment) {
        let Some(known) = self.known(server) else { return };
        let before = known.failures.filter(|(_, at)| now.since(*at) < TOGETHER).map_or(0, |(count, _)| count);
        let enough = match outcome {
            Outcome::Answered => {
                known.failures = None;
                known.bad_until = Moment::default();
                known.look(now);
                self.answered = server;
                return;
            }
            Outcome::Refused | Outcome::Quiet => true,
            Outcome::Reset | Outcome::Hanging | Outcome::NotReady => before + 1 >= 2,
        };
        known.failures = Some((before + 1, now));
        if enough {
            known.bad_until = now + PENALTY;
        }
        known.look(now);
    }

    /// Where requests go from `now` on.
    pub fn choose(&mut self, rules: Rules, now: Moment) -> Way {
        self.own.look(now);
        self.others.values_mut().for_each(|known| known.look(now));
        let wanted = self.wanted(rules, now);
        self.current = wanted;
        let mut order: Vec<Server> = self.servers().filter(|_| rules.fallback).collect();
        order.retain(|server| *server != wanted && self.grade(*server, now) != Grade::Bad);
        order.sort_by_key(|server| (self.grade(*server, now), *server));
        order.insert(0, wanted);
        Way { server: wanted, ill: self.grade(wanted, now) == Grade::Bad, order }
    }

    /// When [`Route::choose`] may answer differently though nothing has come in.
    pub fn next_look(&self, rules: Rules, now: Moment) -> Option<Moment> {
        let penalties = self.others.values().chain([&self.own]).map(|known| known.bad_until);
        let settled = self.own.good_since.map(|since| since + rules.settle);
        penalties.chain(settled).filter(|moment| *moment > now).min()
    }

    fn wanted(&self, rules: Rules, now: Moment) -> Server {
        if !rules.fallback {
            return Server::Own;
        }
        let settled = self.own.good_since.is_some_and(|since| now.since(since) >= rules.settle);
        let current = self.grade(self.current, now);
        if self.current != Server::Own && settled {
            return Server::Own;
        }
        if current != Grade::Bad {
            return self.current;
        }
        let best = self.servers().min_by_key(|server| (self.grade(*server, now), *server));
        match best {
            Some(best) if self.grade(best, now) != Grade::Bad => best,
            _ if self.has(self.answered) => self.answered,
            _ => Server::Own,
        }
    }

    fn servers(&self) -> impl Iterator<Item = Server> {
        std::iter::once(Server::Own).chain(self.others.keys().map(|address| Server::Other(*address)))
    }

    fn has(&self, server: Server) -> bool {
        match server {
            Server::Own => true,
            Server::Other(address) => self.others.contains_key(&address),
        }
    }

    /// A server that is no longer there is bad.
    fn grade(&self, server: Server, now: Moment) -> Grade {
        match server {
            Server::Own => self.own.grade(now),
            Server::Other(address) => self.others.get(&address).map_or(Grade::Bad, |known| known.grade(now)),
        }
    }

    fn known(&mut self, server: Server) -> Option<&mut Known> {
        match server {
            Server::Own => Some(&mut self.own),
            Server::Other(address) => self.others.get_mut(&address),
        }
    }
}
