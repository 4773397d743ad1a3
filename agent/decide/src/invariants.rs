//! What every write must hold, whatever led to it. Checked right before a plan is carried out; a plan that breaks
//! one is refused and reported, because it can only come from a defect of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::desired::LoadBalancer;
use crate::plan::{Plan, Step};

/// Targets per pool that the API takes.
const MOST_TARGETS: usize = 250;

/// The invariants that a plan breaks, each in words.
///
/// `known` are the addresses of control-plane nodes and of endpoints that are on record: a target comes from there
/// or is in the pool already.
pub fn broken(plan: &Plan, known: &BTreeSet<IpAddr>) -> Vec<String> {
    match &plan.step {
        Step::Nothing | Step::AwaitGone | Step::Gone | Step::Delete(_) => Vec::new(),
        Step::Create(wish) => pool(wish, known),
        Step::Update(update) => {
            let read = &update.base.balancer;
            let known: BTreeSet<IpAddr> = known.iter().copied().chain(read.targets().iter().map(|t| t.ip)).collect();
            let mut broken = pool(&update.wish, &known);
            let rules = [
                (!update.base.version.is_empty(), "an update carries the version it was computed from"),
                (update.wish.name == read.name, "the name never changes"),
                (update.wish.network_id == read.network_id, "the network never changes"),
                (update.wish.address == read.address, "the addressing mode never changes"),
                (
                    read.labels.iter().all(|(key, value)| match update.wish.labels.get(key) {
                        Some(wanted) => wanted == value,
                        None => false,
                    }),
                    "labels that are there stay as they are",
                ),
            ];
            broken.extend(rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule.to_owned()));
            broken
        }
    }
}

fn pool(wish: &LoadBalancer, known: &BTreeSet<IpAddr>) -> Vec<String> {
    let targets = wish.targets();
    let addresses: BTreeSet<IpAddr> = targets.iter().map(|target| target.ip).collect();
    let mut broken = Vec::new();
    if targets.is_empty() {
        broken.push("the pool is never empty".to_owned());
    }
    if targets.len() > MOST_TARGETS {
        broken.push(format!("the pool has at most {MOST_TARGETS} targets"));
    }
    if addresses.len() != targets.len() {
        broken.push("each address is in the pool once".to_owned());
    }
    for stranger in addresses.difference(known) {
        broken.push(format!("every target is a known node, and {stranger} is none"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{AddressForm, AddressMode, BalancerStatus, Observed, Target, TargetPool};
    use crate::plan::Update;
    use std::collections::BTreeMap;

    fn balancer(targets: impl IntoIterator<Item = u16>) -> LoadBalancer {
        let target = |number: u16| {
            let [high, low] = number.to_be_bytes();
            Target { name: format!("n{number}"), ip: [10, 0, high, low].into() }
        };
        LoadBalancer {
            name: "lb".to_owned(),
            plan_id: "p10".to_owned(),
            labels: BTreeMap::from([("theirs".to_owned(), "1".to_owned())]),
            network_id: "net".to_owned(),
            address: AddressMode::Ephemeral,
            listener: None,
            target_pool: Some(TargetPool {
                target_port: 443,
                targets: targets.into_iter().map(target).collect(),
                active_health_check: None,
            }),
            allowed_source_ranges: None,
            keep_source_ranges: false,
            address_form: AddressForm::default(),
        }
    }

    fn update(change: impl FnOnce(&mut Update)) -> Vec<String> {
        let base = Observed {
            balancer: balancer([1, 2]),
            version: "v1".to_owned(),
            status: BalancerStatus::Ready,
            errors: Vec::new(),
            external_address: None,
            private_address: None,
            raw: serde_json::Map::new(),
        };
        let mut update = Update { base, wish: balancer([1, 2]), changes: Vec::new() };
        change(&mut update);
        broken(&Plan { step: Step::Update(Box::new(update)), unmet: Vec::new() }, &BTreeSet::new())
    }

    fn create(wish: LoadBalancer, known: &BTreeSet<IpAddr>) -> Vec<String> {
        broken(&Plan { step: Step::Create(Box::new(wish)), unmet: Vec::new() }, known)
    }

    #[test]
    fn a_good_update_breaks_nothing() {
        assert!(update(|_| {}).is_empty());
        assert!(update(|update| drop(update.wish.labels.insert("ours".to_owned(), "2".to_owned()))).is_empty());
    }

    #[test]
    fn each_rule_is_named() {
        assert_eq!(update(|u| u.base.version.clear()), ["an update carries the version it was computed from"]);
        assert_eq!(update(|u| u.wish.name.push('x')), ["the name never changes"]);
        assert_eq!(update(|u| u.wish.network_id.push('x')), ["the network never changes"]);
        assert_eq!(update(|u| u.wish.address = AddressMode::Private), ["the addressing mode never changes"]);
        let labels = ["labels that are there stay as they are"];
        assert_eq!(update(|u| u.wish.labels.clear()), labels);
        assert_eq!(update(|u| drop(u.wish.labels.insert("theirs".to_owned(), "2".to_owned()))), labels);
        assert_eq!(update(|u| u.wish = balancer([])), ["the pool is never empty"]);
        assert_eq!(update(|u| u.wish = balancer([3])), ["every target is a known node, and 10.0.0.3 is none"]);
    }

    #[test]
    fn the_rules_of_a_pool_hold_for_a_new_balancer_too() {
        let known = balancer(0..300).targets().into_iter().map(|target| target.ip).collect();
        assert!(create(balancer(0..250), &known).is_empty());
        assert_eq!(create(balancer(0..251), &known), ["the pool has at most 250 targets"]);
        assert_eq!(create(balancer([]), &known), ["the pool is never empty"]);
        let mut twice = balancer([1]);
        let same = Target { name: "other".to_owned(), ip: [10, 0, 0, 1].into() };
        assert!(twice.target_pool.as_mut().unwrap().targets.insert(same));
        assert_eq!(create(twice, &known), ["each address is in the pool once"]);
        assert_eq!(create(balancer([1]), &BTreeSet::new()), ["every target is a known node, and 10.0.0.1 is none"]);
    }

    #[test]
    fn what_writes_no_pool_breaks_nothing() {
        for step in [Step::Nothing, Step::AwaitGone, Step::Gone, Step::Delete("lb".to_owned())] {
            assert!(broken(&Plan { step, unmet: Vec::new() }, &BTreeSet::new()).is_empty());
        }
    }
}
