//! Passes that are told what to keep their hands off. Whole stories are told elsewhere; here is one pass at a time.

use std::time::Duration;

use serde_json::Map;

use super::*;
use crate::access::Egress;
use crate::desired::{self, AddressMode, BalancerStatus};
use crate::health::{Class, NodeAddress};
use crate::retry::{Fault, FaultKind};
use crate::status::{LastError, LastOperation, Record};

const NOW: Moment = Moment(Duration::from_secs(1000));

struct Scene {
    settings: Settings,
    view: ExposureView,
    facts: Facts,
    memory: Memory,
    verdicts: Vec<Verdict>,
}

fn node(last: u8) -> Verdict {
    let ip = IpAddr::from([10, 0, 0, last]);
    let addresses = vec![NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_string() }];
    let (node, uid) = (format!("n{last}"), format!("u{last}"));
    Verdict { node, uid, ip: Some(ip), addresses, class: Class::Healthy, serves: true, ..Verdict::default() }
}

/// An exposure that is reconciled, with a balancer as desired.
fn settled() -> Scene {
    let facts = Facts {
        region: Ok("eu01".to_owned()),
        technical_id: Ok("t".to_owned()),
        network_id: Ok("net".to_owned()),
        project_id: Ok("p".to_owned()),
        egress: Egress::Unreadable,
        force_deletion: false,
        file_ranges: crate::access::FileRanges::NotSet,
    };
    let settings = Settings::default();
    let verdicts = vec![node(1), node(2), node(3)];
    let mut view = ExposureView { name: "x".to_owned(), uid: "u".to_owned(), port: 443, ..ExposureView::default() };
    view.finalizer = true;
    let choice = endpoints::choose(&Round {
        verdicts: &verdicts,
        last_good: &LastGood::default(),
        pool: &endpoints::Pool::default(),
        now: NOW,
        health: &settings.health,
        outlook: Outlook::default(),
    });
    view.endpoints = spec_endpoints(&choice);
    let spec = exposure::resolve(&view, choice.endpoints, &facts).unwrap();
    let mut balancer = desired::load_balancer(&spec, &settings);
    balancer.address = AddressMode::Ephemeral;
    let observed = Observed {
        balancer,
        version: "v1".to_owned(),
        status: BalancerStatus::Ready,
        errors: Vec::new(),
        external_address: Some([45, 0, 0, 1].into()),
        private_address: None,
        raw: Map::new(),
    };
    let record = Record::of(&spec.identity, Some(&observed));
    view.status.recorded = Some(spec.identity);
    view.status.record = Some(record);
    view.status.operation = Some(last("Create", "Succeeded"));
    view.status.ingress = vec!["45.0.0.1".to_owned()];
    let mut memory = Memory::default();
    memory.read(Some(observed), NOW, Duration::from_secs(60), 0.5);
    let mut scene = Scene { settings, view, facts, memory, verdicts };
    scene.store();
    scene
}

fn last(kind: &str, state: &str) -> LastOperation {
    LastOperation { kind: kind.to_owned(), state: state.to_owned(), ..LastOperation::default() }
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, http_status: None, message: "away".to_owned(), retry_after: None, outcome_unknown: false }
}

impl Scene {
    fn pass(&self) -> Pass {
        self.at(NOW)
    }

    fn at(&self, now: Moment) -> Pass {
        pass(&Situation {
            now,
            wall: 5000,
            settings: &self.settings,
            leads_until: Some(now + Duration::from_secs(3600)),
            verdicts: Some(&self.verdicts),
            outlook: Outlook::default(),
            view: &self.view,
            has_object: true,
            facts: &self.facts,
            memory: &self.memory,
        })
    }

    /// Stores what a pass reports, as the API server would.
    fn store(&mut self) -> bool {
        let Some(report) = self.pass().report else { return false };
        let status = &mut self.view.status;
        if let Some(operation) = report.operation {
            status.operation = Some(operation);
        }
        if let Some(error) = report.error {
            status.error = error;
        }
        if let Some(conditions) = report.conditions {
            status.conditions = conditions;
        }
        if let Some(record) = report.record {
            status.record = Some(record);
        }
        status.observed_generation = report.observed_generation.unwrap_or(status.observed_generation);
        true
    }

    fn ask(&mut self, operation: &str) {
        self.view.operation = Some(operation.to_owned());
    }

    fn loses_a_node(&mut self) {
        self.verdicts[0].class = Class::NotReady("Ready=False".to_owned());
    }
}

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

/// Somebody else changes the balancer to this; what a read shows then.
fn meddled(scene: &mut Scene, change: impl Fn(&mut LoadBalancer), now: Moment) {
    let Some(mut observed) = scene.memory.observed().cloned() else { panic!() };
    change(&mut observed.balancer);
    observed.version = format!("v{}", now.0.as_secs());
    scene.memory.read(Some(observed), now, Duration::from_secs(60), 0.5);
}

/// One round: somebody changes it, the pass undoes it. Whether it does.
fn round(scene: &mut Scene, change: impl Fn(&mut LoadBalancer), now: Moment) -> bool {
    meddled(scene, change, now);
    let Some(CloudStep::Update(update)) = scene.at(now).cloud else { return false };
    let written = Observed { balancer: update.wish, ..update.base };
    scene.memory.written(written, now, Duration::from_secs(60), 0.5);
    true
}

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

fn updated(pass: &Pass) -> &LoadBalancer {
    let Some(CloudStep::Update(update)) = &pass.cloud else { panic!("{pass:?}") };
    &update.wish
}

#[test]
fn a_broken_provider_config_keeps_plan_and_access_control_and_lets_targets_leave() {
    let mut scene = settled();
    let there = ["192.0.2.0/24".parse().unwrap()].into();
    meddled(
        &mut scene,
        |balancer| {
            balancer.plan_id = "p50".to_owned();
            balancer.allowed_source_ranges = Some(BTreeSet::clone(&there));
        },
        NOW,
    );
    scene.settings.load_balancer.access_control.allowed_source_ranges = vec!["198.51.100.0/24".to_owned()];
    scene.settings.load_balancer.tcp_idle_timeout = Duration::from_secs(77);
    scene.view.provider_config = Some(serde_json::json!({"kind": 7}));
    scene.loses_a_node();
    let pass = scene.pass();
    let wish = updated(&pass);
    assert_eq!((wish.plan_id.as_str(), wish.targets().len()), ("p50", 2));
    assert_eq!(wish.allowed_source_ranges, Some(there));
    // What is known is looked after.
    assert_eq!(wish.listener.as_ref().unwrap().tcp_idle_timeout, Some(Duration::from_secs(77)));
    let Some(Outcome::Failed(failure)) = pass.outcome else { panic!() };
    assert!(failure.message.contains("spec.providerConfig.kind"), "{}", failure.message);
}

#[test]
fn facts_that_are_lost_do_not_keep_a_target_in() {
    let mut scene = settled();
    let lost = || Err("lost".to_owned());
    let facts = &mut scene.facts;
    (facts.region, facts.technical_id, facts.network_id, facts.project_id) = (lost(), lost(), lost(), lost());
    scene.view.provider_config = Some(provider_config("p50"));
    scene.loses_a_node();
    let pass = scene.pass();
    let wish = updated(&pass);
    // The providerConfig is well, and counts.
    assert_eq!((wish.network_id.as_str(), wish.plan_id.as_str(), wish.targets().len()), ("net", "p50", 2));
    assert_eq!(pass.outcome, Some(Outcome::Waiting(Waiting::Facts(vec!["lost".to_owned(); 4]))));
}

#[test]
fn a_network_that_differs_is_not_hidden_by_a_fact_that_is_lost() {
    let mut scene = settled();
    scene.facts.region = Err("lost".to_owned());
    scene.facts.network_id = Ok("other".to_owned());
    let plan = scene.pass().plan.unwrap();
    assert_eq!(plan.unmet[0].setting, "stackit.networkID");
}

#[test]
fn a_port_that_is_none_leaves_the_port_as_it_is() {
    for port in [0, -1, 65536] {
        let mut scene = settled();
        scene.view.port = port;
        scene.loses_a_node();
        let pass = scene.pass();
        let wish = updated(&pass);
        let (listener, pool) = (wish.listener.as_ref().unwrap(), wish.target_pool.as_ref().unwrap());
        assert_eq!((listener.port, pool.target_port, pool.targets.len()), (443, 443, 2));
        assert!(matches!(pass.outcome, Some(Outcome::Failed(_))));
        // Where nothing tells the port, nothing is done.
        meddled(&mut scene, |balancer| balancer.listener = None, NOW);
        assert_eq!(scene.pass().cloud, None);
    }
}

#[test]
fn while_something_is_unresolved_nothing_is_made_and_a_look_comes_before_a_word() {
    let mut scene = settled();
    scene.view.provider_config = Some(serde_json::json!({}));
    scene.memory = Memory::default();
    let pass = scene.pass();
    assert!(matches!(pass.cloud, Some(CloudStep::Read(_))));
    assert_eq!((pass.outcome, pass.report), (None, None));
    scene.memory.read_failed(fault(FaultKind::Server), NOW, 0.0);
    let pass = scene.pass();
    assert!(matches!(pass.outcome, Some(Outcome::Failed(failure)) if failure.message.contains("providerConfig")));
    scene.memory.read(None, NOW, Duration::from_secs(60), 0.5);
    let pass = scene.pass();
    assert!(matches!(pass.outcome, Some(Outcome::Failed(failure)) if failure.message.contains("providerConfig")));
    assert_eq!((pass.cloud, pass.wake), (None, Some(NOW + Duration::from_secs(60))));
    assert!(matches!(scene.at(NOW + Duration::from_secs(60)).cloud, Some(CloudStep::Read(_))));
}

#[test]
fn a_balancer_of_somebody_else_is_not_touched_while_something_is_unresolved() {
    let mut scene = settled();
    scene.view.provider_config = Some(serde_json::json!({}));
    meddled(&mut scene, |balancer| balancer.labels.values_mut().for_each(|value| value.push('x')), NOW);
    scene.loses_a_node();
    assert_eq!(scene.pass().cloud, None);
}

#[test]
fn an_unmet_wish_and_a_refusal_stay_said_while_something_else_is_written() {
    let mut scene = settled();
    scene.settings.load_balancer.private_network_only = true;
    scene.store();
    scene.loses_a_node();
    let pass = scene.pass();
    assert!(matches!(pass.cloud, Some(CloudStep::Update(_))));
    assert!(matches!(pass.outcome, Some(Outcome::Failed(failure)) if failure.message.contains("privateNetworkOnly")));
    assert_eq!(pass.report.unwrap().error, None);

    let mut scene = settled();
    scene.settings.load_balancer.plan_id = "p99".to_owned();
    for _ in 0..2 {
        let Some(step @ CloudStep::Update(_)) = scene.pass().cloud else { panic!() };
        let refused = Carried::failed(&step, fault(FaultKind::Invalid));
        scene.memory.learn(refused, NOW, Duration::from_secs(60), 0.0);
    }
    let pass = scene.pass();
    assert!(pass.holds_back && pass.cloud.is_none());
    assert_eq!(pass.wake, Some(NOW + Duration::from_secs(1)));
    assert!(matches!(pass.outcome, Some(Outcome::Failed(failure)) if failure.message == "away"));
    scene.loses_a_node();
    let pass = scene.pass();
    assert_eq!(updated(&pass).plan_id, "p10");
    assert!(matches!(pass.outcome, Some(Outcome::Failed(_))));
}

fn provider_config(plan: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1",
        "kind": "SelfHostedShootExposureConfig",
        "loadBalancer": {"planID": plan},
    })
}

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
