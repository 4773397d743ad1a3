//! What is reported: the outcome of a pass as `status` of the exposure.
//!
//! Three outcomes: done, waiting, failed. Waiting is not an error: it is `Processing` without a `lastError`,
//! because Gardener's callers give up about 30 s after they see one. Nothing to write is a result, too: times alone
//! never cause a write.
//!
//! Deliberately not here: the JSON of the patch and its sending.

mod readiness;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::desired::{Identity, Observed, Target};
use crate::exposure::{ExposureView, Operation};
use crate::plan::{NotOurs, Unmet};
use crate::reason::Reason;
use crate::retry::{Fault, FaultKind};

pub use readiness::readiness;

/// What a pass came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The balancer is as desired and ready (or gone, when that is desired); its address, where it has one.
    Done(Option<IpAddr>),
    /// Something takes its time; what, for people.
    Waiting(Waiting),
    /// Somebody has to do something, or another try will.
    Failed(Failure),
}

/// What is waited for: a closed set with details for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Facts about the shoot, each with the reason why it is not known.
    Facts(Vec<String>),
    /// Credentials that cannot be there yet.
    Credentials(String),
    /// A first endpoint.
    Endpoints,
    /// Nodes to be listed for the first time.
    Nodes,
    /// Finalizer and record, which come before the balancer.
    Record,
    /// The write that makes or changes the balancer.
    Write(&'static str),
    /// The balancer, with its status.
    Balancer(String),
    /// The deletion of the balancer.
    Deletion,
    /// Gardener, which restores the object's state (annotation `wait-for-state`).
    State,
    /// Somebody to ask for it again: it was handed over (annotation `migrate`).
    HandedOver,
    /// Somebody to resume; what is held back meanwhile.
    Resume(String),
    /// Time to pass before somebody else's changes are undone again.
    Truce,
    /// Time to pass in which a DELETE of somebody else may still arrive.
    LateDelete,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was being done and what was found, in one line without anything that changes from try to try.
    pub message: String,
    /// Gardener's error codes, sorted.
    pub codes: Vec<String>,
}

/// `status` as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Previous {
    /// `lastOperation`.
    pub operation: Option<LastOperation>,
    /// `lastError`.
    pub error: Option<LastError>,
    /// `observedGeneration`.
    pub observed_generation: i64,
    /// `ingress[].ip`.
    pub ingress: Vec<String>,
    /// The identity in `providerStatus`, where it is complete.
    pub recorded: Option<Identity>,
    /// `providerStatus` as it stands, where it is ours.
    pub record: Option<Record>,
    /// `conditions`, everybody's.
    pub conditions: Vec<Condition>,
}

/// `lastOperation`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastOperation {
    /// `type`.
    pub kind: String,
    /// `state`.
    pub state: String,
    /// `progress` in percent.
    pub progress: i32,
    /// `description`.
    pub description: String,
    /// `lastUpdateTime` in seconds since 1970.
    pub at: i64,
}

/// `lastError`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastError {
    /// `description`.
    pub description: String,
    /// `codes`.
    pub codes: Vec<String>,
}

/// `status.providerStatus`: what deletion needs, and the balancer as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where the balancer lives; written before it is made.
    #[serde(flatten)]
    pub identity: Identity,
    /// The targets as last seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<RecordedTarget>,
    /// Whether the balancer served as it was told with `version`: see [`Observed::is_settled`].
    #[serde(default)]
    pub settled: bool,
    /// The version as last seen; empty before there was one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// A target in [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTarget {
    /// `displayName`.
    #[serde(rename = "displayName")]
    pub name: String,
    /// `ip`.
    pub ip: IpAddr,
}

/// What to write into `status`; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `lastOperation`.
    pub operation: Option<LastOperation>,
    /// `lastError`: `Some(None)` clears it.
    pub error: Option<Option<LastError>>,
    /// `observedGeneration`.
    pub observed_generation: Option<i64>,
    /// `ingress`.
    pub ingress: Option<IpAddr>,
    /// `providerStatus`.
    pub record: Option<Record>,
    /// `conditions`, the whole list.
    pub conditions: Option<Vec<Condition>>,
}

/// The report on an outcome, or `None` where `status` says it already.
///
/// `refresh`: somebody asked for the operation and waits for a newer `lastUpdateTime`. `now`: seconds since 1970.
pub fn report(
    view: &ExposureView,
    operation: Operation,
    outcome: &Outcome,
    record: Option<&Record>,
    refresh: bool,
    now: i64,
) -> Option<Report> {
    let previous = &view.status;
    let mut report = Report::default();
    let deleting = operation == Operation::Delete;
    let (state, progress, description, error) = match outcome {
        Outcome::Done(_) => ("Succeeded", 100, "Successfully reconciled SelfHostedShootExposure".to_owned(), None),
        Outcome::Waiting(waiting) => {
            let verb = if deleting { "Deleting" } else { "Reconciling" };
            ("Processing", waiting.progress(), format!("{verb} the SelfHostedShootExposure: {waiting}"), None)
        }
        Outcome::Failed(failure) => {
            let verb = if deleting { "deleting" } else { "reconciling" };
            let description = format!("Error {verb} SelfHostedShootExposure: {}", failure.message);
            let error = LastError { description: description.clone(), codes: failure.codes.clone() };
            ("Error", 50, description, Some(error))
        }
    };
    if let Outcome::Done(Some(ip)) = outcome
        && previous.ingress != [ip.to_string()]
    {
        report.ingress = Some(*ip);
    }
    let finished = !matches!(outcome, Outcome::Waiting(_));
    if finished && previous.observed_generation != view.generation {
        report.observed_generation = Some(view.generation);
    }
    if previous.error != error {
        report.error = Some(error);
    }
    // Who asked for one of these by name waits for its name; and what was migrated is back only when it says so.
    let by_name = |kind: &str| ["Migrate", "Restore"].contains(&operation.word()) || kind == "Migrate";
    let said = previous.operation.as_ref().is_some_and(|last| {
        let same = last.kind == operation.word() || !by_name(&last.kind);
        same && last.state == state && (state == "Succeeded" || last.description == description)
    });
    // A success is written anew for a new generation: its time is what callers compare.
    if !said || refresh || report.error.is_some() || report.observed_generation.is_some() {
        let kind = operation.word().to_owned();
        let state = state.to_owned();
        report.operation = Some(LastOperation { kind, state, progress, description, at: now });
    }
    if let Some(record) = record
        && previous.record.as_ref() != Some(record)
    {
        report.record = Some(record.clone());
    }
    (report != Report::default()).then_some(report)
}

impl Failure {
    /// A failed call to STACKIT.
    pub fn of(fault: &Fault) -> Self {
        let codes = fault.kind.codes().iter().map(|code| (*code).to_owned()).collect();
        Self { message: fault.message.clone(), codes }
    }

    /// The word for it.
    pub fn reason(&self) -> Reason {
        let any = |wanted: &[&str]| self.codes.iter().any(|code| wanted.contains(&code.as_str()));
        if any(&["ERR_INFRA_UNAUTHENTICATED", "ERR_INFRA_UNAUTHORIZED"]) {
            Reason::CredentialsInvalid
        } else if any(&["ERR_CONFIGURATION_PROBLEM"]) {
            Reason::ConfigurationInvalid
        } else {
            Reason::LoadBalancerError
        }
    }

    /// Something that somebody has to change: every mistake in one line.
    pub fn configuration(mistakes: &[String]) -> Self {
        Self { message: mistakes.join("; "), codes: vec!["ERR_CONFIGURATION_PROBLEM".to_owned()] }
    }

    /// A balancer that is not ours.
    pub fn not_ours(name: &str, why: &NotOurs) -> Self {
        let message = format!(
            "load balancer `{name}` is left alone: {why}; rename it or give this exposure another name, or set the \
             labels if it is meant to be ours"
        );
        Self { message, codes: vec!["ERR_CONFIGURATION_PROBLEM".to_owned()] }
    }

    /// Wishes that cannot be met.
    pub fn unmet(unmet: &[Unmet]) -> Self {
        Self::configuration(&unmet.iter().map(ToString::to_string).collect::<Vec<_>>())
    }
}

impl Outcome {
    /// What a failed call to STACKIT comes to.
    pub fn from_fault(fault: &Fault) -> Self {
        if fault.kind == FaultKind::CredentialsMissing {
            return Outcome::Waiting(Waiting::Credentials(fault.message.clone()));
        }
        Outcome::Failed(Failure::of(fault))
    }
}

impl Waiting {
    fn progress(&self) -> i32 {
        match self {
            Waiting::Facts(_)
            | Waiting::Credentials(_)
            | Waiting::Endpoints
            | Waiting::Nodes
            | Waiting::Record
            | Waiting::State
            | Waiting::HandedOver => 1,
            Waiting::Write(_) | Waiting::Resume(_) | Waiting::Truce | Waiting::LateDelete => 30,
            Waiting::Balancer(_) | Waiting::Deletion => 60,
        }
    }
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Waiting::Facts(missing) => write!(f, "waiting for {}", missing.join("; ")),
            Waiting::Credentials(what) => write!(f, "waiting for credentials: {what}"),
            Waiting::Endpoints => f.write_str("waiting for a first endpoint in spec.endpoints"),
            Waiting::Nodes => f.write_str("waiting for the list of Nodes"),
            Waiting::Record => f.write_str("waiting for finalizer and status.providerStatus to be stored"),
            Waiting::Write(what) => write!(f, "{what} the load balancer"),
            Waiting::Balancer(status) => write!(f, "waiting for the load balancer ({status})"),
            Waiting::Deletion => f.write_str("waiting for the load balancer to be gone"),
            Waiting::State => f.write_str("waiting for Gardener to restore the state (annotation wait-for-state)"),
            Waiting::HandedOver => {
                f.write_str("handed over by `migrate`; the annotation `restore` or `reconcile` takes it back")
            }
            Waiting::Resume(held) => {
                write!(f, "paused by the annotation {}; held back until it goes: {held}", crate::exposure::PAUSED)
            }
            Waiting::Truce => f.write_str("somebody else keeps changing it; repaired every 10 minutes only"),
            Waiting::LateDelete => f.write_str(
                "somebody else has deleted the load balancer; it is made again when no late DELETE can arrive any more",
            ),
        }
    }
}

impl Record {
    /// The record of a balancer as observed.
    pub fn of(identity: &Identity, observed: Option<&Observed>) -> Self {
        let target = |target: Target| RecordedTarget { name: target.name, ip: target.ip };
        Self {
            identity: identity.clone(),
            targets: observed.map(|o| o.balancer.targets().into_iter().map(target).collect()).unwrap_or_default(),
            settled: observed.is_some_and(Observed::is_settled),
            version: observed.map(|o| o.version.clone()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
