//! The way that requests to Kubernetes take, as it stands: shared by everybody who sends one.
//!
//! [`decide::route`] decides. What comes of a request is handed in here, and whoever waits for the way is told at once;
//! so the request after one that was refused goes elsewhere already. Who goes where, and why, is said once for each
//! switch.
//!
//! Deliberately not here: how a server is asked how it is, and which servers there are (`run/routing.rs`); connections
//! ([`super::reach`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use decide::Moment;
use decide::route::{Outcome, Route, Rules, Server, ServerHealth, Way};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::host::clock;

/// How long the own API server must have been good before it is used again.
pub const SETTLE: Duration = Duration::from_secs(2);

/// Where requests go; cheap to clone. Until somebody tells it otherwise, to the own API server.
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    out: watch::Sender<Directions>,
}

struct State {
    route: Route,
    rules: Rules,
    door: Door,
    /// What was last found wrong with a server, for people.
    why: BTreeMap<Server, String>,
}

/// How the API servers of other nodes are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// Their port.
    pub port: u16,
    /// The name to expect in their certificates, which do not hold the addresses of nodes.
    pub name: String,
}

/// Where requests go, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    /// The way.
    pub way: Way,
    /// For servers other than the own one.
    pub door: Door,
    /// What is wrong, for people; `None`: all goes through the own API server, which is well.
    pub trouble: Option<String>,
}

impl Default for Router {
    fn default() -> Self {
        let mut route = Route::default();
        let rules = Rules { fallback: false, settle: SETTLE };
        let way = route.choose(rules, Moment::default());
        let state = State { route, rules, door: Door::default(), why: BTreeMap::new() };
        let out = watch::Sender::new(Directions { way, ..Directions::default() });
        Self(Arc::new(Inner { state: Mutex::new(state), out }))
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&*self.0.out.borrow()).finish()
    }
}

impl Router {
    /// Where requests go, as it changes.
    pub fn directions(&self) -> watch::Receiver<Directions> {
        self.0.out.subscribe()
    }

    /// The servers to try, best first; there is always one.
    pub fn order(&self) -> Vec<Server> {
        self.0.out.borrow().way.order.clone()
    }

    /// Waits until what is under way through this server is to be given up.
    pub async fn leaves(&self, server: Server) {
        let mut directions = self.directions();
        if directions.wait_for(|directions| directions.way.leaves(server)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether other API servers may be used at all, and how they are reached.
    pub fn open(&self, fallback: bool, door: Door) {
        self.change(|state, _| {
            state.rules.fallback = fallback;
            state.door = door;
        });
    }

    /// The other servers, by their nodes' addresses; `never` are addresses that must not be used.
    pub fn others(&self, addresses: &BTreeSet<IpAddr>, never: &BTreeSet<IpAddr>) {
        self.change(|state, _| state.route.others(addresses, never));
    }

    /// What probes or checks say about a server; `why` it is ill, for people.
    pub fn health(&self, server: Server, health: ServerHealth, why: &str) {
        self.change(|state, now| {
            if health == ServerHealth::Ill {
                state.why.insert(server, why.to_owned());
            }
            state.route.health(server, health, now);
        });
    }

    /// What has come of a request; `why` it failed, for people.
    pub fn outcome(&self, server: Server, outcome: Outcome, why: &str) {
        self.change(|state, now| {
            if outcome != Outcome::Answered {
                state.why.insert(server, why.to_owned());
            }
            state.route.outcome(server, outcome, now);
        });
    }

    /// Looks whether time alone has changed anything; when it may do so next.
    pub fn look(&self) -> Option<Moment> {
        let mut next = None;
        self.change(|state, now| next = state.route.next_look(state.rules, now));
        next
    }

    fn change(&self, change: impl FnOnce(&mut State, Moment)) {
        let now = clock::now();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state, now);
        let rules = state.rules;
        let way = state.route.choose(rules, now);
        let trouble = trouble(&way, &state.why);
        let now = Directions { way, door: state.door.clone(), trouble };
        self.0.out.send_if_modified(|told| {
            let changed = *told != now;
            say(&told.way, &now.way, &state.why);
            *told = now;
            changed
        });
    }
}

/// What is wrong with the way.
fn trouble(way: &Way, why: &BTreeMap<Server, String>) -> Option<String> {
    let why = |server| why.get(&server).map_or("no answer yet", String::as_str);
    match way.server {
        Server::Own if !way.ill => None,
        Server::Own => {
            Some(format!("the own API server is not ready ({}), and no other one is known to be", why(Server::Own)))
        }
        other @ Server::Other(_) if way.ill => Some(format!(
            "no API server is ready (own: {}; {other}: {}); staying with that of {other}",
            why(Server::Own),
            why(other)
        )),
        other @ Server::Other(_) => {
            Some(format!("the own API server is away ({}); using that of {other}", why(Server::Own)))
        }
    }
}

/// Each switch once.
fn say(before: &Way, way: &Way, why: &BTreeMap<Server, String>) {
    let found = |server| why.get(&server).map(String::as_str).unwrap_or_default();
    let (left, server) = (before.server, way.server);
    if left != server && server == Server::Own && !way.ill {
        info!(%left, "requests to Kubernetes go to the own API server again");
    } else if left != server {
        warn!(%server, %left, why = found(left), "requests to Kubernetes go through another API server now");
    }
    if way.ill && (!before.ill || left != server) {
        warn!(%server, why = found(server), "no API server is known to be ready; requests stay with this one");
    } else if before.ill && !way.ill && left == server {
        info!(%server, "the API server is ready again");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt;

    use super::*;

    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn router() -> Router {
        let router = Router::default();
        router.open(true, Door { port: 443, name: "kubernetes".to_owned() });
        router.others(&BTreeSet::from([OTHER]), &BTreeSet::new());
        router
    }

    #[test]
    fn the_request_after_a_refused_one_goes_elsewhere_and_what_waits_is_told() {
        let router = router();
        let mut waiting = Box::pin(router.leaves(Server::Own));
        assert!(waiting.as_mut().now_or_never().is_none());
        router.outcome(Server::Own, Outcome::Refused, "connection refused");
        assert_eq!(router.order(), [Server::Other(OTHER)]);
        assert!(waiting.now_or_never().is_some());
        let trouble = router.directions().borrow().trouble.clone().unwrap_or_default();
        assert_eq!(trouble, "the own API server is away (connection refused); using that of 10.0.0.2");
        router.outcome(Server::Other(OTHER), Outcome::Refused, "unreachable");
        let trouble = router.directions().borrow().trouble.clone().unwrap_or_default();
        assert!(trouble.contains("connection refused") && trouble.contains("not ready"), "{trouble}");
    }

    #[test]
    fn without_fallback_or_nodes_it_stays_with_the_own_one() {
        let router = Router::default();
        router.others(&BTreeSet::from([OTHER]), &BTreeSet::new());
        router.health(Server::Own, ServerHealth::Ill, "no answer");
        assert_eq!(router.order(), [Server::Own]);
        assert!(router.directions().borrow().trouble.is_some());
        router.health(Server::Own, ServerHealth::Green, "");
        assert_eq!(router.directions().borrow().trouble, None);
    }
}
