use super::*;
use crate::desired::{AddressForm, AddressMode, BalancerError, BalancerStatus, LoadBalancer, TargetPool};
use std::collections::BTreeMap;

fn observed(status: BalancerStatus, errors: &[&str]) -> Observed {
    let target = Target { name: "n1".to_owned(), ip: [10, 0, 0, 1].into() };
    Observed {
        balancer: LoadBalancer {
            name: "lb".to_owned(),
            plan_id: "p10".to_owned(),
            labels: BTreeMap::new(),
            network_id: "net".to_owned(),
            address: AddressMode::Ephemeral,
            listener: None,
            target_pool: Some(TargetPool { target_port: 443, targets: [target].into(), active_health_check: None }),
            allowed_source_ranges: None,
            keep_source_ranges: false,
            address_form: AddressForm::default(),
        },
        version: "v1".to_owned(),
        status,
        errors: errors
            .iter()
            .map(|kind| BalancerError { kind: (*kind).to_owned(), description: "d".to_owned() })
            .collect(),
        external_address: Some([45, 0, 0, 1].into()),
        private_address: None,
        raw: serde_json::Map::new(),
    }
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(ip) => format!("done {ip:?}"),
        Outcome::Waiting(waiting) => format!("{waiting}, {}%", waiting.progress()),
        Outcome::Failed(failure) => format!("{} {}", failure.message, failure.codes.join(" ")),
    }
}

fn of(status: BalancerStatus, errors: &[&str]) -> String {
    said(&readiness(&observed(status, errors)))
}

#[test]
fn a_balancer_is_ready_by_status_and_address() {
    assert_eq!(of(BalancerStatus::Ready, &[]), "done Some(45.0.0.1)");
    let without = Observed { external_address: None, ..observed(BalancerStatus::Ready, &[]) };
    assert_eq!(said(&readiness(&without)), "waiting for the load balancer (ready, but it has no address yet), 60%");
}

#[test]
fn everything_on_its_way_is_waited_for() {
    let waiting = |what: &str| format!("waiting for the load balancer ({what}), 60%");
    assert_eq!(of(BalancerStatus::Pending, &[]), waiting("STATUS_PENDING"));
    assert_eq!(of(BalancerStatus::Terminating, &[]), waiting("STATUS_TERMINATING"));
    assert_eq!(of(BalancerStatus::Unknown(String::new()), &[]), waiting("no status yet"));
    assert_eq!(of(BalancerStatus::Unknown("NEW".to_owned()), &[]), waiting("NEW"));
    for kind in ["TYPE_TARGET_NOT_ACTIVE", "TYPE_VM_PORT_NOT_CONFIGURED", "TYPE_PORT_NOT_CONFIGURED"] {
        assert_eq!(of(BalancerStatus::Error, &[kind]), waiting(&format!("STATUS_ERROR, which passes: {kind}: d")));
    }
}

#[test]
fn errors_that_stay_have_gardeners_codes_sorted_and_once() {
    let codes = |errors: &[&str]| match readiness(&observed(BalancerStatus::Error, errors)) {
        Outcome::Failed(failure) => failure.codes.join(" "),
        other => said(&other),
    };
    assert_eq!(of(BalancerStatus::Error, &[]), "load balancer `lb` is in STATUS_ERROR: no error details reported ");
    assert_eq!(
        of(BalancerStatus::Error, &["TYPE_TARGET_NOT_ACTIVE", "X"]),
        "load balancer `lb` is in STATUS_ERROR: TYPE_TARGET_NOT_ACTIVE: d; X: d "
    );
    for (kind, code) in [
        ("TYPE_QUOTA_SECGROUP_EXCEEDED", "ERR_INFRA_QUOTA_EXCEEDED"),
        ("TYPE_QUOTA_SECGROUPRULE_EXCEEDED", "ERR_INFRA_QUOTA_EXCEEDED"),
        ("TYPE_IP_EXHAUSTED", "ERR_INFRA_RESOURCES_DEPLETED"),
        ("TYPE_FIP_NOT_CONFIGURED", "ERR_CONFIGURATION_PROBLEM"),
        ("TYPE_FIP_NOT_FOUND", "ERR_CONFIGURATION_PROBLEM"),
        ("TYPE_METRICS_MISCONFIGURED", "ERR_CONFIGURATION_PROBLEM"),
        ("TYPE_LOGS_MISCONFIGURED", "ERR_CONFIGURATION_PROBLEM"),
        ("TYPE_DNS_NOT_CONFIGURED", "ERR_CONFIGURATION_PROBLEM"),
        ("TYPE_INTERNAL", "ERR_RETRYABLE_INFRA_DEPENDENCIES"),
        ("SOMETHING_NEW", ""),
    ] {
        assert_eq!(codes(&[kind]), code, "{kind}");
    }
    let several = ["TYPE_INTERNAL", "TYPE_FIP_NOT_FOUND", "TYPE_FIP_NOT_CONFIGURED"];
    assert_eq!(codes(&several), "ERR_CONFIGURATION_PROBLEM ERR_RETRYABLE_INFRA_DEPENDENCIES");
}

#[test]
fn each_reason_to_wait_has_its_words_and_progress() {
    let text = || "x".to_owned();
    for (waiting, words) in [
        (Waiting::Facts(vec![text(), "y".to_owned()]), "waiting for x; y, 1%"),
        (Waiting::Credentials(text()), "waiting for credentials: x, 1%"),
        (Waiting::Endpoints, "waiting for a first endpoint in spec.endpoints, 1%"),
        (Waiting::Nodes, "waiting for the list of Nodes, 1%"),
        (Waiting::Record, "waiting for finalizer and status.providerStatus to be stored, 1%"),
        (Waiting::Write("creating"), "creating the load balancer, 30%"),
        (Waiting::Balancer(text()), "waiting for the load balancer (x), 60%"),
        (Waiting::Deletion, "waiting for the load balancer to be gone, 60%"),
    ] {
        assert_eq!(said(&Outcome::Waiting(waiting)), words);
    }
}

#[test]
fn a_fault_is_a_failure_unless_credentials_cannot_be_there_yet() {
    let fault =
        |kind| Fault { kind, http_status: None, message: "m".to_owned(), retry_after: None, outcome_unknown: false };
    let missing = Outcome::from_fault(&fault(FaultKind::CredentialsMissing));
    assert_eq!(said(&missing), "waiting for credentials: m, 1%");
    assert_eq!(said(&Outcome::from_fault(&fault(FaultKind::Server))), "m ERR_RETRYABLE_INFRA_DEPENDENCIES");
    let unmet = Unmet { setting: "s", found: "a".to_owned(), wanted: "b".to_owned() };
    let failure = Failure::unmet(&[unmet.clone(), unmet]);
    assert_eq!(failure.message.matches("s: the load balancer has a, b is wanted").count(), 2);
    assert_eq!(failure.codes, ["ERR_CONFIGURATION_PROBLEM"]);
    let why = NotOurs::OtherOwner { label: "l".to_owned(), found: "v".to_owned() };
    let failure = Failure::not_ours("lb", &why);
    assert!(failure.message.starts_with("load balancer `lb` is left alone: its label `l` is `v`"), "{failure:?}");
    assert_eq!(failure.codes, ["ERR_CONFIGURATION_PROBLEM"]);
    let why = NotOurs::Unlabelled(vec!["a".to_owned(), "b".to_owned()]);
    assert!(Failure::not_ours("lb", &why).message.contains("it lacks the labels `a` and `b`"));
}

fn identity() -> Identity {
    let text = || "x".to_owned();
    Identity { name: text(), project_id: text(), region: text(), technical_id: text() }
}

#[test]
fn a_record_says_what_was_seen() {
    let record = Record::of(&identity(), Some(&observed(BalancerStatus::Ready, &[])));
    assert_eq!((record.settled, record.version.as_str(), record.targets.len()), (true, "v1", 1));
    assert!(!Record::of(&identity(), Some(&observed(BalancerStatus::Pending, &[]))).settled);
    let nothing = Record::of(&identity(), None);
    assert_eq!((nothing.settled, nothing.version.as_str(), nothing.targets.len()), (false, "", 0));
}

/// What was reported, stored and reported again.
struct Object(ExposureView);

impl Object {
    fn new() -> Self {
        Self(ExposureView { generation: 1, ..ExposureView::default() })
    }

    fn report(&mut self, operation: Operation, outcome: &Outcome, refresh: bool, now: i64) -> Option<Report> {
        let report = report(&self.0, operation, outcome, None, refresh, now)?;
        let status = &mut self.0.status;
        status.operation = report.operation.clone().or(status.operation.take());
        if let Some(error) = &report.error {
            status.error.clone_from(error);
        }
        status.observed_generation = report.observed_generation.unwrap_or(status.observed_generation);
        if let Some(ip) = report.ingress {
            status.ingress = vec![ip.to_string()];
        }
        Some(report)
    }
}

#[test]
fn a_success_is_reported_once_until_something_is_new() {
    let mut object = Object::new();
    let done = Outcome::Done(Some([45, 0, 0, 1].into()));
    let first = object.report(Operation::Create, &done, false, 10).unwrap();
    let last = first.operation.unwrap();
    assert_eq!(
        (last.kind.as_str(), last.state.as_str(), last.progress, last.at, last.description.as_str()),
        ("Create", "Succeeded", 100, 10, "Successfully reconciled SelfHostedShootExposure")
    );
    assert_eq!((first.error, first.observed_generation), (None, Some(1)));
    assert_eq!(first.ingress, Some([45, 0, 0, 1].into()));
    assert_eq!(object.report(Operation::Reconcile, &done, false, 11), None);
    let refreshed = object.report(Operation::Reconcile, &done, true, 12).unwrap();
    assert_eq!(refreshed.operation.unwrap().at, 12);
    assert_eq!((refreshed.ingress, refreshed.observed_generation), (None, None));
    object.0.generation = 2;
    let newer = object.report(Operation::Reconcile, &done, false, 13).unwrap();
    assert_eq!((newer.observed_generation, newer.operation.unwrap().at), (Some(2), 13));
    let moved = object.report(Operation::Reconcile, &Outcome::Done(Some([45, 0, 0, 2].into())), false, 14).unwrap();
    assert_eq!((moved.ingress, moved.operation), (Some([45, 0, 0, 2].into()), None));
    // An address that is not known is never taken away.
    assert_eq!(object.report(Operation::Reconcile, &Outcome::Done(None), false, 15), None);
}

#[test]
fn waiting_is_no_error_and_observes_no_generation() {
    let mut object = Object::new();
    let waiting = Outcome::Waiting(Waiting::Write("creating"));
    let first = object.report(Operation::Create, &waiting, false, 10).unwrap();
    assert_eq!((first.error, first.observed_generation, first.ingress), (None, None, None));
    let last = first.operation.unwrap();
    let text = "Reconciling the SelfHostedShootExposure: creating the load balancer";
    assert_eq!((last.state.as_str(), last.progress, last.description), ("Processing", 30, text.to_owned()));
    assert_eq!(object.report(Operation::Create, &waiting, false, 11), None);
    let next = object.report(Operation::Delete, &Outcome::Waiting(Waiting::Deletion), false, 12).unwrap();
    assert_eq!(
        next.operation.unwrap().description,
        "Deleting the SelfHostedShootExposure: waiting for the load balancer to be gone"
    );
}

#[test]
fn a_failure_is_an_error_until_something_else_comes() {
    let mut object = Object::new();
    let failed = |codes: &[&str]| {
        let codes = codes.iter().map(ToString::to_string).collect();
        Outcome::Failed(Failure { message: "broken".to_owned(), codes })
    };
    let first = object.report(Operation::Reconcile, &failed(&["A"]), false, 10).unwrap();
    let last = first.operation.unwrap();
    assert_eq!((last.state.as_str(), last.progress), ("Error", 50));
    assert_eq!(last.description, "Error reconciling SelfHostedShootExposure: broken");
    assert_eq!(first.error.unwrap().unwrap().codes, ["A"]);
    assert_eq!(first.observed_generation, Some(1));
    assert_eq!(object.report(Operation::Reconcile, &failed(&["A"]), false, 11), None);
    let other = object.report(Operation::Reconcile, &failed(&["B"]), false, 12).unwrap();
    assert_eq!((other.error.unwrap().unwrap().codes, other.operation.unwrap().at), (vec!["B".to_owned()], 12));
    let deleting = object.report(Operation::Delete, &failed(&["B"]), false, 13).unwrap();
    assert_eq!(deleting.operation.unwrap().description, "Error deleting SelfHostedShootExposure: broken");
    let waiting = object.report(Operation::Reconcile, &Outcome::Waiting(Waiting::Nodes), false, 14).unwrap();
    assert_eq!(waiting.error, Some(None));
}

#[test]
fn a_record_is_written_when_it_differs() {
    let mut view = ExposureView { generation: 1, ..ExposureView::default() };
    let record = Record::of(&identity(), None);
    let waiting = Outcome::Waiting(Waiting::Record);
    let first = report(&view, Operation::Create, &waiting, Some(&record), false, 10).unwrap();
    assert_eq!(first.record.as_ref(), Some(&record));
    view.status.operation = first.operation;
    view.status.record = first.record;
    assert_eq!(report(&view, Operation::Create, &waiting, Some(&record), false, 11), None);
    let settled = Record { settled: true, ..record };
    let next = report(&view, Operation::Create, &waiting, Some(&settled), false, 12).unwrap();
    assert_eq!((next.record, next.operation), (Some(settled), None));
}

#[test]
fn a_token_endpoint_that_cannot_be_reached_is_no_invalid_credential() {
    let reason = |kind| {
        let message = "m".to_owned();
        let fault = Fault { kind, http_status: None, message, retry_after: None, outcome_unknown: false };
        Failure::of(&fault).reason()
    };
    assert_eq!(reason(FaultKind::Credentials), Reason::CredentialsInvalid);
    assert_eq!(reason(FaultKind::Unauthorized), Reason::CredentialsInvalid);
    for kind in [FaultKind::Unreachable, FaultKind::TimedOut, FaultKind::Server, FaultKind::Malformed] {
        assert_eq!(reason(kind), Reason::LoadBalancerError, "{kind:?}");
    }
    assert_eq!(reason(FaultKind::Invalid), Reason::ConfigurationInvalid);
}
