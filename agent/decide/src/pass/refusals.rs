//! What STACKIT has refused with 400, and how it is asked instead.
//!
//! A 400 names the culprit in words at best, and words decide nothing here. So the culprit is found by asking for less:
//! what was refused together goes out again in parts. What only leaves goes first and at once; then each part on its
//! own, and the one that is refused on its own waits, longer each time, while everything else goes on without it.
//!
//! A PUT that cannot be made smaller is asked once more in the other [`AddressForm`], unless the one in use has worked
//! lately: a form that the API does not take would hold back every write. The form that works is kept.
//!
//! Deliberately not here: a refused POST. There is nothing to keep alive while it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::CloudStep;
use crate::Moment;
use crate::desired::{AddressForm, LoadBalancer, Target};
use crate::plan::{self, Change, Plan, Step, Update};
use crate::retry::{self, Fault};

/// How long it is believed that a form works, or that none does, and how long a refusal is remembered.
const BELIEVED: Duration = Duration::from_secs(600);

/// Memory of what was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusals {
    parts: BTreeMap<Part, Refusal>,
    form: AddressForm,
    /// The form in use is a trial: what the other one was refused with.
    trial: Option<Fault>,
    /// Until when there is no reason to try the other form.
    settled_until: Moment,
}

/// A part of an update that can go out without the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A target that comes.
    Target(Target),
    /// A field, with what is wanted of it: another wish is another part.
    Field(&'static str, String),
}

/// A part under suspicion.
#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    /// What it was refused with on its own; `None`: it was in bad company once.
    fault: Option<Fault>,
    attempts: u32,
    next: Moment,
}

/// What was in an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    parts: BTreeSet<Part>,
    /// Something that cannot be left out, such as a target that leaves.
    rest: bool,
    form: AddressForm,
}

/// What is kept out of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    /// Why, where something was refused on its own.
    pub(super) fault: Option<Fault>,
    /// When to look again, where nothing goes out now.
    pub(super) next: Option<Moment>,
}

impl Asked {
    /// What an update asks for; nothing that could be left out of any other step.
    pub fn of(step: &CloudStep) -> Option<Self> {
        let CloudStep::Update(update) = step else { return None };
        let rest = update.changes.iter().any(|change| part(update, change).is_none());
        Some(Self { parts: parts(update), rest, form: update.wish.address_form })
    }
}

impl Refusals {
    /// Makes an update one that may go out now: without what waits, and in the form that works.
    pub(super) fn narrow(&self, plan: &mut Plan, now: Moment) -> Held {
        let Step::Update(update) = &mut plan.step else { return Held::default() };
        update.wish.address_form = self.form;
        let parts = parts(update);
        let suspects: Vec<(&Part, &Refusal)> = self.parts.iter().filter(|(part, _)| parts.contains(part)).collect();
        let fresh = parts.len() > suspects.len() || update.changes.iter().any(|c| part(update, c).is_none());
        let due = suspects.iter().filter(|(_, refusal)| !fresh && refusal.next <= now);
        let due = due.min_by_key(|(part, refusal)| (refusal.next, *part)).map(|(part, _)| *part);
        let mut held = suspects.iter().filter(|(part, _)| Some(*part) != due).peekable();
        if held.peek().is_some() {
            held.for_each(|(part, _)| leave(&mut update.wish, &update.base.balancer, part));
            update.changes = plan::changes(&update.base.balancer, &update.wish);
        }
        let fault = suspects.iter().find_map(|(_, refusal)| refusal.fault.clone());
        let mut next = None;
        if update.changes.is_empty() {
            plan.step = Step::Nothing;
            next = suspects.iter().map(|(_, refusal)| refusal.next).min();
        }
        Held { fault, next }
    }

    /// An update was refused with 400. Gives the fault back where nothing smaller is left to try.
    pub(super) fn refused(&mut self, asked: &Asked, fault: Fault, now: Moment, jitter: f64) -> Option<Fault> {
        self.parts.retain(|_, refusal| now < refusal.next + BELIEVED);
        if asked.parts.len() + usize::from(asked.rest) > 1 {
            for part in &asked.parts {
                let new = Refusal { fault: None, attempts: 0, next: now };
                self.parts.entry(part.clone()).or_insert(new);
            }
            return None;
        }
        let fault = if let Some(first) = self.trial.take() {
            // Both are refused: the form is not what is wrong, and what the usual one was refused with says more.
            self.form = self.form.other();
            self.settled_until = now + BELIEVED;
            first
        } else if now >= self.settled_until {
            self.form = self.form.other();
            self.trial = Some(fault);
            return None;
        } else {
            fault
        };
        let Some(part) = asked.parts.first() else { return Some(fault) };
        let attempts = self.parts.get(part).map_or(0, |refusal| refusal.attempts).saturating_add(1);
        let next = now + retry::delay(&fault, attempts, jitter);
        self.parts.insert(part.clone(), Refusal { fault: Some(fault), attempts, next });
        None
    }

    /// An update was accepted: what was in it is beyond suspicion, and so is its form.
    pub(super) fn accepted(&mut self, asked: &Asked, now: Moment) {
        self.parts.retain(|part, refusal| !asked.parts.contains(part) && now < refusal.next + BELIEVED);
        self.form = asked.form;
        self.trial = None;
        self.settled_until = now + BELIEVED;
    }

    /// Something changed that may end the refusal: everything is worth another try.
    pub(super) fn try_again(&mut self, now: Moment) {
        self.parts.values_mut().for_each(|refusal| refusal.next = now);
    }
}

fn parts(update: &Update) -> BTreeSet<Part> {
    let mut fields: BTreeMap<&'static str, String> = BTreeMap::new();
    let mut parts = BTreeSet::new();
    for change in &update.changes {
        match part(update, change) {
            // What a field's changes want together.
            Some(Part::Field(name, wanted)) => fields.entry(name).or_default().push_str(&wanted),
            Some(target) => drop(parts.insert(target)),
            None => {}
        }
    }
    parts.extend(fields.into_iter().map(|(name, wanted)| Part::Field(name, wanted)));
    parts
}

/// The part that a change belongs to; `None` where it cannot be left out.
fn part(update: &Update, change: &Change) -> Option<Part> {
    let (read, wish) = (&update.base.balancer, &update.wish);
    let whole = read.listener.is_some() && read.target_pool.is_some();
    let name = match change.part() {
        "targets" => {
            let stays = !read.targets().is_disjoint(&wish.targets());
            let came = |target: &Target| serde_json::to_value(target).ok() == change.to;
            // Without one that stays the pool would be empty between the leaving and the coming.
            return wish.targets().into_iter().find(|target| stays && came(target)).map(Part::Target);
        }
        // One port: the listener's and the targets' change together.
        "listener" | "target_pool" if whole => "port",
        "active_health_check" => "active_health_check",
        "labels" => "labels",
        "plan" => "plan",
        "access_control" => "access_control",
        _ => return None,
    };
    Some(Part::Field(name, format!("{} {:?}\n", change.field, change.to)))
}

/// Makes one part of the wish as it was read.
fn leave(wish: &mut LoadBalancer, read: &LoadBalancer, part: &Part) {
    match part {
        Part::Target(target) => {
            if let Some(pool) = &mut wish.target_pool {
                pool.targets.remove(target);
            }
        }
        Part::Field("port", _) => {
            wish.listener.clone_from(&read.listener);
            if let (Some(pool), Some(read)) = (&mut wish.target_pool, &read.target_pool) {
                pool.target_port = read.target_port;
            }
        }
        Part::Field("active_health_check", _) => {
            if let (Some(pool), Some(read)) = (&mut wish.target_pool, &read.target_pool) {
                pool.active_health_check.clone_from(&read.active_health_check);
            }
        }
        Part::Field("labels", _) => wish.labels.clone_from(&read.labels),
        Part::Field("plan", _) => wish.plan_id.clone_from(&read.plan_id),
        Part::Field(_, _) => wish.allowed_source_ranges.clone_from(&read.allowed_source_ranges),
    }
}

#[cfg(test)]
mod tests;
