//! One pass over one exposure: everything that is known in, at most one next step on each lane out.
//!
//! There are three lanes, because none of them may wait for another: the balancer (STACKIT), the object (finalizer,
//! annotation, `spec.endpoints`), and its status. A pass is level-triggered: it is made anew after every change and
//! every answer, and a step that is lost is found again.
//!
//! Deliberately not here: sending, and knowing which lane is busy; the shell starts a step when its lane is free.

mod memory;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::desired::{self, Identity, LoadBalancer, Observed};
use crate::endpoints::{self, Choice, Endpoint, LastGood};
use crate::exposure::{self, ExposureView, Facts, SpecEndpoint, Unresolved};
use crate::health::Verdict;
use crate::plan::{self, Plan, Step, Update};
use crate::settings::Settings;
use crate::status::{self, Failure, Outcome, Record, Report, Waiting};
use crate::{Moment, access, invariants, names};

pub use memory::{Balancer, Memory, Trouble};

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
    /// What is odd and goes on all the same; the log says each once.
    pub warnings: Vec<String>,
    /// What it comes to; `None` where this agent has no say or knows too little yet.
    pub outcome: Option<Outcome>,
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
    /// Removes the operation annotation.
    StripOperation,
    /// Applies `spec.endpoints`.
    ApplyEndpoints(Vec<SpecEndpoint>),
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
        warnings: Vec::new(),
        outcome: None,
        wake: None,
    };
    if situation.leads_until.is_none() {
        return pass;
    }
    if situation.settings.controllers.exposure {
        if situation.view.deleting {
            delete(situation, &mut pass);
        } else {
            reconcile(situation, &mut pass);
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
        return Choice { endpoints: on_record, frozen: None, left_out };
    }
    let last_good = match situation.memory.observed() {
        Some(observed) => {
            let targets = observed.balancer.targets();
            LastGood::from_targets(targets.into_iter().map(|target| (target.name, target.ip)), &on_record)
        }
        None => LastGood { members: on_record },
    };
    match situation.verdicts {
        Some(verdicts) => endpoints::choose(verdicts, &last_good),
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
    let spec = match exposure::resolve(view, pass.choice.endpoints.clone(), situation.facts) {
        Ok(spec) => spec,
        Err(unresolved) => {
            let outcome = match unresolved {
                Unresolved::Waiting(missing) => Outcome::Waiting(Waiting::Facts(missing)),
                Unresolved::Configuration(mistakes) => Outcome::Failed(Failure::configuration(&mistakes)),
            };
            return conclude(situation, pass, outcome);
        }
    };
    let identity = spec.identity.clone();
    let recorded = view.status.recorded.as_ref().is_some_and(|recorded| recorded.name == identity.name);
    if let Balancer::Unread = memory.balancer {
        return read(situation, pass, &identity.name);
    }
    let observed = memory.observed();
    let wish = desired::load_balancer(&spec, settings);
    pass.warnings.extend(access::warning(&spec, settings));
    if let Some(observed) = observed
        && let Err(why) = plan::ownership(observed, &wish.labels, recorded)
    {
        read_later(situation, pass, &identity.name);
        return conclude(situation, pass, Outcome::Failed(Failure::not_ours(&identity.name, &why)));
    }
    if memory.must_read {
        return read(situation, pass, &identity.name);
    }
    let unlisted = settings.controllers.endpoints && situation.verdicts.is_none();
    if wish.targets().is_empty() || (observed.is_none() && unlisted) {
        read_later(situation, pass, &identity.name);
        let waiting = if unlisted { Waiting::Nodes } else { Waiting::Endpoints };
        return conclude(situation, pass, Outcome::Waiting(waiting));
    }
    // A balancer that is there keeps its ranges meanwhile; a new one would be open to everybody.
    if let (None, Some(why)) = (observed, access::unread(&spec, settings)) {
        read_later(situation, pass, &identity.name);
        return conclude(situation, pass, Outcome::Waiting(Waiting::Facts(vec![why])));
    }
    let plan = plan::diff(&wish, observed);
    let broken = invariants::broken(&plan, &known_addresses(situation, &pass.choice));
    if !broken.is_empty() {
        pass.plan = Some(plan);
        let message = format!("the plan is refused, this is a defect of the agent: {}", broken.join("; "));
        return conclude(situation, pass, Outcome::Failed(Failure { message, codes: Vec::new() }));
    }
    let outcome = match &plan.step {
        Step::Nothing => {
            read_later(situation, pass, &identity.name);
            observed.map_or(Outcome::Waiting(Waiting::Balancer("unread".to_owned())), status::readiness)
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
    let outcome = match outcome {
        Outcome::Done(_) if !plan.unmet.is_empty() => Outcome::Failed(Failure::unmet(&plan.unmet)),
        outcome => outcome,
    };
    pass.plan = Some(plan);
    conclude(situation, pass, outcome);
}

fn delete(situation: &Situation<'_>, pass: &mut Pass) {
    let Situation { view, memory, .. } = *situation;
    if !view.finalizer {
        return;
    }
    let Some(identity) = pass.identity.clone() else {
        let missing = exposure::identity(view, situation.facts).err().unwrap_or_default();
        return conclude(situation, pass, Outcome::Waiting(Waiting::Facts(missing)));
    };
    if matches!(memory.balancer, Balancer::Unread) || memory.must_read {
        return read(situation, pass, &identity.name);
    }
    let observed = memory.observed();
    let labels = names::labels(&identity.technical_id, &view.name);
    if let Some(observed) = observed
        && let Err(why) = plan::ownership(observed, &labels, view.status.recorded.is_some())
    {
        read_later(situation, pass, &identity.name);
        return conclude(situation, pass, Outcome::Failed(Failure::not_ours(&identity.name, &why)));
    }
    let plan = plan::removal(observed);
    let outcome = match plan.step {
        Step::Delete(_) => write(situation, pass, CloudStep::Delete(identity), &BTreeSet::new(), "deleting"),
        Step::Gone => Outcome::Done(None),
        _ => {
            read_later(situation, pass, &identity.name);
            Outcome::Waiting(Waiting::Deletion)
        }
    };
    pass.plan = Some(plan);
    let gone = matches!(outcome, Outcome::Done(_));
    conclude(situation, pass, outcome);
    if gone && (pass.report.is_none() || memory.status_failed) {
        pass.object = Some(ObjectStep::RemoveFinalizer);
    }
}

/// A GET before anything else can be decided. Nothing is said about an outcome yet, unless the GET itself fails.
fn read(situation: &Situation<'_>, pass: &mut Pass, name: &str) {
    let Some(trouble) = &situation.memory.read_trouble else {
        pass.cloud = Some(CloudStep::Read(name.to_owned()));
        return;
    };
    if situation.now < trouble.next {
        wake(pass, trouble.next);
    } else {
        pass.cloud = Some(CloudStep::Read(name.to_owned()));
    }
    conclude(situation, pass, Outcome::from_fault(&trouble.fault));
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
    let trouble = memory.write_trouble.as_ref();
    // Its answer must be in before leadership can end: an aborted write may still arrive.
    let ends = now + settings.call_timeout();
    if leads_until.is_none_or(|until| ends > until) {
        wake(pass, now + FENCE_POLL);
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
    // An update that is just being sent is no news yet; its answer will be.
    let under_way = outcome == Outcome::Waiting(Waiting::Write("updating"));
    if situation.has_object && !under_way {
        let operation = exposure::operation(view);
        let record = pass.identity.as_ref().map(|identity| Record::of(identity, memory.observed()));
        // While nothing was read, what is on record is better than an empty list.
        let record = record.filter(|_| !matches!(memory.balancer, Balancer::Unread) || view.status.record.is_none());
        let refresh = wants_refresh(situation, &outcome);
        // A caller whose clock is ahead compares with the time it wrote itself.
        let at = situation.wall.max(view.asked_at.filter(|_| refresh).unwrap_or(i64::MIN));
        pass.report = status::report(view, operation, &outcome, record.as_ref(), refresh, at);
    }
    pass.outcome = Some(outcome);
}

/// Somebody asked for the operation after the last success was written, and waits for a newer one.
fn wants_refresh(situation: &Situation<'_>, outcome: &Outcome) -> bool {
    let view = situation.view;
    let written = view.status.operation.as_ref().map_or(i64::MIN, |last| last.at);
    let believable = |asked: &i64| *asked <= situation.wall.saturating_add(MOST_CLOCK_SKEW);
    let asked_later = view.asked_at.filter(believable).is_some_and(|asked| asked > written);
    matches!(outcome, Outcome::Done(_)) && (situation.memory.refresh || asked_later)
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
    (view.operation.as_deref() == Some("reconcile")).then_some(ObjectStep::StripOperation)
}

/// `spec.endpoints`, where they are ours to write and differ as sets.
fn apply_endpoints(situation: &Situation<'_>, choice: &Choice) -> Option<ObjectStep> {
    let Situation { view, settings, .. } = *situation;
    let ours = situation.has_object && settings.controllers.endpoints && !view.deleting;
    if !ours || situation.verdicts.is_none() || choice.endpoints.is_empty() {
        return None;
    }
    // A frozen choice leans on the last good set; before the balancer was read that is not known.
    let unread = settings.controllers.exposure && matches!(situation.memory.balancer, Balancer::Unread);
    if choice.frozen.is_some() && unread {
        return None;
    }
    let wanted = spec_endpoints(choice);
    let mut there = view.endpoints.clone();
    there.sort();
    (wanted != there).then_some(ObjectStep::ApplyEndpoints(wanted))
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

impl Memory {
    /// The balancer as last read, where there is one.
    pub fn observed(&self) -> Option<&Observed> {
        match &self.balancer {
            Balancer::Present(observed) => Some(observed),
            Balancer::Unread | Balancer::Absent => None,
        }
    }
}
