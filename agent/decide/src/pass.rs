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
mod gone;
mod hand_over;
mod lag;
mod memory;
mod object;
mod refusals;
mod told;
mod trouble;
mod under_way;
mod wish;
mod write;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::desired::{Identity, LoadBalancer, Observed};
use crate::endpoints::{self, Choice, LastGood, Outlook, Round};
use crate::exposure::{self, ExposureView, Facts, SpecEndpoint};
use crate::health::Verdict;
use crate::plan::{self, Plan, Step, Update};
use crate::retry::Fault;
use crate::settings::Settings;
use crate::status::{self, Failure, Outcome, Report, Waiting};
use crate::{Moment, invariants, names};

use delete::delete;
use hand_over::{hand_over, is_restored};
use object::{apply_endpoints, metadata_step};
use told::conclude;
use wish::Wish;
use write::{read, read_later, removes, write};

pub use carried::{Carried, Sent};
pub use memory::{Balancer, Memory};
pub use object::{sorted_endpoints, spec_endpoints};
pub use refusals::{Asked, Part};
pub use trouble::Trouble;
pub use under_way::UnderWay;

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
    /// Something waits for STACKIT to answer: a write, or a read that comes before anything else.
    pub pending: bool,
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
        pending: false,
        warnings: Vec::new(),
        outcome: None,
        left_behind: None,
        wake: None,
    };
    pass.wake = pass.choice.wake;
    for ends in situation.verdicts.unwrap_or_default().iter().filter_map(|verdict| verdict.ends) {
        let left = u64::try_from(ends - situation.wall).unwrap_or_default();
        wake(&mut pass, situation.now + std::time::Duration::from_secs(left));
    }
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
    // What somebody else's balancer has for targets says nothing about ours.
    let last_good = match situation.memory.observed().filter(|observed| is_ours(situation, observed)) {
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

/// Whether the balancer is known to be ours; not known to be anybody else's is enough.
fn is_ours(situation: &Situation<'_>, observed: &Observed) -> bool {
    let recorded = situation.view.status.recorded.is_some();
    identity(situation).is_none_or(|identity| {
        let labels = names::labels(&identity.technical_id, &situation.view.name);
        plan::ownership(observed, &labels, recorded).is_ok()
    })
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
    if memory.must_read || (memory.wants_look.is_some() && !removes(situation, pass)) {
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
        Step::Create(_) if situation.now < free_at(situation) => {
            read_later(situation, pass, &identity.name);
            wake(pass, free_at(situation));
            Outcome::Waiting(Waiting::LateDelete)
        }
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

/// From when on a balancer may be made under this name.
fn free_at(situation: &Situation<'_>) -> Moment {
    let Situation { view, memory, settings, .. } = *situation;
    let recorded = view.status.record.as_ref().is_some_and(|record| !record.version.is_empty());
    memory.gone.free_at(recorded, settings.leader_election.lease_duration, settings.call_timeout())
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
