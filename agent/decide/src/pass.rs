//! One pass over one exposure: everything that is known in, at most one next step on each lane out.
//!
//! There are three lanes, because none of them may wait for another: the balancer (STACKIT), the object (finalizer,
//! annotation, `spec.endpoints`), and its status. A pass is level-triggered: it is made anew after every change and
//! every answer, and a step that is lost is found again.
//!
//! Deliberately not here: sending, and knowing which lane is busy; the shell starts a step when its lane is free.

mod budget;
mod carried;
mod delete;
mod hand_over;
mod lag;
mod memory;
mod refusals;
mod wish;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::conditions;
use crate::desired::{self, Identity, LoadBalancer, Observed};
use crate::endpoints::{self, Choice, Endpoint, LastGood, Outlook, Round, Sight};
use crate::exposure::{self, ExposureView, Facts, Operation, SpecEndpoint};
use crate::foreign;
use crate::health::Verdict;
use crate::plan::{self, Plan, Step, Update};
use crate::retry::Fault;
use crate::settings::Settings;
use crate::status::{self, Failure, Outcome, Record, Report, Waiting};
use crate::{Moment, invariants, names};

use delete::delete;
use hand_over::{hand_over, is_restored};
use wish::Wish;

pub use carried::{Carried, Sent};
pub use memory::{Balancer, Memory, Trouble};
pub use refusals::{Asked, Part};

/// How often a write that waits for a renewed Lease looks again; the renewal itself wakes it, too.
const FENCE_POLL: Duration = Duration::from_millis(200);
/// Seconds by which another machine's clock may be ahead and still be believed.
const MOST_CLOCK_SKEW: i64 = 600;

/// Everything that one pass looks at.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The time.
    pub now: Moment,
    /// The wall clock in seconds since 1970, for status alone.
    pub wall: i64,
    /// The settings.
    pub settings: &'a Settings,
    /// Until when writes are allowed; `None`: this agent does not lead.
    pub leads_until: Option<Moment>,
    /// The verdicts on all control-plane nodes; `None`: they have not been listed yet.
    pub verdicts: Option<&'a [Verdict]>,
    /// How far they can be relied on.
    pub outlook: Outlook,
    /// The exposure.
    pub view: &'a ExposureView,
    /// Whether an object stands behind `view`; without one there is nothing to write to in Kubernetes.
    pub has_object: bool,
    /// What cluster and credentials know.
    pub facts: &'a Facts,
    /// What this agent remembers of the balancer.
    pub memory: &'a Memory,
}

/// What a pass comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// The next step at STACKIT.
    pub cloud: Option<CloudStep>,
    /// The next write to the object.
    pub object: Option<ObjectStep>,
    /// The next write to its status.
    pub report: Option<Report>,
    /// The endpoints as chosen.
    pub choice: Choice,
    /// Where the balancer lives, where that is known.
    pub identity: Option<Identity>,
    /// The plan, where there was enough to make one.
    pub plan: Option<Plan>,
    /// The plan leaves out what was refused or is contested.
    pub holds_back: bool,
    /// What is odd and goes on all the same; the log says each once.
    pub warnings: Vec<String>,
    /// What it comes to; `None` where this agent has no say or knows too little yet.
    pub outcome: Option<Outcome>,
    /// A forced deletion gives this up: what is left behind and why, for people.
    pub left_behind: Option<String>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Moment>,
}

/// A step at STACKIT.
#[derive(Clone, Debug, PartialEq)]
pub enum CloudStep {
    /// GET.
    Read(String),
    /// POST.
    Create(Box<LoadBalancer>),
    /// PUT.
    Update(Box<Update>),
    /// DELETE, after a quorum read of the object and a GET that proves ownership.
    Delete(Identity),
}

/// A write to the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectStep {
    /// Adds the finalizer.
    AddFinalizer,
    /// Removes the finalizer.
    RemoveFinalizer,
    /// Removes the annotation `reconcile`, before the work.
    StripOperation,
    /// Removes the annotation `migrate` or `restore`, after the work.
    FinishOperation,
    /// Applies `spec.endpoints`.
    ApplyEndpoints(Vec<SpecEndpoint>),
    /// Applies `spec.endpoints` and asks the provider extension, which makes the balancer, to reconcile.
    HandOverEndpoints(Vec<SpecEndpoint>),
}

/// Makes one pass.
pub fn pass(situation: &Situation<'_>) -> Pass {
    let choice = chosen(situation);
    let mut pass = Pass {
        cloud: None,
        object: None,
        report: None,
        choice,
        identity: identity(situation),
        plan: None,
        holds_back: false,
        warnings: Vec::new(),
        outcome: None,
        left_behind: None,
        wake: None,
    };
    pass.wake = pass.choice.wake;
    let view = situation.view;
    if situation.leads_until.is_none() {
        return pass;
    }
    if view.waits_for_state() {
        pass.outcome = Some(Outcome::Waiting(Waiting::State));
        return pass;
    }
    if situation.settings.controllers.exposure {
        // Even of an object that is being deleted: who hands the balancer over wants it to stay.
        if view.asks_to_migrate() || view.is_migrated() {
            hand_over(situation, &mut pass);
            return pass;
        }
        if view.deleting {
            delete(situation, &mut pass);
        } else {
            reconcile(situation, &mut pass);
            if pass.object.is_none() && is_restored(situation, &pass) {
                pass.object = Some(ObjectStep::FinishOperation);
            }
        }
    }
    if pass.object.is_none() {
        pass.object = apply_endpoints(situation, &pass.choice);
    }
    pass
}

/// The endpoints: ours by evidence, or the object's where somebody else decides them.
fn chosen(situation: &Situation<'_>) -> Choice {
    let (on_record, unusable) = situation.view.usable_endpoints();
    if !situation.settings.controllers.endpoints {
        let left_out = unusable.into_iter().map(|node| (node, crate::health::Class::NoAddress)).collect();
        return Choice { endpoints: on_record, left_out, ..Choice::default() };
    }
    let last_good = match situation.memory.observed() {
        Some(observed) => {
            let targets = observed.balancer.targets();
            LastGood::from_targets(targets.into_iter().map(|target| (target.name, target.ip)), &on_record)
        }
        None => LastGood { members: on_record },
    };
    match situation.verdicts {
        Some(verdicts) => endpoints::choose(&Round {
            verdicts,
            last_good: &last_good,
            pool: &situation.memory.pool,
            now: situation.now,
            health: &situation.settings.health,
            outlook: situation.outlook,
        }),
        // Not listed yet: nothing is known that could change anything.
        None => Choice { endpoints: last_good.members, ..Choice::default() },
    }
}

/// Where the balancer lives: what is on record wins, so that deletion needs nothing else.
fn identity(situation: &Situation<'_>) -> Option<Identity> {
    let recorded = situation.view.status.recorded.clone();
    recorded.or_else(|| exposure::identity(situation.view, situation.facts).ok())
}

fn reconcile(situation: &Situation<'_>, pass: &mut Pass) {
    let Situation { view, memory, settings, .. } = *situation;
    pass.object = metadata_step(situation);
    let Some(Wish { balancer: wish, identity, standing, warning, unread }) = wish::wish(situation, pass) else {
        return;
    };
    let recorded = view.status.recorded.as_ref().is_some_and(|recorded| recorded.name == identity.name);
    if let Balancer::Unread = memory.balancer {
        return read(situation, pass, &identity.name, standing);
    }
    let said = |outcome: Outcome| standing.clone().unwrap_or(outcome);
    let observed = memory.observed();
    pass.warnings.extend(warning);
    if let Some(observed) = observed
        && let Err(why) = plan::ownership(observed, &wish.labels, recorded)
    {
        read_later(situation, pass, &identity.name);
        return conclude(situation, pass, said(Outcome::Failed(Failure::not_ours(&identity.name, &why))));
    }
    if memory.must_read {
        return read(situation, pass, &identity.name, standing);
    }
    let unlisted = settings.controllers.endpoints && situation.verdicts.is_none();
    if wish.targets().is_empty() || (observed.is_none() && unlisted) {
        read_later(situation, pass, &identity.name);
        let waiting = if unlisted { Waiting::Nodes } else { Waiting::Endpoints };
        return conclude(situation, pass, said(Outcome::Waiting(waiting)));
    }
    // A balancer that is there keeps its ranges meanwhile; a new one would be open to everybody.
    if let (None, Some(why)) = (observed, unread) {
        read_later(situation, pass, &identity.name);
        return conclude(situation, pass, Outcome::Waiting(Waiting::Facts(vec![why])));
    }
    let mut plan = plan::diff(&wish, observed);
    let truce = memory.foreign.yields(&mut plan, situation.now);
    if let Some(until) = truce {
        wake(pass, until);
    }
    let held = memory.refusals.narrow(&mut plan, situation.now);
    if let Some(next) = held.next {
        wake(pass, next);
    }
    pass.holds_back = truce.is_some() || held.fault.is_some();
    let broken = invariants::broken(&plan, &known_addresses(situation, &pass.choice));
    if !broken.is_empty() {
        pass.plan = Some(plan);
        let message = format!("the plan is refused, this is a defect of the agent: {}", broken.join("; "));
        return conclude(situation, pass, Outcome::Failed(Failure { message, codes: Vec::new() }));
    }
    let outcome = match &plan.step {
        Step::Nothing => {
            read_later(situation, pass, &identity.name);
            let outcome = observed.map_or(Outcome::Waiting(Waiting::Balancer("unread".to_owned())), status::readiness);
            // Not as desired, and not hidden either.
            match outcome {
                Outcome::Done(_) if truce.is_some() => Outcome::Waiting(Waiting::Truce),
                outcome => outcome,
            }
        }
        Step::AwaitGone => {
            read_later(situation, pass, &identity.name);
            Outcome::Waiting(Waiting::Deletion)
        }
        // Whatever is made must be found again for deletion: finalizer and record come first.
        Step::Create(_) if situation.has_object && !(view.finalizer && recorded) => Outcome::Waiting(Waiting::Record),
        Step::Create(wish) => write(situation, pass, CloudStep::Create(wish.clone()), &wish.targets(), "creating"),
        Step::Update(update) => {
            write(situation, pass, CloudStep::Update(update.clone()), &update.wish.targets(), "updating")
        }
        Step::Delete(_) | Step::Gone => Outcome::Waiting(Waiting::Deletion),
    };
    let outcome = said(unmoved(outcome, &plan, held.fault.as_ref()));
    pass.plan = Some(plan);
    conclude(situation, pass, outcome);
}

/// The outcome, with what stays wrong whatever is being done beside it: who reads `lastError` must not see it come and
/// go with every other write.
fn unmoved(outcome: Outcome, plan: &Plan, refused: Option<&Fault>) -> Outcome {
    if !matches!(
        outcome,
        Outcome::Done(_) | Outcome::Waiting(Waiting::Write(_) | Waiting::Balancer(_) | Waiting::Truce)
    ) {
        return outcome;
    }
    match refused {
        _ if !plan.unmet.is_empty() => Outcome::Failed(Failure::unmet(&plan.unmet)),
        Some(fault) => Outcome::from_fault(fault),
        None => outcome,
    }
}

/// A GET before anything else can be decided. Nothing is said about an outcome yet, unless the GET itself fails: then
/// what stands already, or else that.
fn read(situation: &Situation<'_>, pass: &mut Pass, name: &str, standing: Option<Outcome>) {
    let trouble = situation.memory.read_trouble.as_ref();
    match trouble.filter(|trouble| situation.now < trouble.next) {
        Some(trouble) => wake(pass, trouble.next),
        None => pass.cloud = Some(CloudStep::Read(name.to_owned())),
    }
    if let Some(trouble) = trouble {
        conclude(situation, pass, standing.unwrap_or_else(|| Outcome::from_fault(&trouble.fault)));
    }
}

/// A GET when it is due: soon while the balancer is on its way, else to find drift.
fn read_later(situation: &Situation<'_>, pass: &mut Pass, name: &str) {
    let due = situation.memory.next_read;
    if situation.now >= due {
        pass.cloud = Some(CloudStep::Read(name.to_owned()));
    } else {
        wake(pass, due);
    }
}

/// A write, unless it must wait: for the fence, or because the same has just failed.
fn write(
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
    if leads_until.is_none_or(|until| ends > until) {
        wake(pass, now + FENCE_POLL);
    } else if patient && now < fits {
        wake(pass, fits);
    } else if let Some(trouble) = trouble.filter(|trouble| now < trouble.next && trouble.holds_back(targets)) {
        wake(pass, trouble.next);
    } else {
        pass.cloud = Some(step);
    }
    match trouble.filter(|trouble| trouble.is_news()) {
        Some(trouble) => Outcome::from_fault(&trouble.fault),
        None => Outcome::Waiting(Waiting::Write(doing)),
    }
}

/// Takes the outcome down, and what is to be reported of it.
fn conclude(situation: &Situation<'_>, pass: &mut Pass, outcome: Outcome) {
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
            && let Some(conditions) = conditions(situation, pass, &outcome)
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
        (_, Some(_)) => true,
        (Balancer::Absent, None) => *outcome == Outcome::Waiting(Waiting::Record),
        (Balancer::Present(observed), None) => plan::ownership(observed, &labels, false).is_ok(),
    }
}

/// The conditions, where they say something else than before.
fn conditions(situation: &Situation<'_>, pass: &Pass, outcome: &Outcome) -> Option<Vec<conditions::Condition>> {
    let Situation { view, memory, .. } = *situation;
    let known = !matches!(memory.balancer, Balancer::Unread);
    let contested = memory.foreign.contested(situation.now);
    let mut findings =
        vec![conditions::load_balancer_ready(outcome, known, memory.observed(), view.paused, &contested)];
    // Before the first answers could have come what was said last is better.
    if situation.outlook.sight != Sight::Starting {
        findings.push(conditions::endpoints_healthy(&pass.choice, situation.verdicts));
    }
    conditions::merged(&view.status.conditions, &findings, situation.wall)
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

/// Finalizer and annotation.
fn metadata_step(situation: &Situation<'_>) -> Option<ObjectStep> {
    let view = situation.view;
    if !situation.has_object {
        return None;
    }
    if !view.finalizer {
        return Some(ObjectStep::AddFinalizer);
    }
    // Of an object that was handed over the annotation is all that says that it is wanted again, until the status
    // says so, too.
    let asked = view.operation.as_deref() == Some("reconcile") && !view.has_succeeded("Migrate");
    asked.then_some(ObjectStep::StripOperation)
}

/// `spec.endpoints`, where they are ours to write and differ as sets.
fn apply_endpoints(situation: &Situation<'_>, choice: &Choice) -> Option<ObjectStep> {
    let Situation { view, settings, .. } = *situation;
    let ours = situation.has_object && settings.controllers.endpoints && !view.deleting && !view.paused;
    if !ours || situation.verdicts.is_none() || choice.endpoints.is_empty() {
        return None;
    }
    // A frozen choice leans on the last good set; before the balancer was read that is not known.
    let unread = settings.controllers.exposure && matches!(situation.memory.balancer, Balancer::Unread);
    if choice.frozen.is_some() && unread {
        return None;
    }
    let wanted = spec_endpoints(choice);
    if wanted == sorted_endpoints(view) {
        return None;
    }
    if situation.memory.foreign.left_alone_until(foreign::ENDPOINTS, situation.now).is_some() {
        return None;
    }
    Some(if settings.controllers.exposure {
        ObjectStep::ApplyEndpoints(wanted)
    } else {
        ObjectStep::HandOverEndpoints(wanted)
    })
}

/// `spec.endpoints` in the order in which they are compared.
pub fn sorted_endpoints(view: &ExposureView) -> Vec<SpecEndpoint> {
    let mut there = view.endpoints.clone();
    there.sort();
    there
}

/// A choice as `spec.endpoints` lists it.
pub fn spec_endpoints(choice: &Choice) -> Vec<SpecEndpoint> {
    let entry = |endpoint: &Endpoint| SpecEndpoint {
        node_name: endpoint.node_name.clone(),
        addresses: endpoint.addresses.clone(),
    };
    choice.endpoints.iter().map(entry).collect()
}

fn known_addresses(situation: &Situation<'_>, choice: &Choice) -> BTreeSet<IpAddr> {
    let nodes = situation.verdicts.unwrap_or_default().iter().filter_map(|verdict| verdict.ip);
    if situation.settings.controllers.endpoints && situation.verdicts.is_some() && choice.frozen.is_none() {
        return nodes.collect();
    }
    let (on_record, _) = situation.view.usable_endpoints();
    nodes.chain(on_record.into_iter().map(|endpoint| endpoint.ip)).collect()
}

fn wake(pass: &mut Pass, at: Moment) {
    pass.wake = Some(pass.wake.map_or(at, |earlier| earlier.min(at)));
}

impl Pass {
    /// Whether nothing is to be written any more.
    pub fn is_settled(&self) -> bool {
        let reads = self.cloud.as_ref().is_none_or(|step| matches!(step, CloudStep::Read(_)));
        reads && self.object.is_none() && self.report.is_none() && matches!(self.outcome, Some(Outcome::Done(_)))
    }
}

impl Memory {
    /// The balancer as last read, where there is one.
    pub fn observed(&self) -> Option<&Observed> {
        match &self.balancer {
            Balancer::Present(observed) => Some(observed),
            Balancer::Unread | Balancer::Absent => None,
        }
    }
}

#[cfg(test)]
mod tests;
