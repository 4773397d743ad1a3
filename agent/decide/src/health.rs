//! Evidence about one control-plane node, and the verdict on it: the first row that fits.
//!
//! | evidence | class |
//! |---|---|
//! | no usable InternalIP | `no_address` |
//! | marks: deletion, `Terminating`, in-place update, cluster-autoscaler, out-of-service, exclude label, drain | `maintenance` |
//! | an operator has named it as an endpoint (`bootstrap --endpoint`) | `healthy` |
//! | `Ready` missing or `False`; a pressure condition | `not_ready`, `pressure` |
//! | probes: refused, shutdown, red, etcd-cut | of the same names |
//! | silent, and it has answered this agent before | `silent` |
//! | green, whatever `Ready=Unknown` says | `healthy` |
//! | 401, 403 or a TLS error | `denied` |
//! | `Ready=Unknown`, and nothing from the probes | `not_ready` |
//! | asked, and never answered | `unproven` |
//! | anything else | `healthy` |
//!
//! One function answers for the metrics, the conditions and the choice of endpoints alike, so they cannot disagree.
//!
//! Deliberately not here: what follows for the target, and rules over several nodes ([`crate::endpoints`]).

mod mark;
mod node;
mod roster;

use std::fmt;
use std::net::IpAddr;

use crate::Moment;
use crate::probe::{ProbeClass, Reading};
use crate::settings::Health;

pub use mark::{DRAIN, DRAIN_BOOT, DRAIN_UNTIL, DRAINED_AT, Mark};
pub use node::{Condition, NodeAddress, NodeView, selected};
pub use roster::Roster;

/// Who judges.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The settings.
    pub health: &'a Health,
    /// The node that the agent runs on.
    pub own_node: &'a str,
    /// Seconds since 1970, for a drain that ends by itself.
    pub wall: i64,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The node's name.
    pub node: String,
    /// The node's UID.
    pub uid: String,
    /// The address that clients are sent to; `None` where the node has no usable InternalIP.
    pub ip: Option<IpAddr>,
    /// All valid addresses of the node, in its order.
    pub addresses: Vec<NodeAddress>,
    /// The verdict.
    pub class: Class,
    /// What the probes alone would say.
    pub by_probe: Class,
    /// Whether its conditions let it serve, whatever its marks and probes say.
    pub serves: bool,
    /// Its condition `Ready` is `Unknown`: nobody writes that without a quorum.
    pub ready_unknown: bool,
    /// The agent that judges runs on it.
    pub own: bool,
    /// When its drain ends by itself, in seconds since 1970.
    pub ends: Option<i64>,
    /// The probes; as if never asked, where there are none.
    pub probe: Reading,
}

/// The classes of verdicts: a closed set, used as a metric label.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It serves, or nothing says otherwise.
    #[default]
    Healthy,
    /// It serves, but somebody has marked it for maintenance.
    Maintenance(Mark),
    /// Its condition `Ready` is missing or not `True`.
    NotReady(String),
    /// A pressure condition is not `False`.
    Pressure(String),
    /// It has no InternalIP: left out and reported, whatever else holds.
    NoAddress,
    /// Its API server does not listen.
    Refused,
    /// Its API server shuts down.
    Shutdown,
    /// Its API server says that it is not ready; what was found.
    Red(String),
    /// Its API server has lost its etcd.
    EtcdCut,
    /// Nothing answers any more.
    Silent,
    /// It refuses our credential, or its certificate does not fit, since this moment; what was found.
    Denied(Moment, String),
    /// It was asked and has never answered.
    Unproven,
    /// Its Node is gone.
    Absent,
}

/// The verdict on a node. `probe`: what its API server answers; `None` while probes are off.
///
/// Source: Gardener's `CheckNode` for the conditions, Gardener contract section 4 for the marks.
pub fn verdict(node: &NodeView, probe: Option<&Reading>, judge: Judge<'_>) -> Verdict {
    let ip = node.internal_ip();
    let judged = judge.health.conditions && !node.vouched_for;
    let conditions = if judged { conditions(node) } else { Conditions::Fine };
    // As good as an answer that says nothing of the node.
    let word = Reading { heard: true, ..Reading::default() };
    let probe = if node.vouched_for { Some(&word) } else { probe };
    let (unhealthy, ready_unknown) = match conditions {
        Conditions::Fine => (None, false),
        Conditions::Unknown(class) => (Some(class), true),
        Conditions::Bad(class) => (Some(class), false),
    };
    let mark = judge.health.maintenance.then(|| mark::mark(node, judge.wall)).flatten();
    let by_probe = probe.map_or(Class::Healthy, by_probe);
    // Conditions that nobody has written for a while give way to an answer, good or bad.
    let answered = probe.is_some_and(|probe| probe.class == ProbeClass::Green) || by_probe.is_bad();
    let class = match (ip, mark, unhealthy.clone()) {
        (None, _, _) => Class::NoAddress,
        (Some(_), Some(mark), _) => Class::Maintenance(mark),
        (Some(_), None, Some(class)) if !(ready_unknown && answered) => class,
        (Some(_), None, _) => by_probe.clone(),
    };
    Verdict {
        node: node.name.clone(),
        uid: node.uid.clone(),
        ip,
        addresses: node.addresses.iter().filter(|address| node::valid(address)).cloned().collect(),
        class,
        by_probe,
        serves: unhealthy.is_none(),
        ready_unknown,
        own: node.name == judge.own_node,
        ends: node.drain_until.filter(|_| node.is_drained(judge.wall)),
        probe: probe.cloned().unwrap_or_default(),
    }
}

impl Verdict {
    /// The same node after it has vanished from the list.
    #[must_use]
    pub fn absent(self) -> Self {
        Self { class: Class::Absent, ..self }
    }
}

/// What the probes alone say.
fn by_probe(probe: &Reading) -> Class {
    match probe.class {
        ProbeClass::Green => Class::Healthy,
        ProbeClass::Refused => Class::Refused,
        ProbeClass::Shutdown => Class::Shutdown,
        ProbeClass::Red => Class::Red(probe.found.clone()),
        ProbeClass::EtcdCut => Class::EtcdCut,
        // Who has never answered may be behind a path that is broken from the beginning.
        ProbeClass::Silent if probe.answered => Class::Silent,
        ProbeClass::Silent => Class::Unproven,
        ProbeClass::Unknown => match probe.denied_since {
            Some(since) => Class::Denied(since, probe.found.clone()),
            None if probe.heard => Class::Healthy,
            None => Class::Unproven,
        },
    }
}

enum Conditions {
    Fine,
    /// `Ready=Unknown`: its kubelet has not been heard of, which says nothing about its API server.
    Unknown(Class),
    Bad(Class),
}

/// Conditions that must be `False` where present (Gardener's node health check).
const PRESSURES: [&str; 4] = ["DiskPressure", "MemoryPressure", "NetworkUnavailable", "PIDPressure"];
fn conditions(node: &NodeView) -> Conditions {
    let status = |kind: &str| node.conditions.iter().find(|c| c.kind == kind).map(|c| c.status.as_str());
    let unknown = match status("Ready") {
        Some("True") => false,
        Some("Unknown") => true,
        Some(other) => return Conditions::Bad(Class::NotReady(format!("Ready={other}"))),
        None => return Conditions::Bad(Class::NotReady("no condition Ready".to_owned())),
    };
    let pressure = PRESSURES.iter().find_map(|kind| match status(kind) {
        None | Some("False") => None,
        // Who writes Ready=Unknown writes these Unknown as well: the same news.
        Some("Unknown") if unknown => None,
        Some(other) => Some(Class::Pressure(format!("{kind}={other}"))),
    });
    match pressure {
        Some(pressure) => Conditions::Bad(pressure),
        None if unknown => Conditions::Unknown(Class::NotReady("Ready=Unknown".to_owned())),
        None => Conditions::Fine,
    }
}

impl Class {
    /// The word for metrics, logs and the status page.
    pub fn word(&self) -> &'static str {
        match self {
            Class::Healthy => "healthy",
            Class::Maintenance(_) => "maintenance",
            Class::NotReady(_) => "not_ready",
            Class::Pressure(_) => "pressure",
            Class::NoAddress => "no_address",
            Class::Refused => "refused",
            Class::Shutdown => "shutdown",
            Class::Red(_) => "red",
            Class::EtcdCut => "etcd_cut",
            Class::Silent => "silent",
            Class::Denied(..) => "denied",
            Class::Unproven => "unproven",
            Class::Absent => "absent",
        }
    }

    /// Whether the API server itself is known not to serve.
    pub fn is_bad(&self) -> bool {
        matches!(self, Class::Refused | Class::Shutdown | Class::Red(_) | Class::EtcdCut | Class::Silent)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::Healthy => f.write_str("healthy"),
            Class::Maintenance(mark) => write!(f, "maintenance ({mark})"),
            Class::NotReady(why) | Class::Pressure(why) => f.write_str(why),
            Class::NoAddress => f.write_str("no InternalIP"),
            Class::Refused => f.write_str("its API server does not listen"),
            Class::Shutdown => f.write_str("its API server shuts down"),
            Class::Red(found) => write!(f, "its API server says: {found}"),
            Class::EtcdCut => f.write_str("its API server has lost its etcd"),
            Class::Silent => f.write_str("it does not answer any more"),
            Class::Denied(_, found) => write!(f, "its API server refuses us: {found}"),
            Class::Unproven => f.write_str("its API server has not answered yet"),
            Class::Absent => f.write_str("its Node is gone"),
        }
    }
}

#[cfg(test)]
mod tests;
