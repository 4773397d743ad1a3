//! Readiness: what the balancer's own status comes to, once it is as desired.

use super::{Failure, Outcome, Waiting};
use crate::desired::{BalancerError, BalancerStatus, Observed};

/// What a balancer that is as desired comes to by its own status.
///
/// Source: STACKIT facts, sections 3.1 and 3.6; Gardener contract, "Readiness".
pub fn readiness(observed: &Observed) -> Outcome {
    match (&observed.status, observed.ingress()) {
        (BalancerStatus::Ready, Some(ip)) => Outcome::Done(Some(ip)),
        (BalancerStatus::Ready, None) => waiting("ready, but it has no address yet"),
        (BalancerStatus::Pending, _) => waiting("STATUS_PENDING"),
        (BalancerStatus::Terminating, _) => waiting("STATUS_TERMINATING"),
        (BalancerStatus::Unknown(word), _) => waiting(if word.is_empty() { "no status yet" } else { word }),
        (BalancerStatus::Error, _) if transient(&observed.errors) => {
            waiting(&format!("STATUS_ERROR, which passes: {}", describe(&observed.errors)))
        }
        (BalancerStatus::Error, _) => Outcome::Failed(Failure {
            message: format!(
                "load balancer `{}` is in STATUS_ERROR: {}",
                observed.balancer.name,
                describe(&observed.errors)
            ),
            codes: error_codes(&observed.errors),
        }),
    }
}

fn waiting(what: &str) -> Outcome {
    Outcome::Waiting(Waiting::Balancer(what.to_owned()))
}

/// Errors that pass by themselves: the cloud has not seen the machines' ports yet.
fn transient(errors: &[BalancerError]) -> bool {
    const PASSING: [&str; 3] = ["TYPE_TARGET_NOT_ACTIVE", "TYPE_VM_PORT_NOT_CONFIGURED", "TYPE_PORT_NOT_CONFIGURED"];
    !errors.is_empty() && errors.iter().all(|error| PASSING.contains(&error.kind.as_str()))
}

fn describe(errors: &[BalancerError]) -> String {
    if errors.is_empty() {
        return "no error details reported".to_owned();
    }
    let one = |error: &BalancerError| format!("{}: {}", error.kind, error.description);
    errors.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn error_codes(errors: &[BalancerError]) -> Vec<String> {
    let mut codes: Vec<String> = errors
        .iter()
        .filter_map(|error| match error.kind.as_str() {
            "TYPE_QUOTA_SECGROUP_EXCEEDED" | "TYPE_QUOTA_SECGROUPRULE_EXCEEDED" => Some("ERR_INFRA_QUOTA_EXCEEDED"),
            "TYPE_IP_EXHAUSTED" => Some("ERR_INFRA_RESOURCES_DEPLETED"),
            "TYPE_FIP_NOT_CONFIGURED"
            | "TYPE_FIP_NOT_FOUND"
            | "TYPE_METRICS_MISCONFIGURED"
            | "TYPE_LOGS_MISCONFIGURED"
            | "TYPE_DNS_NOT_CONFIGURED" => Some("ERR_CONFIGURATION_PROBLEM"),
            "TYPE_INTERNAL" => Some("ERR_RETRYABLE_INFRA_DEPENDENCIES"),
            _ => None,
        })
        .map(str::to_owned)
        .collect();
    codes.sort();
    codes.dedup();
    codes
}
