use super::*;
use crate::desired::Identity;
use crate::endpoints::Endpoint;
use crate::exposure::SpecEndpoint;
use crate::health::{Condition, NodeAddress};
use crate::settings::Settings;
use crate::status::{LastOperation, Previous, Record, RecordedTarget};

fn node(name: &str, ready: &str) -> NodeView {
    let address = NodeAddress { kind: "InternalIP".to_owned(), address: format!("10.0.0.{}", name.len()) };
    let condition = Condition { kind: "Ready".to_owned(), status: ready.to_owned(), reason: String::new() };
    let (addresses, conditions) = (vec![address], vec![condition]);
    NodeView { name: name.to_owned(), uid: name.to_owned(), addresses, conditions, ..NodeView::default() }
}

fn drained(name: &str) -> NodeView {
    NodeView { annotations: [(DRAIN.to_owned(), "true".to_owned())].into(), ..node(name, "True") }
}

fn ask(nodes: Vec<NodeView>, targets: &[&str], ill: &[&str], leaving: &str) -> Result<(), Refusal> {
    let nodes: BTreeMap<String, NodeView> = nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
    let member = |name: &&str| Endpoint {
        node_name: (*name).to_owned(),
        ip: nodes.get(*name).and_then(NodeView::internal_ip).unwrap_or([10, 0, 0, 99].into()),
        addresses: Vec::new(),
    };
    permitted(&Question {
        node: leaving,
        nodes: &nodes,
        last_good: &LastGood { members: targets.iter().map(member).collect() },
        ill: &ill.iter().map(|name| (*name).to_owned()).collect(),
        health: &Settings::default().health,
        wall: 0,
    })
}

#[test]
fn one_that_stays_and_serves_is_enough() {
    assert_eq!(ask(vec![node("a", "True"), node("bb", "True")], &["a", "bb"], &[], "a"), Ok(()));
    // Again, or for longer: the same answer.
    assert_eq!(ask(vec![drained("a"), node("bb", "True")], &["bb"], &[], "a"), Ok(()));
    // Before there is a balancer, the nodes say what it will have.
    assert_eq!(ask(vec![node("a", "True"), node("bb", "True")], &[], &[], "a"), Ok(()));
}

#[test]
fn nobody_drains_the_last_one() {
    let refused = |nodes, targets: &[&str], ill: &[&str]| ask(nodes, targets, ill, "a").unwrap_err().to_string();
    assert_eq!(
        refused(vec![node("a", "True")], &["a"], &[]),
        "without `a` no target would be left; it is the only control-plane node"
    );
    assert_eq!(
        refused(vec![node("a", "True"), drained("bb"), node("ccc", "False")], &["a"], &[]),
        "without `a` no target would be left; bb: maintenance (drained), ccc: Ready=False"
    );
    assert_eq!(
        refused(vec![node("a", "True"), node("bb", "True")], &["a", "bb"], &["bb"]),
        "without `a` no target would be left; bb: its API server does not serve"
    );
}

#[test]
fn a_target_whose_node_nobody_knows_is_not_relied_upon() {
    assert!(ask(vec![node("a", "True")], &["a", "stranger"], &[], "a").is_err());
}

fn view(targets: &[&str], settled: bool) -> ExposureView {
    let identity = Identity {
        name: "lb".to_owned(),
        project_id: "p".to_owned(),
        region: "eu01".to_owned(),
        technical_id: "t".to_owned(),
    };
    let target = |name: &&str| RecordedTarget { name: (*name).to_owned(), ip: [10, 0, 0, 1].into() };
    let targets = targets.iter().map(target).collect();
    let record = Some(Record { identity, targets, settled, version: "7".to_owned() });
    ExposureView { status: Previous { record, ..Previous::default() }, ..ExposureView::default() }
}

#[test]
fn a_drain_waits_for_its_target_and_then_for_the_balancer() {
    let waits = |view: &ExposureView| awaited(view, "a.b").unwrap_or_default();
    let target = names::target("a.b");
    assert!(waits(&view(&[&target, "c"], true)).contains("to leave load balancer `lb`"));
    assert_eq!(waits(&view(&["c"], false)), "load balancer `lb` to be ready with version 7");
    assert_eq!(awaited(&view(&["c"], true), "a.b"), None);
}

#[test]
fn where_somebody_else_makes_the_balancer_its_report_is_what_counts() {
    let endpoint = SpecEndpoint { node_name: "a".to_owned(), addresses: Vec::new() };
    let mut view = ExposureView { generation: 2, endpoints: vec![endpoint], ..ExposureView::default() };
    assert!(awaited(&view, "a").is_some_and(|what| what.contains("spec.endpoints")));
    view.endpoints.clear();
    view.status.operation = Some(LastOperation { state: "Succeeded".to_owned(), ..LastOperation::default() });
    view.status.observed_generation = 1;
    assert!(awaited(&view, "a").is_some_and(|what| what.contains("reconciled")));
    view.status.observed_generation = 2;
    assert_eq!(awaited(&view, "a"), None);
}

#[test]
fn an_end_that_is_on_the_node_already_does_not_count_and_a_name_is_known_by_its_target_too() {
    let ended = NodeView { drain_until: Some(-5), ..drained("a") };
    assert_eq!(ask(vec![ended, node("b.b", "True")], &["a", "b.b"], &[], "a"), Ok(()));
    let refused = ask(vec![node("a", "True"), drained("bb")], &["a"], &["bb"], "a").unwrap_err().to_string();
    assert_eq!(refused, "without `a` no target would be left; bb: maintenance (drained)", "it is out by a mark first");
}
