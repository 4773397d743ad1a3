//! Steps at STACKIT: when one may start, and what it waits for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{Balancer, CloudStep, Pass, Situation, conclude, wake};
use crate::desired;
use crate::plan;
use crate::status::{Outcome, Waiting};

/// How often a write that waits for a renewed Lease looks again; the renewal itself wakes it, too.
const FENCE_POLL: Duration = Duration::from_millis(200);

/// A GET before anything else can be decided. Nothing is said about an outcome yet, unless the GET itself fails: then
/// what stands already, or else that.
pub(super) fn read(situation: &Situation<'_>, pass: &mut Pass, name: &str, standing: Option<Outcome>) {
    let memory = situation.memory;
    let trouble = memory.read_trouble.as_ref();
    let asked = memory.wants_look.filter(|_| !memory.must_read);
    let next = trouble.map(|trouble| trouble.next_try(removes(situation, pass))).max(asked);
    pass.pending = true;
    match next.filter(|next| situation.now < *next) {
        Some(next) => wake(pass, next),
        None => pass.cloud = Some(CloudStep::Read(name.to_owned())),
    }
    if let Some(trouble) = trouble {
        conclude(situation, pass, standing.unwrap_or_else(|| Outcome::from_fault(&trouble.fault)));
    }
}

/// A GET when it is due: soon while the balancer is on its way, else to find drift.
pub(super) fn read_later(situation: &Situation<'_>, pass: &mut Pass, name: &str) {
    let due = situation.memory.next_read;
    if situation.now >= due {
        pass.cloud = Some(CloudStep::Read(name.to_owned()));
    } else {
        wake(pass, due);
    }
}

/// A write, unless it must wait: for the fence, or because the same has just failed.
pub(super) fn write(
    situation: &Situation<'_>,
    pass: &mut Pass,
    step: CloudStep,
    targets: &BTreeSet<desired::Target>,
    doing: &'static str,
) -> Outcome {
    let Situation { now, memory, settings, leads_until, .. } = *situation;
    if situation.view.paused {
        if let Some(identity) = pass.identity.clone() {
            read_later(situation, pass, &identity.name);
        }
        return Outcome::Waiting(Waiting::Resume(held_back(&step)));
    }
    let trouble = memory.write_trouble.as_ref();
    // Its answer must be in before leadership can end: an aborted write may still arrive.
    let ends = now + settings.call_timeout();
    let fits = memory.budget.next(settings.load_balancer.writes_per_minute);
    // Nothing delays a target that leaves, nor the end of a balancer.
    let patient = match &step {
        CloudStep::Update(update) => !update.removes_targets(),
        CloudStep::Create(_) => true,
        CloudStep::Read(_) | CloudStep::Delete(_) => false,
    };
    let urgent = matches!(&step, CloudStep::Update(update) if update.removes_targets());
    let next = trouble.filter(|trouble| trouble.holds_back(targets)).map(|trouble| trouble.next_try(urgent));
    pass.pending = true;
    if leads_until.is_none_or(|until| ends > until) {
        wake(pass, now + FENCE_POLL);
    } else if patient && now < fits {
        wake(pass, fits);
    } else if let Some(next) = next.filter(|next| now < *next) {
        wake(pass, next);
    } else {
        pass.cloud = Some(step);
    }
    match trouble.filter(|trouble| trouble.is_news()) {
        Some(trouble) => Outcome::from_fault(&trouble.fault),
        None => Outcome::Waiting(Waiting::Write(doing)),
    }
}

/// Whether a target is to leave, as far as the balancer is known: as last read, else as it is on record.
pub(super) fn removes(situation: &Situation<'_>, pass: &Pass) -> bool {
    let Situation { view, memory, .. } = *situation;
    let chosen: BTreeSet<IpAddr> = pass.choice.endpoints.iter().map(|endpoint| endpoint.ip).collect();
    let leaves = |ip: &IpAddr| !chosen.is_empty() && !chosen.contains(ip);
    match (&memory.balancer, &view.status.record) {
        (Balancer::Present(observed), _) => observed.balancer.targets().iter().any(|target| leaves(&target.ip)),
        (Balancer::Unread, Some(record)) => record.targets.iter().any(|target| leaves(&target.ip)),
        (Balancer::Unread, None) | (Balancer::Absent, _) => false,
    }
}

/// What a pause holds back, for people; the same words for the same sort of change.
fn held_back(step: &CloudStep) -> String {
    match step {
        CloudStep::Read(_) => "nothing".to_owned(),
        CloudStep::Create(_) => "making the load balancer".to_owned(),
        CloudStep::Delete(_) => "deleting the load balancer".to_owned(),
        CloudStep::Update(update) => {
            let parts: BTreeSet<&str> = update.changes.iter().map(plan::Change::part).collect();
            format!("changing {}", parts.into_iter().collect::<Vec<_>>().join(", "))
        }
    }
}
