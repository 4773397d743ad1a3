use super::mark::*;
use super::node::*;
use super::*;
use std::collections::BTreeMap;

/// Without probes.
fn judged(node: &NodeView, health: &Health) -> Verdict {
    verdict(node, None, Judge { health, own_node: "", wall: 0 })
}

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
    judged(&node, &Health::default()).class
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
            assert_eq!(class_of(|n| n.conditions.push(condition(kind, status, ""))).word(), word, "{kind}={status}");
        }
    }
    assert_eq!(class_of(|n| n.conditions.push(condition("KernelDeadlock", "True", ""))), Class::Healthy);
}

#[test]
fn row_ready_unknown_gives_way_to_an_answer_good_or_bad() {
    let mut node = node();
    node.conditions = vec![condition("Ready", "Unknown", "NodeStatusUnknown")];
    let health = Health::default();
    let judge = Judge { health: &health, own_node: "", wall: 0 };
    for (class, word) in [
        (ProbeClass::Green, "healthy"),
        (ProbeClass::Refused, "refused"),
        (ProbeClass::Silent, "silent"),
        (ProbeClass::Unknown, "not_ready"),
    ] {
        let reading = Reading { class, answered: true, ..Reading::default() };
        let verdict = super::verdict(&node, Some(&reading), judge);
        assert_eq!((verdict.class.word(), verdict.ready_unknown), (word, true), "{class:?}");
    }
}

#[test]
fn whom_somebody_answers_for_needs_no_condition_and_no_answer_and_obeys_marks() {
    let mut node = node();
    (node.conditions, node.vouched_for) = (Vec::new(), true);
    let silent = Reading { class: ProbeClass::Refused, ..Reading::default() };
    let health = Health::default();
    let judge = Judge { health: &health, own_node: "", wall: 0 };
    let verdict = super::verdict(&node, Some(&silent), judge);
    assert_eq!((verdict.class, verdict.serves, verdict.probe.heard), (Class::Healthy, true, true));
    node.deleting = true;
    assert_eq!(judged(&node, &health).class, Class::Maintenance(Mark::Deletion));
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
    assert_eq!(judged(&node, &off).class, Class::Healthy);
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
    let kept: Vec<_> = judged(&node, &Health::default()).addresses.into_iter().map(|a| a.address).collect();
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
        (Class::Maintenance(Mark::Excluded), "maintenance", "maintenance (label exclude-from-external-load-balancers)"),
        (Class::Maintenance(Mark::Drained), "maintenance", "maintenance (drained)"),
    ] {
        assert_eq!((class.word(), class.to_string().as_str()), (word, shown));
    }
}

#[test]
fn a_marked_node_serves_as_its_conditions_say() {
    let mut node = node();
    node.deleting = true;
    assert!(judged(&node, &Health::default()).serves);
    node.conditions.clear();
    let verdict = judged(&node, &Health::default());
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

#[test]
fn a_drain_with_an_end_holds_until_then() {
    let mut node = node();
    node.annotations.insert(DRAIN.to_owned(), "true".to_owned());
    node.drain_until = Some(100);
    assert_eq!([99, 100, 101].map(|wall| node.is_drained(wall)), [true, false, false]);
    let health = Health::default();
    let ends = |wall| verdict(&node, None, Judge { health: &health, own_node: "", wall }).ends;
    assert_eq!((ends(99), ends(100)), (Some(100), None));
}

#[test]
fn who_has_vanished_is_absent_whatever_was_said_of_it() {
    let absent = judged(&node(), &Health::default()).absent();
    assert_eq!((absent.class, absent.node.as_str()), (Class::Absent, "n"));
}

/// Who writes Ready=Unknown writes all conditions so.
#[test]
fn conditions_that_are_all_unknown_give_way_to_an_answer() {
    let mut node = node();
    node.conditions = vec![condition("Ready", "Unknown", "NodeStatusUnknown")];
    node.conditions.extend(PRESSURES.map(|kind| condition(kind, "Unknown", "NodeStatusUnknown")));
    let green = Reading { class: ProbeClass::Green, heard: true, ..Reading::default() };
    let health = Health::default();
    let judge = Judge { health: &health, own_node: "", wall: 0 };
    assert_eq!(verdict(&node, Some(&green), judge).class, Class::Healthy);
    node.conditions[1].status = "True".to_owned();
    assert_eq!(verdict(&node, Some(&green), judge).class.word(), "pressure");
}

#[test]
fn silence_counts_of_those_who_have_answered_before_and_without_a_word_nothing_is_proven() {
    let health = Health::default();
    let judge = |own_node| Judge { health: &health, own_node, wall: 0 };
    let judged = |class, answered, heard| {
        let reading = Reading { class, answered, heard, ..Reading::default() };
        verdict(&node(), Some(&reading), judge("n")).class
    };
    assert_eq!(judged(ProbeClass::Silent, true, true), Class::Silent);
    assert_eq!(judged(ProbeClass::Silent, false, true), Class::Unproven);
    assert_eq!(judged(ProbeClass::Unknown, true, true), Class::Healthy);
    assert_eq!(judged(ProbeClass::Unknown, true, false), Class::Unproven);
    let own = ["n", "m"].map(|own_node| verdict(&node(), None, judge(own_node)).own);
    assert_eq!(own, [true, false]);
}
