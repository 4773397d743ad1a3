//! Somebody else who keeps changing what is ours: noticed, said, and no longer fought at full speed.
//!
//! Two controllers that undo each other's writes help nobody. The same field, or the same target, that others have
//! changed three times within ten minutes is contested: it is repaired once every ten minutes from then on.
//!
//! Two things are excepted (see [`Foreign::yields`]) and repaired as fast as the writes' budget allows, because the peace
//! is not worth them: a target that was taken out and is put back, which would send clients to a bad node, and an access
//! control that lets in more than is wished, which would leave the control plane open for ten minutes at a time. One that
//! lets in less can wait: it locks somebody out, and whoever it is sees that.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Moment;
use crate::desired::LoadBalancer;
use crate::plan::{Change, Plan, Step};

/// Changes of the same within [`WINDOW`] that make it contested.
const MOST: usize = 3;
/// How long changes count, and how long a contested field is left alone.
const WINDOW: Duration = Duration::from_secs(600);
/// The key of `spec.endpoints`.
pub const ENDPOINTS: &str = "spec.endpoints";

/// What others have changed lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreign {
    fields: BTreeMap<String, Field>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Field {
    changes: Vec<Moment>,
    /// Repaired only from this moment on.
    not_before: Option<Moment>,
}

impl Foreign {
    /// Somebody else has changed a field.
    pub fn changed(&mut self, key: &str, now: Moment) {
        let field = self.fields.entry(key.to_owned()).or_default();
        field.changes.retain(|at| now.since(*at) < WINDOW);
        field.changes.push(now);
        match field.not_before {
            // Left alone already; more of the same does not put the repair off for ever.
            Some(until) if now < until => {}
            // They are still at it right after a repair: no three more rounds.
            Some(until) if now.since(until) < WINDOW => field.not_before = Some(now + WINDOW),
            _ if field.changes.len() >= MOST => field.not_before = Some(now + WINDOW),
            _ => field.not_before = None,
        }
    }

    /// Somebody else has turned `before` into `after`.
    pub fn compared(&mut self, before: &LoadBalancer, after: &LoadBalancer, now: Moment) {
        let mut keys: Vec<String> = crate::plan::changes(before, after).iter().map(key).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            self.changed(&key, now);
        }
    }

    /// Until when a field is left alone.
    pub fn left_alone_until(&self, key: &str, now: Moment) -> Option<Moment> {
        self.fields.get(key)?.not_before.filter(|until| now < *until)
    }

    /// The fields that are left alone now, sorted.
    pub fn contested(&self, now: Moment) -> Vec<String> {
        self.fields.keys().filter(|key| self.left_alone_until(key, now).is_some()).cloned().collect()
    }

    /// Takes out of a plan what is left alone, and says when to look again.
    pub fn yields(&self, plan: &mut Plan, now: Moment) -> Option<Moment> {
        let Step::Update(update) = &mut plan.step else { return None };
        let read = &update.base.balancer;
        let mut again: Option<Moment> = None;
        let mut yielded = false;
        let opened = admits_more(read, &update.wish);
        for change in &update.changes {
            let excepted = match change.part() {
                "targets" => change.to.is_none(),
                "access_control" => opened,
                _ => false,
            };
            let Some(until) = self.left_alone_until(&key(change), now).filter(|_| !excepted) else { continue };
            leave(&mut update.wish, read, change);
            again = Some(again.map_or(until, |earlier| earlier.min(until)));
            yielded = true;
        }
        if yielded {
            update.changes = crate::plan::changes(read, &update.wish);
            if update.changes.is_empty() {
                plan.step = Step::Nothing;
            }
        }
        again
    }
}

const TARGETS: &str = "targetPool.targets";

/// What is counted: a target by its name, everything else by its part of the balancer.
fn key(change: &Change) -> String {
    if change.field != TARGETS {
        return change.part().to_owned();
    }
    let target = change.from.as_ref().or(change.to.as_ref());
    let name = target.and_then(|target| target.get("name").or_else(|| target.get("displayName")));
    format!("target {}", name.and_then(|name| name.as_str()).unwrap_or_default())
}

/// Whether somebody may connect to a balancer as read whom the wish does not admit.
fn admits_more(read: &LoadBalancer, wish: &LoadBalancer) -> bool {
    let Some(wished) = wish.allowed_source_ranges.as_ref().filter(|wished| !wished.is_empty()) else { return false };
    let read = read.allowed_source_ranges.iter().flatten().collect::<Vec<_>>();
    // No range at all admits everybody.
    read.is_empty() || read.iter().any(|range| !wished.iter().any(|wished| wished.contains(*range)))
}

/// Makes one field of the wish as it was read.
fn leave(wish: &mut LoadBalancer, read: &LoadBalancer, change: &Change) {
    match (change.part(), &mut wish.target_pool, &read.target_pool) {
        ("targets", Some(pool), read) => {
            // Missing targets stay missing, as long as one is left.
            let key = key(change);
            let name = key.trim_start_matches("target ");
            let there = read.as_ref().is_some_and(|read| read.targets.iter().any(|target| target.name == name));
            if !there && pool.targets.len() > 1 {
                pool.targets.retain(|target| target.name != name);
            }
        }
        ("active_health_check", Some(pool), Some(read)) => {
            pool.active_health_check.clone_from(&read.active_health_check);
        }
        ("target_pool", Some(pool), Some(read)) => pool.target_port = read.target_port,
        ("listener", _, _) if read.listener.is_some() => wish.listener.clone_from(&read.listener),
        ("plan", _, _) => wish.plan_id.clone_from(&read.plan_id),
        ("access_control", _, _) => wish.allowed_source_ranges.clone_from(&read.allowed_source_ranges),
        // Labels are how the balancer is found again, and what is missing as a whole is made anew.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// Until when it is left alone after it was changed at these times.
    fn changed(times: &[u64]) -> Option<Moment> {
        let mut foreign = Foreign::default();
        for time in times {
            foreign.changed("plan", at(*time));
        }
        foreign.left_alone_until("plan", at(times.last().copied().unwrap_or_default()))
    }

    #[test]
    fn three_changes_within_ten_minutes_buy_ten_minutes_of_peace() {
        assert_eq!(changed(&[0, 300]), None);
        assert_eq!(changed(&[0, 300, 599]), Some(at(1199)));
        assert_eq!(changed(&[0, 300, 600]), None, "the first is forgotten by then");
        assert_eq!(changed(&[0, 1, 2, 601]), Some(at(602)), "more of the same prolongs nothing");
    }

    #[test]
    fn one_change_soon_after_the_peace_renews_it_and_one_later_does_not() {
        assert_eq!(changed(&[0, 1, 2, 602]), Some(at(1202)));
        assert_eq!(changed(&[0, 1, 2, 1201]), Some(at(1801)));
        assert_eq!(changed(&[0, 1, 2, 1202]), None);
    }

    #[test]
    fn the_peace_ends_when_it_says() {
        let mut foreign = Foreign::default();
        for time in [0, 1, 2] {
            foreign.changed("plan", at(time));
        }
        assert_eq!(foreign.contested(at(601)), ["plan"]);
        assert_eq!((foreign.left_alone_until("plan", at(602)), foreign.contested(at(602))), (None, vec![]));
    }
}
