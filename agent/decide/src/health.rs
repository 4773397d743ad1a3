//! Evidence about one control-plane node, and the verdict on it.
//!
//! One function answers "does this node serve?" for the watch filter and for the choice of endpoints alike, so
//! they cannot disagree. The rows of the design's evidence table that need probes come with the probes; without
//! them the Node's conditions and marks alone decide.
//!
//! Deliberately not here: rules over several nodes ([`crate::endpoints`]) and any memory.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::settings::Health;

/// Operator's mark: take this node out of the balancer.
pub const DRAIN: &str = "exposure.gardener.cloud/drain";
/// The agent's own mark before a planned shutdown; holds the boot ID it is valid for.
pub const DRAIN_BOOT: &str = "exposure.gardener.cloud/drain-boot";
/// Label that keeps a node out of load balancers, whatever its value.
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Label of a node that is being updated in place now (not of every candidate).
const SELECTED_FOR_UPDATE: &str = "node.machine.sapcloud.io/selected-for-update";
/// Taint that cluster-autoscaler sets right before it drains a node it removes.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// Taint of a node that an operator has declared dead.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Conditions that must be `False` where present (Gardener's node health check).
const PRESSURES: [&str; 4] = ["DiskPressure", "MemoryPressure", "NetworkUnavailable", "PIDPressure"];
/// Reasons of the condition `InPlaceUpdate` between choice and success.
const UPDATING: [&str; 4] = ["SelectedForUpdate", "DrainSuccessful", "ReadyForUpdate", "UpdateFailed"];

/// A Node as far as a verdict needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: evidence belongs to it, not to the name.
    pub uid: String,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`, those of this project only.
    pub annotations: BTreeMap<String, String>,
    /// Keys of `spec.taints`.
    pub taints: Vec<String>,
    /// `status.addresses` in their order.
    pub addresses: Vec<NodeAddress>,
    /// `status.conditions`.
    pub conditions: Vec<Condition>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: String,
}

/// An entry of `status.addresses`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NodeAddress {
    /// `Hostname`, `InternalIP`, `ExternalIP`, `InternalDNS`, `ExternalDNS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address itself.
    pub address: String,
}

/// An entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub kind: String,
    /// `status`.
    pub status: String,
    /// `reason`.
    pub reason: String,
}

/// What is to become of a node's target.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Whether its conditions let it serve, whatever its marks say.
    pub serves: bool,
}

/// The classes of verdicts: a closed set, used as a metric label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It serves, or nothing says otherwise.
    Healthy,
    /// It serves, but somebody has marked it for maintenance.
    Maintenance(Mark),
    /// Its condition `Ready` is missing or not `True`.
    NotReady(String),
    /// A pressure condition is not `False`.
    Pressure(String),
    /// It has no InternalIP: left out and reported, whatever else holds.
    NoAddress,
}

/// Why a node is marked for maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// `metadata.deletionTimestamp`.
    Deletion,
    /// Condition `Terminating`, set by machine-controller-manager before it drains.
    Terminating,
    /// Chosen for an in-place update.
    InPlaceUpdate,
    /// Taint of cluster-autoscaler.
    ClusterAutoscaler,
    /// Taint `out-of-service`.
    OutOfService,
    /// Label `exclude-from-external-load-balancers`.
    Excluded,
    /// Drained by an operator, or by its own agent for a planned shutdown.
    Drained,
}

/// The verdict on a node by what its Node object says.
///
/// Source: Gardener's `CheckNode` for the conditions, Gardener contract section 4 for the marks.
pub fn verdict(node: &NodeView, health: &Health) -> Verdict {
    let ip = internal_ip(node);
    let mark = health.maintenance.then(|| mark(node)).flatten();
    let unhealthy = health.conditions.then(|| unhealthy(node)).flatten();
    let serves = unhealthy.is_none();
    let class = match (ip, mark, unhealthy) {
        (None, _, _) => Class::NoAddress,
        (Some(_), Some(mark), _) => Class::Maintenance(mark),
        (Some(_), None, Some(class)) => class,
        (Some(_), None, None) => Class::Healthy,
    };
    Verdict {
        node: node.name.clone(),
        uid: node.uid.clone(),
        ip,
        addresses: node.addresses.iter().filter(|address| valid(address)).cloned().collect(),
        class,
        serves,
    }
}

/// Whether labels fit a selector of the form `key`, `key=value`, joined by commas.
pub fn selected(labels: &BTreeMap<String, String>, selector: &str) -> bool {
    let terms = || selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms().all(|term| match term.split_once('=') {
        None => labels.contains_key(term),
        Some((key, value)) => labels.get(key.trim()).is_some_and(|v| v == value.trim_start_matches('=').trim()),
    })
}

/// The first InternalIP that parses (the balancer knows one address per target).
fn internal_ip(node: &NodeView) -> Option<IpAddr> {
    node.addresses.iter().filter(|address| address.kind == "InternalIP").find_map(|a| a.address.parse().ok())
}

fn mark(node: &NodeView) -> Option<Mark> {
    let condition = |kind: &str| node.conditions.iter().find(|condition| condition.kind == kind);
    let tainted = |key: &str| node.taints.iter().any(|taint| taint == key);
    let in_place = condition("InPlaceUpdate").is_some_and(|c| UPDATING.contains(&c.reason.as_str()))
        || node.labels.contains_key(SELECTED_FOR_UPDATE);
    let boot_mark = node.annotations.get(DRAIN_BOOT);
    let drained = node.annotations.get(DRAIN).is_some_and(|value| value == "true")
        || boot_mark.is_some_and(|boot| !boot.is_empty() && *boot == node.boot_id);
    [
        (node.deleting, Mark::Deletion),
        (condition("Terminating").is_some_and(|c| c.status == "True"), Mark::Terminating),
        (in_place, Mark::InPlaceUpdate),
        (tainted(TO_BE_DELETED), Mark::ClusterAutoscaler),
        (tainted(OUT_OF_SERVICE), Mark::OutOfService),
        (node.labels.contains_key(EXCLUDE), Mark::Excluded),
        (drained, Mark::Drained),
    ]
    .into_iter()
    .find_map(|(holds, mark)| holds.then_some(mark))
}

fn unhealthy(node: &NodeView) -> Option<Class> {
    let status = |kind: &str| node.conditions.iter().find(|c| c.kind == kind).map(|c| c.status.as_str());
    match status("Ready") {
        Some("True") => {}
        Some(other) => return Some(Class::NotReady(format!("Ready={other}"))),
        None => return Some(Class::NotReady("no condition Ready".to_owned())),
    }
    PRESSURES.iter().find_map(|kind| match status(kind) {
        None | Some("False") => None,
        Some(other) => Some(Class::Pressure(format!("{kind}={other}"))),
    })
}

/// What Gardener's validation accepts: a single bad address would have the whole object refused.
fn valid(address: &NodeAddress) -> bool {
    match address.kind.as_str() {
        "InternalIP" | "ExternalIP" => address.address.parse::<IpAddr>().is_ok(),
        "Hostname" | "InternalDNS" | "ExternalDNS" => dns_subdomain(&address.address),
        _ => false,
    }
}

/// A DNS-1123 subdomain.
fn dns_subdomain(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
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
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::Healthy => f.write_str("healthy"),
            Class::Maintenance(mark) => write!(f, "maintenance ({mark})"),
            Class::NotReady(why) | Class::Pressure(why) => f.write_str(why),
            Class::NoAddress => f.write_str("no InternalIP"),
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mark::Deletion => "being deleted",
            Mark::Terminating => "condition Terminating",
            Mark::InPlaceUpdate => "in-place update",
            Mark::ClusterAutoscaler => "taint ToBeDeletedByClusterAutoscaler",
            Mark::OutOfService => "taint out-of-service",
            Mark::Excluded => "label exclude-from-external-load-balancers",
            Mark::Drained => "drained",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeView {
        NodeView {
            name: "n".to_owned(),
            addresses: vec![NodeAddress { kind: "InternalIP".to_owned(), address: "10.0.0.1".to_owned() }],
            conditions: vec![condition("Ready", "True", "")],
            boot_id: "boot-1".to_owned(),
            ..NodeView::default()
        }
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition { kind: kind.to_owned(), status: status.to_owned(), reason: reason.to_owned() }
    }

    fn class_of(change: impl FnOnce(&mut NodeView)) -> Class {
        let mut node = node();
        change(&mut node);
        verdict(&node, &Health::default()).class
    }

    #[test]
    fn a_ready_node_is_healthy() {
        assert_eq!(class_of(|_| {}), Class::Healthy);
    }

    #[test]
    fn conditions_count_as_gardener_counts_them() {
        let ready = |status: &'static str| class_of(move |n| n.conditions = vec![condition("Ready", status, "")]);
        assert_eq!(ready("False").word(), "not_ready");
        assert_eq!(ready("Unknown").word(), "not_ready");
        assert_eq!(class_of(|n| n.conditions.clear()).word(), "not_ready");
        for kind in PRESSURES {
            for (status, word) in [("True", "pressure"), ("Unknown", "pressure"), ("False", "healthy")] {
                assert_eq!(
                    class_of(|n| n.conditions.push(condition(kind, status, ""))).word(),
                    word,
                    "{kind}={status}"
                );
            }
        }
        assert_eq!(class_of(|n| n.conditions.push(condition("KernelDeadlock", "True", ""))), Class::Healthy);
    }

    #[test]
    fn every_mark_of_maintenance_is_seen() {
        let label = |key: &'static str| move |n: &mut NodeView| drop(n.labels.insert(key.to_owned(), String::new()));
        let taint = |key: &'static str| move |n: &mut NodeView| n.taints.push(key.to_owned());
        let note = |key: &'static str, value: &'static str| {
            move |n: &mut NodeView| drop(n.annotations.insert(key.to_owned(), value.to_owned()))
        };
        let maintenance = Class::Maintenance;
        assert_eq!(class_of(|n| n.deleting = true), maintenance(Mark::Deletion));
        assert_eq!(
            class_of(|n| n.conditions.push(condition("Terminating", "True", "ScaleDown"))),
            maintenance(Mark::Terminating)
        );
        assert_eq!(class_of(label(SELECTED_FOR_UPDATE)), maintenance(Mark::InPlaceUpdate));
        assert_eq!(class_of(taint(TO_BE_DELETED)), maintenance(Mark::ClusterAutoscaler));
        assert_eq!(class_of(taint(OUT_OF_SERVICE)), maintenance(Mark::OutOfService));
        assert_eq!(class_of(label(EXCLUDE)), maintenance(Mark::Excluded));
        assert_eq!(class_of(note(DRAIN, "true")), maintenance(Mark::Drained));
        assert_eq!(class_of(note(DRAIN_BOOT, "boot-1")), maintenance(Mark::Drained));
        for reason in UPDATING {
            assert_eq!(
                class_of(|n| n.conditions.push(condition("InPlaceUpdate", "True", reason))),
                maintenance(Mark::InPlaceUpdate)
            );
        }
    }

    #[test]
    fn marks_that_hit_every_node_of_a_rollout_are_none() {
        let none = |change: &dyn Fn(&mut NodeView)| assert_eq!(class_of(|n| change(n)), Class::Healthy);
        none(&|n| n.taints.push("deployment.machine.sapcloud.io/prefer-no-schedule".to_owned()));
        none(&|n| n.taints.push("node.kubernetes.io/unschedulable".to_owned()));
        none(&|n| n.taints.push("DeletionCandidateOfClusterAutoscaler".to_owned()));
        none(&|n| n.conditions.push(condition("InPlaceUpdate", "True", "CandidateForUpdate")));
        none(&|n| n.conditions.push(condition("InPlaceUpdate", "True", "UpdateSuccessful")));
        none(&|n| drop(n.annotations.insert(DRAIN.to_owned(), "false".to_owned())));
        none(&|n| drop(n.annotations.insert(DRAIN_BOOT.to_owned(), "an earlier boot".to_owned())));
    }

    #[test]
    fn a_source_that_is_switched_off_says_nothing() {
        let mut node = node();
        node.deleting = true;
        node.conditions.clear();
        let off = Health { conditions: false, maintenance: false, ..Health::default() };
        assert_eq!(verdict(&node, &off).class, Class::Healthy);
    }

    #[test]
    fn a_node_without_a_usable_internal_ip_is_left_out() {
        assert_eq!(class_of(|n| n.addresses.clear()), Class::NoAddress);
        assert_eq!(class_of(|n| n.addresses[0].address = "not an address".to_owned()), Class::NoAddress);
        assert_eq!(class_of(|n| n.addresses[0].kind = "ExternalIP".to_owned()), Class::NoAddress);
    }

    #[test]
    fn an_address_that_gardener_would_refuse_is_dropped() {
        let mut node = node();
        node.addresses.push(NodeAddress { kind: "Hostname".to_owned(), address: "Has_Underscores".to_owned() });
        node.addresses.push(NodeAddress { kind: "Hostname".to_owned(), address: "node-1.example".to_owned() });
        let kept: Vec<_> = verdict(&node, &Health::default()).addresses.into_iter().map(|a| a.address).collect();
        assert_eq!(kept, ["10.0.0.1", "node-1.example"]);
    }

    #[test]
    fn classes_and_marks_have_words() {
        let text = || "x".to_owned();
        for (class, word, shown) in [
            (Class::Healthy, "healthy", "healthy"),
            (Class::NotReady(text()), "not_ready", "x"),
            (Class::Pressure(text()), "pressure", "x"),
            (Class::NoAddress, "no_address", "no InternalIP"),
            (Class::Maintenance(Mark::Deletion), "maintenance", "maintenance (being deleted)"),
            (Class::Maintenance(Mark::Terminating), "maintenance", "maintenance (condition Terminating)"),
            (Class::Maintenance(Mark::InPlaceUpdate), "maintenance", "maintenance (in-place update)"),
            (
                Class::Maintenance(Mark::ClusterAutoscaler),
                "maintenance",
                "maintenance (taint ToBeDeletedByClusterAutoscaler)",
            ),
            (Class::Maintenance(Mark::OutOfService), "maintenance", "maintenance (taint out-of-service)"),
            (
                Class::Maintenance(Mark::Excluded),
                "maintenance",
                "maintenance (label exclude-from-external-load-balancers)",
            ),
            (Class::Maintenance(Mark::Drained), "maintenance", "maintenance (drained)"),
        ] {
            assert_eq!((class.word(), class.to_string().as_str()), (word, shown));
        }
    }

    #[test]
    fn a_marked_node_serves_as_its_conditions_say() {
        let mut node = node();
        node.deleting = true;
        assert!(verdict(&node, &Health::default()).serves);
        node.conditions.clear();
        let verdict = verdict(&node, &Health::default());
        assert!(!verdict.serves);
        assert_eq!(verdict.class, Class::Maintenance(Mark::Deletion));
    }

    #[test]
    fn a_condition_terminating_that_is_not_true_and_an_empty_boot_are_no_marks() {
        assert_eq!(class_of(|n| n.conditions.push(condition("Terminating", "False", ""))), Class::Healthy);
        let empty = class_of(|n| {
            n.boot_id.clear();
            n.annotations.insert(DRAIN_BOOT.to_owned(), String::new());
        });
        assert_eq!(empty, Class::Healthy);
    }

    #[test]
    fn addresses_are_valid_as_gardener_says() {
        let long = "a".repeat(254);
        for (kind, address, fits) in [
            ("InternalIP", "10.0.0.1", true),
            ("ExternalIP", "fd00::1", true),
            ("InternalIP", "x", false),
            ("ExternalIP", "x", false),
            ("Hostname", "a-1.example", true),
            ("InternalDNS", "a", true),
            ("ExternalDNS", "a", true),
            ("Hostname", "", false),
            ("Hostname", "a..b", false),
            ("Hostname", "-a", false),
            ("Hostname", "a-", false),
            ("Hostname", "A", false),
            ("Hostname", &long, false),
            ("Other", "10.0.0.1", false),
        ] {
            let address = NodeAddress { kind: kind.to_owned(), address: address.to_owned() };
            assert_eq!(valid(&address), fits, "{address:?}");
        }
    }

    #[test]
    fn selectors_are_keys_or_pairs() {
        let labels = BTreeMap::from([("role".to_owned(), "cp".to_owned()), ("empty".to_owned(), String::new())]);
        for (selector, fits) in [
            ("role", true),
            ("role=cp", true),
            ("role==cp", true),
            ("role=worker", false),
            ("empty=", true),
            ("none", false),
        ] {
            assert_eq!(selected(&labels, selector), fits, "{selector}");
        }
        assert!(selected(&labels, "role, empty"));
        assert!(!selected(&labels, "role,none"));
    }
}
