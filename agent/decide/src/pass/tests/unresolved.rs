//! What cannot be resolved or is refused, and what goes on all the same.

use std::time::Duration;

use super::super::*;
use super::scene::*;
use crate::retry::FaultKind;

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
