//! The evidence table, row by row.

use super::super::*;
use super::scene::*;
use std::time::Duration;

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
    scene(vec![green("a")], &["a", "b"]).serves(&["a"]);
    scene(vec![green("a"), green("b")], &["a", "b", "c", "d", "e"]).serves(&["a", "b", "c", "d", "e"]);
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
