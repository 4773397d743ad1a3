//! What the object asks for, and what it asks to be left alone.

use std::time::Duration;

use super::super::*;
use super::scene::*;
use crate::health::Class;
use crate::retry::FaultKind;
use crate::status::LastError;

#[test]
fn what_is_settled_needs_nothing() {
    let pass = settled().pass();
    assert!(pass.is_settled());
    assert_eq!((pass.cloud, pass.object, pass.report), (None, None, None));
}

#[test]
fn who_has_just_started_says_nothing_new_of_the_nodes() {
    let mut scene = settled();
    let said = |scene: &Scene| scene.pass().report.and_then(|report| report.conditions);
    scene.verdicts[0].class = Class::Unproven;
    assert_eq!(said(&scene), None);
    scene.verdicts[0].probe.heard = true;
    assert!(said(&scene).is_some());
}

#[test]
fn wait_for_state_holds_everything() {
    let mut scene = settled();
    scene.loses_a_node();
    scene.ask("wait-for-state");
    for deleting in [false, true] {
        scene.view.deleting = deleting;
        let pass = scene.pass();
        assert_eq!((pass.cloud, pass.object, pass.report), (None, None, None));
        assert_eq!(pass.outcome, Some(Outcome::Waiting(Waiting::State)));
    }
}

#[test]
fn a_migration_is_reported_first_then_the_finalizer_goes_and_last_the_annotation() {
    let mut scene = settled();
    scene.loses_a_node();
    scene.ask("migrate");
    let pass = scene.pass();
    let operation = pass.report.unwrap().operation.unwrap();
    assert_eq!((operation.kind.as_str(), operation.state.as_str()), ("Migrate", "Succeeded"));
    assert_eq!((pass.cloud, pass.object), (None, None));
    scene.store();
    assert_eq!(scene.pass().object, Some(ObjectStep::RemoveFinalizer));
    scene.view.finalizer = false;
    assert_eq!(scene.pass().object, Some(ObjectStep::FinishOperation));
    scene.view.operation = None;
    let pass = scene.pass();
    assert_eq!((pass.cloud, pass.object, pass.report), (None, None, None));
    assert_eq!(pass.outcome, Some(Outcome::Waiting(Waiting::HandedOver)));
}

#[test]
fn a_deletion_amid_a_migration_leaves_the_balancer() {
    let mut scene = settled();
    scene.ask("migrate");
    scene.view.deleting = true;
    scene.store();
    let pass = scene.pass();
    assert_eq!((pass.cloud, pass.object), (None, Some(ObjectStep::RemoveFinalizer)));
}

#[test]
fn what_was_migrated_is_taken_back_by_reconcile_and_the_wish_survives_a_restart() {
    let mut scene = settled();
    scene.view.status.operation = Some(last("Migrate", "Succeeded"));
    scene.ask("reconcile");
    // Only when the status says so may the annotation go: it is all that says so before.
    let pass = scene.pass();
    assert_eq!(pass.object, None);
    assert_eq!(pass.report.unwrap().operation.unwrap().kind, "Reconcile");
    scene.store();
    assert_eq!(scene.pass().object, Some(ObjectStep::StripOperation));
}

#[test]
fn a_restore_is_over_when_it_has_succeeded_under_its_name() {
    let mut scene = settled();
    scene.ask("restore");
    let pass = scene.pass();
    assert_eq!(pass.report.unwrap().operation.unwrap().kind, "Restore");
    assert_eq!(pass.object, None);
    scene.store();
    assert_eq!(scene.pass().object, Some(ObjectStep::FinishOperation));
    scene.view.operation = None;
    let pass = scene.pass();
    assert_eq!((pass.cloud, pass.object, pass.report), (None, None, None));
}

#[test]
fn paused_nothing_is_written_but_the_report() {
    let mut scene = settled();
    scene.view.paused = true;
    scene.loses_a_node();
    let pass = scene.pass();
    assert_eq!((pass.cloud, pass.object), (None, None));
    let held = Outcome::Waiting(Waiting::Resume("changing targets".to_owned()));
    assert_eq!(pass.outcome, Some(held));
    let report = pass.report.unwrap();
    assert_eq!(report.error, None);
    let reasons: Vec<String> = report.conditions.unwrap().into_iter().map(|condition| condition.reason).collect();
    assert_eq!(reasons, ["Paused", "NodesUnhealthy"]);
}

#[test]
fn paused_reads_go_on() {
    let mut scene = settled();
    scene.view.paused = true;
    scene.loses_a_node();
    assert!(matches!(scene.at(NOW + Duration::from_secs(120)).cloud, Some(CloudStep::Read(_))));
}

#[test]
fn paused_a_deletion_waits_even_where_nothing_is_left() {
    let mut scene = settled();
    scene.view.paused = true;
    scene.view.deleting = true;
    for forced in [false, true] {
        scene.facts.force_deletion = forced;
        let pass = scene.pass();
        assert_eq!((pass.cloud, pass.object), (None, None));
    }
    scene.memory.read(None, NOW, Duration::from_secs(60), 0.5);
    scene.store();
    assert_eq!(scene.pass().object, None);
    scene.view.paused = false;
    scene.store();
    assert_eq!(scene.pass().object, Some(ObjectStep::RemoveFinalizer));
}

#[test]
fn an_error_that_is_over_is_cleared_before_the_update_is_answered() {
    let mut scene = settled();
    scene.loses_a_node();
    assert_eq!(scene.pass().report, None);
    scene.view.status.error = Some(LastError::default());
    assert_eq!(scene.pass().report.unwrap().error, Some(None));
}

#[test]
fn a_forced_deletion_asks_stackit_a_few_times_and_then_lets_go() {
    let mut scene = settled();
    scene.view.deleting = true;
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Delete(_))));
    scene.facts.force_deletion = true;
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Delete(_))));
    for attempt in 1..=3 {
        assert_eq!(scene.pass().left_behind, None, "attempt {attempt}");
        scene.memory.write_failed(fault(FaultKind::Server), BTreeSet::new(), NOW, 0.0);
    }
    let left = scene.pass().left_behind.unwrap();
    assert!(left.contains("t-exp-x") && left.contains("away"), "{left}");
    scene.store();
    assert_eq!(scene.pass().object, Some(ObjectStep::RemoveFinalizer));
    scene.facts.force_deletion = false;
    assert_eq!(scene.pass().object, None);
}

#[test]
fn a_forced_deletion_needs_no_facts() {
    let mut scene = settled();
    scene.view.deleting = true;
    scene.view.status.recorded = None;
    scene.view.status.record = None;
    scene.facts.region = Err("no region".to_owned());
    assert_eq!(scene.pass().left_behind, None);
    scene.facts.force_deletion = true;
    assert!(scene.pass().left_behind.unwrap().contains("no region"));
}

#[test]
fn a_deletion_reads_first_where_what_is_known_may_be_old() {
    let mut scene = settled();
    scene.view.deleting = true;
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Delete(_))));
    scene.memory.must_read = true;
    assert!(matches!(scene.pass().cloud, Some(CloudStep::Read(_))));
}
