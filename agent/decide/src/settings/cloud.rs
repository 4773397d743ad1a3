//! Settings of the cloud's side: who we are there, and what the balancer looks like.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{duration, set};

/// `stackit`: credentials, place and endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Stackit {
    /// A mounted directory, or the Secret that the exposure names.
    pub credentials: CredentialsSource,
    /// The files of the mounted `cloudprovider` Secret.
    pub credentials_directory: String,
    /// Region such as `eu01`; empty: the Shoot's. See [`Stackit::region`].
    pub region: String,
    /// Project, a UUID; empty: the credentials'.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// Network, a version 4 UUID; empty: the Infrastructure's.
    #[serde(rename = "networkID")]
    pub network_id: String,
    /// The shoot's technical ID; empty: the Shoot's.
    #[serde(rename = "technicalID")]
    pub technical_id: String,
    /// Base URL of the load balancer API; empty: the `CloudProfile`'s, else the public one.
    pub load_balancer_endpoint: String,
    /// URL tokens are fetched from; empty: the `CloudProfile`'s, else the flow's own.
    pub token_endpoint: String,
    /// PEM file added to the public roots; empty: the `CloudProfile`'s bundle.
    pub ca_bundle: String,
    /// Time limit of one request.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

/// `stackit.credentials`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialsSource {
    /// Files in `stackit.credentialsDirectory`.
    Mounted,
    /// Follow `spec.credentialsRef`.
    SecretRef,
}

impl Default for Stackit {
    fn default() -> Self {
        Self {
            credentials: CredentialsSource::Mounted,
            credentials_directory: "/etc/shoot-exposure-agent/credentials".to_owned(),
            region: String::new(),
            project_id: String::new(),
            network_id: String::new(),
            technical_id: String::new(),
            load_balancer_endpoint: String::new(),
            token_endpoint: String::new(),
            ca_bundle: String::new(),
            request_timeout: Duration::from_secs(5),
        }
    }
}

impl Stackit {
    /// `stackit.region`, if set, as the API names it: `OpenStack`'s `RegionOne` is `eu01`.
    pub fn region(&self) -> Option<&str> {
        set(&self.region).map(|region| if region == "RegionOne" { "eu01" } else { region })
    }

    /// `stackit.projectID`, if set.
    pub fn project_id(&self) -> Option<&str> {
        set(&self.project_id)
    }

    /// `stackit.networkID`, if set.
    pub fn network_id(&self) -> Option<&str> {
        set(&self.network_id)
    }

    /// `stackit.technicalID`, if set.
    pub fn technical_id(&self) -> Option<&str> {
        set(&self.technical_id)
    }

    /// `stackit.loadBalancerEndpoint`, if set.
    pub fn load_balancer_endpoint(&self) -> Option<&str> {
        set(&self.load_balancer_endpoint)
    }

    /// `stackit.tokenEndpoint`, if set.
    pub fn token_endpoint(&self) -> Option<&str> {
        set(&self.token_endpoint)
    }

    /// `stackit.caBundle`, if set.
    pub fn ca_bundle(&self) -> Option<&str> {
        set(&self.ca_bundle)
    }
}

/// `loadBalancer`: the balancer as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancer {
    /// Service plan; the exposure's `providerConfig` wins.
    #[serde(rename = "planID")]
    pub plan_id: String,
    /// When an idle connection is cut: 1 s to 1 h.
    #[serde(with = "duration")]
    pub tcp_idle_timeout: Duration,
    /// No public address.
    pub private_network_only: bool,
    /// A reserved public address; empty: an ephemeral one.
    pub external_address: String,
    /// The balancer's own check of its targets.
    pub active_health_check: ActiveHealthCheck,
    /// Who may connect.
    pub access_control: AccessControl,
    /// Time between two looks at the balancer when nothing happens.
    #[serde(with = "duration")]
    pub resync: Duration,
    /// Most writes a minute; removals go first.
    pub writes_per_minute: u32,
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            plan_id: "p10".to_owned(),
            tcp_idle_timeout: Duration::from_hours(1),
            private_network_only: false,
            external_address: String::new(),
            active_health_check: ActiveHealthCheck::default(),
            access_control: AccessControl::default(),
            resync: Duration::from_mins(1),
            writes_per_minute: 12,
        }
    }
}

impl LoadBalancer {
    /// `loadBalancer.externalAddress`, if set to an address.
    pub fn external_address(&self) -> Option<IpAddr> {
        self.external_address.parse().ok()
    }
}

/// `loadBalancer.activeHealthCheck`: the data plane skips a dead target even before we act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ActiveHealthCheck {
    /// Whether it is set at all.
    pub enabled: bool,
    /// Time between two checks of one target.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// When a check has failed.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Successes in a row until healthy, 1 to 1 000 000.
    pub healthy_threshold: u32,
    /// Failures in a row until unhealthy, 1 to 1 000 000.
    pub unhealthy_threshold: u32,
}

impl Default for ActiveHealthCheck {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }
}

/// `loadBalancer.accessControl`: source ranges, united with those of the exposure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessControl {
    /// Canonical CIDRs.
    pub allowed_source_ranges: Vec<String>,
    /// Always admit the shoot's own egress when any range is set.
    #[serde(rename = "includeEgressCIDRs")]
    pub include_egress_cidrs: bool,
    /// A file with one CIDR per line; empty: none.
    pub source_ranges_file: String,
}

impl Default for AccessControl {
    fn default() -> Self {
        Self { allowed_source_ranges: Vec::new(), include_egress_cidrs: true, source_ranges_file: String::new() }
    }
}

impl AccessControl {
    /// `loadBalancer.accessControl.sourceRangesFile`, if set.
    pub fn source_ranges_file(&self) -> Option<&str> {
        set(&self.source_ranges_file)
    }
}
