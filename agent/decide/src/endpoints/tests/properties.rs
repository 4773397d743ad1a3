//! The rules as properties: any mixture of evidence, any pool.

use super::super::*;
use super::scene::*;
use crate::probe::Green;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Mix {
    class: Class,
    since: u64,
    asked: u64,
    green_for: u64,
    lived: u64,
    named: Option<u64>,
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
    let times = (0u64..8_000, 0u64..8_000, 0u64..40_000, 0u64..8_000, prop::option::of(0u64..8_000));
    let mix = (class, times, any::<bool>(), any::<bool>(), any::<bool>());
    let mix = mix.prop_map(|(class, (since, asked, green_for, lived, named), member, ready_unknown, own)| Mix {
        class,
        since,
        asked,
        green_for,
        lived,
        named,
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
        // An answer does not come before it was asked for.
        verdict.probe.named = mix.named.filter(|named| *named <= mix.since).map(ago);
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
            let known = verdict.probe.named.map_or(since + slow, |named| named.min(since + slow));
            let served = ago(quorum + 1) >= known && ago(quorum) + Duration::from_millis(1_250) <= verdict.probe.until;
            prop_assert!(cause != Cause::EtcdCut || served, "{choice:#?}");
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
