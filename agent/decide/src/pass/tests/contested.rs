//! What others keep changing.

use std::time::Duration;

use super::super::*;
use super::scene::*;
use crate::access::Egress;
use crate::desired::{self};

#[test]
fn a_plan_that_is_changed_three_times_is_left_alone_for_ten_minutes_and_said() {
    let mut scene = settled();
    let change = |balancer: &mut LoadBalancer| balancer.plan_id = "p50".to_owned();
    let at = |seconds| NOW + Duration::from_secs(seconds);
    assert!(round(&mut scene, change, at(60)));
    assert!(round(&mut scene, change, at(120)));
    assert!(!round(&mut scene, change, at(180)));
    let pass = scene.at(at(180));
    assert_eq!(pass.outcome, Some(Outcome::Waiting(Waiting::Truce)));
    assert_eq!(pass.report.unwrap().conditions.unwrap()[0].reason, "ForeignWriter");
    // Everything else goes on.
    scene.loses_a_node();
    let Some(CloudStep::Update(update)) = scene.at(at(200)).cloud else { panic!() };
    assert_eq!((update.wish.plan_id.as_str(), update.wish.targets().len()), ("p50", 2));
    assert!(round(&mut scene, |_| {}, at(200)));
    // Ten minutes later it is repaired, and left alone again at once when it comes back.
    assert!(matches!(scene.at(at(781)).cloud, Some(CloudStep::Update(update)) if update.wish.plan_id == "p10"));
    assert!(!round(&mut scene, |balancer| balancer.plan_id = "p250".to_owned(), at(900)));
}

#[test]
fn an_access_control_that_others_open_is_closed_each_time_and_one_that_they_narrow_waits() {
    let ranges = |ranges: &[&str]| ranges.iter().map(|range| range.parse().unwrap()).collect::<BTreeSet<_>>();
    let rounds = |admitted: &[&str]| {
        let mut scene = settled();
        scene.facts.egress = Egress::Known(BTreeSet::new());
        let wished = ["192.0.2.0/24".to_owned(), "198.51.100.0/24".to_owned()];
        scene.settings.load_balancer.access_control.allowed_source_ranges = wished.to_vec();
        assert!(round(&mut scene, |_| {}, NOW));
        let change = |balancer: &mut LoadBalancer| balancer.allowed_source_ranges = Some(ranges(admitted));
        (1..=5).map(|count| round(&mut scene, change, NOW + Duration::from_secs(60 * count))).collect::<Vec<_>>()
    };
    for open in [&[][..], &["0.0.0.0/0"], &["192.0.2.0/24", "203.0.113.0/24"], &["192.0.0.0/16", "198.51.100.0/24"]] {
        assert_eq!(rounds(open), [true; 5], "{open:?}");
    }
    for narrow in [&["192.0.2.0/24"][..], &["192.0.2.128/25", "198.51.100.0/24"]] {
        assert_eq!(rounds(narrow), [true, true, false, false, false], "{narrow:?}");
    }
}

#[test]
fn changes_that_are_far_apart_are_repaired_each_time() {
    let mut scene = settled();
    for count in 1..=6 {
        let now = NOW + Duration::from_secs(400 * count);
        assert!(round(&mut scene, |balancer| balancer.plan_id = "p50".to_owned(), now), "{count}");
    }
}

#[test]
fn a_refused_target_that_is_put_back_goes_again_each_time_and_a_missing_one_waits() {
    let mut scene = settled();
    scene.loses_a_node();
    assert!(round(&mut scene, |_| {}, NOW));
    let put_back = |balancer: &mut LoadBalancer| {
        let target = desired::Target { name: "n1".to_owned(), ip: [10, 0, 0, 1].into() };
        balancer.target_pool.as_mut().unwrap().targets.insert(target);
    };
    for count in 1..=6 {
        assert!(round(&mut scene, put_back, NOW + Duration::from_secs(60 * count)), "{count}");
    }
    let take = |balancer: &mut LoadBalancer| {
        balancer.target_pool.as_mut().unwrap().targets.retain(|target| target.name != "n2");
    };
    let rounds: Vec<bool> =
        (7..=9).map(|count| round(&mut scene, take, NOW + Duration::from_secs(60 * count))).collect();
    assert_eq!(rounds, [true, true, false]);
}

#[test]
fn spec_endpoints_that_others_keep_changing_are_left_alone_and_never_reach_the_balancer() {
    let mut scene = settled();
    let wanted = sorted_endpoints(&scene.view);
    let theirs = vec![SpecEndpoint { node_name: "evil".to_owned(), addresses: Vec::new() }];
    for count in 1..=3 {
        let now = NOW + Duration::from_secs(count);
        assert!(!scene.memory.saw_endpoints(&wanted, &wanted, now));
        scene.view.endpoints.clone_from(&theirs);
        assert!(scene.memory.saw_endpoints(&theirs, &wanted, now));
        let pass = scene.at(now);
        assert_eq!(pass.object.is_none(), count == 3, "{count}");
        assert_eq!(pass.cloud, None);
    }
}

#[test]
fn a_choice_of_ours_is_no_foreign_change() {
    let mut memory = Memory::default();
    let entry = |name: &str| SpecEndpoint { node_name: name.to_owned(), addresses: Vec::new() };
    let (one, two) = (vec![entry("a")], vec![entry("b")]);
    for _ in 0..5 {
        assert!(!memory.saw_endpoints(&one, &one, NOW));
        assert!(!memory.saw_endpoints(&one, &two, NOW));
        assert!(!memory.saw_endpoints(&two, &two, NOW));
        assert!(!memory.saw_endpoints(&two, &one, NOW));
    }
}

#[test]
fn where_others_make_the_balancer_they_are_asked_with_the_endpoints() {
    let mut scene = settled();
    scene.settings.controllers.exposure = false;
    scene.loses_a_node();
    let pass = scene.pass();
    assert!(matches!(pass.object, Some(ObjectStep::HandOverEndpoints(endpoints)) if endpoints.len() == 2));
    assert_eq!((pass.cloud, pass.report), (None, None));
}

#[test]
fn each_part_that_others_keep_changing_is_left_as_they_want_it_while_the_rest_goes_on() {
    type Change = fn(&mut LoadBalancer);
    let changes: [(&str, Change); 3] = [
        ("active_health_check", |balancer| balancer.target_pool.as_mut().unwrap().active_health_check = None),
        ("target_pool", |balancer| balancer.target_pool.as_mut().unwrap().target_port = 6443),
        ("listener", |balancer| balancer.listener.as_mut().unwrap().tcp_idle_timeout = Some(Duration::from_secs(1))),
    ];
    for (part, change) in changes {
        let mut scene = settled();
        let rounds: Vec<bool> =
            (1..=3).map(|count| round(&mut scene, change, NOW + Duration::from_secs(60 * count))).collect();
        assert_eq!(rounds, [true, true, false], "{part}");
        scene.loses_a_node();
        let now = NOW + Duration::from_secs(200);
        let Some(CloudStep::Update(update)) = scene.at(now).cloud else { panic!("{part}") };
        let mut theirs = update.wish.clone();
        change(&mut theirs);
        assert_eq!((theirs == update.wish, update.wish.targets().len()), (true, 2), "{part}");
    }
    // One that is gone as a whole is made again each time.
    let mut scene = settled();
    for count in 1..=4 {
        assert!(
            round(&mut scene, |balancer| balancer.listener = None, NOW + Duration::from_secs(60 * count)),
            "{count}"
        );
    }
}

#[test]
fn where_others_decide_the_endpoints_those_on_record_count() {
    let mut scene = settled();
    scene.settings.controllers.endpoints = false;
    scene.loses_a_node();
    let names = |pass: &Pass| pass.choice.endpoints.iter().map(|it| it.node_name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&scene.pass()), ["n1", "n2", "n3"]);
}
