use super::*;
use crate::endpoints::{Cause, Leaving};

fn fault(kind: FaultKind, outcome_unknown: bool) -> Fault {
    Fault { kind, http_status: None, message: "m".to_owned(), retry_after: None, outcome_unknown }
}

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

#[test]
fn a_write_with_an_unknown_outcome_is_followed_by_a_read_at_once_and_tried_again_later() {
    let mut memory = Memory::default();
    memory.write_failed(fault(FaultKind::TimedOut, true), BTreeSet::new(), at(1), 1.0);
    assert!(memory.must_read);
    assert_eq!(memory.read_trouble, None);
    assert!(memory.write_trouble.unwrap().next > at(1));
}

#[test]
fn reads_that_succeed_do_not_wipe_out_the_backoff_of_writes_that_fail() {
    let mut memory = Memory::default();
    for attempt in 1..=4 {
        memory.write_failed(fault(FaultKind::Server, true), BTreeSet::new(), at(attempt), 1.0);
        memory.read(None, at(attempt), Duration::from_secs(60), 0.5);
    }
    let trouble = memory.write_trouble.unwrap();
    assert_eq!((trouble.attempts, trouble.next), (4, at(8)));
}

#[test]
fn conflicts_are_met_at_once_a_few_times_and_are_news_only_then() {
    let mut memory = Memory::default();
    for attempt in 1..=7 {
        memory.write_failed(fault(FaultKind::Conflict, false), BTreeSet::new(), at(1), 1.0);
        let trouble = memory.write_trouble.clone().unwrap();
        assert_eq!(trouble.next > at(1), attempt > 5, "attempt {attempt}");
        assert_eq!(trouble.is_news(), attempt > 5, "attempt {attempt}");
    }
}

#[test]
fn newer_evidence_does_not_wait_for_the_backoff_of_older() {
    let mut memory = Memory::default();
    memory.write_failed(fault(FaultKind::Server, false), BTreeSet::new(), at(1), 1.0);
    let trouble = memory.write_trouble.clone().unwrap();
    let newer = BTreeSet::from([Target { name: "a".to_owned(), ip: [10, 0, 0, 1].into() }]);
    assert!(trouble.holds_back(&BTreeSet::new()));
    assert!(!trouble.holds_back(&newer));
}

#[test]
fn a_new_leader_reads_again_after_5_15_and_30_seconds() {
    let mut memory = Memory::default();
    memory.promoted(at(100));
    let resync = Duration::from_secs(60);
    let mut due = Vec::new();
    for now in [100, 105, 115, 130] {
        memory.read(None, at(now), resync, 0.5);
        due.push(memory.next_read);
    }
    assert_eq!(due, [at(105), at(115), at(130), at(190)]);
}

pub(in crate::pass) fn observed(version: &str, status: BalancerStatus) -> Observed {
    use crate::desired::{AddressForm, AddressMode, LoadBalancer};
    Observed {
        balancer: LoadBalancer {
            name: "lb".to_owned(),
            plan_id: String::new(),
            labels: std::collections::BTreeMap::new(),
            network_id: String::new(),
            address: AddressMode::Ephemeral,
            listener: None,
            target_pool: None,
            allowed_source_ranges: None,
            keep_source_ranges: false,
            address_form: AddressForm::default(),
        },
        version: version.to_owned(),
        status,
        errors: Vec::new(),
        external_address: Some([45, 0, 0, 1].into()),
        private_address: None,
        raw: serde_json::Map::new(),
    }
}

const RESYNC: Duration = Duration::from_secs(60);

#[test]
fn a_balancer_on_its_way_is_looked_at_less_and_less_often_until_it_changes() {
    let mut memory = Memory::default();
    let mut pause = |version: &str, status: BalancerStatus| {
        memory.read(Some(observed(version, status)), at(0), RESYNC, 0.5);
        memory.next_read.since(at(0)).as_secs()
    };
    let pauses: Vec<u64> = (0..6).map(|_| pause("v1", BalancerStatus::Pending)).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
    assert_eq!(pause("v2", BalancerStatus::Pending), 1, "another version starts over");
    assert_eq!(pause("v2", BalancerStatus::Error), 2);
    assert_eq!(pause("v2", BalancerStatus::Ready), 60);
    assert_eq!(pause("v2", BalancerStatus::Pending), 2);
}

#[test]
fn ready_without_an_address_is_on_its_way() {
    let mut memory = Memory::default();
    let without = Observed { external_address: None, ..observed("v1", BalancerStatus::Ready) };
    memory.read(Some(without), at(0), RESYNC, 0.5);
    assert_eq!(memory.next_read, at(1));
}

#[test]
fn looks_for_drift_are_spread_by_a_tenth() {
    for (jitter, millis) in [(0.0, 54_000), (0.5, 60_000), (1.0, 66_000), (9.0, 66_000)] {
        let mut memory = Memory::default();
        memory.read(None, at(0), RESYNC, jitter);
        assert_eq!(memory.next_read.since(at(0)).as_millis(), millis, "{jitter}");
    }
}

#[test]
fn an_answer_to_a_read_ends_doubt_and_an_answer_to_a_write_ends_trouble() {
    let mut memory = Memory::default();
    memory.read_failed(fault(FaultKind::Server, false), at(1), 1.0);
    memory.write_failed(fault(FaultKind::Conflict, false), BTreeSet::new(), at(1), 1.0);
    assert!(memory.must_read && memory.read_trouble.is_some());
    memory.read(Some(observed("v1", BalancerStatus::Ready)), at(2), RESYNC, 0.5);
    assert!(!memory.must_read && memory.read_trouble.is_none() && memory.write_trouble.is_some());
    memory.written(observed("v2", BalancerStatus::Pending), at(3), RESYNC, 0.5);
    assert_eq!(memory.write_trouble, None);
    assert_eq!(memory.balancer, Balancer::Present(Box::new(observed("v2", BalancerStatus::Pending))));
}

#[test]
fn a_deleted_balancer_is_terminating_and_looked_at_soon() {
    let mut memory = Memory::default();
    memory.read(Some(observed("v1", BalancerStatus::Ready)), at(0), RESYNC, 0.5);
    memory.write_failed(fault(FaultKind::Server, true), BTreeSet::new(), at(1), 1.0);
    memory.polls = 4;
    memory.deleted(at(2));
    assert_eq!((memory.next_read, memory.polls, &memory.write_trouble), (at(3), 0, &None));
    assert_eq!(memory.balancer, Balancer::Present(Box::new(observed("v1", BalancerStatus::Terminating))));
}

#[test]
fn only_doubt_asks_for_a_read() {
    for (kind, unknown, doubt) in [
        (FaultKind::Server, false, false),
        (FaultKind::Server, true, true),
        (FaultKind::Conflict, false, true),
        (FaultKind::NotFound, false, true),
        (FaultKind::Invalid, false, false),
    ] {
        let mut memory = Memory::default();
        memory.write_failed(fault(kind, unknown), BTreeSet::new(), at(1), 1.0);
        assert_eq!(memory.must_read, doubt, "{kind:?}");
    }
    // Once in doubt, a further failure does not take it away.
    let mut memory = Memory::default();
    memory.write_failed(fault(FaultKind::Server, true), BTreeSet::new(), at(1), 1.0);
    memory.write_failed(fault(FaultKind::Conflict, true), BTreeSet::new(), at(1), 1.0);
    assert!(memory.must_read);
}

#[test]
fn failed_reads_wait_longer_each_time_and_put_off_the_next_one() {
    let mut memory = Memory::default();
    for (attempt, next) in [(1, 10_500), (2, 11_000), (3, 12_000)] {
        memory.read_failed(fault(FaultKind::Server, false), at(10), 1.0);
        let trouble = memory.read_trouble.clone().unwrap();
        assert_eq!((trouble.attempts, trouble.next.0.as_millis()), (attempt, next));
        assert_eq!(memory.next_read, trouble.next);
    }
}

#[test]
fn a_row_of_failures_ends_with_another_kind_or_two_quiet_minutes() {
    let mut memory = Memory::default();
    let mut attempts = |kind, now| {
        memory.write_failed(fault(kind, false), BTreeSet::new(), now, 1.0);
        memory.write_trouble.as_ref().map(|trouble| (trouble.attempts, trouble.next)).unwrap()
    };
    assert_eq!(attempts(FaultKind::Server, at(0)).0, 1);
    let (two, next) = attempts(FaultKind::Server, at(0));
    assert_eq!((two, next), (2, at(1)));
    assert_eq!(attempts(FaultKind::Invalid, at(1)).0, 1);
    let (_, next) = attempts(FaultKind::Server, at(1));
    let (two, next) = attempts(FaultKind::Server, next + Duration::from_millis(119_999));
    assert_eq!(two, 2);
    assert_eq!(attempts(FaultKind::Server, next + Duration::from_secs(120)).0, 1);
}

#[test]
fn a_wish_ends_every_pause_but_those_the_cloud_asked_for() {
    for (kind, at_once) in [(FaultKind::Server, true), (FaultKind::RateLimited, false), (FaultKind::Quota, false)] {
        let mut memory = Memory::default();
        memory.read_failed(fault(kind, false), at(1), 1.0);
        memory.write_failed(fault(kind, false), BTreeSet::new(), at(1), 1.0);
        memory.asked(at(1));
        assert!(memory.wants_look.is_some() && memory.refresh);
        for trouble in [memory.read_trouble, memory.write_trouble] {
            assert_eq!(trouble.unwrap().next == at(1), at_once, "{kind:?}");
        }
    }
}

#[test]
fn a_status_that_says_succeeded_answers_the_wish() {
    use crate::status::LastOperation;
    let stored = |state: &str| {
        let operation = LastOperation { state: state.to_owned(), ..LastOperation::default() };
        Previous { operation: Some(operation), ..Previous::default() }
    };
    let mut memory = Memory { refresh: true, ..Memory::default() };
    memory.reported(None);
    assert!(memory.status_failed && memory.refresh);
    memory.reported(Some(&stored("Processing")));
    assert!(!memory.status_failed && memory.refresh);
    memory.reported(Some(&stored("Succeeded")));
    assert!(!memory.refresh);
}

#[test]
fn every_answer_is_learned() {
    let learned = |carried| {
        let mut memory = Memory::default();
        memory.learn(carried, at(1), RESYNC, 0.5);
        memory
    };
    let ready = || observed("v1", BalancerStatus::Ready);
    assert_eq!(learned(Carried::Read(Ok(None))).balancer, Balancer::Absent);
    let not_enabled = fault(FaultKind::ServiceNotEnabled, false);
    assert_eq!(learned(Carried::Read(Err(not_enabled))).balancer, Balancer::Absent);
    let failed = learned(Carried::Read(Err(fault(FaultKind::Server, false))));
    assert!(failed.balancer == Balancer::Unread && failed.read_trouble.is_some());
    let targets = BTreeSet::from([Target { name: "a".to_owned(), ip: [10, 0, 0, 1].into() }]);
    let sent = || Sent { targets: targets.clone(), asked: None };
    let written = learned(Carried::Written { result: Ok(ready()), sent: sent() });
    assert_eq!(written.observed(), Some(&ready()));
    let result = Err(fault(FaultKind::Server, true));
    let failed = learned(Carried::Written { result, sent: sent() });
    assert_eq!(failed.write_trouble.unwrap().targets, targets);
    assert_eq!(learned(Carried::Deleted(Ok(()))).next_read, at(2));
    assert!(learned(Carried::Deleted(Err(fault(FaultKind::Server, true)))).must_read);
}

#[test]
fn news_are_neither_fences_nor_the_first_conflicts() {
    let trouble =
        |kind, attempts| Trouble { fault: fault(kind, false), attempts, at: at(0), next: at(0), targets: [].into() };
    assert!(!trouble(FaultKind::Fenced, 9).is_news());
    assert!(trouble(FaultKind::Server, 1).is_news());
    let patience = Fault { retry_after: Some(RESYNC), ..fault(FaultKind::RateLimited, false) };
    let held = Trouble { fault: patience, ..trouble(FaultKind::RateLimited, 1) };
    assert!(held.holds_back(&BTreeSet::from([Target { name: "a".to_owned(), ip: [10, 0, 0, 1].into() }])));
}

#[test]
fn a_read_that_lags_behind_our_write_changes_nothing_and_blames_nobody() {
    let ready = |version: &str, plan: &str| {
        let mut observed = observed(version, BalancerStatus::Ready);
        plan.clone_into(&mut observed.balancer.plan_id);
        observed
    };
    let mut memory = Memory::default();
    memory.read(Some(ready("v1", "p10")), at(0), RESYNC, 0.5);
    memory.written(ready("v2", "p50"), at(1), RESYNC, 0.5);
    for second in 2..5 {
        memory.read(Some(ready("v1", "p10")), at(second), RESYNC, 0.5);
        assert_eq!(memory.observed().unwrap().version, "v2");
        assert_eq!(memory.next_read, at(second + 1));
    }
    memory.read(Some(ready("v2", "p50")), at(5), RESYNC, 0.5);
    assert_eq!((memory.next_read, memory.foreign.clone()), (at(65), Foreign::default()));
    // In doubt it is believed, and nobody is blamed either; what is fresh is then not taken for old.
    memory.write_failed(fault(FaultKind::Conflict, false), BTreeSet::new(), at(6), 1.0);
    memory.read(Some(ready("v1", "p10")), at(6), RESYNC, 0.5);
    assert_eq!(memory.observed().unwrap().version, "v1");
    memory.read(Some(ready("v2", "p50")), at(7), RESYNC, 0.5);
    assert_eq!(memory.observed().unwrap().version, "v2");
    // What shows for a minute is the truth, however it came to be.
    memory.read(Some(ready("v1", "p10")), at(100), RESYNC, 0.5);
    assert_eq!(memory.observed().unwrap().version, "v1");
}

#[test]
fn a_balancer_that_was_just_made_and_is_not_found_is_not_made_again() {
    let mut memory = Memory::default();
    memory.read(None, at(0), RESYNC, 0.5);
    memory.written(observed("v1", BalancerStatus::Pending), at(1), RESYNC, 0.5);
    memory.read(None, at(2), RESYNC, 0.5);
    assert!(memory.observed().is_some());
    memory.read(None, at(6), RESYNC, 0.5);
    assert_eq!(memory.balancer, Balancer::Absent, "it was deleted by somebody");
    // What we deleted ourselves is gone as soon as it is not found.
    memory.written(observed("v2", BalancerStatus::Pending), at(10), RESYNC, 0.5);
    memory.deleted(at(11));
    memory.read(None, at(12), RESYNC, 0.5);
    assert_eq!(memory.balancer, Balancer::Absent);
}

#[test]
fn a_delete_that_is_refused_is_followed_by_a_read_because_it_may_be_terminating() {
    let mut memory = Memory::default();
    memory.read(Some(observed("v1", BalancerStatus::Ready)), at(0), RESYNC, 0.5);
    memory.learn(Carried::Deleted(Err(fault(FaultKind::Invalid, false))), at(1), RESYNC, 0.5);
    assert!(memory.must_read);
}

#[test]
fn losing_the_lease_keeps_the_counters_and_forgets_the_balancer() {
    let mut memory = Memory::default();
    memory.read(Some(observed("v1", BalancerStatus::Ready)), at(100), RESYNC, 0.5);
    for (version, plan) in [("v2", "p50"), ("v3", "p10"), ("v4", "p50")] {
        let mut changed = observed(version, BalancerStatus::Ready);
        plan.clone_into(&mut changed.balancer.plan_id);
        memory.read(Some(changed), at(101), RESYNC, 0.5);
    }
    let leaving = Leaving { target: "a".to_owned(), uid: "u".to_owned(), cause: Cause::Silent, since: at(100) };
    memory.pool.sent(&Choice { leaving: vec![leaving], ..Choice::default() }, at(101));
    memory.budget.spend(at(101), 12);
    memory.write_failed(fault(FaultKind::Server, true), BTreeSet::new(), at(102), 0.5);
    let (budget, contested) = (memory.budget, memory.foreign.contested(at(103)));
    assert_eq!(contested, ["plan"]);

    let kept = |memory: &Memory| {
        assert_eq!((memory.budget, memory.foreign.contested(at(103))), (budget, contested.clone()));
        assert_eq!(memory.pool.silent().collect::<Vec<_>>(), ["u"]);
        assert_eq!((&memory.balancer, memory.must_read, &memory.write_trouble), (&Balancer::Unread, false, &None));
    };
    memory.demoted();
    kept(&memory);
    memory.promoted(at(103));
    kept(&memory);
    assert_eq!(memory.rereads, [at(108), at(118), at(133)]);
    // Another object of the same name has another balancer, on the same nodes.
    memory.another_object();
    assert_eq!(memory.foreign.contested(at(103)), Vec::<String>::new());
    assert_eq!(memory.pool.silent().collect::<Vec<_>>(), ["u"]);
}

#[test]
fn what_a_write_that_was_given_up_has_done_is_nobody_elses_doing() {
    let mut memory = Memory::default();
    memory.read(Some(observed("v1", BalancerStatus::Ready)), at(100), RESYNC, 0.5);
    for round in 1..=4 {
        memory.given_up(at(100 + round));
        memory.write_failed(fault(FaultKind::Conflict, false), BTreeSet::new(), at(100 + round), 0.5);
        let mut landed = observed(&format!("w{round}"), BalancerStatus::Ready);
        landed.balancer.plan_id = format!("p{round}");
        memory.read(Some(landed), at(100 + round), RESYNC, 0.5);
    }
    assert_eq!(memory.foreign.contested(at(110)), Vec::<String>::new());
}

#[test]
fn what_is_urgent_waits_two_seconds_at_most_where_that_can_help() {
    let patience = Fault { retry_after: Some(Duration::from_secs(30)), ..fault(FaultKind::Server, false) };
    for (fault, urgent) in [
        (fault(FaultKind::Server, false), at(12)),
        (fault(FaultKind::TimedOut, true), at(12)),
        (fault(FaultKind::Conflict, false), at(12)),
        // A token that is refused does not get better by being shown more often.
        (fault(FaultKind::Unauthorized, false), at(40)),
        (fault(FaultKind::Invalid, false), at(40)),
        (patience, at(40)),
    ] {
        let trouble = Trouble { fault, attempts: 9, at: at(10), next: at(40), targets: BTreeSet::new() };
        assert_eq!((trouble.next_try(true), trouble.next_try(false)), (urgent, at(40)), "{:?}", trouble.fault.kind);
    }
}

#[test]
fn a_wish_to_look_is_met_by_any_answer_and_is_no_doubt() {
    let mut memory = Memory::default();
    memory.asked(at(1));
    assert!(memory.wants_look.is_some() && !memory.must_read);
    memory.read(Some(observed("v1", BalancerStatus::Ready)), at(2), RESYNC, 0.5);
    assert!(memory.wants_look.is_none() && memory.refresh);
}
