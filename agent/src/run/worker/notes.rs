//! What a worker tells: log lines, numbers and events, on change only. Events are the leader's.

use std::collections::BTreeSet;
use std::time::SystemTime;

use decide::Moment;
use decide::desired::Target;
use decide::endpoints::Choice;
use decide::exposure::ExposureView;
use decide::health::{Class, Verdict};
use decide::pass::{CloudStep, Memory, ObjectStep, Pass};
use decide::plan::{Change, Step};
use decide::reason::Reason;
use decide::retry::FaultKind;
use decide::status::Outcome;
use tracing::{debug, info, warn};

use super::freezes::{Freezes, News};
use crate::admin::Metrics;
use crate::admin::metrics::{Controller, DriftField, FrozenReason, NodeVerdict, PassResult};
use crate::cloud::carry_out::Carried;
use crate::cluster::events::{Announcer, Regarding};
use crate::host::clock;

/// What was told last.
pub(super) struct Notes {
    exposure: String,
    metrics: Metrics,
    announcer: Announcer,
    /// The object that events are about; `None`: there is none.
    regarding: Option<Regarding>,
    /// What its status says already: the addresses of a success.
    reported: Vec<String>,
    hands: Hands,
    contested: Vec<String>,
    left_behind: Option<String>,
    /// UID of the object of which it was said that it is somebody else's.
    strange: String,
    choice: Option<Choice>,
    freezes: Freezes,
    outcome: Option<Outcome>,
    warnings: Vec<String>,
    leads: bool,
    /// Since when the balancer's targets have not been what they should be.
    evidence: Option<Moment>,
    /// The last plan had nothing to do, so that a difference that a read shows is drift.
    settled: bool,
    /// The last answer was a read.
    just_read: bool,
    /// When the write under way was sent.
    sent: Moment,
}

/// Whether somebody has paused the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hands {
    On,
    Off,
}

impl Notes {
    pub(super) fn new(exposure: String, metrics: Metrics, announcer: Announcer) -> Self {
        Self {
            exposure,
            metrics,
            announcer,
            regarding: None,
            reported: Vec::new(),
            hands: Hands::On,
            contested: Vec::new(),
            left_behind: None,
            strange: String::new(),
            choice: None,
            freezes: Freezes::default(),
            outcome: None,
            warnings: Vec::new(),
            leads: false,
            evidence: None,
            settled: false,
            just_read: false,
            sent: Moment::default(),
        }
    }

    /// There is no object to work on.
    pub(super) fn absent(&mut self) {
        self.choice = None;
        self.freezes = Freezes::default();
        self.outcome = None;
    }

    /// There is an object of the name that ours was to have, and it is not ours.
    pub(super) fn strange(&mut self, view: &ExposureView) {
        self.absent();
        if std::mem::replace(&mut self.strange, view.uid.clone()) != view.uid {
            let class = view.class.as_deref().unwrap_or("shoot");
            warn!(
                exposure = self.exposure,
                kind = view.kind,
                class,
                "the object of this name is that of somebody else"
            );
        }
    }

    /// The object as it stands, before the pass is told; `None`: there is no Kubernetes.
    pub(super) fn object(&mut self, namespace: &str, view: Option<&ExposureView>) {
        self.regarding = view.map(|view| Regarding {
            namespace: namespace.to_owned(),
            name: view.name.clone(),
            uid: view.uid.clone(),
        });
        let succeeded = view.map(|view| &view.status).filter(|status| {
            status.error.is_none() && status.operation.as_ref().is_some_and(|last| last.state == "Succeeded")
        });
        self.reported = succeeded.map(|status| status.ingress.clone()).unwrap_or_default();
        let hands = if view.is_some_and(|view| view.paused) { Hands::Off } else { Hands::On };
        self.metrics.set_paused(hands == Hands::Off);
        if self.hands != hands {
            self.hands = hands;
            let exposure = &self.exposure;
            if hands == Hands::Off {
                let what = "paused by annotation: nothing is written to the cloud nor to spec.endpoints";
                info!(exposure, reason = Reason::Paused.word(), "{what}");
                if self.leads {
                    self.announce(Reason::Paused, "Pause", what);
                }
            } else {
                info!(exposure, "resumed");
            }
        }
    }

    fn announce(&self, reason: Reason, action: &str, note: &str) {
        if let Some(regarding) = &self.regarding {
            self.announcer.announce(regarding, reason, action, note);
        }
    }

    /// Somebody else has changed `spec.endpoints`.
    pub(super) fn foreign_endpoints(&self) {
        let note = "spec.endpoints was changed by somebody else and is applied over again";
        warn!(exposure = self.exposure, reason = Reason::DriftCorrected.word(), "drift: {note}");
        self.metrics.drift(DriftField::Endpoints);
        self.announce(Reason::DriftCorrected, "Correct endpoints", note);
    }

    /// Those who change the same again and again.
    fn contested(&mut self, memory: &Memory) {
        let contested = memory.foreign.contested(clock::now());
        for field in contested.iter().filter(|field| !self.contested.contains(field)) {
            let note =
                format!("{field} was changed by somebody else three times in 10 minutes; it is left as it is for 10");
            warn!(exposure = self.exposure, reason = Reason::ForeignWriter.word(), "{note}");
            self.announce(Reason::ForeignWriter, &format!("Leave {field}"), &note);
        }
        self.contested = contested;
    }

    pub(super) fn pass(&mut self, pass: &Pass, verdicts: Option<&[Verdict]>, memory: &Memory, leads: bool) {
        let words = verdicts.unwrap_or_default().iter().filter_map(|v| NodeVerdict::from_word(v.class.word()));
        self.metrics.set_nodes(words);
        self.metrics.set_desired_targets(pass.choice.endpoints.len());
        if leads {
            self.metrics.set_targets(memory.observed().map_or(0, |observed| observed.balancer.targets().len()));
        }
        self.metrics.set_frozen(pass.choice.frozen.and_then(|frozen| FrozenReason::from_word(frozen.word())));
        self.frozen(pass, leads);
        self.choice(&pass.choice);
        self.plan(pass);
        for warning in pass.warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            warn!(exposure = self.exposure, "{warning}");
        }
        if pass.plan.is_some() {
            self.warnings.clone_from(&pass.warnings);
        }
        self.outcome(pass, leads);
        self.contested(memory);
        if self.left_behind != pass.left_behind {
            self.left_behind.clone_from(&pass.left_behind);
            if let Some(what) = &pass.left_behind {
                let reason = Reason::LoadBalancerLeftBehind;
                warn!(exposure = self.exposure, reason = reason.word(), "{what}");
                self.announce(reason, "Delete", what);
            }
        }
    }

    fn frozen(&mut self, pass: &Pass, leads: bool) {
        let news = self.freezes.next(pass.choice.frozen, clock::now());
        let exposure = &self.exposure;
        match news {
            Some(News::Frozen(why)) => {
                let reason = Reason::TargetsFrozen;
                warn!(exposure, reason = reason.word(), cause = why.word(), "{why}: the last good set stays");
                if leads {
                    self.announce(reason, why.word(), &format!("{why}: the last good set stays"));
                }
            }
            Some(News::Free(why)) => info!(exposure, "targets are free again, they were frozen: {}", why.word()),
            None => {}
        }
    }

    fn choice(&mut self, choice: &Choice) {
        let exposure = &self.exposure;
        let before = self.choice.as_ref();
        if before == Some(choice) {
            return;
        }
        for (node, class) in &choice.left_out {
            let known = before.is_some_and(|before| before.left_out.iter().any(|(n, c)| n == node && c == class));
            if !known {
                let verdict = class.word();
                match class {
                    Class::Healthy => info!(exposure, node, verdict, "node is healthy and waits to enter"),
                    class => info!(exposure, node, verdict, "node is left out: {class}"),
                }
            }
        }
        if before.is_none_or(|before| before.endpoints != choice.endpoints) {
            let names: Vec<&str> = choice.endpoints.iter().map(|endpoint| endpoint.node_name.as_str()).collect();
            info!(exposure, endpoints = ?names, "chosen");
        }
        self.choice = Some(choice.clone());
    }

    fn plan(&mut self, pass: &Pass) {
        let just_read = std::mem::take(&mut self.just_read);
        let Some(plan) = &pass.plan else { return };
        match &plan.step {
            Step::Update(update) => {
                if just_read && self.settled {
                    for change in &update.changes {
                        let reason = Reason::DriftCorrected;
                        warn!(exposure = self.exposure, reason = reason.word(), "drift: {change}");
                        self.announce(reason, &format!("Correct {}", change.part()), &change.to_string());
                    }
                    // Once for each field, however many targets it concerns.
                    let parts: BTreeSet<&str> = update.changes.iter().map(Change::part).collect();
                    parts.into_iter().filter_map(DriftField::from_word).for_each(|field| self.metrics.drift(field));
                }
                self.settled = false;
                if update.wish.targets() != update.base.balancer.targets() && self.evidence.is_none() {
                    self.evidence = Some(clock::now());
                }
            }
            Step::Nothing => {
                // What is held back now is no drift when it is tried later.
                self.settled = !pass.holds_back;
                self.evidence = None;
            }
            Step::Create(_) | Step::Delete(_) | Step::AwaitGone | Step::Gone => self.settled = false,
        }
    }

    fn outcome(&mut self, pass: &Pass, leads: bool) {
        if self.leads != leads {
            self.leads = leads;
            self.outcome = None;
            if leads && self.hands == Hands::Off {
                self.announce(Reason::Paused, "Pause", "paused by annotation");
            }
        }
        let Some(outcome) = pass.outcome.as_ref().filter(|outcome| self.outcome.as_ref() != Some(*outcome)) else {
            return;
        };
        let exposure = &self.exposure;
        match outcome {
            Outcome::Done(Some(ip)) => {
                let reason = Reason::LoadBalancerReady;
                info!(exposure, reason = reason.word(), %ip, "the balancer is as desired");
                // Whoever takes over what is well has no news.
                if self.outcome.is_some() || !self.reported.contains(&ip.to_string()) {
                    self.announce(reason, "Reconcile", &format!("the load balancer is as desired and ready at {ip}"));
                }
            }
            Outcome::Done(None) if matches!(pass.plan.as_ref().map(|plan| &plan.step), Some(Step::Gone)) => {
                info!(exposure, "the balancer is gone");
            }
            Outcome::Done(None) => info!(exposure, "done; the balancer is left alone"),
            Outcome::Waiting(waiting) => info!(exposure, "{waiting}"),
            Outcome::Failed(failure) => {
                let reason = failure.reason();
                warn!(exposure, reason = reason.word(), codes = ?failure.codes, "{}", failure.message);
                self.announce(reason, "Reconcile", &failure.message);
            }
        }
        let result = match outcome {
            Outcome::Done(_) => PassResult::Success,
            Outcome::Waiting(_) => PassResult::Waiting,
            Outcome::Failed(_) => PassResult::Error,
        };
        let took = clock::now().since(self.sent);
        self.metrics.reconciled(
            Controller::Exposure,
            result,
            if self.sent == Moment::default() { std::time::Duration::ZERO } else { took },
        );
        self.outcome = Some(outcome.clone());
    }

    pub(super) fn sending(&mut self, step: &CloudStep, now: Moment) {
        self.sent = now;
        let exposure = &self.exposure;
        match step {
            CloudStep::Read(name) => debug!(exposure, name, "reading the balancer"),
            CloudStep::Create(wish) => {
                info!(exposure, name = wish.name, targets = wish.targets().len(), "creating the balancer");
            }
            CloudStep::Update(update) => {
                let changes: Vec<String> = update.changes.iter().map(ToString::to_string).collect();
                info!(exposure, version = update.base.version, "updating the balancer: {}", changes.join("; "));
            }
            CloudStep::Delete(identity) => info!(exposure, name = identity.name, "deleting the balancer"),
        }
    }

    /// A PUT has had no answer for so long that a newer choice goes out beside it.
    pub(super) fn given_up(&self) {
        info!(exposure = self.exposure, "no answer to the update yet; a newer choice goes out with the same version");
    }

    pub(super) fn carried(&mut self, step: &CloudStep, carried: &Carried, now: Moment) {
        self.just_read = matches!(carried, Carried::Read(Ok(_)));
        match (carried.fault(), carried) {
            (Some(fault), _) if fault.kind == FaultKind::Conflict => {
                self.metrics.conflict();
                info!(exposure = self.exposure, "somebody else was faster: {}", fault.message);
            }
            (Some(fault), Carried::Written { .. }) if fault.kind == FaultKind::Invalid => {
                info!(exposure = self.exposure, "refused: {}", fault.message);
            }
            (Some(_), _) | (None, Carried::Deleted(_)) => {}
            (None, Carried::Read(_)) => self.metrics.set_last_sync(SystemTime::now()),
            (None, Carried::Written { result, .. }) => {
                self.metrics.set_last_sync(SystemTime::now());
                if let Some(since) = self.evidence.take() {
                    self.metrics.written_after(now.since(since));
                }
                let before = match step {
                    CloudStep::Update(update) => update.base.balancer.targets(),
                    _ => BTreeSet::new(),
                };
                if matches!((step, result), (CloudStep::Create(_), Ok(_))) {
                    let note = format!("made load balancer `{}`", balancer(step));
                    info!(exposure = self.exposure, reason = Reason::LoadBalancerCreated.word(), "{note}");
                    self.announce(Reason::LoadBalancerCreated, "Create", &note);
                }
                let after = result.as_ref().map(|observed| observed.balancer.targets()).unwrap_or_default();
                self.targets(&before, &after);
            }
        }
    }

    fn targets(&self, before: &BTreeSet<Target>, after: &BTreeSet<Target>) {
        let exposure = &self.exposure;
        for target in before.difference(after) {
            let reason = Reason::TargetRemoved;
            info!(exposure, reason = reason.word(), node = target.name, ip = %target.ip, "target removed");
            let note = format!("target {} ({}) removed", target.name, target.ip);
            self.announce(reason, &format!("Remove {}", target.name), &note);
        }
        for target in after.difference(before) {
            let reason = Reason::TargetAdded;
            info!(exposure, reason = reason.word(), node = target.name, ip = %target.ip, "target added");
            let note = format!("target {} ({}) added", target.name, target.ip);
            self.announce(reason, &format!("Add {}", target.name), &note);
        }
    }
}

/// The balancer that a step is about.
fn balancer(step: &CloudStep) -> &str {
    match step {
        CloudStep::Create(wish) => &wish.name,
        CloudStep::Update(update) => &update.wish.name,
        CloudStep::Read(name) => name,
        CloudStep::Delete(identity) => &identity.name,
    }
}

/// A write to the object, for logs.
pub(super) fn object_step(step: &ObjectStep) -> &'static str {
    match step {
        ObjectStep::AddFinalizer => "adding the finalizer",
        ObjectStep::RemoveFinalizer => "removing the finalizer",
        ObjectStep::StripOperation => "removing the operation annotation",
        ObjectStep::FinishOperation => "removing the operation annotation after the work",
        ObjectStep::ApplyEndpoints(_) => "applying spec.endpoints",
        ObjectStep::HandOverEndpoints(_) => "applying spec.endpoints and asking the provider extension",
    }
}
