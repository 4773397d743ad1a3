//! What a pass tells: the outcome, the report to the object's status, its conditions.

use super::{Balancer, Pass, Situation};
use crate::desired::Identity;
use crate::exposure::{self, Operation};
use crate::health::{Class, Verdict};
use crate::status::{self, Outcome, Record, Waiting};
use crate::{conditions, names, plan};

/// Seconds by which another machine's clock may be ahead and still be believed.
const MOST_CLOCK_SKEW: i64 = 600;

/// Takes the outcome down, and what is to be reported of it.
pub(super) fn conclude(situation: &Situation<'_>, pass: &mut Pass, outcome: Outcome) {
    let Situation { view, memory, .. } = *situation;
    // An update that is just being sent is no news yet; its answer will be. An error that is over is news.
    let under_way = outcome == Outcome::Waiting(Waiting::Write("updating")) && view.status.error.is_none();
    if situation.has_object && !under_way {
        let operation = exposure::operation(view);
        let record = pass.identity.as_ref().map(|identity| Record::of(identity, memory.observed()));
        let record = record.filter(|record| may_record(situation, &record.identity, &outcome));
        let refresh = wants_refresh(situation, &outcome);
        // A caller whose clock is ahead compares with the time it wrote itself.
        let at = situation.wall.max(view.asked_at.filter(|_| refresh).unwrap_or(i64::MIN));
        pass.report = status::report(view, operation, &outcome, record.as_ref(), refresh, at);
        // Of a balancer that is handed over nothing new is said.
        if operation != Operation::Migrate
            && let Some(conditions) = new_conditions(situation, pass, &outcome)
        {
            pass.report.get_or_insert_default().conditions = Some(conditions);
        }
    }
    pass.outcome = Some(outcome);
}

/// Whether the record may be written.
///
/// It is what makes a balancer without labels ours. So the first one is written right before a balancer is made, or
/// when one is found whose labels say that it is ours, and never while that is not known.
fn may_record(situation: &Situation<'_>, identity: &Identity, outcome: &Outcome) -> bool {
    let Situation { view, memory, .. } = *situation;
    let labels = names::labels(&identity.technical_id, &view.name);
    match (&memory.balancer, &view.status.record) {
        // While nothing was read, what is on record is better than an empty list.
        (Balancer::Unread, _) => false,
        // That it was there says that somebody has deleted it, until there is another.
        (Balancer::Absent, Some(record)) => record.version.is_empty() || view.deleting,
        (Balancer::Present(_), Some(_)) => true,
        (Balancer::Absent, None) => *outcome == Outcome::Waiting(Waiting::Record),
        (Balancer::Present(observed), None) => plan::ownership(observed, &labels, false).is_ok(),
    }
}

/// The conditions, where they say something else than before.
fn new_conditions(situation: &Situation<'_>, pass: &Pass, outcome: &Outcome) -> Option<Vec<conditions::Condition>> {
    let Situation { view, memory, .. } = *situation;
    let known = !matches!(memory.balancer, Balancer::Unread);
    let contested = memory.foreign.contested(situation.now);
    let mut findings =
        vec![conditions::load_balancer_ready(outcome, known, memory.observed(), view.paused, &contested)];
    // Before the first answer could have come what was said last is better.
    let unheard = |verdict: &Verdict| verdict.class == Class::Unproven && !verdict.probe.heard;
    if !situation.verdicts.unwrap_or_default().iter().any(unheard) {
        findings.push(conditions::endpoints_healthy(&pass.choice, situation.verdicts));
    }
    conditions::merged(&view.status.conditions, &findings, situation.wall)
}

/// Somebody asked for the operation after the last success was written, and waits for a newer one.
fn wants_refresh(situation: &Situation<'_>, outcome: &Outcome) -> bool {
    let view = situation.view;
    let written = view.status.operation.as_ref().map_or(i64::MIN, |last| last.at);
    let believable = |asked: &i64| *asked <= situation.wall.saturating_add(MOST_CLOCK_SKEW);
    let asked_later = view.asked_at.filter(believable).is_some_and(|asked| asked > written);
    // A wish by annotation is answered after the balancer was read afresh, and not before.
    let unread = view.operation.as_deref() == Some("reconcile");
    matches!(outcome, Outcome::Done(_)) && !unread && (situation.memory.refresh || asked_later)
}
