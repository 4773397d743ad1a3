//! How steps and answers are written down: short, and the same in every run.

use std::time::Duration;

use decide::desired::{AddressForm, BalancerStatus, Observed};
use decide::endpoints::Choice;
use decide::exposure::SpecEndpoint;
use decide::pass::{Carried, CloudStep, ObjectStep};
use decide::retry::Fault;
use decide::status::{Record, Report};
use serde_json::Value;

/// Versions by the order in which they were first seen: the cloud's own look random.
#[derive(Debug, Default)]
pub(super) struct Versions(Vec<String>);

impl Versions {
    pub(super) fn word(&mut self, version: &str) -> String {
        if version.is_empty() {
            return "no version".to_owned();
        }
        let at = self.0.iter().position(|known| known == version).unwrap_or_else(|| {
            self.0.push(version.to_owned());
            self.0.len() - 1
        });
        format!("v{}", at + 1)
    }

    /// A request to STACKIT.
    pub(super) fn request(&mut self, step: &CloudStep) -> Vec<String> {
        match step {
            CloudStep::Read(_) => vec!["GET".to_owned()],
            CloudStep::Create(wish) => {
                let targets: Vec<String> = wish.targets().into_iter().map(|target| target.name).collect();
                vec![format!("POST {}", targets.join(" "))]
            }
            CloudStep::Update(update) => {
                let form = match update.wish.address_form {
                    AddressForm::Lean => "",
                    AddressForm::Full => " in the full form",
                };
                let mut lines = vec![format!("PUT {}{form}", self.word(&update.base.version))];
                lines.extend(update.changes.iter().map(ToString::to_string));
                lines
            }
            CloudStep::Delete(_) => vec!["DELETE".to_owned()],
        }
    }

    /// What came of it.
    pub(super) fn answer(&mut self, carried: &Carried) -> String {
        match carried {
            Carried::Read(Ok(None)) => "none".to_owned(),
            Carried::Read(Ok(Some(observed))) | Carried::Written { result: Ok(observed), .. } => {
                format!("{} {}", self.word(&observed.version), status(observed))
            }
            Carried::Deleted(Ok(())) => "accepted".to_owned(),
            Carried::Read(Err(fault)) | Carried::Written { result: Err(fault), .. } | Carried::Deleted(Err(fault)) => {
                self::fault(fault)
            }
        }
    }

    /// A write to the status.
    pub(super) fn report(&mut self, report: &Report) -> String {
        let mut parts = Vec::new();
        if let Some(last) = &report.operation {
            parts.push(format!("{} {} {}%: {}", last.kind, last.state, last.progress, last.description));
        }
        match &report.error {
            Some(Some(error)) if error.codes.is_empty() => parts.push("error without codes".to_owned()),
            Some(Some(error)) => parts.push(format!("error {}", error.codes.join(" "))),
            Some(None) => parts.push("error cleared".to_owned()),
            None => {}
        }
        parts.extend(report.observed_generation.map(|generation| format!("generation {generation}")));
        parts.extend(report.ingress.map(|ip| format!("ingress {ip}")));
        parts.extend(report.record.as_ref().map(|record| self.record(record)));
        let condition = |c: &decide::conditions::Condition| format!("{}={} {}", c.kind, c.status, c.reason);
        let conditions = report.conditions.iter().flatten().map(condition).collect::<Vec<_>>();
        parts.extend((!conditions.is_empty()).then(|| conditions.join(", ")));
        parts.join("; ")
    }

    fn record(&mut self, record: &Record) -> String {
        let targets: Vec<&str> = record.targets.iter().map(|target| target.name.as_str()).collect();
        let settled = if record.settled { "settled" } else { "not settled" };
        let version = self.word(&record.version);
        format!("record {version}, {settled}, [{}]", targets.join(" "))
    }

    /// A balancer as the cloud shows it, for people.
    pub(super) fn balancer(&mut self, balancer: &Value) -> Vec<String> {
        let text = |field: &str| balancer[field].as_str().unwrap_or("none").to_owned();
        let version = self.word(&text("version"));
        let mut lines = vec![format!("balancer {} {version} {} {}", text("name"), text("status"), text("planId"))];
        let mut add = |name: &str, value: &Value| {
            if !value.is_null() {
                lines.push(format!("  {name}: {value}"));
            }
        };
        add("address", &balancer["externalAddress"]);
        add("labels", &balancer["labels"]);
        add("options", &balancer["options"]);
        add("listeners", &balancer["listeners"]);
        for pool in balancer["targetPools"].as_array().into_iter().flatten() {
            add("pool", &pool["name"]);
            add("  port", &pool["targetPort"]);
            add("  check", &pool["activeHealthCheck"]);
            for target in pool["targets"].as_array().into_iter().flatten() {
                add("  target", target);
            }
        }
        lines
    }
}

fn status(observed: &Observed) -> String {
    match &observed.status {
        BalancerStatus::Pending => "STATUS_PENDING".to_owned(),
        BalancerStatus::Ready => "STATUS_READY".to_owned(),
        BalancerStatus::Error => "STATUS_ERROR".to_owned(),
        BalancerStatus::Terminating => "STATUS_TERMINATING".to_owned(),
        BalancerStatus::Unknown(word) => format!("status `{word}`"),
    }
}

fn fault(fault: &Fault) -> String {
    let unknown = if fault.outcome_unknown { ", outcome unknown" } else { "" };
    format!("{:?}{unknown}: {}", fault.kind, fault.message)
}

/// A write to the object.
pub(super) fn object_step(step: &ObjectStep) -> String {
    match step {
        ObjectStep::AddFinalizer => "add the finalizer".to_owned(),
        ObjectStep::RemoveFinalizer => "remove the finalizer".to_owned(),
        ObjectStep::StripOperation => "remove the operation annotation".to_owned(),
        ObjectStep::FinishOperation => "remove the annotation of the operation that is over".to_owned(),
        ObjectStep::HandOverEndpoints(all) => format!("hand over spec.endpoints {}", endpoints(all)),
        ObjectStep::ApplyEndpoints(all) => format!("apply spec.endpoints {}", endpoints(all)),
    }
}

fn endpoints(all: &[SpecEndpoint]) -> String {
    all.iter().map(|endpoint| endpoint.node_name.as_str()).collect::<Vec<_>>().join(" ")
}

/// A choice of endpoints.
pub(super) fn choice(choice: &Choice) -> String {
    let names: Vec<&str> = choice.endpoints.iter().map(|endpoint| endpoint.node_name.as_str()).collect();
    let mut text = if names.is_empty() { "nothing".to_owned() } else { names.join(" ") };
    if let Some(frozen) = choice.frozen {
        text = format!("{text}; frozen, {}: {frozen}", frozen.word());
    }
    let left_out: Vec<String> = choice.left_out.iter().map(|(node, class)| format!("{node} ({class})")).collect();
    if !left_out.is_empty() {
        text = format!("{text}; not {}", left_out.join(", "));
    }
    text
}

/// A time since the start: `0s`, `0.2s`, `12s`.
pub(super) fn time(time: Duration) -> String {
    let text = format!("{:.3}", time.as_secs_f64());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}
