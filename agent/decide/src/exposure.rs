//! The exposure object: which are ours, what they ask for, which operation is under way.
//!
//! What an object says, what the cluster knows and what the settings say become one [`ExposureSpec`], or a reason
//! why not yet. Deliberately not here: Kubernetes types; the shell converts them by hand.

mod provider_config;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::access::{Egress, FileRanges};
use crate::desired::Identity;
use crate::endpoints::Endpoint;
use crate::health::NodeAddress;
use crate::names;
use crate::settings::Settings;
use crate::status::Previous;

/// The finalizer, shared with the provider extension.
pub const FINALIZER: &str = "extensions.gardener.cloud/selfhostedshootexposure";
/// Annotation with the operation that is asked for.
pub const OPERATION: &str = "gardener.cloud/operation";
/// Annotation with the time at which it was asked for, RFC 3339 with nanoseconds.
pub const TIMESTAMP: &str = "gardener.cloud/timestamp";
/// Annotation without which Gardener's webhook lets nobody delete the object; `true`.
pub const CONFIRMATION: &str = "confirmation.gardener.cloud/deletion";
/// Annotation by which an operator takes the agent's hands off, with the value `true`.
pub const PAUSED: &str = "exposure.gardener.cloud/paused";
/// When [`PAUSED`] was set (RFC 3339), where the verb `pause` did it; a pause that is forgotten is noticed by it.
pub const PAUSED_AT: &str = "exposure.gardener.cloud/paused-at";
/// Annotation on the Shoot by which its owner forces the deletion, whatever is left behind.
pub const FORCE_DELETION: &str = "confirmation.gardener.cloud/force-deletion";
/// A `SelfHostedShootExposure` as far as deciding needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExposureView {
    /// `metadata.name`: the shoot's name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// [`FINALIZER`] is present.
    pub finalizer: bool,
    /// The value of [`OPERATION`].
    pub operation: Option<String>,
    /// The value of [`TIMESTAMP`] in seconds since 1970, where it parses.
    pub asked_at: Option<i64>,
    /// [`PAUSED`] is `true`.
    pub paused: bool,
    /// The value of [`PAUSED_AT`] in seconds since 1970, where it parses.
    pub paused_at: Option<i64>,
    /// `spec.type`.
    pub kind: String,
    /// `spec.class`; absent means `shoot`.
    pub class: Option<String>,
    /// `spec.port`.
    pub port: i32,
    /// `spec.credentialsRef`: namespace and name.
    pub credentials: Option<(String, String)>,
    /// `spec.providerConfig`.
    pub provider_config: Option<Value>,
    /// `spec.endpoints` in their order.
    pub endpoints: Vec<SpecEndpoint>,
    /// `status`.
    pub status: Previous,
}

/// An entry of `spec.endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecEndpoint {
    /// `nodeName`.
    pub node_name: String,
    /// `addresses`.
    pub addresses: Vec<NodeAddress>,
}

/// What the cluster and the credentials know; each with the reason where it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The shoot's region.
    pub region: Result<String, String>,
    /// The shoot's technical ID.
    pub technical_id: Result<String, String>,
    /// The network of the nodes.
    pub network_id: Result<String, String>,
    /// The STACKIT project.
    pub project_id: Result<String, String>,
    /// The shoot's own egress addresses.
    pub egress: Egress,
    /// The Shoot carries [`FORCE_DELETION`].
    pub force_deletion: bool,
    /// What `loadBalancer.accessControl.sourceRangesFile` holds.
    pub file_ranges: FileRanges,
}

/// What one exposure asks for, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposureSpec {
    /// The object's name.
    pub name: String,
    /// Where the balancer lives.
    pub identity: Identity,
    /// Port of the listener and of the targets.
    pub port: u16,
    /// The targets, sorted by node name.
    pub endpoints: Vec<Endpoint>,
    /// `providerConfig.loadBalancer.planID`.
    pub plan_id: Option<String>,
    /// Ranges of `providerConfig`; `None` where there is no `providerConfig`.
    pub source_ranges: Option<BTreeSet<IpNet>>,
    /// The network of the nodes.
    pub network_id: String,
    /// The shoot's own egress addresses.
    pub egress: Egress,
    /// Ranges of the file that the settings name.
    pub file_ranges: FileRanges,
}

/// Why an exposure cannot be worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// Something is not there yet: what, each with the reason.
    Waiting(Vec<String>),
    /// Somebody has to change something: every mistake with its path.
    Configuration(Vec<String>),
}

/// `lastOperation.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The first reconciliation has not succeeded yet.
    Create,
    /// Every later one.
    Reconcile,
    /// The object is being deleted.
    Delete,
    /// Asked for by annotation.
    Migrate,
    /// Asked for by annotation.
    Restore,
}

/// Whether an object is for this agent: exact type; class, where absent means `shoot`.
///
/// Source: Gardener contract section 2.2.
pub fn is_ours(view: &ExposureView, settings: &Settings) -> bool {
    let wanted = &settings.exposure;
    view.kind == wanted.r#type
        && view.class.as_deref().unwrap_or("shoot") == wanted.class
        && (wanted.name.is_empty() || wanted.name == view.name)
}

/// Where the control-plane nodes are, as far as the object tells: the endpoints it names, and the targets that were
/// last seen on the balancer.
pub fn targets(view: &ExposureView) -> BTreeSet<IpAddr> {
    let addresses = view.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let named = addresses.filter(|address| address.kind == "InternalIP").filter_map(|a| a.address.parse().ok());
    let seen = view.status.record.iter().flat_map(|record| record.targets.iter().map(|target| target.ip));
    named.chain(seen).collect()
}

/// The operation under way, first match wins (Gardener contract section 2.4, ComputeOperationType).
pub fn operation(view: &ExposureView) -> Operation {
    let unfinished =
        |kind: &str| view.status.operation.as_ref().is_some_and(|last| last.kind == kind && last.state != "Succeeded");
    match (view.operation.as_deref(), view.status.operation.as_ref()) {
        (Some("migrate"), _) => Operation::Migrate,
        _ if view.deleting => Operation::Delete,
        (Some("restore"), _) => Operation::Restore,
        (_, None) => Operation::Create,
        _ if unfinished("Create") => Operation::Create,
        _ if unfinished("Migrate") => Operation::Migrate,
        _ if unfinished("Restore") => Operation::Restore,
        _ => Operation::Reconcile,
    }
}

/// Everything an exposure asks for, with `endpoints` as chosen.
pub fn resolve(view: &ExposureView, endpoints: Vec<Endpoint>, facts: &Facts) -> Result<ExposureSpec, Unresolved> {
    let mut mistakes = Vec::new();
    let port = u16::try_from(view.port).ok().filter(|_| is_port(view.port));
    if port.is_none() {
        mistakes.push(format!("spec.port: Invalid value: {}: must be between 1 and 65535", view.port));
    }
    let config = view.provider_config.as_ref().map(provider_config::decode).transpose();
    let config = config.unwrap_or_else(|errors| {
        mistakes.extend(errors);
        None
    });
    let identity = identity(view, facts);
    if let (Ok(identity), Some(recorded)) = (&identity, &view.status.recorded) {
        mistakes.extend(moved(identity, recorded));
    }
    let network_id = facts.network_id.clone().map_err(|why| vec![why]);
    match (port, identity, network_id) {
        _ if !mistakes.is_empty() => Err(Unresolved::Configuration(mistakes)),
        (Some(port), Ok(identity), Ok(network_id)) => {
            let (plan_id, source_ranges) = config.map_or((None, None), |c| (c.plan_id, Some(c.source_ranges)));
            let (name, egress, file_ranges) = (view.name.clone(), facts.egress.clone(), facts.file_ranges.clone());
            Ok(ExposureSpec {
                name,
                identity,
                port,
                endpoints,
                plan_id,
                source_ranges,
                network_id,
                egress,
                file_ranges,
            })
        }
        (_, identity, network_id) => {
            let missing = identity.err().into_iter().chain(network_id.err()).flatten().collect();
            Err(Unresolved::Waiting(missing))
        }
    }
}

/// Whether `spec.port` is one.
pub fn is_port(port: i32) -> bool {
    (1..=65535).contains(&port)
}

/// The balancer's identity from what is known now.
pub fn identity(view: &ExposureView, facts: &Facts) -> Result<Identity, Vec<String>> {
    match (&facts.project_id, &facts.region, &facts.technical_id) {
        (Ok(project_id), Ok(region), Ok(technical_id)) => Ok(Identity {
            name: names::balancer(technical_id, &view.name),
            project_id: project_id.clone(),
            // The name OpenStack gave the region lives on in old shoots.
            region: if region == "RegionOne" { "eu01".to_owned() } else { region.clone() },
            technical_id: technical_id.clone(),
        }),
        (project_id, region, technical_id) => {
            Err([project_id, region, technical_id].into_iter().filter_map(|fact| fact.clone().err()).collect())
        }
    }
}

/// What makes up the balancer's identity never changes during its life.
fn moved(now: &Identity, recorded: &Identity) -> Vec<String> {
    [
        ("projectID", &now.project_id, &recorded.project_id),
        ("region", &now.region, &recorded.region),
        ("technicalID", &now.technical_id, &recorded.technical_id),
    ]
    .into_iter()
    .filter(|(_, now, recorded)| now != recorded)
    .map(|(field, now, recorded)| {
        format!(
            "stackit.{field}: `{now}` differs from `{recorded}`, where the load balancer was made \
             (status.providerStatus.{field}); set it back, or delete the exposure first"
        )
    })
    .collect()
}

impl Operation {
    /// The word of `lastOperation.type`.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Create => "Create",
            Operation::Reconcile => "Reconcile",
            Operation::Delete => "Delete",
            Operation::Migrate => "Migrate",
            Operation::Restore => "Restore",
        }
    }
}

impl ExposureView {
    /// Gardener restores the object's state: until it has, nothing is reconciled or written.
    pub fn waits_for_state(&self) -> bool {
        self.operation.as_deref() == Some("wait-for-state")
    }

    /// Somebody asks to hand the balancer over.
    pub fn asks_to_migrate(&self) -> bool {
        self.operation.as_deref() == Some("migrate")
    }

    /// The balancer was handed over, and nobody has asked for it since.
    pub fn is_migrated(&self) -> bool {
        self.operation.is_none() && self.has_succeeded("Migrate")
    }

    /// The last operation was of this type, and is over.
    pub fn has_succeeded(&self, kind: &str) -> bool {
        self.status.operation.as_ref().is_some_and(|last| last.kind == kind && last.state == "Succeeded")
    }

    /// `spec.endpoints` that have a usable address, sorted, and the names of those that have none.
    pub fn usable_endpoints(&self) -> (Vec<Endpoint>, Vec<String>) {
        let mut usable = Vec::new();
        let mut unusable = Vec::new();
        for entry in &self.endpoints {
            match Endpoint::from_spec(&entry.node_name, &entry.addresses) {
                Some(endpoint) => usable.push(endpoint),
                None => unusable.push(entry.node_name.clone()),
            }
        }
        usable.sort();
        (usable, unusable)
    }
}

#[cfg(test)]
mod tests;
