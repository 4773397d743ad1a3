//! The ten rules over the evidence table.

use super::super::*;
use super::names_of;
use super::scene::*;
use crate::probe::{Green, Reading};
use std::time::Duration;

#[test]
fn rule_1_nothing_leaves_before_a_target_that_stays_has_answered_since() {
    let choice = one(bad("c", &Class::Refused, 99)).serves(&ABC);
    assert_eq!(choice.frozen, Some(Frozen::NoProof));
    let all = ABC.map(|name| bad(name, &Class::Refused, 60_000)).to_vec();
    assert_eq!(scene(all, &ABC).serves(&ABC).frozen, Some(Frozen::NoHealthyNodes));
}

#[test]
fn rule_1_after_an_outage_of_all_the_first_that_is_back_does_not_see_the_others_off() {
    let mut back = green("a");
    back.probe.green_since = Some(ago(19_999));
    let others = [bad("b", &Class::Refused, 60_000), bad("c", &Class::Refused, 60_000)];
    let mut scene = scene(vec![back, others[0].clone(), others[1].clone()], &ABC);
    let choice = scene.serves(&ABC);
    assert_eq!((choice.frozen, choice.wake), (Some(Frozen::NoProof), Some(NOW + Duration::from_millis(1))));
    scene.verdicts[0].probe.green_since = Some(ago(20_000));
    // One at a time, because less than a majority is left.
    assert_eq!(scene.choose().endpoints.len(), 2);
}

#[test]
fn rule_1_after_a_short_loss_of_etcd_for_all_who_still_misses_it_is_waited_for_no_longer_than_that_takes() {
    let back = |class: &Class, others_back: Moment| {
        let mut back = [green("a"), green("b")];
        for node in &mut back {
            node.probe.green_since = Some(ago(4_000));
            node.probe.others_back = Some(others_back);
        }
        let [a, b] = back;
        scene(vec![a, b, bad("c", class, 6_000)], &ABC)
    };
    let later = NOW + Duration::from_millis(1);
    let choice = back(&Class::EtcdCut, later).serves(&ABC);
    assert_eq!((choice.frozen, choice.wake), (Some(Frozen::NoProof), Some(later)));
    back(&Class::EtcdCut, NOW).serves(&["a", "b"]);
    // A server that starts takes as long as it takes.
    let choice = back(&Class::Refused, NOW).serves(&ABC);
    assert_eq!((choice.frozen, choice.wake), (Some(Frozen::NoProof), Some(ago(4_000) + Duration::from_secs(20))));
}

#[test]
fn rule_2_two_of_three_silent_or_cut_is_a_shared_cause() {
    for class in [Class::Silent, Class::EtcdCut] {
        let two = scene(vec![green("a"), bad("b", &class, 60_000), bad("c", &class, 60_000)], &ABC);
        assert_eq!(two.serves(&ABC).frozen, Some(Frozen::SharedCause));
        let half = vec![green("a"), green("b"), bad("c", &class, 60_000), bad("d", &class, 60_000)];
        assert_eq!(scene(half, &["a", "b", "c", "d"]).choose().frozen, Some(Frozen::SharedCause), "no majority");
    }
}

#[test]
fn rule_2_who_was_silent_itself_a_moment_ago_is_no_witness() {
    let mut back = green("b");
    let mut scene = |lived: Option<u64>, since: u64| {
        back.probe.lives_since = lived.map(ago);
        scene(vec![green("a"), back.clone(), bad("c", &Class::Silent, since)], &ABC)
    };
    for (lived, since) in [(None, 60_000), (Some(0), 60_000), (Some(2_249), 60_000), (Some(2_249), 3_250)] {
        assert_eq!(scene(lived, since).serves(&ABC).frozen, Some(Frozen::SharedCause), "{lived:?} {since}");
    }
    for (lived, since) in [(Some(2_250), 60_000), (Some(2_249), 3_249)] {
        scene(lived, since).serves(&["a", "b"]);
    }
}

#[test]
fn rule_2_every_witness_answers_a_request_that_began_after_the_first_bad_one() {
    let mut late = one(bad("c", &Class::Silent, 2_000));
    // Before it; beside it, where both may have begun while all was well; when the bad one was slow already.
    for (asked, testifies) in [(2_000, false), (1_900, false), (1_001, false), (1_000, true), (200, true)] {
        late.verdicts[1].probe.green = Some(Green { asked: ago(asked), came: ago(100) });
        let choice = late.choose();
        assert_eq!(choice.frozen, (!testifies).then_some(Frozen::SharedCause), "{asked}: {choice:#?}");
        assert_eq!(names_of(&choice).len(), if testifies { 2 } else { 3 }, "{asked}");
    }
}

#[test]
fn rule_2_one_witness_is_not_the_probers_own() {
    // Of five, four drained ones do not count as members but as witnesses.
    let mut own = green("a");
    own.own = true;
    let lonely = scene(vec![own, bad("c", &Class::Silent, 9_000)], &["a", "c", "x"]);
    assert_eq!(lonely.choose().endpoints.iter().filter(|e| e.node_name == "c").count(), 1);
}

#[test]
fn rule_3_drained_nodes_come_back_when_the_last_other_is_killed() {
    let scene = scene(vec![drained("a"), drained("b"), bad("c", &Class::Refused, 3_000)], &["c"]);
    let choice = scene.serves(&["a", "b"]);
    assert_eq!(choice.leaving.iter().map(|l| l.target.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(choice.frozen, None);
}

#[test]
fn rule_3_the_last_unmarked_node_that_is_drained_stays_with_the_others() {
    scene(vec![drained("a"), drained("b"), drained("c")], &["c"]).serves(&ABC);
    scene(vec![not_ready("a"), not_ready("b"), not_ready("c")], &ABC).serves(&ABC);
    // Who is on its way out of existence does not come back.
    let deleted = with(green("a"), Class::Maintenance(Mark::Deletion));
    scene(vec![deleted, drained("b"), drained("c")], &["c"]).serves(&["b", "c"]);
}

#[test]
fn rule_4_nothing_green_keeps_the_last_good_set_that_exists() {
    let dead = |name| bad(name, &Class::Silent, 60_000);
    let scene_of = |members: &[&'static str]| scene(vec![dead("a"), dead("b"), dead("c")], members);
    assert_eq!(scene_of(&["a", "b"]).serves(&["a", "b"]).frozen, Some(Frozen::NoHealthyNodes));
    scene_of(&["a", "x"]).serves(&["a"]);
    scene_of(&["x", "y"]).serves(&ABC);
}

#[test]
fn rule_5_less_than_a_majority_only_after_3_seconds_and_5_apart() {
    let young = |since| scene(vec![green("a"), bad("b", &Class::Refused, since), drained("c")], &["a", "b"]);
    let choice = young(2_999).serves(&["a", "b"]);
    assert_eq!((choice.frozen, choice.wake), (None, Some(NOW + Duration::from_millis(1))));
    young(3_000).serves(&["a"]);
    let mut after = young(60_000);
    let earlier = Leaving { target: "c".to_owned(), uid: "uid-c".to_owned(), cause: Cause::Refused, since: NOW };
    after.pool.sent(&Choice { leaving: vec![earlier], ..Choice::default() }, ago(4_999));
    assert_eq!(after.serves(&["a", "b"]).wake, Some(NOW + Duration::from_millis(1)));
}

#[test]
fn rule_5_two_of_three_leave_one_after_the_other() {
    let two = scene(vec![green("a"), bad("b", &Class::Refused, 60_001), bad("c", &Class::Refused, 60_000)], &ABC);
    let choice = two.serves(&["a", "c"]);
    assert_eq!(choice.wake, Some(NOW + Duration::from_secs(5)));
}

#[test]
fn rule_6_who_is_out_for_silence_is_back_when_its_kubelet_is_alive() {
    let mut muted = bad("c", &Class::Healthy, 0);
    muted.probe.muted = true;
    scene(vec![green("a"), green("b"), muted], &["a", "b"]).serves(&ABC);
}

#[test]
fn rule_7_stale_nodes_freeze_marks_conditions_and_absence_and_never_probes() {
    let stale = |mut scene: Scene| {
        scene.outlook.stale = true;
        scene
    };
    for scene in [one(drained("c")), one(not_ready("c")), scene(vec![green("a"), green("b")], &ABC)] {
        assert_eq!(stale(scene).serves(&ABC).frozen, Some(Frozen::StaleNodes));
    }
    stale(one(bad("c", &Class::Refused, 150))).serves(&["a", "b"]);
    let mut both = bad("c", &Class::Refused, 150);
    both.class = Class::NotReady("Ready=False".to_owned());
    stale(one(both)).serves(&["a", "b"]);
    // And what is out stays out.
    stale(scene(vec![green("a"), green("b"), drained("c")], &["a", "b"])).serves(&["a", "b"]);
}

#[test]
fn rule_8_a_new_address_replaces_the_old_one_in_the_same_write_in_a_pool_of_one_too() {
    for others in [vec![], vec![green("a"), green("b")]] {
        let mut moved = bad("c", &Class::Unproven, 0);
        moved.probe = Reading::default();
        moved.ip = Some([10, 9, 9, 9].into());
        let members: Vec<&str> = others.iter().map(|v| if v.node == "a" { "a" } else { "b" }).chain(["c"]).collect();
        let mut scene = scene(others, &members);
        scene.verdicts.push(moved);
        let choice = scene.choose();
        let entry = choice.endpoints.iter().find(|endpoint| endpoint.node_name == "c").unwrap();
        assert_eq!((entry.ip, choice.endpoints.len()), ([10, 9, 9, 9].into(), members.len()));
    }
}

#[test]
fn rule_10_without_an_election_only_refused_shutdown_and_marks_remove() {
    for (class, leaves) in [
        (Class::Refused, true),
        (Class::Shutdown, true),
        (Class::Maintenance(Mark::Drained), true),
        (red(), false),
        (Class::EtcdCut, false),
        (Class::Silent, false),
    ] {
        let mut scene = one(bad("c", &class, 60_000));
        scene.outlook.election = false;
        scene.serves(if leaves { &["a", "b"] } else { &ABC });
    }
}

#[test]
fn before_the_probes_could_have_answered_nothing_leaves_or_enters() {
    let mut starting = scene(vec![green("a"), not_ready("b"), green("c")], &["a", "b"]);
    starting.outlook.sight = Sight::Starting;
    starting.serves(&["a", "b"]);
}

#[test]
fn who_has_left_stays_out_for_its_delay_and_is_looked_at_when_that_is_over() {
    let left = |millis: u64| {
        let gone = one(bad("c", &Class::Refused, millis + 500)).serves(&["a", "b"]);
        let mut back = scene(vec![green("a"), green("b"), green("c")], &["a", "b"]);
        back.pool.sent(&gone, ago(millis));
        back
    };
    assert_eq!(left(1_999).serves(&["a", "b"]).wake, Some(NOW + Duration::from_millis(1)));
    assert_eq!(left(2_000).serves(&ABC).wake, None);
}

/// An agent that has had no good answer yet brings back nobody whose API server it knows to be gone.
#[test]
fn who_sees_nothing_yet_lets_nobody_in_whose_api_server_is_gone_unless_all_seem_so() {
    let unknown = |name| {
        let mut node = green(name);
        node.probe = Reading::default();
        node
    };
    let blind = |verdicts, members| {
        let mut scene = scene(verdicts, members);
        scene.outlook.sight = Sight::Blind;
        scene
    };
    for class in [Class::Refused, Class::Shutdown, red()] {
        let gone = || bad("c", &class, 500);
        blind(vec![unknown("a"), unknown("b"), gone()], &["a", "b"]).serves(&["a", "b"]);
        blind(vec![unknown("a"), unknown("b"), gone()], &ABC).serves(&ABC);
    }
    let all = ABC.map(|name| bad(name, &Class::Refused, 500)).to_vec();
    blind(all, &[]).serves(&ABC);
}

/// Nothing that is listed is green then, but those who answer are no less there than before.
#[test]
fn rule_4_a_list_that_lost_most_nodes_puts_nobody_out_who_answers_when_the_last_listed_one_is_gone() {
    let gone = |name: &str| with(green(name), Class::Absent);
    let mut scene = scene(vec![gone("a"), bad("b", &Class::Refused, 60_000), gone("c")], &ABC);
    assert_eq!(scene.serves(&ABC).frozen, Some(Frozen::NoHealthyNodes));
    // Who does not answer either is not there.
    scene.verdicts[2].probe.class = ProbeClass::Silent;
    scene.serves(&["a", "b"]);
    // Of a list that lost the smaller part it is believed.
    scene.verdicts[2] = bad("c", &Class::Refused, 60_000);
    scene.serves(&["b", "c"]);
}

#[test]
fn rule_4_most_nodes_absent_and_blind_takes_nobody() {
    let mut really = bad("b", &Class::Refused, 5_000);
    really.class = Class::Absent;
    let mut scene = scene(vec![green("a"), really], &ABC);
    scene.outlook.sight = Sight::Blind;
    assert_eq!(scene.serves(&ABC).frozen, Some(Frozen::MostNodesAbsent));
}

#[test]
fn rule_3_a_node_that_is_not_ready_but_answers_comes_back_when_no_other_does() {
    for marked in [not_ready("b"), with(green("b"), Class::Pressure("DiskPressure=True".to_owned()))] {
        scene(vec![bad("a", &Class::Refused, 60_000), marked], &["a"]).serves(&["b"]);
    }
}

#[test]
fn rule_2_a_node_that_has_vanished_is_no_witness_that_is_missing_and_three_of_five_are_a_majority() {
    let mut gone = with(green("d"), Class::Absent);
    gone.probe.class = ProbeClass::Unknown;
    scene(vec![green("a"), green("b"), bad("c", &Class::Silent, 9_000), gone], &ABC).serves(&["a", "b"]);
    let silent = ["d", "e"].map(|name| bad(name, &Class::Silent, 9_000));
    let five = ABC.map(green).into_iter().chain(silent).collect();
    scene(five, &["a", "b", "c", "d", "e"]).serves(&ABC);
}

#[test]
fn who_sees_nothing_yet_lets_a_node_in_although_one_that_has_vanished_looks_better() {
    let mut scene = scene(vec![bad("a", &Class::Refused, 60_000), with(green("b"), Class::Absent)], &[]);
    scene.outlook.sight = Sight::Blind;
    scene.serves(&["a"]);
}
