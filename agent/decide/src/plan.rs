//! The plan: what has to change so that the balancer is as desired, as a value that can be printed, compared,
//! checked and refused.
//!
//! The diff is made over the serialised form of one type, so a field that is added to
//! [`crate::desired::LoadBalancer`] is compared without a line here. Deliberately not here: sending.

mod words;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::desired::{AddressMode, BalancerStatus, LoadBalancer, Observed};

/// What a pass would do to the balancer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The one step.
    pub step: Step,
    /// Wishes that cannot be met, because the field never changes during a balancer's life.
    pub unmet: Vec<Unmet>,
}

/// The one step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is as desired.
    Nothing,
    /// There is none: POST.
    Create(Box<LoadBalancer>),
    /// It differs: one full PUT that carries the version it was computed from.
    Update(Box<Update>),
    /// It is not wanted any more: DELETE.
    Delete(String),
    /// It is terminating: nothing can be done before it is gone.
    AwaitGone,
    /// It is gone, as it should be.
    Gone,
}

/// A full PUT.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What it was computed from: version and foreign fields come from here.
    pub base: Observed,
    /// The managed fields as they are to be.
    pub wish: LoadBalancer,
    /// What differs, for people.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The field's path, such as `targetPool.targets`.
    pub field: String,
    /// What was read; `None` where it is added.
    pub from: Option<Value>,
    /// What is wanted; `None` where it is removed.
    pub to: Option<Value>,
}

/// A wish about an immutable field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The setting's path.
    pub setting: &'static str,
    /// What was read.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
}

/// Why a balancer of our name is not ours to touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// A label has another value.
    OtherOwner {
        /// The label's key.
        label: String,
        /// The value found.
        found: String,
    },
    /// Labels are missing and nothing on record says that we made it.
    Unlabelled(Vec<String>),
}

/// The step from what was read to what is desired.
///
/// Ownership is the caller's to check first, see [`ownership`]; so is that there is at least one target.
pub fn diff(wish: &LoadBalancer, observed: Option<&Observed>) -> Plan {
    let Some(observed) = observed else {
        return Plan { step: Step::Create(Box::new(wish.clone())), unmet: Vec::new() };
    };
    if observed.status == BalancerStatus::Terminating {
        return Plan { step: Step::AwaitGone, unmet: Vec::new() };
    }
    let (wish, unmet) = reachable(wish, observed);
    let changes = changes(&observed.balancer, &wish);
    let step = if changes.is_empty() {
        Step::Nothing
    } else {
        Step::Update(Box::new(Update { base: observed.clone(), wish, changes }))
    };
    Plan { step, unmet }
}

/// The step towards a balancer that is gone.
pub fn removal(observed: Option<&Observed>) -> Plan {
    let step = match observed {
        None => Step::Gone,
        Some(observed) if observed.status == BalancerStatus::Terminating => Step::AwaitGone,
        Some(observed) => Step::Delete(observed.balancer.name.clone()),
    };
    Plan { step, unmet: Vec::new() }
}

/// Whether a balancer of our name is ours: labels with other values never; labels missing only where `recorded`,
/// which is that `status.providerStatus` names this balancer.
pub fn ownership(observed: &Observed, labels: &BTreeMap<String, String>, recorded: bool) -> Result<(), NotOurs> {
    let mut missing = Vec::new();
    for (label, wanted) in labels {
        match observed.balancer.labels.get(label) {
            Some(found) if found == wanted => {}
            Some(found) => return Err(NotOurs::OtherOwner { label: label.clone(), found: found.clone() }),
            None => missing.push(label.clone()),
        }
    }
    if missing.is_empty() || recorded { Ok(()) } else { Err(NotOurs::Unlabelled(missing)) }
}

/// The wish with immutable fields and others' labels as observed, and what that leaves unmet.
fn reachable(wish: &LoadBalancer, observed: &Observed) -> (LoadBalancer, Vec<Unmet>) {
    let read = &observed.balancer;
    let mut reachable = wish.clone();
    let mut unmet = Vec::new();
    reachable.labels = read.labels.clone();
    reachable.labels.extend(wish.labels.clone());
    if wish.network_id != read.network_id && !read.network_id.is_empty() {
        let (found, wanted) = (read.network_id.clone(), wish.network_id.clone());
        unmet.push(Unmet { setting: "stackit.networkID", found, wanted });
    }
    reachable.network_id.clone_from(&read.network_id);
    unmet.extend(unmet_address(wish.address, read.address));
    reachable.address = read.address;
    reachable.allowed_source_ranges = match (&wish.allowed_source_ranges, &read.allowed_source_ranges) {
        (None, read) => read.clone(),
        (Some(wanted), Some(read)) if wish.keep_source_ranges && !wanted.is_empty() => {
            Some(wanted.union(read).copied().collect())
        }
        (Some(wanted), _) => Some(wanted.clone()),
    };
    // Absent and empty both mean that everybody may connect.
    if reachable.allowed_source_ranges.as_ref().is_some_and(std::collections::BTreeSet::is_empty)
        && read.allowed_source_ranges.is_none()
    {
        reachable.allowed_source_ranges = None;
    }
    (reachable, unmet)
}

/// An ephemeral address is the default rather than a wish: a balancer that the provider extension has promoted to
/// a static one stays as it is without complaint.
fn unmet_address(wanted: AddressMode, found: AddressMode) -> Option<Unmet> {
    let setting = match (wanted, found) {
        (AddressMode::Ephemeral, AddressMode::Ephemeral | AddressMode::Static(_))
        | (AddressMode::Private, AddressMode::Private) => return None,
        (AddressMode::Static(wanted), AddressMode::Static(found)) if wanted == found => return None,
        (AddressMode::Private, _) | (_, AddressMode::Private) => "loadBalancer.privateNetworkOnly",
        (AddressMode::Static(_), _) => "loadBalancer.externalAddress",
    };
    Some(Unmet { setting, found: found.to_string(), wanted: wanted.to_string() })
}

pub(crate) fn changes(from: &LoadBalancer, to: &LoadBalancer) -> Vec<Change> {
    let mut changes = Vec::new();
    // Serialising these plain types cannot fail; a null would show as a change of everything.
    let value = |balancer: &LoadBalancer| serde_json::to_value(balancer).unwrap_or_default();
    compare("", Some(&value(from)), Some(&value(to)), &mut changes);
    changes
}

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    let from = from.filter(|value| !value.is_null());
    let to = to.filter(|value| !value.is_null());
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let keys = from.keys().chain(to.keys().filter(|key| !from.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, from.get(key), to.get(key), changes);
            }
        }
        // Lists are sets here: what is only on one side has left or come.
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            let only = |here: &[Value], there: &[Value]| -> Vec<Value> {
                here.iter().filter(|item| !there.contains(item)).cloned().collect()
            };
            let field = || path.to_owned();
            changes.extend(only(from, to).into_iter().map(|v| Change { field: field(), from: Some(v), to: None }));
            changes.extend(only(to, from).into_iter().map(|v| Change { field: field(), from: None, to: Some(v) }));
        }
        (from, to) => changes.push(Change { field: path.to_owned(), from: from.cloned(), to: to.cloned() }),
    }
}

impl Update {
    /// Whether targets leave with it.
    pub fn removes_targets(&self) -> bool {
        !self.base.balancer.targets().is_subset(&self.wish.targets())
    }
}

impl Change {
    /// The part of the balancer that it concerns: a closed set, used as a metric label.
    pub fn part(&self) -> &'static str {
        const PARTS: [(&str, &str); 9] = [
            ("targetPool.targets", "targets"),
            ("targetPool.activeHealthCheck", "active_health_check"),
            ("targetPool", "target_pool"),
            ("listener", "listener"),
            ("planId", "plan"),
            ("labels", "labels"),
            ("networkId", "address"),
            ("address", "address"),
            ("allowedSourceRanges", "access_control"),
        ];
        PARTS.iter().find(|(path, _)| self.field.starts_with(path)).map_or("load_balancer", |(_, part)| part)
    }
}

#[cfg(test)]
mod tests;
