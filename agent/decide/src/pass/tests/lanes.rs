//! What goes first, what waits for it, and how long.

use std::time::Duration;

use super::super::*;
use super::scene::*;
use crate::health::Class;
use crate::retry::FaultKind;
use crate::status::Record;

#[test]
fn of_a_recorded_balancer_no_write_to_kubernetes_comes_before_a_put() {
    let mut scene = settled();
    scene.loses_a_node();
    // Nothing of what the object lacks, nor a wish that waits, holds it back.
    scene.view.finalizer = false;
    scene.ask("reconcile");
    scene.view.status.conditions.clear();
    scene.memory.status_failed = true;
    let pass = scene.pass();
    assert!(matches!(pass.cloud, Some(CloudStep::Update(_))), "{:?}", pass.cloud);
    assert_eq!(pass.object, Some(ObjectStep::AddFinalizer), "beside it");
    // Nor does the look that a wish asks for.
    scene.memory.asked(NOW);
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Update(_))));
    // Only what is made or deleted waits for the finalizer.
    scene.memory.read(None, NOW, Duration::from_secs(60), 0.5);
    scene.view.status.record = None;
    assert_eq!(scene.pass().cloud, None);
    scene.view.deleting = true;
    assert_eq!(scene.pass().cloud, None);
}

#[test]
fn without_a_removal_a_wish_to_look_comes_first() {
    let mut scene = settled();
    scene.settings.load_balancer.plan_id = "p50".to_owned();
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Update(_))));
    scene.memory.asked(NOW);
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Read(_))));
}

#[test]
fn no_backoff_holds_back_a_removal_for_long_and_none_holds_back_a_newer_one() {
    let mut scene = settled();
    scene.loses_a_node();
    let Some(CloudStep::Update(update)) = scene.pass().cloud else { panic!() };
    for _ in 0..9 {
        scene.memory.write_failed(fault(FaultKind::Server), update.wish.targets(), NOW, 1.0);
    }
    assert_eq!((scene.pass().cloud, scene.pass().wake), (None, Some(NOW + Duration::from_secs(2))));
    assert!(matches!(scene.at(NOW + Duration::from_secs(2)).cloud, Some(CloudStep::Update(_))));
    scene.verdicts[1].class = Class::NotReady("Ready=False".to_owned());
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Update(_))), "newer evidence replaces what waits");
}

#[test]
fn a_look_that_a_removal_waits_for_is_not_held_back_either() {
    let mut scene = settled();
    scene.memory.promoted(NOW);
    for _ in 0..9 {
        scene.memory.read_failed(fault(FaultKind::TimedOut), NOW, 1.0);
    }
    let after = |scene: &Scene| scene.pass().wake.map(|wake| wake.since(NOW).as_secs());
    assert_eq!(after(&scene), Some(15), "nothing is to leave");
    // The balancer is not known, but what was in it is on record.
    scene.loses_a_node();
    assert_eq!((after(&scene), scene.pass().pending), (Some(2), true));
}

#[test]
fn a_balancer_on_record_that_is_not_found_is_made_again_when_no_late_delete_can_arrive() {
    let mut scene = settled();
    scene.memory.promoted(NOW);
    scene.memory.read(None, NOW, Duration::from_secs(60), 0.5);
    let pass = scene.pass();
    assert_eq!((pass.cloud, pass.outcome), (None, Some(Outcome::Waiting(Waiting::LateDelete))));
    // What says that it was there stays as long as that matters.
    assert!(scene.store());
    assert_eq!(scene.view.status.record.as_ref().unwrap().version, "v1");
    let rest = scene.settings.leader_election.lease_duration + scene.settings.call_timeout();
    assert!(!matches!(scene.at(NOW + rest - Duration::from_millis(1)).cloud, Some(CloudStep::Create(_))));
    assert!(matches!(scene.at(NOW + rest).cloud, Some(CloudStep::Create(_))));
    // One that was never made is made at once.
    scene.view.status.record = Some(Record::of(&scene.view.status.recorded.clone().unwrap(), None));
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Create(_))));
}

#[test]
fn the_end_of_a_drain_is_looked_for_in_time() {
    let mut scene = settled();
    scene.verdicts[0].ends = Some(5_010);
    assert_eq!(scene.pass().wake, Some(NOW + Duration::from_secs(10)));
    scene.verdicts[0].ends = Some(4_000);
    assert_eq!(scene.pass().wake, Some(NOW), "it is over");
}

/// Where no Node is listed, what stands is what the balancer has, not what the object asks for.
#[test]
fn the_last_good_set_is_the_balancers_if_that_is_ours() {
    let mut scene = settled();
    scene.verdicts.clear();
    scene.view.endpoints.truncate(1);
    assert_eq!(scene.pass().choice.endpoints.len(), 3);
    meddled(
        &mut scene,
        |balancer| drop(balancer.labels.insert("cluster.stackit.cloud".to_owned(), "z".to_owned())),
        NOW,
    );
    assert_eq!(scene.pass().choice.endpoints.len(), 1);
}

#[test]
fn a_pass_is_settled_when_it_is_done_and_has_nothing_to_write() {
    let pass = settled().pass();
    assert!(pass.is_settled());
    let read = Some(CloudStep::Read("x".to_owned()));
    assert!(Pass { cloud: read, ..pass.clone() }.is_settled());
    let delete = Some(CloudStep::Delete(pass.identity.clone().unwrap()));
    assert!(!Pass { cloud: delete, ..pass.clone() }.is_settled());
    assert!(!Pass { object: Some(ObjectStep::AddFinalizer), ..pass.clone() }.is_settled());
    assert!(!Pass { report: Some(Report::default()), ..pass.clone() }.is_settled());
    assert!(!Pass { outcome: None, ..pass.clone() }.is_settled());
    assert!(!Pass { outcome: Some(Outcome::Waiting(Waiting::Endpoints)), ..pass }.is_settled());
}

#[test]
fn each_write_counts_against_the_budget_and_what_it_takes_out_is_remembered() {
    let mut scene = settled();
    scene.loses_a_node();
    let pass = scene.pass();
    let step = pass.cloud.clone().unwrap();
    assert!(matches!(step, CloudStep::Update(_)) && !pass.choice.leaving.is_empty());
    let before = scene.memory.clone();
    scene.memory.sending(&CloudStep::Read("x".to_owned()), &pass.choice, NOW, 12);
    assert_eq!(scene.memory, before, "a read costs nothing");
    for _ in 0..6 {
        assert!(scene.memory.budget.next(12) <= NOW);
        scene.memory.sending(&step, &pass.choice, NOW, 12);
    }
    assert_eq!(scene.memory.budget.next(12), NOW + Duration::from_secs(5));
    assert_ne!(scene.memory.pool, before.pool);
}

#[test]
fn before_the_nodes_are_listed_what_stands_stands() {
    let pass = settled().unlisted();
    assert_eq!((pass.choice.endpoints.len(), pass.choice.frozen, pass.cloud), (3, None, None));
}

#[test]
fn additions_wait_for_the_budget_and_removals_do_not() {
    let mut scene = settled();
    meddled(&mut scene, |balancer| drop(balancer.target_pool.as_mut().unwrap().targets.pop_first()), NOW);
    let pass = scene.pass();
    let Some(step @ CloudStep::Update(_)) = pass.cloud else { panic!() };
    let per_minute = scene.settings.load_balancer.writes_per_minute;
    while scene.memory.budget.next(per_minute) <= NOW {
        scene.memory.sending(&step, &pass.choice, NOW, per_minute);
    }
    let fits = scene.memory.budget.next(per_minute);
    assert_eq!((scene.pass().cloud, scene.pass().wake), (None, Some(fits)));
    assert!(matches!(scene.at(fits).cloud, Some(CloudStep::Update(_))));
    scene.verdicts[1].class = Class::NotReady("Ready=False".to_owned());
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Update(_))));
}
