//! The evidence table row by row, and the ten rules over it.

use super::super::*;
use super::{Pool, names_of};
use crate::probe::{Green, Reading};
use proptest::prelude::*;
use std::time::Duration;

const NOW: Moment = Moment(Duration::from_secs(10_000));

fn ago(millis: u64) -> Moment {
    NOW - Duration::from_millis(millis)
}

/// A node that has been green for an hour, and answered 100 ms ago.
fn green(name: &str) -> Verdict {
    let last = u8::try_from(name.len() + usize::from(name.as_bytes()[0])).unwrap();
    let ip = IpAddr::from([10, 0, 0, last]);
    Verdict {
        node: name.to_owned(),
        uid: format!("uid-{name}"),
        ip: Some(ip),
        addresses: vec![NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_string() }],
        serves: true,
        probe: Reading {
            class: ProbeClass::Green,
            green: Some(Green { asked: ago(101), came: ago(100) }),
            green_since: Some(ago(3_600_000)),
            lives_since: Some(ago(3_600_000)),
            fresh_greens: 9,
            answered: true,
            heard: true,
            ..Reading::default()
        },
        ..Verdict::default()
    }
}

/// A node whose API server says something bad since so many milliseconds.
fn bad(name: &str, class: &Class, since: u64) -> Verdict {
    let probe = match class {
        Class::Refused => ProbeClass::Refused,
        Class::Shutdown => ProbeClass::Shutdown,
        Class::Red(_) => ProbeClass::Red,
        Class::EtcdCut => ProbeClass::EtcdCut,
        Class::Silent => ProbeClass::Silent,
        _ => ProbeClass::Unknown,
    };
    let mut node = green(name);
    node.class = class.clone();
    node.by_probe = class.clone();
    node.probe.class = probe;
    node.probe.since = ago(since);
    node.probe.until = ago(50);
    node.probe.green = Some(Green { asked: ago(since + 500), came: ago(since + 499) });
    node.probe.fresh_greens = 0;
    node
}

fn with(mut verdict: Verdict, class: Class) -> Verdict {
    verdict.class = class;
    verdict
}

fn red() -> Class {
    Class::Red("informer-sync".to_owned())
}

fn drained(name: &str) -> Verdict {
    with(green(name), Class::Maintenance(Mark::Drained))
}

fn not_ready(name: &str) -> Verdict {
    Verdict { serves: false, ..with(green(name), Class::NotReady("Ready=False".to_owned())) }
}

#[derive(Clone)]
struct Scene {
    verdicts: Vec<Verdict>,
    members: Vec<&'static str>,
    pool: Pool,
    outlook: Outlook,
}

/// Renewals of the Lease, sent and answered so many milliseconds ago.
fn quorums(times: &[(u64, u64)]) -> Quorums {
    times.iter().map(|(sent, answered)| Quorum { sent: ago(*sent), answered: ago(*answered) }).collect()
}

/// All are members; probes see, the Lease is held, etcd serves.
fn scene(verdicts: Vec<Verdict>, members: &[&'static str]) -> Scene {
    let quorums = quorums(&[(1_700, 1_699)]);
    let outlook = Outlook { sight: Sight::Seeing, stale: false, election: true, quorums };
    Scene { verdicts, members: members.to_vec(), pool: Pool::default(), outlook }
}

impl Scene {
    fn choose(&self) -> Choice {
        let members = self.members.iter().map(|name| {
            let ip = green(name).ip.unwrap();
            Endpoint { node_name: (*name).to_owned(), ip, addresses: vec![internal(ip)] }
        });
        let last_good = LastGood { members: members.collect() };
        choose(&Round {
            verdicts: &self.verdicts,
            last_good: &last_good,
            pool: &self.pool,
            now: NOW,
            health: &Health::default(),
            outlook: self.outlook,
        })
    }

    #[track_caller]
    fn serves(&self, names: &[&str]) -> Choice {
        let choice = self.choose();
        assert_eq!(names_of(&choice), names, "{choice:#?}");
        choice
    }
}

const ABC: [&str; 3] = ["a", "b", "c"];

fn one(verdict: Verdict) -> Scene {
    scene(vec![green("a"), green("b"), verdict], &ABC)
}

// The table, row by row.

#[test]
fn row_maintenance_leaves_even_when_green() {
    let choice = one(drained("c")).serves(&["a", "b"]);
    assert_eq!(choice.leaving[0].cause, Cause::Marked);
    assert!(choice.leaving[0].cause.is_forced());
}

#[test]
fn row_absent_leaves_and_more_than_half_at_once_do_not() {
    let gone = scene(vec![green("a"), green("b")], &ABC).serves(&["a", "b"]);
    assert_eq!(gone.leaving[0].cause, Cause::Gone);
    let most = scene(vec![green("a")], &ABC).serves(&ABC);
    assert_eq!(most.frozen, Some(Frozen::MostNodesAbsent));
    // An API server that is known to be gone makes it true.
    let mut really = bad("b", &Class::Refused, 5_000);
    really.class = Class::Absent;
    scene(vec![green("a"), really], &ABC).serves(&["a", "c"]);
}

#[test]
fn row_not_ready_and_pressure_leave_even_when_green() {
    let choice = one(not_ready("c")).serves(&["a", "b"]);
    assert_eq!(choice.leaving[0].cause, Cause::Condition);
    one(with(green("c"), Class::Pressure("DiskPressure=True".to_owned()))).serves(&["a", "b"]);
}

#[test]
fn row_refused_and_shutdown_leave_at_once() {
    for class in [Class::Refused, Class::Shutdown] {
        one(bad("c", &class, 150)).serves(&["a", "b"]);
    }
}

#[test]
fn row_red_leaves() {
    one(bad("c", &red(), 600)).serves(&["a", "b"]);
}

#[test]
fn row_etcd_cut_leaves_with_witnesses_and_while_etcd_serves() {
    let cut = one(bad("c", &Class::EtcdCut, 3_000));
    cut.serves(&["a", "b"]);
    let with =
        |times: &[(u64, u64)]| Scene { outlook: Outlook { quorums: quorums(times), ..cut.outlook }, ..cut.clone() };
    // None; before it; while the first request may have been on its way when etcd hung; so late that they may be healing.
    for times in [&[][..], &[(3_001, 2_900)], &[(2_900, 2_800)], &[(2_000, 1_250)]] {
        let choice = with(times).serves(&ABC);
        assert_eq!(choice.frozen, Some(Frozen::SharedCause), "{times:?}");
        assert!(choice.wake.is_some_and(|wake| wake > NOW && wake <= NOW + Duration::from_millis(500)), "{choice:?}");
    }
    with(&[(2_000, 1_900)]).serves(&["a", "b"]);
}

/// The API server's own check has taken two seconds before it names etcd; most requests are answered from that at once.
#[test]
fn what_is_written_after_the_first_answer_that_names_etcd_counts() {
    let mut cut = bad("c", &Class::EtcdCut, 1_500);
    cut.probe.named = Some(ago(1_499));
    let scene = one(cut);
    let with =
        |times: &[(u64, u64)]| Scene { outlook: Outlook { quorums: quorums(times), ..scene.outlook }, ..scene.clone() };
    for times in [&[(1_500, 1_490)][..], &[(1_400, 1_299)]] {
        assert_eq!(with(times).serves(&ABC).frozen, Some(Frozen::SharedCause), "{times:?}");
    }
    with(&[(1_499, 1_300)]).serves(&["a", "b"]);
}

/// Whoever doubts etcd renews the Lease several times a second: the latest renewal is always too young to count.
#[test]
fn a_renewal_that_proves_etcd_counts_although_there_are_later_ones() {
    let cut = one(bad("c", &Class::EtcdCut, 3_000));
    let quorums = quorums(&[(1_700, 1_690), (1_100, 1_090), (700, 690), (300, 290)]);
    Scene { outlook: Outlook { quorums, ..cut.outlook }, ..cut }.serves(&["a", "b"]);
}

#[test]
fn row_silent_leaves_with_witnesses_and_never_from_a_pool_of_two() {
    one(bad("c", &Class::Silent, 2_000)).serves(&["a", "b"]);
    let two = scene(vec![green("a"), bad("b", &Class::Silent, 60_000)], &["a", "b"]);
    assert_eq!(two.serves(&["a", "b"]).frozen, Some(Frozen::PoolOfTwo));
}

#[test]
fn row_silent_with_ready_unknown_needs_no_witnesses() {
    let mut silent = bad("c", &Class::Silent, 60_000);
    silent.ready_unknown = true;
    let mut scene = one(silent);
    scene.verdicts[1] = bad("b", &Class::Silent, 60_000);
    // B is silent as well, so there is no majority of witnesses; and what goes leaves less than a majority.
    assert_eq!(scene.serves(&["a", "b"]).leaving[0].target, "c");
}

#[test]
fn row_refused_credential_leaves_after_30_seconds_while_two_others_accept() {
    let denied = |name, since| {
        let mut denied = bad(name, &Class::Denied(ago(since), "answers 401".to_owned()), since);
        denied.probe.denied_since = Some(ago(since));
        denied
    };
    let early = one(denied("c", 29_000)).serves(&ABC);
    assert_eq!(early.wake, Some(ago(29_000) + Duration::from_secs(30)));
    one(denied("c", 30_000)).serves(&["a", "b"]);
    scene(vec![green("a"), denied("b", 60_000), denied("c", 60_000)], &ABC).serves(&ABC);
    let all = scene(vec![denied("a", 60_000), denied("b", 60_000), denied("c", 60_000)], &ABC).serves(&ABC);
    assert_eq!(all.frozen, Some(Frozen::CredentialRefused));
}

#[test]
fn row_unknown_stays_and_enters_by_its_conditions() {
    let unknown = bad("c", &Class::Healthy, 0);
    one(unknown.clone()).serves(&ABC);
    scene(vec![green("a"), green("b"), unknown], &["a", "b"]).serves(&ABC);
}

#[test]
fn row_green_enters_after_its_threshold_of_fresh_greens() {
    let mut fresh = green("c");
    fresh.probe.fresh_greens = 1;
    let newcomer = scene(vec![green("a"), green("b"), fresh.clone()], &["a", "b"]);
    newcomer.serves(&["a", "b"]);
    fresh.probe.fresh_greens = 2;
    scene(vec![green("a"), green("b"), fresh], &["a", "b"]).serves(&ABC);
}

#[test]
fn row_unproven_stays_and_does_not_enter() {
    let mut unproven = bad("c", &Class::Unproven, 0);
    unproven.probe.heard = false;
    one(unproven.clone()).serves(&ABC);
    scene(vec![green("a"), green("b"), unproven], &["a", "b"]).serves(&["a", "b"]);
}

#[test]
fn a_first_set_waits_until_it_is_complete() {
    let mut late = green("c");
    late.probe.fresh_greens = 1;
    scene(vec![green("a"), green("b"), late], &[]).serves(&[]);
    scene(vec![green("a"), green("b"), green("c")], &[]).serves(&ABC);
    scene(vec![green("a"), green("b"), bad("c", &Class::Refused, 100)], &[]).serves(&["a", "b"]);
}

// The rules.

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
fn rule_2_two_of_three_silent_or_cut_is_a_shared_cause() {
    for class in [Class::Silent, Class::EtcdCut] {
        let two = scene(vec![green("a"), bad("b", &class, 60_000), bad("c", &class, 60_000)], &ABC);
        assert_eq!(two.serves(&ABC).frozen, Some(Frozen::SharedCause));
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

// The rules as properties: any mixture of evidence, any pool.

#[derive(Clone, Debug)]
struct Mix {
    class: Class,
    since: u64,
    asked: u64,
    green_for: u64,
    lived: u64,
    member: bool,
    ready_unknown: bool,
    own: bool,
}

fn mixes() -> impl Strategy<Value = Vec<Mix>> {
    let class = prop_oneof![
        4 => Just(Class::Healthy),
        1 => Just(Class::Refused),
        1 => Just(Class::Shutdown),
        1 => Just(red()),
        1 => Just(Class::EtcdCut),
        1 => Just(Class::Silent),
        1 => Just(Class::Maintenance(Mark::Drained)),
        1 => Just(Class::Maintenance(Mark::Deletion)),
        1 => Just(Class::NotReady("Ready=False".to_owned())),
        1 => Just(Class::Unproven),
        1 => Just(Class::Absent),
        1 => Just(Class::Denied(ago(60_000), "401".to_owned())),
    ];
    let times = (0u64..8_000, 0u64..8_000, 0u64..40_000, 0u64..8_000);
    let mix = (class, times, any::<bool>(), any::<bool>(), any::<bool>());
    let mix = mix.prop_map(|(class, (since, asked, green_for, lived), member, ready_unknown, own)| Mix {
        class,
        since,
        asked,
        green_for,
        lived,
        member,
        ready_unknown,
        own,
    });
    prop::collection::vec(mix, 1..6)
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn mixed(mixes: &[Mix], quorum: u64, stale: bool, election: bool) -> Scene {
    let mut verdicts = Vec::new();
    let mut members = Vec::new();
    for (mix, name) in mixes.iter().zip(NAMES) {
        let by_probe = mix.class == Class::Healthy || mix.class.is_bad() || matches!(mix.class, Class::Denied(..));
        let mut verdict =
            if by_probe && mix.class != Class::Healthy { bad(name, &mix.class, mix.since) } else { green(name) };
        verdict.class = mix.class.clone();
        verdict.own = mix.own;
        verdict.ready_unknown = mix.ready_unknown;
        if verdict.probe.class == ProbeClass::Green {
            verdict.probe.green = Some(Green { asked: ago(mix.asked + 1), came: ago(mix.asked) });
            verdict.probe.green_since = Some(ago(mix.green_for));
            verdict.probe.lives_since = Some(ago(mix.lived));
        }
        verdicts.push(verdict);
        if mix.member {
            members.push(name);
        }
    }
    let mut scene = scene(verdicts, &members);
    scene.outlook.quorums = quorums(&[(quorum + 1, quorum)]);
    scene.outlook.stale = stale;
    scene.outlook.election = election;
    scene
}

fn left_for(scene: &Scene, choice: &Choice) -> Vec<(Verdict, Cause)> {
    let of =
        |leaving: &Leaving| scene.verdicts.iter().find(|v| v.uid == leaving.uid).map(|v| (v.clone(), leaving.cause));
    choice.leaving.iter().filter_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Rule 1, and the last target never leaves.
    #[test]
    fn what_leaves_for_the_probes_leaves_one_behind_that_has_answered_since(mixes in mixes(), quorum in 0u64..6_000) {
        let scene = mixed(&mixes, quorum, false, true);
        let choice = scene.choose();
        prop_assert!(scene.members.is_empty() || !choice.endpoints.is_empty());
        for leaving in &choice.leaving {
            let begun = if leaving.cause.is_by_probe() { leaving.since } else { ago(2_000) };
            let proof = scene.verdicts.iter().any(|v| {
                choice.uids.contains(&v.uid) && v.probe.class == ProbeClass::Green
                    && v.probe.green.is_some_and(|green| green.came >= begun)
            });
            prop_assert!(proof, "{choice:#?}");
        }
    }

    /// Rule 2.
    #[test]
    fn silence_and_cuts_take_nobody_without_a_majority_of_witnesses(mixes in mixes(), quorum in 0u64..6_000) {
        let scene = mixed(&mixes, quorum, false, true);
        let choice = scene.choose();
        let nodes = scene.verdicts.iter().filter(|v| v.class != Class::Absent).count();
        for (verdict, cause) in left_for(&scene, &choice) {
            if !matches!(cause, Cause::Silent | Cause::EtcdCut) || (cause == Cause::Silent && verdict.ready_unknown) {
                continue;
            }
            let since = verdict.probe.since;
            let slow = Duration::from_secs(1);
            let asked =
                |v: &&Verdict| v.probe.class == ProbeClass::Green && v.probe.green.is_some_and(|g| g.asked >= since + slow);
            let lived = |v: &&Verdict| v.probe.lives_since.is_some_and(|l| l <= since + slow || l <= ago(2_250));
            let there = scene.verdicts.iter().filter(|v| v.class != Class::Absent);
            let witnesses: Vec<&Verdict> = there.filter(asked).filter(lived).collect();
            prop_assert!(witnesses.len() * 2 > nodes && witnesses.iter().any(|v| !v.own), "{choice:#?}");
            prop_assert!(cause != Cause::EtcdCut || quorum + 1_001 <= u64::try_from(NOW.since(since).as_millis()).unwrap());
        }
    }

    /// Rule 4: while anything is known there is a choice, and nobody is in it who is neither a node nor a member.
    #[test]
    fn the_choice_is_made_of_nodes_and_members(mixes in mixes(), stale: bool, election: bool) {
        let scene = mixed(&mixes, 0, stale, election);
        for endpoint in scene.choose().endpoints {
            let name = endpoint.node_name.as_str();
            let is_node = scene.verdicts.iter().any(|v| v.node == name && v.class != Class::Absent);
            prop_assert!(is_node || scene.members.contains(&name));
        }
    }

    /// Rule 5.
    #[test]
    fn at_most_one_leaves_for_the_probes_where_less_than_a_majority_is_left(mixes in mixes()) {
        let scene = mixed(&mixes, 0, false, true);
        let choice = scene.choose();
        let nodes = scene.verdicts.iter().filter(|v| v.class != Class::Absent).count();
        let by_probe: Vec<Leaving> = choice.leaving.iter().filter(|l| l.cause.is_by_probe()).cloned().collect();
        if choice.endpoints.len() * 2 <= nodes && !by_probe.is_empty() {
            prop_assert!(by_probe.iter().any(|l| NOW.since(l.since) >= Duration::from_secs(3)), "{choice:#?}");
        }
    }

    /// Rule 7.
    #[test]
    fn stale_nodes_take_nobody(mixes in mixes()) {
        let choice = mixed(&mixes, 0, true, true).choose();
        prop_assert!(choice.leaving.iter().all(|leaving| leaving.cause.is_by_probe()), "{choice:#?}");
    }

    /// Rule 10.
    #[test]
    fn without_an_election_silence_takes_nobody(mixes in mixes()) {
        let choice = mixed(&mixes, 0, false, false).choose();
        let fits = |cause| matches!(cause, Cause::Refused | Cause::Shutdown | Cause::Marked | Cause::Gone | Cause::Condition);
        prop_assert!(choice.leaving.iter().all(|leaving| fits(leaving.cause)), "{choice:#?}");
    }

    /// A frozen choice is a pool that keeps all its nodes, or says what it could not do.
    #[test]
    fn order_never_matters(mixes in mixes(), quorum in 0u64..6_000) {
        let forward = mixed(&mixes, quorum, false, true);
        let mut backward = forward.clone();
        backward.verdicts.reverse();
        backward.members.reverse();
        prop_assert_eq!(forward.choose(), backward.choose());
    }

    /// What leaves is not in, and what is in does not leave.
    #[test]
    fn nobody_both_leaves_and_stays(mixes in mixes(), stale: bool, election: bool) {
        let choice = mixed(&mixes, 0, stale, election).choose();
        for leaving in &choice.leaving {
            prop_assert!(!choice.endpoints.iter().any(|e| names::target(&e.node_name) == leaving.target), "{choice:#?}");
        }
    }
}
