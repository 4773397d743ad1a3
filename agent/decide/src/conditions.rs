//! The conditions `LoadBalancerReady` and `EndpointsHealthy` of the exposure's status.
//!
//! Others may keep conditions in the same list: theirs stay as they are, in their place. A condition's
//! `lastTransitionTime` moves only when its status flips, and nothing is written while nothing but time has passed.

use crate::desired::{BalancerStatus, Observed};
use crate::endpoints::Choice;
use crate::health::{Class, Verdict};
use crate::reason::Reason;
use crate::status::Outcome;

/// Whether the balancer is there and ready.
pub const LOAD_BALANCER_READY: &str = "LoadBalancerReady";
/// Whether every control-plane node may serve.
pub const ENDPOINTS_HEALTHY: &str = "EndpointsHealthy";

/// An entry of `status.conditions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub kind: String,
    /// `status`.
    pub status: String,
    /// `reason`.
    pub reason: String,
    /// `message`.
    pub message: String,
    /// `codes`.
    pub codes: Vec<String>,
    /// `lastTransitionTime` in seconds since 1970.
    pub since: i64,
    /// `lastUpdateTime` in seconds since 1970.
    pub updated: i64,
}

/// What holds now, without times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `type`.
    pub kind: &'static str,
    /// `status`: `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// `reason`.
    pub reason: Reason,
    /// `message`.
    pub message: String,
}

/// The balancer. `known`: it was read; `paused` and `contested` (fields that somebody else changes again and again)
/// name the reason while the balancer serves all the same.
pub fn load_balancer_ready(
    outcome: &Outcome,
    known: bool,
    observed: Option<&Observed>,
    paused: bool,
    contested: &[String],
) -> Finding {
    let found = |status, reason, message| Finding { kind: LOAD_BALANCER_READY, status, reason, message };
    let serving = observed.filter(|o| o.status == BalancerStatus::Ready).and_then(Observed::ingress);
    let status = match (serving, known) {
        (Some(_), _) => "True",
        (None, true) => "False",
        (None, false) => "Unknown",
    };
    match outcome {
        Outcome::Failed(failure) => found("False", failure.reason(), failure.message.clone()),
        _ if paused => {
            let what = "paused by annotation: nothing is written to the cloud nor to spec.endpoints";
            found(status, Reason::Paused, what.to_owned())
        }
        _ if !contested.is_empty() => found(
            status,
            Reason::ForeignWriter,
            format!("somebody else keeps changing {}; repaired every 10 minutes only", contested.join(", ")),
        ),
        Outcome::Done(Some(ip)) => found("True", Reason::LoadBalancerReady, format!("ready at {ip}")),
        Outcome::Done(None) => found(status, Reason::LoadBalancerPending, "there is no load balancer".to_owned()),
        Outcome::Waiting(_) if serving.is_some() => {
            found("True", Reason::LoadBalancerReady, "ready; a change is under way".to_owned())
        }
        Outcome::Waiting(waiting) => found(status, Reason::LoadBalancerPending, waiting.to_string()),
    }
}

/// The nodes, by their verdicts, whoever decides the endpoints.
pub fn endpoints_healthy(choice: &Choice, verdicts: Option<&[Verdict]>) -> Finding {
    let found = |status, reason, message| Finding { kind: ENDPOINTS_HEALTHY, status, reason, message };
    if let Some(frozen) = choice.frozen {
        return found("False", Reason::TargetsFrozen, format!("{frozen}: the last good set stays"));
    }
    let Some(verdicts) = verdicts else {
        return found("Unknown", Reason::NodesUnknown, "the Nodes have not been listed yet".to_owned());
    };
    let ill = verdicts.iter().filter(|verdict| verdict.class != Class::Healthy);
    let mut ill: Vec<String> = ill.map(|verdict| format!("{}: {}", verdict.node, verdict.class)).collect();
    ill.sort();
    if ill.is_empty() {
        let count = verdicts.len();
        return found("True", Reason::EndpointsHealthy, format!("all {count} control-plane nodes are healthy"));
    }
    found("False", Reason::NodesUnhealthy, ill.join("; "))
}

/// The whole list as it should stand, or `None` where it says so already.
pub fn merged(previous: &[Condition], findings: &[Finding], now: i64) -> Option<Vec<Condition>> {
    let mut list = previous.to_vec();
    for finding in findings {
        let reason = finding.reason.word();
        let new = Condition {
            kind: finding.kind.to_owned(),
            status: finding.status.to_owned(),
            reason: reason.to_owned(),
            message: finding.message.clone(),
            codes: Vec::new(),
            since: now,
            updated: now,
        };
        match list.iter_mut().find(|condition| condition.kind == finding.kind) {
            None => list.push(new),
            Some(old) if old.status == new.status && old.reason == reason && old.message == new.message => {}
            Some(old) => {
                let since = if old.status == new.status { old.since } else { now };
                *old = Condition { since, ..new };
            }
        }
    }
    (list != previous).then_some(list)
}

/// Whether others keep conditions in the list, so that it must not be replaced blindly.
pub fn has_foreign(list: &[Condition]) -> bool {
    list.iter().any(|condition| condition.kind != LOAD_BALANCER_READY && condition.kind != ENDPOINTS_HEALTHY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Failure, Waiting};

    fn finding(status: &'static str, message: &str) -> Finding {
        let reason = Reason::LoadBalancerReady;
        Finding { kind: LOAD_BALANCER_READY, status, reason, message: message.to_owned() }
    }

    fn foreign() -> Condition {
        Condition { kind: "Theirs".to_owned(), status: "Progressing".to_owned(), since: 7, ..Condition::default() }
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let first = merged(&[], &[finding("True", "a")], 1).unwrap();
        let reworded = merged(&first, &[finding("True", "b")], 2).unwrap();
        assert_eq!((reworded[0].since, reworded[0].updated), (1, 2));
        let flipped = merged(&reworded, &[finding("False", "b")], 3).unwrap();
        assert_eq!((flipped[0].since, flipped[0].updated), (3, 3));
    }

    #[test]
    fn nothing_new_is_nothing_to_write() {
        let list = merged(&[foreign()], &[finding("True", "a")], 1).unwrap();
        assert_eq!(merged(&list, &[finding("True", "a")], 99), None);
    }

    #[test]
    fn conditions_of_others_stay_as_they_are() {
        let list = merged(&[foreign()], &[finding("True", "a")], 1).unwrap();
        assert_eq!(list[0], foreign());
        assert!(has_foreign(&list) && !has_foreign(&list[1..]));
    }

    #[test]
    fn a_failure_gives_its_own_reason() {
        let failure = Failure { message: "m".to_owned(), codes: vec!["ERR_INFRA_UNAUTHENTICATED".to_owned()] };
        let found = load_balancer_ready(&Outcome::Failed(failure), false, None, true, &[]);
        assert_eq!((found.status, found.reason), ("False", Reason::CredentialsInvalid));
        let waiting = load_balancer_ready(&Outcome::Waiting(Waiting::Nodes), false, None, false, &[]);
        assert_eq!((waiting.status, waiting.reason), ("Unknown", Reason::LoadBalancerPending));
        let paused = load_balancer_ready(&Outcome::Waiting(Waiting::Nodes), true, None, true, &[]);
        assert_eq!((paused.status, paused.reason), ("False", Reason::Paused));
    }

    #[test]
    fn the_nodes_that_are_ill_are_named_and_the_others_are_not() {
        let verdict = |node: &str, class| Verdict { node: node.to_owned(), class, ..Verdict::default() };
        let well = [verdict("a", Class::Healthy), verdict("b", Class::Healthy)];
        let said = |choice: &Choice, verdicts| {
            let finding = endpoints_healthy(choice, verdicts);
            (finding.status, finding.reason, finding.message)
        };
        let choice = Choice::default();
        let all = ("True", Reason::EndpointsHealthy, "all 2 control-plane nodes are healthy".to_owned());
        assert_eq!(said(&choice, Some(&well)), all);
        let ill = [verdict("b", Class::NoAddress), verdict("a", Class::Silent), verdict("c", Class::Healthy)];
        let (status, reason, message) = said(&choice, Some(&ill));
        assert_eq!((status, reason), ("False", Reason::NodesUnhealthy));
        assert_eq!(message, format!("a: {}; b: {}", Class::Silent, Class::NoAddress));
        assert_eq!(said(&choice, None).0, "Unknown");
        let frozen = Choice { frozen: Some(crate::endpoints::Frozen::NoNodes), ..Choice::default() };
        assert_eq!(said(&frozen, Some(&well)).1, Reason::TargetsFrozen);
    }
}
