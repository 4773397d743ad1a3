use super::*;
use proptest::prelude::*;
use std::time::Duration;

mod properties;
mod rows;
mod rules;
mod scene;

/// Without probes.
fn choose(verdicts: &[Verdict], last_good: &LastGood) -> Choice {
    let (pool, health, now) = (Pool::default(), Health::default(), Moment(Duration::from_secs(1000)));
    super::choose(&Round { verdicts, last_good, pool: &pool, now, health: &health, outlook: Outlook::default() })
}

fn verdict(node: &str, last: u8, class: Class) -> Verdict {
    let ip = IpAddr::from([10, 0, 0, last]);
    let ip_or_none = (class != Class::NoAddress).then_some(ip);
    let serves = !matches!(class, Class::NotReady(_) | Class::Pressure(_));
    let (node, uid) = (node.to_owned(), node.to_owned());
    Verdict { node, uid, ip: ip_or_none, addresses: vec![internal(ip)], class, serves, ..Verdict::default() }
}

fn last_good(members: &[(&str, u8)]) -> LastGood {
    LastGood::from_targets(members.iter().map(|(n, last)| ((*n).to_owned(), IpAddr::from([10, 0, 0, *last]))), &[])
}

fn names_of(choice: &Choice) -> Vec<&str> {
    choice.endpoints.iter().map(|e| e.node_name.as_str()).collect()
}

fn not_ready() -> Class {
    Class::NotReady("Ready=Unknown".to_owned())
}

#[test]
fn healthy_nodes_are_endpoints_sorted_by_name() {
    let choice = choose(
        &[verdict("b", 2, Class::Healthy), verdict("a", 1, Class::Healthy), verdict("c", 3, not_ready())],
        &LastGood::default(),
    );
    assert_eq!(names_of(&choice), ["a", "b"]);
    assert_eq!(choice.frozen, None);
    assert_eq!(choice.left_out, [("c".to_owned(), not_ready())]);
}

#[test]
fn a_node_without_an_address_is_left_out_and_reported_and_blocks_nobody() {
    let choice = choose(&[verdict("a", 1, Class::NoAddress), verdict("b", 2, Class::Healthy)], &LastGood::default());
    assert_eq!(names_of(&choice), ["b"]);
    assert_eq!(choice.left_out, [("a".to_owned(), Class::NoAddress)]);
}

#[test]
fn nothing_healthy_keeps_the_last_good_set_that_still_exists() {
    let verdicts = [verdict("a", 1, not_ready()), verdict("b", 2, not_ready()), verdict("c", 3, not_ready())];
    let choice = choose(&verdicts, &last_good(&[("a", 1), ("b", 2), ("gone", 9)]));
    assert_eq!(names_of(&choice), ["a", "b"]);
    assert_eq!(choice.frozen, Some(Frozen::NoHealthyNodes));
}

#[test]
fn nothing_healthy_and_nothing_known_takes_nodes_that_are_not_drained() {
    let verdicts = [verdict("a", 1, not_ready()), verdict("b", 2, Class::NoAddress)];
    assert_eq!(names_of(&choose(&verdicts, &LastGood::default())), ["a"]);
}

#[test]
fn a_node_that_somebody_answers_for_enters_without_evidence() {
    let (pool, health, now) = (Pool::default(), Health::default(), Moment(Duration::from_secs(1000)));
    let named = |name: &str, last: u8| {
        let addresses = vec![internal(IpAddr::from([10, 0, 0, last]))];
        let node = crate::health::NodeView {
            name: name.to_owned(),
            addresses,
            vouched_for: true,
            ..crate::health::NodeView::default()
        };
        crate::health::verdict(&node, None, crate::health::Judge { health: &health, own_node: "", wall: 0 })
    };
    let (verdicts, last_good) = ([named("a", 1), named("b", 2)], LastGood::default());
    // Nobody has answered and nobody has to be waited for; or somebody else answers well.
    let readings = || verdicts.iter().map(|verdict| &verdict.probe);
    assert_eq!(Sight::judge(Some(now), false, readings(), now, &health), Sight::Blind);
    for sight in [Sight::Blind, Sight::Seeing] {
        let outlook = Outlook { sight, ..Outlook::default() };
        let round = Round { verdicts: &verdicts, last_good: &last_good, pool: &pool, now, health: &health, outlook };
        assert_eq!(names_of(&super::choose(&round)), ["a", "b"], "{sight:?}");
    }
}

#[test]
fn before_anybody_could_have_answered_what_stands_stands_and_is_not_frozen() {
    let (pool, health, now) = (Pool::default(), Health::default(), Moment(Duration::from_secs(1000)));
    let (verdicts, last_good) =
        ([verdict("a", 1, Class::Unproven), verdict("b", 2, not_ready())], last_good(&[("a", 1), ("b", 2)]));
    let outlook = Outlook { sight: Sight::Starting, ..Outlook::default() };
    let round = Round { verdicts: &verdicts, last_good: &last_good, pool: &pool, now, health: &health, outlook };
    let choice = super::choose(&round);
    assert_eq!((names_of(&choice), choice.frozen), (vec!["a", "b"], None));
}

#[test]
fn an_empty_list_keeps_the_pool_as_it_is() {
    let choice = choose(&[], &last_good(&[("a", 1), ("b", 2)]));
    assert_eq!(names_of(&choice), ["a", "b"]);
    assert_eq!(choice.frozen, Some(Frozen::NoNodes));
}

#[test]
fn rule_3_marked_nodes_come_back_when_no_unmarked_node_serves() {
    let drained = || Class::Maintenance(Mark::Drained);
    let verdicts = [verdict("a", 1, drained()), verdict("b", 2, drained()), verdict("c", 3, not_ready())];
    let choice = choose(&verdicts, &last_good(&[("c", 3)]));
    assert_eq!(names_of(&choice), ["a", "b"]);
    assert_eq!(choice.frozen, None);
}

#[test]
fn rule_3_a_marked_node_that_is_not_ready_stays_out() {
    let mut dead = verdict("a", 1, Class::Maintenance(Mark::Drained));
    dead.serves = false;
    let choice = choose(&[dead, verdict("b", 2, Class::Maintenance(Mark::Drained))], &last_good(&[("a", 1)]));
    assert_eq!(names_of(&choice), ["b"]);
}

#[test]
fn a_changed_address_replaces_the_old_one_even_while_frozen() {
    let choice = choose(&[verdict("a", 7, not_ready())], &last_good(&[("a", 1)]));
    assert_eq!(choice.endpoints[0].ip, IpAddr::from([10, 0, 0, 7]));
}

#[test]
fn a_dotted_node_is_found_again_by_its_target_name() {
    let target = names::target("a.example");
    let choice =
        choose(&[verdict("a.example", 1, not_ready()), verdict("b", 2, not_ready())], &last_good(&[(&target, 1)]));
    assert_eq!(names_of(&choice), ["a.example"]);
}

#[test]
fn two_nodes_that_claim_one_address_become_one_target() {
    let choice = choose(&[verdict("b", 1, Class::Healthy), verdict("a", 1, Class::Healthy)], &LastGood::default());
    assert_eq!(names_of(&choice), ["a"]);
}

#[test]
fn nodes_on_their_way_out_of_existence_do_not_come_back() {
    for (mark, returns) in [
        (Mark::Terminating, true),
        (Mark::InPlaceUpdate, true),
        (Mark::ClusterAutoscaler, true),
        (Mark::Excluded, true),
        (Mark::Drained, true),
        (Mark::Deletion, false),
        (Mark::OutOfService, false),
    ] {
        let verdicts = [verdict("a", 1, Class::Maintenance(mark)), verdict("b", 2, not_ready())];
        let choice = choose(&verdicts, &last_good(&[("b", 2)]));
        assert_eq!(names_of(&choice), [if returns { "a" } else { "b" }], "{mark}");
        assert_eq!(choice.frozen.is_none(), returns, "{mark}");
    }
}

#[test]
fn when_nothing_else_is_known_drained_nodes_come_last() {
    let dead = |node: &str, last, class| Verdict { serves: false, ..verdict(node, last, class) };
    let drained = dead("a", 1, Class::Maintenance(Mark::Drained));
    let both = [drained.clone(), dead("b", 2, Class::Maintenance(Mark::Excluded))];
    assert_eq!(names_of(&choose(&both, &LastGood::default())), ["b"]);
    assert_eq!(names_of(&choose(&[drained], &last_good(&[("x", 9)]))), ["x"]);
}

#[test]
fn targets_take_names_and_addresses_of_endpoints_on_record_with_the_same_address() {
    let on_record = |last: u8| Endpoint {
        node_name: "a.example".to_owned(),
        ip: [10, 0, 0, last].into(),
        addresses: vec![
            internal([10, 0, 0, last].into()),
            NodeAddress { kind: "Hostname".to_owned(), address: "h".to_owned() },
        ],
    };
    let target = (names::target("a.example"), IpAddr::from([10, 0, 0, 1]));
    let same = LastGood::from_targets([target.clone()], &[on_record(1)]);
    assert_eq!(same.members, [on_record(1)]);
    let moved = LastGood::from_targets([target.clone()], &[on_record(2)]);
    let alone = Endpoint { node_name: target.0, ip: target.1, addresses: vec![internal(target.1)] };
    assert_eq!(moved.members, [alone]);
}

#[test]
fn an_entry_of_the_spec_counts_by_its_first_usable_internal_ip() {
    let address = |kind: &str, address: &str| NodeAddress { kind: kind.to_owned(), address: address.to_owned() };
    let of = |addresses: &[NodeAddress]| Endpoint::from_spec("n", addresses).map(|endpoint| endpoint.ip.to_string());
    assert_eq!(of(&[address("ExternalIP", "1.2.3.4")]), None);
    let all = [address("ExternalIP", "1.2.3.4"), address("InternalIP", "x"), address("InternalIP", "10.0.0.1")];
    assert_eq!(of(&all).as_deref(), Some("10.0.0.1"));
    assert_eq!(Endpoint::from_spec("n", &all).unwrap().addresses, all);
}

#[test]
fn every_freeze_has_a_word_of_its_own_and_a_reason_for_people() {
    let words: BTreeSet<&str> = Frozen::ALL.iter().map(|frozen| frozen.word()).collect();
    assert_eq!(words.len(), Frozen::ALL.len());
    for frozen in Frozen::ALL {
        assert!(frozen.word().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{frozen:?}");
        assert!(frozen.to_string().contains(' '), "{frozen:?}");
    }
}

fn classes() -> impl Strategy<Value = Class> {
    prop_oneof![
        Just(Class::Healthy),
        Just(not_ready()),
        Just(Class::Pressure("DiskPressure=True".to_owned())),
        Just(Class::Maintenance(Mark::Drained)),
        Just(Class::Maintenance(Mark::Deletion)),
        Just(Class::NoAddress),
    ]
}

proptest! {
    #[test]
    fn the_choice_is_never_empty_while_anything_is_known(
        classes in prop::collection::vec(classes(), 0..6),
        members in prop::collection::vec(0u8..8, 0..6),
    ) {
        let verdicts: Vec<Verdict> =
            classes.into_iter().enumerate().map(|(i, c)| verdict(&format!("n{i}"), u8::try_from(i).unwrap_or(0), c)).collect();
        let named: Vec<(String, u8)> = members.iter().map(|m| (format!("n{m}"), *m)).collect();
        let last = last_good(&named.iter().map(|(n, m)| (n.as_str(), *m)).collect::<Vec<_>>());
        let choice = choose(&verdicts, &last);
        let known = !last.members.is_empty() || verdicts.iter().any(|v| v.ip.is_some() && v.class == Class::Healthy);
        prop_assert!(!known || !choice.endpoints.is_empty());
    }

    #[test]
    fn order_never_matters(mut classes in prop::collection::vec(classes(), 1..6)) {
        let build = |classes: &[Class]| -> Vec<Verdict> {
            classes.iter().enumerate().map(|(i, c)| verdict(&format!("n{i}"), u8::try_from(i).unwrap_or(0), c.clone())).collect()
        };
        let forward = build(&classes);
        let mut backward = forward.clone();
        backward.reverse();
        classes.clear();
        let last = last_good(&[("n0", 0), ("n1", 1)]);
        prop_assert_eq!(choose(&forward, &last), choose(&backward, &last));
    }
}

#[test]
fn who_asks_waits_for_a_first_word_as_long_as_an_answer_may_take() {
    let health = Health::default();
    let patience = health.probe.slow + health.probe.interval;
    let since = Moment(Duration::from_secs(1000));
    let reading = |heard| crate::probe::Reading { heard, ..crate::probe::Reading::default() };
    let sight = |since, ever_green, readings: &[crate::probe::Reading], now| {
        Sight::judge(since, ever_green, readings.iter(), now, &health)
    };
    let (silent, heard) = ([reading(true), reading(false)], [reading(true), reading(true)]);
    assert_eq!(sight(None, true, &heard, since), Sight::Blind, "nobody is asked");
    assert_eq!(sight(Some(since), true, &silent, since), Sight::Seeing);
    assert_eq!(sight(Some(since), false, &heard, since), Sight::Blind);
    assert_eq!(sight(Some(since), false, &silent, since), Sight::Starting);
    assert_eq!(sight(Some(since), false, &silent, since + patience - Duration::from_millis(1)), Sight::Starting);
    assert_eq!(sight(Some(since), false, &silent, since + patience), Sight::Blind);
}
