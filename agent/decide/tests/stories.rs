//! Defects that a story found, each test named after one, and the edges that no story stands on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use decide::Moment;
use decide::access::Egress;
use decide::desired::{BalancerStatus, LoadBalancer, Observed};
use decide::endpoints::Endpoint;
use decide::exposure::{ExposureView, Facts, SpecEndpoint, resolve};
use decide::health::{Class, NodeAddress, Verdict};
use decide::pass::{Memory, Pass, Situation, pass};
use decide::retry::{Fault, FaultKind};
use decide::settings::Settings;
use decide::status::{LastOperation, Record};

fn facts() -> Facts {
    let fact = |text: &str| Ok(text.to_owned());
    let (region, technical_id) = (fact("eu01"), fact("shoot--p--s"));
    Facts {
        region,
        technical_id,
        network_id: fact("net"),
        project_id: fact("project"),
        egress: Egress::Unreadable,
        force_deletion: false,
        file_ranges: decide::access::FileRanges::NotSet,
    }
}

fn address() -> NodeAddress {
    NodeAddress { kind: "InternalIP".to_owned(), address: "10.0.0.1".to_owned() }
}

fn view() -> ExposureView {
    let endpoint = SpecEndpoint { node_name: "cp-0".to_owned(), addresses: vec![address()] };
    let (name, uid, kind) = ("s".to_owned(), "uid".to_owned(), "stackit".to_owned());
    ExposureView {
        name,
        uid,
        kind,
        generation: 1,
        port: 443,
        finalizer: true,
        endpoints: vec![endpoint],
        ..ExposureView::default()
    }
}

fn balancer() -> Observed {
    let endpoint = Endpoint { node_name: "cp-0".to_owned(), ip: [10, 0, 0, 1].into(), addresses: vec![address()] };
    let spec = resolve(&view(), vec![endpoint], &facts()).unwrap();
    let wish = decide::desired::load_balancer(&spec, &Settings::default());
    Observed {
        balancer: LoadBalancer { allowed_source_ranges: Some([].into()), keep_source_ranges: false, ..wish },
        version: "v1".to_owned(),
        status: BalancerStatus::Ready,
        errors: Vec::new(),
        external_address: Some([45, 0, 0, 1].into()),
        private_address: None,
        raw: serde_json::Map::new(),
    }
}

fn over(view: &ExposureView, facts: &Facts, memory: &Memory) -> Pass {
    led(view, facts, memory, std::time::Duration::from_secs(10), true)
}

/// A pass of a leader whose renew deadline is so far away; `listed`: whether it has Nodes.
fn led(view: &ExposureView, facts: &Facts, memory: &Memory, left: std::time::Duration, listed: bool) -> Pass {
    let verdict = Verdict {
        node: "cp-0".to_owned(),
        uid: "uid".to_owned(),
        ip: Some([10, 0, 0, 1].into()),
        addresses: vec![address()],
        class: Class::Healthy,
        serves: true,
        ..Verdict::default()
    };
    let now = Moment(std::time::Duration::from_secs(100));
    pass(&Situation {
        now,
        wall: 1_000,
        settings: &Settings::default(),
        leads_until: Some(now + left),
        verdicts: listed.then_some(std::slice::from_ref(&verdict)),
        outlook: decide::endpoints::Outlook::default(),
        view,
        has_object: true,
        facts,
        memory,
    })
}

fn read(observed: Option<Observed>) -> Memory {
    let mut memory = Memory::default();
    let now = Moment(std::time::Duration::from_secs(100));
    memory.read(observed, now, std::time::Duration::from_secs(60), 0.5);
    memory
}

#[test]
fn a_balancer_that_is_refused_is_never_recorded_and_so_never_adopted() {
    let mut theirs = balancer();
    theirs.balancer.labels.clear();
    for deleting in [false, true] {
        let view = ExposureView { deleting, ..view() };
        let report = over(&view, &facts(), &read(Some(theirs.clone()))).report.unwrap();
        assert_eq!(report.operation.unwrap().state, "Error");
        assert_eq!(report.record, None);
    }
}

#[test]
fn nothing_is_recorded_while_nobody_has_looked() {
    let facts = Facts { network_id: Err("the network".to_owned()), ..facts() };
    let mut memory = Memory::default();
    assert_eq!(over(&view(), &facts, &memory).report, None);
    let message = "away".to_owned();
    let (kind, http_status, retry_after) = (FaultKind::Unreachable, None, None);
    let away = Fault { kind, http_status, message, retry_after, outcome_unknown: false };
    memory.read_failed(away, Moment::default(), 0.0);
    assert_eq!(over(&view(), &facts, &memory).report.unwrap().record, None);
}

#[test]
fn the_record_comes_right_before_the_balancer_and_with_one_that_is_ours() {
    assert!(over(&view(), &facts(), &read(None)).report.unwrap().record.is_some());
    assert!(over(&view(), &facts(), &read(Some(balancer()))).report.unwrap().record.is_some());
    let without = ExposureView { port: 0, ..view() };
    assert_eq!(over(&without, &facts(), &read(None)).report.unwrap().record, None);
}

#[test]
fn a_wish_by_annotation_is_answered_after_the_balancer_was_read_and_not_before() {
    let mut memory = read(Some(balancer()));
    let mut view = view();
    let first = over(&view, &facts(), &memory).report.unwrap();
    view.status.conditions = first.conditions.unwrap();
    let record: Record = first.record.unwrap();
    view.status.recorded = Some(record.identity.clone());
    view.status.record = Some(record);
    view.status.ingress = vec!["45.0.0.1".to_owned()];
    view.status.observed_generation = 1;
    let (kind, state) = ("Create".to_owned(), "Succeeded".to_owned());
    let last = LastOperation { kind, state, progress: 100, description: String::new(), at: 900 };
    view.status.operation = Some(last);
    assert_eq!(over(&view, &facts(), &memory).report, None);

    view.operation = Some("reconcile".to_owned());
    view.asked_at = Some(990);
    assert_eq!(over(&view, &facts(), &memory).report, None, "not before the annotation is gone");
    view.operation = None;
    memory.asked(Moment(std::time::Duration::from_secs(100)));
    let pass = over(&view, &facts(), &memory);
    assert!(pass.cloud.is_some() && pass.report.is_none(), "not before the balancer was read");
    let mut memory = read(Some(balancer()));
    memory.refresh = true;
    assert_eq!(over(&view, &facts(), &memory).report.unwrap().operation.unwrap().at, 1_000);
}

/// An object that has had its first success at second 900, and the memory of its balancer.
fn settled() -> (ExposureView, Memory) {
    let memory = read(Some(balancer()));
    let mut view = view();
    let record: Record = over(&view, &facts(), &memory).report.unwrap().record.unwrap();
    view.status.recorded = Some(record.identity.clone());
    view.status.record = Some(record);
    view.status.ingress = vec!["45.0.0.1".to_owned()];
    view.status.observed_generation = 1;
    let (kind, state) = ("Create".to_owned(), "Succeeded".to_owned());
    let last = LastOperation { kind, state, progress: 100, description: String::new(), at: 900 };
    view.status.operation = Some(last);
    (view, memory)
}

#[test]
fn a_timestamp_is_answered_when_it_is_newer_than_the_answer_and_believable() {
    let (view, memory) = settled();
    for (asked_at, answered) in [
        (899, None),
        (900, None),
        (901, Some(1_000)),
        (1_000, Some(1_000)),
        (1_001, Some(1_001)),
        (1_600, Some(1_600)),
        (1_601, None),
    ] {
        let view = ExposureView { asked_at: Some(asked_at), ..view.clone() };
        let report = over(&view, &facts(), &memory).report;
        assert_eq!(report.and_then(|report| report.operation).map(|last| last.at), answered, "{asked_at}");
    }
}

#[test]
fn a_write_goes_out_when_its_time_limit_just_fits_before_the_deadline() {
    let (view, mut memory) = settled();
    let mut changed = balancer();
    changed.balancer.plan_id = "p50".to_owned();
    memory.read(Some(changed), Moment(std::time::Duration::from_secs(100)), std::time::Duration::from_secs(60), 0.5);
    let after = |millis| led(&view, &facts(), &memory, std::time::Duration::from_millis(millis), true);
    assert!(after(5_000).cloud.is_some());
    let fenced = after(4_999);
    assert_eq!(fenced.cloud, None);
    assert_eq!(fenced.wake, Some(Moment(std::time::Duration::from_millis(100_200))));
}

#[test]
fn without_nodes_nothing_is_made_but_what_is_there_is_kept_right() {
    let (view, mut memory) = settled();
    let second = std::time::Duration::from_secs(10);
    let absent = led(&view, &facts(), &read(None), second, false);
    assert_eq!(absent.cloud, None);
    assert_eq!(absent.wake, Some(Moment(std::time::Duration::from_secs(160))));
    assert_eq!(absent.outcome.map(|outcome| format!("{outcome:?}")), Some("Waiting(Nodes)".to_owned()));
    let mut changed = balancer();
    changed.balancer.plan_id = "p50".to_owned();
    memory.read(Some(changed), Moment(std::time::Duration::from_secs(100)), std::time::Duration::from_secs(60), 0.5);
    assert!(led(&view, &facts(), &memory, second, false).cloud.is_some());
    let nothing = ExposureView { endpoints: Vec::new(), ..view };
    let waiting = led(&nothing, &facts(), &read(None), second, false).outcome;
    assert_eq!(waiting.map(|outcome| format!("{outcome:?}")), Some("Waiting(Nodes)".to_owned()));
}

#[test]
fn an_agent_that_leaves_the_endpoints_to_others_names_those_it_cannot_use() {
    let broken = SpecEndpoint { node_name: "a".to_owned(), addresses: Vec::new() };
    let mut view = view();
    view.endpoints.insert(0, broken);
    let (usable, unusable) = view.usable_endpoints();
    assert_eq!((usable.len(), usable[0].node_name.as_str()), (1, "cp-0"));
    assert_eq!(unusable, ["a"]);
}
