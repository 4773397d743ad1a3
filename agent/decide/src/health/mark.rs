//! Marks of maintenance on a Node: somebody wants it out although it serves.
//!
//! Deliberately not here: marks that a rollout puts on every node at once, and cordoning alone.

use std::fmt;

use super::NodeView;

/// Operator's mark: take this node out of the balancer.
pub const DRAIN: &str = "exposure.gardener.cloud/drain";
/// The agent's own mark before a planned shutdown; holds the boot ID it is valid for.
pub const DRAIN_BOOT: &str = "exposure.gardener.cloud/drain-boot";
/// Until when [`DRAIN`] holds (RFC 3339); without it, until somebody takes it away.
pub const DRAIN_UNTIL: &str = "exposure.gardener.cloud/drain-until";
/// When [`DRAIN`] was set (RFC 3339), where the verb `drain` did it; a drain that is forgotten is noticed by it.
pub const DRAINED_AT: &str = "exposure.gardener.cloud/drained-at";
/// Label that keeps a node out of load balancers, whatever its value.
pub(super) const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Label of a node that is being updated in place now (not of every candidate).
pub(super) const SELECTED_FOR_UPDATE: &str = "node.machine.sapcloud.io/selected-for-update";
/// Taint that cluster-autoscaler sets right before it drains a node it removes.
pub(super) const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// Taint of a node that an operator has declared dead.
pub(super) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Reasons of the condition `InPlaceUpdate` between choice and success.
pub(super) const UPDATING: [&str; 4] = ["SelectedForUpdate", "DrainSuccessful", "ReadyForUpdate", "UpdateFailed"];

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

/// The first mark that a Node bears (Gardener contract section 4).
///
/// `wall`: seconds since 1970.
pub(super) fn mark(node: &NodeView, wall: i64) -> Option<Mark> {
    let condition = |kind: &str| node.conditions.iter().find(|condition| condition.kind == kind);
    let tainted = |key: &str| node.taints.iter().any(|taint| taint == key);
    let in_place = condition("InPlaceUpdate").is_some_and(|c| UPDATING.contains(&c.reason.as_str()))
        || node.labels.contains_key(SELECTED_FOR_UPDATE);
    let drained = node.is_drained(wall) || node.is_stopping();
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

impl NodeView {
    /// Whether an operator's drain holds at `wall`, in seconds since 1970.
    pub fn is_drained(&self, wall: i64) -> bool {
        let asked = self.annotations.get(DRAIN).is_some_and(|value| value == "true");
        asked && self.drain_until.is_none_or(|until| wall < until)
    }

    /// Whether its own agent has marked it for a shutdown of the boot that it is in.
    pub fn is_stopping(&self) -> bool {
        self.annotations.get(DRAIN_BOOT).is_some_and(|boot| !boot.is_empty() && *boot == self.boot_id)
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
