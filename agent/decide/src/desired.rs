//! The load balancer as this agent describes it, and as it was read.
//!
//! One type, [`LoadBalancer`], holds every field the agent manages. The wish is made of it, what was read is
//! seen through it, the diff compares two of them and the payload is built from it: another managed field is
//! added here and in the wire conversion, and the diff follows by itself.
//!
//! Deliberately not here: fields of others (they travel untouched in [`Observed::raw`]) and anything about
//! when or whether to write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::access;
use crate::exposure::ExposureSpec;
use crate::names;
use crate::settings::Settings;

/// Display name of our listener and name of our target pool: the provider extension's, so that a balancer made
/// by either is adopted by the other.
pub const CONTROL_PLANE: &str = "control-plane";

/// What the agent manages of a load balancer, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// `name`: 1–63 characters of `[0-9a-z-]`; the identity within project and region.
    pub name: String,
    /// `planId`, such as `p10`.
    pub plan_id: String,
    /// `labels`: in a wish only ours, in an observation all.
    pub labels: BTreeMap<String, String>,
    /// `networks[0].networkId`; immutable. Empty where none was read.
    pub network_id: String,
    /// The addressing mode; immutable.
    pub address: AddressMode,
    /// Our listener; `None` only in an observation that lacks it.
    pub listener: Option<Listener>,
    /// Our target pool; `None` only in an observation that lacks it.
    pub target_pool: Option<TargetPool>,
    /// `options.accessControl.allowedSourceRanges`; `None` in a wish means that the access control is not
    /// managed and goes back as read, an empty set that everybody may connect.
    pub allowed_source_ranges: Option<BTreeSet<IpNet>>,
    /// In a wish: ranges on the balancer stay for now, because the shoot's own cannot be read.
    #[serde(skip)]
    pub keep_source_ranges: bool,
    /// In a wish: how the addressing mode is said on the wire.
    #[serde(skip)]
    pub address_form: AddressForm,
}

/// How the balancer gets its address. Exactly one is expressed on each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AddressMode {
    /// `options.ephemeralAddress`: made and released with the balancer.
    Ephemeral,
    /// `externalAddress`: a reserved address that outlives the balancer.
    Static(IpAddr),
    /// `options.privateNetworkOnly`: no public address.
    Private,
}

/// How the addressing mode is said in a PUT. Both forms keep the mode; which one the API takes is known only to the
/// API, and two of its clients disagree.
///
/// None of them has the address of an ephemeral balancer without its flag: that would promote it to one that outlives
/// the balancer, and nothing takes it back. Source: STACKIT facts, section 3.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressForm {
    /// The mode alone: the flag without an address, or the address without a flag.
    #[default]
    Lean,
    /// All that is known of it: the flag with the address that it has, or the address with the flag as `false`.
    Full,
}

/// Our TCP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// `displayName`.
    pub display_name: String,
    /// `port`, 1–65535.
    pub port: u16,
    /// `protocol`.
    pub protocol: String,
    /// `targetPool`: the pool's name.
    pub target_pool: String,
    /// `tcp.idleTimeout`; `None` where none was read.
    #[serde(serialize_with = "seconds")]
    pub tcp_idle_timeout: Option<Duration>,
}

/// Our target pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetPool {
    /// `targetPort`, 1–65535.
    pub target_port: u16,
    /// `targets`, compared as a set.
    pub targets: BTreeSet<Target>,
    /// `activeHealthCheck`; `None`: the balancer does not check.
    pub active_health_check: Option<HealthCheck>,
}

/// One API server behind the balancer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Target {
    /// `displayName`: the node's name made fit by [`names::target`].
    #[serde(rename = "displayName")]
    pub name: String,
    /// `ip`: unique within the pool.
    pub ip: IpAddr,
}

/// The part of `activeHealthCheck` that is managed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// Time between two checks of one target.
    #[serde(serialize_with = "seconds")]
    pub interval: Option<Duration>,
    /// Time after which a check has failed.
    #[serde(serialize_with = "seconds")]
    pub timeout: Option<Duration>,
    /// Successes in a row until a target counts as healthy.
    pub healthy_threshold: Option<u32>,
    /// Failures in a row until a target counts as unhealthy.
    pub unhealthy_threshold: Option<u32>,
}

/// A load balancer as read from STACKIT.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What was read, seen through the managed fields.
    pub balancer: LoadBalancer,
    /// `version`: opaque, only ever compared for equality, sent back on PUT.
    pub version: String,
    /// `status`.
    pub status: BalancerStatus,
    /// `errors[]`, empty where absent.
    pub errors: Vec<BalancerError>,
    /// `externalAddress`, ephemeral or static.
    pub external_address: Option<IpAddr>,
    /// `privateAddress`.
    pub private_address: Option<IpAddr>,
    /// The whole answer: what we do not manage goes back from here, value for value.
    pub raw: Map<String, Value>,
}

/// `status` of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalancerStatus {
    /// `STATUS_PENDING`: a write is being carried out; traffic keeps flowing.
    Pending,
    /// `STATUS_READY`.
    Ready,
    /// `STATUS_ERROR`; why is in [`Observed::errors`].
    Error,
    /// `STATUS_TERMINATING`: on its way out, GET ends in 404.
    Terminating,
    /// `STATUS_UNSPECIFIED`, absent, or a word newer than this program.
    Unknown(String),
}

impl BalancerStatus {
    /// The word on the wire.
    pub fn word(&self) -> &str {
        match self {
            Self::Pending => "STATUS_PENDING",
            Self::Ready => "STATUS_READY",
            Self::Error => "STATUS_ERROR",
            Self::Terminating => "STATUS_TERMINATING",
            Self::Unknown(word) if word.is_empty() => "STATUS_UNSPECIFIED",
            Self::Unknown(word) => word,
        }
    }
}

/// An entry of `errors[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerError {
    /// `type`, such as `TYPE_TARGET_NOT_ACTIVE`; empty where absent.
    pub kind: String,
    /// `description`; empty where absent.
    pub description: String,
}

/// Where the balancer lives: what deletion needs, and what never changes during its life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The balancer's name.
    pub name: String,
    /// The STACKIT project.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// The region, such as `eu01`.
    pub region: String,
    /// The shoot's technical ID, `shoot--<project>--<name>`; a label of the balancer.
    #[serde(rename = "technicalID")]
    pub technical_id: String,
}

/// The balancer that an exposure asks for.
///
/// Targets are named and sorted here; that `spec` has at least one is the caller's to check, see
/// [`crate::plan`].
pub fn load_balancer(spec: &ExposureSpec, settings: &Settings) -> LoadBalancer {
    let wish = &settings.load_balancer;
    let address = if wish.private_network_only {
        AddressMode::Private
    } else {
        wish.external_address.parse().map_or(AddressMode::Ephemeral, AddressMode::Static)
    };
    let check = &wish.active_health_check;
    LoadBalancer {
        name: spec.identity.name.clone(),
        plan_id: spec.plan_id.clone().unwrap_or_else(|| wish.plan_id.clone()),
        labels: names::labels(&spec.identity.technical_id, &spec.name),
        network_id: spec.network_id.clone(),
        address,
        listener: Some(Listener {
            display_name: CONTROL_PLANE.to_owned(),
            port: spec.port,
            protocol: "PROTOCOL_TCP".to_owned(),
            target_pool: CONTROL_PLANE.to_owned(),
            tcp_idle_timeout: Some(wish.tcp_idle_timeout),
        }),
        target_pool: Some(TargetPool {
            target_port: spec.port,
            targets: spec.endpoints.iter().map(|e| Target { name: names::target(&e.node_name), ip: e.ip }).collect(),
            active_health_check: check.enabled.then_some(HealthCheck {
                interval: Some(check.interval),
                timeout: Some(check.timeout),
                healthy_threshold: Some(check.healthy_threshold),
                unhealthy_threshold: Some(check.unhealthy_threshold),
            }),
        }),
        allowed_source_ranges: access::ranges(spec, settings),
        keep_source_ranges: access::keeps_observed(spec, settings),
        address_form: AddressForm::default(),
    }
}

impl AddressForm {
    /// The one that is left when this one is refused.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            AddressForm::Lean => AddressForm::Full,
            AddressForm::Full => AddressForm::Lean,
        }
    }
}

impl LoadBalancer {
    /// The targets, or none where our pool is missing.
    pub fn targets(&self) -> BTreeSet<Target> {
        self.target_pool.as_ref().map(|pool| pool.targets.clone()).unwrap_or_default()
    }
}

impl Observed {
    /// The address clients use: the private one of a private balancer, else the public one.
    pub fn ingress(&self) -> Option<IpAddr> {
        match self.balancer.address {
            AddressMode::Private => self.private_address,
            AddressMode::Ephemeral | AddressMode::Static(_) => self.external_address,
        }
    }

    /// Whether it carries out what this version says: it is ready, or all that it reports is targets that do not
    /// answer, which says nothing about those that have left.
    pub fn is_settled(&self) -> bool {
        let silent = |error: &BalancerError| error.kind == "TYPE_TARGET_NOT_ACTIVE";
        match self.status {
            BalancerStatus::Ready => true,
            BalancerStatus::Error => !self.errors.is_empty() && self.errors.iter().all(silent),
            BalancerStatus::Pending | BalancerStatus::Terminating | BalancerStatus::Unknown(_) => false,
        }
    }
}

// serde wants the reference.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_str(&protobuf_duration(*duration)),
        None => serializer.serialize_none(),
    }
}

/// A duration as the load balancer API writes it: `300s`, `1.5s`.
pub fn protobuf_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos == 0 {
        return format!("{seconds}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{seconds}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests;
