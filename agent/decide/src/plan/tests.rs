use super::*;
use crate::desired::{AddressForm, HealthCheck, Listener, Target, TargetPool};
use std::collections::BTreeSet;
use std::time::Duration;

fn target(last: u8) -> Target {
    Target { name: format!("n{last}"), ip: [10, 0, 0, last].into() }
}

fn wish(targets: impl IntoIterator<Item = u8>) -> LoadBalancer {
    let second = Duration::from_secs(1);
    LoadBalancer {
        name: "lb".to_owned(),
        plan_id: "p10".to_owned(),
        labels: BTreeMap::from([("ours".to_owned(), "x".to_owned())]),
        network_id: "net".to_owned(),
        address: AddressMode::Ephemeral,
        listener: Some(Listener {
            display_name: "control-plane".to_owned(),
            port: 443,
            protocol: "PROTOCOL_TCP".to_owned(),
            target_pool: "control-plane".to_owned(),
            tcp_idle_timeout: Some(second),
        }),
        target_pool: Some(TargetPool {
            target_port: 443,
            targets: targets.into_iter().map(target).collect(),
            active_health_check: Some(HealthCheck {
                interval: Some(second),
                timeout: Some(second),
                healthy_threshold: Some(2),
                unhealthy_threshold: Some(3),
            }),
        }),
        allowed_source_ranges: None,
        keep_source_ranges: false,
        address_form: AddressForm::default(),
    }
}

fn observed(balancer: LoadBalancer) -> Observed {
    Observed {
        balancer,
        version: "v1".to_owned(),
        status: BalancerStatus::Ready,
        errors: Vec::new(),
        external_address: Some([45, 0, 0, 1].into()),
        private_address: None,
        raw: serde_json::Map::new(),
    }
}

fn fields(plan: &Plan) -> Vec<String> {
    match &plan.step {
        Step::Update(update) => update.changes.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn what_is_as_desired_needs_nothing() {
    assert_eq!(diff(&wish([1, 2]), Some(&observed(wish([2, 1])))).step, Step::Nothing);
}

#[test]
fn each_managed_field_shows_by_its_path() {
    let base = observed(wish([1]));
    let changed = |change: fn(&mut LoadBalancer)| {
        let mut wish = wish([1]);
        change(&mut wish);
        fields(&diff(&wish, Some(&base)))
    };
    assert_eq!(changed(|w| w.plan_id = "p50".to_owned()), ["~ planId: \"p10\" -> \"p50\""]);
    assert_eq!(
        changed(|w| drop(w.labels.insert("ours".to_owned(), "y".to_owned()))),
        ["~ labels.ours: \"x\" -> \"y\""]
    );
    assert_eq!(
        changed(|w| w.listener.as_mut().unwrap().tcp_idle_timeout = Some(Duration::from_secs(3600))),
        ["~ listener.tcpIdleTimeout: \"1s\" -> \"3600s\""]
    );
    assert_eq!(
        changed(|w| w.target_pool.as_mut().unwrap().active_health_check = None),
        [
            "- targetPool.activeHealthCheck: {\"interval\":\"1s\",\"timeout\":\"1s\",\"healthyThreshold\":2,\"unhealthyThreshold\":3}"
        ]
    );
    assert_eq!(
        changed(|w| w.target_pool.as_mut().unwrap().targets = BTreeSet::from([target(2)])),
        [
            "- targetPool.targets: {\"displayName\":\"n1\",\"ip\":\"10.0.0.1\"}",
            "+ targetPool.targets: {\"displayName\":\"n2\",\"ip\":\"10.0.0.2\"}"
        ]
    );
}

#[test]
fn labels_of_others_stay_and_are_no_difference() {
    let mut base = observed(wish([1]));
    base.balancer.labels.insert("theirs".to_owned(), "z".to_owned());
    assert_eq!(diff(&wish([1]), Some(&base)).step, Step::Nothing);
}

#[test]
fn immutable_fields_go_back_as_read_and_are_reported() {
    let mut base = observed(wish([1]));
    base.balancer.network_id = "another".to_owned();
    base.balancer.address = AddressMode::Private;
    let plan = diff(&wish([1, 2]), Some(&base));
    let Step::Update(update) = &plan.step else { panic!("{plan}") };
    assert_eq!((update.wish.network_id.as_str(), update.wish.address), ("another", AddressMode::Private));
    let settings: Vec<_> = plan.unmet.iter().map(|unmet| unmet.setting).collect();
    assert_eq!(settings, ["stackit.networkID", "loadBalancer.privateNetworkOnly"]);
}

#[test]
fn a_balancer_that_was_promoted_to_a_static_address_is_taken_as_it_is() {
    let mut base = observed(wish([1]));
    base.balancer.address = AddressMode::Static([45, 0, 0, 1].into());
    assert_eq!(diff(&wish([1]), Some(&base)), Plan { step: Step::Nothing, unmet: Vec::new() });
}

#[test]
fn access_control_that_is_not_managed_goes_back_as_read() {
    let ranges = Some(BTreeSet::from(["192.0.2.0/24".parse().unwrap()]));
    let mut base = observed(wish([1]));
    base.balancer.allowed_source_ranges.clone_from(&ranges);
    assert_eq!(diff(&wish([1]), Some(&base)).step, Step::Nothing);
    let plan = diff(&wish([1, 2]), Some(&base));
    let Step::Update(update) = plan.step else { panic!() };
    assert_eq!(update.wish.allowed_source_ranges, ranges);
}

#[test]
fn access_control_can_be_opened_and_open_is_as_good_as_absent() {
    let open = LoadBalancer { allowed_source_ranges: Some(BTreeSet::new()), ..wish([1]) };
    let mut base = observed(wish([1]));
    assert_eq!(diff(&open, Some(&base)).step, Step::Nothing);
    base.balancer.allowed_source_ranges = Some(BTreeSet::from(["192.0.2.0/24".parse().unwrap()]));
    assert_eq!(fields(&diff(&open, Some(&base))), ["- allowedSourceRanges: \"192.0.2.0/24\""]);
}

#[test]
fn ranges_on_the_balancer_stay_while_the_shoots_own_cannot_be_read() {
    let range = |text: &str| BTreeSet::from([text.parse().unwrap()]);
    let mut base = observed(wish([1]));
    base.balancer.allowed_source_ranges = Some(range("203.0.113.7/32"));
    let unsure =
        LoadBalancer { allowed_source_ranges: Some(range("192.0.2.0/24")), keep_source_ranges: true, ..wish([1]) };
    assert_eq!(fields(&diff(&unsure, Some(&base))), ["+ allowedSourceRanges: \"192.0.2.0/24\""]);
}

#[test]
fn ownership_is_by_labels_and_by_record_where_they_are_missing() {
    let ours = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    let with = |labels: &[(&str, &str)]| {
        let mut base = observed(wish([1]));
        base.balancer.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        base
    };
    assert_eq!(ownership(&with(&[("a", "1"), ("b", "2"), ("c", "3")]), &ours, false), Ok(()));
    assert!(matches!(ownership(&with(&[("a", "9"), ("b", "2")]), &ours, true), Err(NotOurs::OtherOwner { .. })));
    assert!(matches!(ownership(&with(&[("a", "1")]), &ours, false), Err(NotOurs::Unlabelled(_))));
    assert_eq!(ownership(&with(&[("a", "1")]), &ours, true), Ok(()));
}

#[test]
fn a_terminating_balancer_is_waited_for() {
    let base = Observed { status: BalancerStatus::Terminating, ..observed(wish([1])) };
    assert_eq!(diff(&wish([1]), Some(&base)).step, Step::AwaitGone);
    assert_eq!(removal(Some(&base)).step, Step::AwaitGone);
    assert_eq!(removal(None).step, Step::Gone);
}

#[test]
fn a_plan_prints() {
    let text = |plan: Plan| plan.to_string();
    assert_eq!(text(diff(&wish([1]), Some(&observed(wish([1]))))), "nothing to do");
    assert_eq!(text(diff(&wish([2]), None)), "create `lb` with 1 targets\n  + n2 10.0.0.2");
    let mut base = observed(wish([1]));
    base.balancer.network_id = "another".to_owned();
    assert_eq!(
        text(diff(&wish([1, 2]), Some(&base))),
        "update `lb` from version v1\n  + targetPool.targets: {\"displayName\":\"n2\",\"ip\":\"10.0.0.2\"}\n  \
         ! stackit.networkID: the load balancer has another, net is wanted, and this never changes during its \
         life; set it back, or delete the exposure to have it made anew"
    );
    assert_eq!(text(removal(Some(&base))), "delete `lb`");
    assert_eq!(text(removal(None)), "gone");
    base.status = BalancerStatus::Terminating;
    assert_eq!(text(removal(Some(&base))), "wait until the terminating balancer is gone");
    assert_eq!(Change { field: "f".to_owned(), from: None, to: None }.to_string(), "f");
}

#[test]
fn a_network_that_was_not_read_is_nobodys_complaint() {
    let mut base = observed(wish([1]));
    base.balancer.network_id.clear();
    assert_eq!(diff(&wish([1]), Some(&base)), Plan { step: Step::Nothing, unmet: Vec::new() });
}

#[test]
fn only_unmet_addressing_is_reported() {
    let reserved = |last| AddressMode::Static([45, 0, 0, last].into());
    let said = |wanted, found| unmet_address(wanted, found).map(|unmet| (unmet.setting, unmet.found, unmet.wanted));
    for (wanted, found) in [
        (AddressMode::Ephemeral, AddressMode::Ephemeral),
        (AddressMode::Ephemeral, reserved(1)),
        (AddressMode::Private, AddressMode::Private),
        (reserved(1), reserved(1)),
    ] {
        assert_eq!(said(wanted, found), None);
    }
    let (private, external) = ("loadBalancer.privateNetworkOnly", "loadBalancer.externalAddress");
    for (wanted, found, setting) in [
        (AddressMode::Private, AddressMode::Ephemeral, private),
        (AddressMode::Ephemeral, AddressMode::Private, private),
        (reserved(1), AddressMode::Private, private),
        (reserved(1), reserved(2), external),
        (reserved(1), AddressMode::Ephemeral, external),
    ] {
        assert_eq!(said(wanted, found), Some((setting, found.to_string(), wanted.to_string())));
    }
    assert_eq!(reserved(1).to_string(), "the reserved address 45.0.0.1");
    assert_eq!(AddressMode::Ephemeral.to_string(), "an ephemeral address");
    assert_eq!(AddressMode::Private.to_string(), "a private address only");
}

#[test]
fn ranges_that_were_there_do_not_keep_an_opened_access_control_shut() {
    let mut base = observed(wish([1]));
    base.balancer.allowed_source_ranges = Some(BTreeSet::from(["192.0.2.0/24".parse().unwrap()]));
    let open = LoadBalancer { allowed_source_ranges: Some(BTreeSet::new()), keep_source_ranges: true, ..wish([1]) };
    assert_eq!(fields(&diff(&open, Some(&base))), ["- allowedSourceRanges: \"192.0.2.0/24\""]);
}

#[test]
fn a_change_belongs_to_a_part() {
    for (field, part) in [
        ("targetPool.targets", "targets"),
        ("targetPool.activeHealthCheck.interval", "active_health_check"),
        ("targetPool.targetPort", "target_pool"),
        ("listener.port", "listener"),
        ("planId", "plan"),
        ("labels.x", "labels"),
        ("networkId", "address"),
        ("address", "address"),
        ("allowedSourceRanges", "access_control"),
        ("name", "load_balancer"),
    ] {
        assert_eq!(Change { field: field.to_owned(), from: None, to: None }.part(), part);
    }
}

#[test]
fn an_update_knows_whether_targets_leave() {
    let removes = |before: &[u8], after: &[u8]| {
        let base = observed(wish(before.iter().copied()));
        Update { base, wish: wish(after.iter().copied()), changes: Vec::new() }.removes_targets()
    };
    assert!(removes(&[1, 2], &[1]) && removes(&[1], &[2]));
    assert!(!removes(&[1], &[1, 2]) && !removes(&[1], &[1]));
}

proptest::proptest! {
    #[test]
    fn a_plan_that_was_applied_leaves_nothing_to_do(
        before in proptest::collection::btree_set(0u8..20, 0..6),
        after in proptest::collection::btree_set(0u8..20, 1..6),
        plan_id in "p[0-9]{2}",
    ) {
        let base = observed(wish(before));
        let wish = LoadBalancer { plan_id, ..wish(after) };
        if let Step::Update(update) = diff(&wish, Some(&base)).step {
            let applied = Observed { balancer: update.wish, ..base };
            proptest::prop_assert_eq!(diff(&wish, Some(&applied)).step, Step::Nothing);
        }
    }
}
