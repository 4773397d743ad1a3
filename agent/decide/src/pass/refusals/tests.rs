//! A cloud that refuses, and what it is asked one after the other.

use super::*;
use crate::desired::{AddressMode, BalancerStatus, Listener, Observed, TargetPool};
use crate::retry::FaultKind;

const NOW: Moment = Moment(Duration::from_secs(1000));

fn balancer(targets: &[u8]) -> LoadBalancer {
    let target = |last: &u8| Target { name: format!("n{last}"), ip: [10, 0, 0, *last].into() };
    LoadBalancer {
        name: "lb".to_owned(),
        plan_id: "p10".to_owned(),
        labels: BTreeMap::new(),
        network_id: "net".to_owned(),
        address: AddressMode::Ephemeral,
        listener: Some(Listener {
            display_name: "control-plane".to_owned(),
            port: 443,
            protocol: "PROTOCOL_TCP".to_owned(),
            target_pool: "control-plane".to_owned(),
            tcp_idle_timeout: None,
        }),
        target_pool: Some(TargetPool {
            target_port: 443,
            targets: targets.iter().map(target).collect(),
            active_health_check: None,
        }),
        allowed_source_ranges: None,
        keep_source_ranges: false,
        address_form: AddressForm::Lean,
    }
}

/// A cloud that refuses what `refuses` says, with what it says.
struct Cloud {
    there: Observed,
    refusals: Refusals,
    refuses: fn(&Update) -> Option<&'static str>,
}

impl Cloud {
    fn with(targets: &[u8], refuses: fn(&Update) -> Option<&'static str>) -> Self {
        let there = Observed {
            balancer: balancer(targets),
            version: "v1".to_owned(),
            status: BalancerStatus::Ready,
            errors: Vec::new(),
            external_address: Some([45, 0, 0, 1].into()),
            private_address: None,
            raw: serde_json::Map::new(),
        };
        Self { there, refusals: Refusals::default(), refuses }
    }

    /// Whatever is asked for at one moment on the way to this wish: each PUT with its answer, and what remains.
    fn asked(&mut self, wish: &LoadBalancer, now: Moment) -> (Vec<String>, Held) {
        let mut puts = Vec::new();
        loop {
            assert!(puts.len() < 20, "{puts:?}");
            let mut plan = plan::diff(wish, Some(&self.there));
            let held = self.refusals.narrow(&mut plan, now);
            let Step::Update(update) = plan.step else { return (puts, held) };
            let asked = Asked::of(&CloudStep::Update(update.clone())).unwrap();
            let names = update.wish.targets().into_iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
            let said = format!("{names} {} {:?}", update.wish.plan_id, update.wish.address_form);
            if let Some(why) = (self.refuses)(&update) {
                puts.push(format!("{said}: {why}"));
                if let Some(fault) = self.refusals.refused(&asked, invalid(why), now, 1.0) {
                    puts.push(format!("failed: {}", fault.message));
                    return (puts, held);
                }
            } else {
                puts.push(said);
                self.there.balancer = update.wish;
                self.refusals.accepted(&asked, now);
            }
        }
    }
}

fn invalid(message: &str) -> Fault {
    let message = message.to_owned();
    Fault { kind: FaultKind::Invalid, http_status: Some(400), message, retry_after: None, outcome_unknown: false }
}

fn after(seconds: u64) -> Moment {
    NOW + Duration::from_secs(seconds)
}

fn has(update: &Update, name: &str) -> bool {
    update.wish.targets().iter().any(|target| target.name == name)
}

fn no_n9(update: &Update) -> Option<&'static str> {
    has(update, "n9").then_some("n9 is refused")
}

#[test]
fn a_removal_goes_out_at_once_without_the_addition_that_was_refused_and_a_good_one_follows() {
    let mut cloud = Cloud::with(&[1, 2, 3], no_n9);
    let (puts, held) = cloud.asked(&balancer(&[1, 2, 5, 9]), NOW);
    let expected = [
        "n1 n2 n5 n9 p10 Lean: n9 is refused",
        "n1 n2 p10 Lean",
        "n1 n2 n5 p10 Lean",
        "n1 n2 n5 n9 p10 Lean: n9 is refused",
    ];
    assert_eq!(puts, expected);
    assert_eq!((held.fault, held.next), (Some(invalid("n9 is refused")), Some(after(2))));
}

#[test]
fn what_is_refused_on_its_own_waits_longer_each_time_and_holds_nothing_back() {
    let mut cloud = Cloud::with(&[1, 2, 3], no_n9);
    cloud.asked(&balancer(&[1, 2]), NOW);
    let mut tries = Vec::new();
    for second in 0..100 {
        let (puts, held) = cloud.asked(&balancer(&[1, 2, 9]), after(second));
        tries.extend(puts.iter().map(|_| second));
        assert_eq!(held.fault, Some(invalid("n9 is refused")));
    }
    assert_eq!(tries, [0, 2, 6, 14, 30, 62]);
    // Something else is wished meanwhile, and goes out without it.
    let (puts, held) = cloud.asked(&balancer(&[1, 4, 9]), after(100));
    assert_eq!(puts, ["n1 n4 p10 Lean"]);
    assert!(held.fault.is_some() && held.next.is_some());
    // Something changed that may help.
    cloud.refusals.try_again(after(101));
    assert_eq!(cloud.asked(&balancer(&[1, 4, 9]), after(101)).0.len(), 1);
    // It is not wished any more.
    assert_eq!(cloud.asked(&balancer(&[1, 4]), after(102)), (Vec::new(), Held::default()));
}

#[test]
fn a_target_with_another_address_is_another_target() {
    let mut cloud = Cloud::with(&[1, 2], |update| {
        update.wish.targets().iter().any(|t| t.ip.to_string() == "10.0.0.9").then_some("10.0.0.9 is refused")
    });
    cloud.asked(&balancer(&[1, 2, 3]), NOW);
    assert_eq!(cloud.asked(&balancer(&[1, 2, 3, 9]), NOW).0.len(), 1);
    let mut moved = balancer(&[1, 2, 3]);
    let there = Target { name: "n9".to_owned(), ip: [10, 0, 0, 10].into() };
    moved.target_pool.as_mut().unwrap().targets.insert(there);
    assert_eq!(cloud.asked(&moved, NOW).0, ["n1 n2 n3 n9 p10 Lean"]);
}

#[test]
fn a_plan_that_is_refused_does_not_keep_a_target_in() {
    let mut cloud = Cloud::with(&[1, 2, 3], |update| (update.wish.plan_id == "p99").then_some("no plan p99"));
    let wish = LoadBalancer { plan_id: "p99".to_owned(), ..balancer(&[1, 2, 4]) };
    let (puts, held) = cloud.asked(&wish, NOW);
    let expected =
        ["n1 n2 n4 p99 Lean: no plan p99", "n1 n2 p10 Lean", "n1 n2 n4 p10 Lean", "n1 n2 n4 p99 Lean: no plan p99"];
    assert_eq!(puts, expected);
    assert_eq!(held.fault.unwrap().message, "no plan p99");
}

#[test]
fn listener_and_pool_never_get_different_ports() {
    let mut cloud = Cloud::with(&[1, 2], |update| {
        let (listener, pool) = (update.wish.listener.as_ref().unwrap(), update.wish.target_pool.as_ref().unwrap());
        assert_eq!(listener.port, pool.target_port);
        (pool.target_port == 80 || update.wish.plan_id == "p99").then_some("refused")
    });
    let mut wish = LoadBalancer { plan_id: "p99".to_owned(), ..balancer(&[2]) };
    wish.listener.as_mut().unwrap().port = 80;
    wish.target_pool.as_mut().unwrap().target_port = 80;
    let (puts, _) = cloud.asked(&wish, NOW);
    // All of it, the removal, the port, the plan.
    assert_eq!(puts.len(), 4, "{puts:?}");
    assert_eq!(cloud.there.balancer, balancer(&[2]));
}

#[test]
fn the_only_targets_leave_with_those_that_come_or_not_at_all() {
    let mut cloud = Cloud::with(&[1], no_n9);
    cloud.refusals.settled_until = after(600);
    let (puts, _) = cloud.asked(&balancer(&[9]), NOW);
    assert_eq!(puts, ["n9 p10 Lean: n9 is refused", "failed: n9 is refused"]);
}

fn needs_full(update: &Update) -> Option<&'static str> {
    (update.wish.address_form == AddressForm::Lean).then_some("the address is missing")
}

#[test]
fn the_form_that_is_refused_is_tried_once_and_the_other_is_remembered() {
    let mut cloud = Cloud::with(&[1, 2, 3], needs_full);
    let (puts, held) = cloud.asked(&balancer(&[1, 2]), NOW);
    assert_eq!(puts, ["n1 n2 p10 Lean: the address is missing", "n1 n2 p10 Full"]);
    assert_eq!(held, Held::default());
    for hours in 1..=3 {
        assert_eq!(cloud.asked(&balancer(&[1, 2, 3]), after(3600 * hours)).0, ["n1 n2 n3 p10 Full"]);
        assert_eq!(cloud.asked(&balancer(&[1, 2]), after(3600 * hours + 1)).0, ["n1 n2 p10 Full"]);
    }
    // The API has changed its mind.
    cloud.refuses = |update| (update.wish.address_form == AddressForm::Full).then_some("it is there already");
    let (puts, _) = cloud.asked(&balancer(&[2]), after(20_000));
    assert_eq!(puts, ["n2 p10 Full: it is there already", "n2 p10 Lean"]);
}

#[test]
fn when_both_forms_are_refused_the_first_refusal_is_told_and_the_form_stays() {
    let mut cloud = Cloud::with(&[1, 2], |update| match update.wish.address_form {
        AddressForm::Lean => Some("no such thing"),
        AddressForm::Full => Some("the form is wrong"),
    });
    let (puts, _) = cloud.asked(&balancer(&[1]), NOW);
    let expected = ["n1 p10 Lean: no such thing", "n1 p10 Full: the form is wrong", "failed: no such thing"];
    assert_eq!(puts, expected);
    // Not again and again.
    assert_eq!(cloud.asked(&balancer(&[1]), after(599)).0, [expected[0], expected[2]]);
    assert_eq!(cloud.asked(&balancer(&[1]), after(600)).0, expected);
}

#[test]
fn a_form_that_has_just_worked_is_not_doubted() {
    let mut cloud = Cloud::with(&[1, 2], no_n9);
    cloud.asked(&balancer(&[1]), NOW);
    let (puts, _) = cloud.asked(&balancer(&[1, 9]), after(599));
    assert_eq!(puts, ["n1 n9 p10 Lean: n9 is refused"]);
    let (puts, _) = cloud.asked(&balancer(&[1, 9]), after(1300));
    assert_eq!(puts, ["n1 n9 p10 Lean: n9 is refused", "n1 n9 p10 Full: n9 is refused"]);
}

/// What is missing as a whole is made anew, whatever is refused.
#[test]
fn a_port_is_left_out_only_where_listener_and_pool_are_there() {
    let parts_of = |change: fn(&mut LoadBalancer)| {
        let mut there = Cloud::with(&[1, 2], |_| None).there;
        change(&mut there.balancer);
        let mut wish = balancer(&[1, 2]);
        for port in [&mut wish.listener.as_mut().unwrap().port, &mut wish.target_pool.as_mut().unwrap().target_port] {
            *port = 6443;
        }
        let Step::Update(update) = plan::diff(&wish, Some(&there)).step else { panic!() };
        parts(&update).into_iter().filter(|part| matches!(part, Part::Field("port", _))).count()
    };
    assert_eq!(parts_of(|_| {}), 1);
    assert_eq!(parts_of(|there| there.listener = None), 0);
    assert_eq!(parts_of(|there| there.target_pool = None), 0);
}
