//! What a worker tells: log lines and numbers, on change only.

use std::collections::BTreeSet;
use std::time::SystemTime;

use decide::Moment;
use decide::desired::Target;
use decide::endpoints::{Choice, Frozen};
use decide::health::Verdict;
use decide::pass::{CloudStep, Memory, ObjectStep, Pass};
use decide::plan::Step;
use decide::retry::FaultKind;
use decide::status::Outcome;
use tracing::{debug, info, warn};

use crate::admin::Metrics;
use crate::admin::metrics::{Controller, DriftField, FrozenReason, NodeVerdict, PassResult};
use crate::cloud::carry_out::Carried;
use crate::host::clock;

/// What was told last.
pub(super) struct Notes {
    exposure: String,
    metrics: Metrics,
    choice: Option<Choice>,
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

impl Notes {
    pub(super) fn new(exposure: String, metrics: Metrics) -> Self {
        Self {
            exposure,
            metrics,
            choice: None,
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
        self.outcome = None;
    }

    pub(super) fn pass(&mut self, pass: &Pass, verdicts: Option<&[Verdict]>, memory: &Memory, leads: bool) {
        let words = verdicts.unwrap_or_default().iter().filter_map(|v| NodeVerdict::from_word(v.class.word()));
        self.metrics.set_nodes(words);
        self.metrics.set_desired_targets(pass.choice.endpoints.len());
        if leads {
            self.metrics.set_targets(memory.observed().map_or(0, |observed| observed.balancer.targets().len()));
        }
        self.metrics.set_frozen(pass.choice.frozen.and_then(|frozen| FrozenReason::from_word(frozen.word())));
        self.choice(&pass.choice);
        self.plan(pass);
        for warning in pass.warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            warn!(exposure = self.exposure, "{warning}");
        }
        if pass.plan.is_some() {
            self.warnings.clone_from(&pass.warnings);
        }
        self.outcome(pass, leads);
    }

    fn choice(&mut self, choice: &Choice) {
        let exposure = &self.exposure;
        let before = self.choice.as_ref();
        if before == Some(choice) {
            return;
        }
        let frozen_before = before.and_then(|before| before.frozen);
        if frozen_before != choice.frozen {
            if let Some(why) = choice.frozen {
                warn!(exposure, reason = "TargetsFrozen", cause = why.word(), "{why}: the last good set stays");
            } else {
                info!(exposure, "targets are free again, they were frozen: {}", frozen_word(frozen_before));
            }
        }
        for (node, class) in &choice.left_out {
            let known = before.is_some_and(|before| before.left_out.iter().any(|(n, c)| n == node && c == class));
            if !known {
                info!(exposure, node, verdict = class.word(), "node is left out: {class}");
            }
        }
        let names: Vec<&str> = choice.endpoints.iter().map(|endpoint| endpoint.node_name.as_str()).collect();
        info!(exposure, endpoints = ?names, "chosen");
        self.choice = Some(choice.clone());
    }

    fn plan(&mut self, pass: &Pass) {
        let just_read = std::mem::take(&mut self.just_read);
        let Some(plan) = &pass.plan else { return };
        match &plan.step {
            Step::Update(update) => {
                if just_read && self.settled {
                    for change in &update.changes {
                        warn!(exposure = self.exposure, reason = "DriftCorrected", "drift: {change}");
                        if let Some(field) = DriftField::from_word(change.part()) {
                            self.metrics.drift(field);
                        }
                    }
                }
                self.settled = false;
                if update.wish.targets() != update.base.balancer.targets() && self.evidence.is_none() {
                    self.evidence = Some(clock::now());
                }
            }
            Step::Nothing => {
                self.settled = true;
                self.evidence = None;
            }
            Step::Create(_) | Step::Delete(_) | Step::AwaitGone | Step::Gone => self.settled = false,
        }
    }

    fn outcome(&mut self, pass: &Pass, leads: bool) {
        if self.leads != leads {
            self.leads = leads;
            self.outcome = None;
        }
        let Some(outcome) = pass.outcome.as_ref().filter(|outcome| self.outcome.as_ref() != Some(*outcome)) else {
            return;
        };
        let exposure = &self.exposure;
        match outcome {
            Outcome::Done(Some(ip)) => info!(exposure, reason = "LoadBalancerReady", %ip, "the balancer is as desired"),
            Outcome::Done(None) => info!(exposure, "the balancer is gone"),
            Outcome::Waiting(waiting) => info!(exposure, "{waiting}"),
            Outcome::Failed(failure) => {
                warn!(exposure, reason = "LoadBalancerError", codes = ?failure.codes, "{}", failure.message);
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

    pub(super) fn carried(&mut self, step: &CloudStep, carried: &Carried, now: Moment) {
        let fault = match carried {
            Carried::Read(result) => result.as_ref().err(),
            Carried::Written { result, .. } => result.as_ref().err(),
            Carried::Deleted(result) => result.as_ref().err(),
        };
        self.just_read = matches!(carried, Carried::Read(Ok(_)));
        match (fault, carried) {
            (Some(fault), _) if fault.kind == FaultKind::Conflict => {
                self.metrics.conflict();
                info!(exposure = self.exposure, "somebody else was faster: {}", fault.message);
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
                let after = result.as_ref().map(|observed| observed.balancer.targets()).unwrap_or_default();
                self.targets(&before, &after);
            }
        }
    }

    fn targets(&self, before: &BTreeSet<Target>, after: &BTreeSet<Target>) {
        let exposure = &self.exposure;
        for target in before.difference(after) {
            info!(exposure, reason = "TargetRemoved", target = target.name, ip = %target.ip, "target removed");
        }
        for target in after.difference(before) {
            info!(exposure, reason = "TargetAdded", target = target.name, ip = %target.ip, "target added");
        }
    }
}

fn frozen_word(frozen: Option<Frozen>) -> &'static str {
    frozen.map_or("", Frozen::word)
}

/// A write to the object, for logs.
pub(super) fn object_step(step: &ObjectStep) -> &'static str {
    match step {
        ObjectStep::AddFinalizer => "adding the finalizer",
        ObjectStep::RemoveFinalizer => "removing the finalizer",
        ObjectStep::StripOperation => "removing the operation annotation",
        ObjectStep::ApplyEndpoints(_) => "applying spec.endpoints",
    }
}
