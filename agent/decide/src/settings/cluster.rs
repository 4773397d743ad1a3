//! Settings of the Kubernetes side: API server, controllers, exposure, nodes, election.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{duration, set};

/// `kubernetes`: how the API server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// Own API server first; while it is down, those of the other control-plane nodes.
    pub fallback: bool,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self { fallback: true }
    }
}

/// `controllers`: what this agent does itself and what it leaves to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Controllers {
    /// Nodes to `spec.endpoints`.
    pub endpoints: bool,
    /// `SelfHostedShootExposure` to load balancer and status.
    pub exposure: bool,
    /// `status.ingress` to the external `DNSRecord`.
    pub dns: bool,
}

impl Default for Controllers {
    fn default() -> Self {
        Self { endpoints: true, exposure: true, dns: false }
    }
}

/// `exposure`: which objects are ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Exposure {
    /// Namespace of the objects.
    pub namespace: String,
    /// Name of the one object; empty: every object of this type and class in the namespace.
    pub name: String,
    /// `spec.type`.
    pub r#type: String,
    /// `spec.class`: `garden`, `seed` or `shoot`.
    pub class: String,
    /// Whether `run` and `bootstrap` may create the object.
    pub create_if_missing: bool,
    /// Port, 1–65535, used when the object is created and without Kubernetes.
    pub port: u16,
}

impl Default for Exposure {
    fn default() -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: String::new(),
            r#type: "stackit".to_owned(),
            class: "shoot".to_owned(),
            create_if_missing: false,
            port: 443,
        }
    }
}

impl Exposure {
    /// `exposure.name`, if set.
    pub fn name(&self) -> Option<&str> {
        set(&self.name)
    }
}

/// `nodes`: where the control-plane nodes are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Nodes {
    /// From the API server or from a file.
    pub source: NodeSource,
    /// A Node list as `kubectl get nodes -o yaml` prints it; needed with [`NodeSource::File`].
    pub file: String,
    /// Label selector, see [`super::label_terms`].
    pub selector: String,
}

/// `nodes.source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeSource {
    /// Watched at the API server.
    Kubernetes,
    /// Read from `nodes.file`.
    File,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            source: NodeSource::Kubernetes,
            file: String::new(),
            selector: "node-role.kubernetes.io/control-plane".to_owned(),
        }
    }
}

impl Nodes {
    /// `nodes.file`, if set.
    pub fn file(&self) -> Option<&str> {
        set(&self.file)
    }
}

/// `leaderElection`: the Lease and its times, which mean what they mean in client-go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaderElection {
    /// Off: the balancer's version alone guards the balancer.
    pub enabled: bool,
    /// Name of the Lease.
    pub lease_name: String,
    /// Namespace of the Lease.
    pub lease_namespace: String,
    /// How long followers wait after the last renewal they saw; whole seconds.
    #[serde(with = "duration")]
    pub lease_duration: Duration,
    /// How long after its last renewal the leader still works.
    #[serde(with = "duration")]
    pub renew_deadline: Duration,
    /// Time between two tries, and the time limit of each.
    #[serde(with = "duration")]
    pub retry_period: Duration,
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            enabled: true,
            lease_name: "shoot-exposure-agent".to_owned(),
            lease_namespace: "kube-system".to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}
