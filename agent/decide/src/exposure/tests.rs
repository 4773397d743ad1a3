use super::provider_config::{PROVIDER_API, PROVIDER_KIND};
use super::*;
use crate::status::{LastOperation, Record, RecordedTarget};
use serde_json::json;

fn facts() -> Facts {
    Facts {
        region: Ok("RegionOne".to_owned()),
        technical_id: Ok("shoot--p--s".to_owned()),
        network_id: Ok("net".to_owned()),
        project_id: Ok("project".to_owned()),
        egress: Egress::Unreadable,
        force_deletion: false,
        file_ranges: FileRanges::NotSet,
    }
}

fn view() -> ExposureView {
    ExposureView { name: "s".to_owned(), port: 443, kind: "stackit".to_owned(), ..ExposureView::default() }
}

fn config(config: Value) -> Result<ExposureSpec, Unresolved> {
    resolve(&ExposureView { provider_config: Some(config), ..view() }, vec![], &facts())
}

#[test]
fn a_complete_exposure_resolves_and_the_old_region_name_is_met() {
    let spec = resolve(&view(), vec![], &facts()).unwrap();
    assert_eq!((spec.identity.region.as_str(), spec.identity.name.as_str()), ("eu01", "shoot--p--s-exp-s"));
    assert_eq!(spec.source_ranges, None);
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let nothing = || Err("x".to_owned());
    let facts = Facts { region: nothing(), technical_id: nothing(), network_id: nothing(), ..facts() };
    let Err(Unresolved::Waiting(missing)) = resolve(&view(), vec![], &facts) else { panic!() };
    assert_eq!(missing.len(), 3);
}

#[test]
fn a_recorded_identity_that_differs_is_refused() {
    let mut view = view();
    let recorded = Identity {
        name: "shoot--p--s-exp-s".to_owned(),
        project_id: "another".to_owned(),
        region: "eu01".to_owned(),
        technical_id: "shoot--p--s".to_owned(),
    };
    view.status.recorded = Some(recorded);
    let Err(Unresolved::Configuration(mistakes)) = resolve(&view, vec![], &facts()) else { panic!() };
    assert!(mistakes[0].starts_with("stackit.projectID: `project` differs from `another`"), "{mistakes:?}");
}

#[test]
fn a_provider_config_is_read_strictly_and_all_mistakes_come_at_once() {
    let Err(Unresolved::Configuration(mistakes)) = config(json!({
        "apiVersion": PROVIDER_API, "kind": "Other", "extra": 1,
        "loadBalancer": {"planID": 7, "accessControl": {"allowedSourceRanges": ["10.0.0.1/8", "", "x", 3]}},
    })) else {
        panic!()
    };
    let ranges = "spec.providerConfig.loadBalancer.accessControl.allowedSourceRanges";
    assert_eq!(
        mistakes,
        [
            format!("spec.providerConfig.kind: Unsupported value: \"Other\": supported values: \"{PROVIDER_KIND}\""),
            "spec.providerConfig.extra: unknown field".to_owned(),
            "spec.providerConfig.loadBalancer.planID: Invalid value: 7: must be a string".to_owned(),
            format!("{ranges}[0]: Invalid value: \"10.0.0.1/8\": must be valid canonical CIDR"),
            format!("{ranges}[1]: Invalid value: \"\": invalid CIDR address: "),
            format!("{ranges}[2]: Invalid value: \"x\": invalid CIDR address: x"),
            format!("{ranges}[3]: Invalid value: 3: must be a string"),
        ]
    );
}

#[test]
fn a_good_provider_config_is_taken() {
    let spec = config(json!({
        "apiVersion": PROVIDER_API, "kind": PROVIDER_KIND,
        "loadBalancer": {"planID": "p50", "accessControl": {"allowedSourceRanges": ["10.0.0.0/8", "fd00::/8"]}},
    }));
    let spec = spec.unwrap();
    assert_eq!(spec.plan_id.as_deref(), Some("p50"));
    let ranges = ["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap());
    assert_eq!(spec.source_ranges, Some(ranges.into()));
    let spec = config(json!({
        "apiVersion": PROVIDER_API, "kind": PROVIDER_KIND,
        "loadBalancer": {"planID": "", "accessControl": {"allowedSourceRanges": null}},
    }));
    assert_eq!(spec.unwrap().plan_id, None);
}

#[test]
fn what_is_no_object_or_list_in_a_provider_config_is_named() {
    let Err(Unresolved::Configuration(mistakes)) = config(json!({
        "apiVersion": PROVIDER_API, "kind": PROVIDER_KIND, "loadBalancer": 1,
    })) else {
        panic!()
    };
    assert_eq!(mistakes, ["spec.providerConfig.loadBalancer: Invalid value: 1: must be an object"]);
    let Err(Unresolved::Configuration(mistakes)) = config(json!({
        "apiVersion": PROVIDER_API, "kind": PROVIDER_KIND,
        "loadBalancer": {"accessControl": {"allowedSourceRanges": "10.0.0.0/8"}},
    })) else {
        panic!()
    };
    let path = "spec.providerConfig.loadBalancer.accessControl.allowedSourceRanges";
    assert_eq!(mistakes, [format!("{path}: Invalid value: \"10.0.0.0/8\": must be a list")]);
}

#[test]
fn a_provider_config_without_ranges_manages_and_opens_the_access_control() {
    let spec = config(json!({"apiVersion": PROVIDER_API, "kind": PROVIDER_KIND})).unwrap();
    assert_eq!(spec.source_ranges, Some(BTreeSet::new()));
    assert_eq!(spec.plan_id, None);
}

#[test]
fn the_operation_follows_gardeners_order() {
    let last = |kind: &str, state: &str| {
        Some(LastOperation { kind: kind.to_owned(), state: state.to_owned(), ..LastOperation::default() })
    };
    let of = |annotation: Option<&str>, deleting: bool, last: Option<LastOperation>| {
        let status = Previous { operation: last, ..Previous::default() };
        operation(&ExposureView { operation: annotation.map(str::to_owned), deleting, status, ..view() })
    };
    assert_eq!(of(Some("migrate"), true, None), Operation::Migrate);
    assert_eq!(of(Some("restore"), true, None), Operation::Delete);
    assert_eq!(of(Some("restore"), false, None), Operation::Restore);
    assert_eq!(of(None, false, None), Operation::Create);
    assert_eq!(of(Some("reconcile"), false, last("Create", "Error")), Operation::Create);
    assert_eq!(of(None, false, last("Create", "Succeeded")), Operation::Reconcile);
    assert_eq!(of(None, false, last("Migrate", "Processing")), Operation::Migrate);
    assert_eq!(of(None, false, last("Restore", "Succeeded")), Operation::Reconcile);
    assert_eq!(of(None, false, last("Delete", "Error")), Operation::Reconcile);
}

#[test]
fn an_absent_class_is_shoot() {
    let mut settings = Settings::default();
    assert!(is_ours(&view(), &settings));
    assert!(!is_ours(&ExposureView { class: Some("seed".to_owned()), ..view() }, &settings));
    assert!(!is_ours(&ExposureView { kind: "Stackit".to_owned(), ..view() }, &settings));
    settings.exposure.name = "other".to_owned();
    assert!(!is_ours(&view(), &settings));
}

#[test]
fn where_the_others_are_is_told_by_the_endpoints_and_by_what_the_balancer_had() {
    let address = |kind: &str, address: &str| NodeAddress { kind: kind.to_owned(), address: address.to_owned() };
    let addresses =
        vec![address("Hostname", "10.0.0.9"), address("InternalIP", "10.0.0.1"), address("InternalIP", "x")];
    let mut view = view();
    assert!(targets(&view).is_empty());
    view.endpoints = vec![SpecEndpoint { node_name: "a".to_owned(), addresses }];
    let identity = resolve(&view, vec![], &facts()).unwrap().identity;
    let target = RecordedTarget { name: "b".to_owned(), ip: [10, 0, 0, 2].into() };
    view.status.record = Some(Record { targets: vec![target], ..Record::of(&identity, None) });
    assert_eq!(targets(&view), [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()].into());
}
