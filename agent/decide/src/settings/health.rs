//! Settings of the judgement of nodes: conditions, marks, probes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// `health`: what counts as evidence about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// `Ready` and the pressure conditions, as Gardener judges them.
    pub conditions: bool,
    /// Deletion, `Terminating`, in-place update, cluster-autoscaler taint, exclude label, drain.
    pub maintenance: bool,
    /// Static pods of etcd and kube-apiserver, where they are visible.
    pub pods: bool,
    /// Requests to the API servers themselves.
    pub probe: Probe,
    /// How long a node that was removed without force stays out.
    pub re_add_delay: ReAddDelay,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            conditions: true,
            maintenance: true,
            pods: true,
            probe: Probe::default(),
            re_add_delay: ReAddDelay::default(),
        }
    }
}

/// `health.probe`: the requests to the API servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// Whether there are any.
    pub enabled: bool,
    /// Path and query of the probe proper.
    pub path: String,
    /// `https` or `http`.
    pub scheme: String,
    /// Path and query of a request that is answered at once even while etcd is away.
    pub alive_path: String,
    /// Port; 0: the exposure's.
    pub port: u16,
    /// PEM file with the CA of the API servers; empty: the kubeconfig's.
    pub ca_file: String,
    /// TLS name to verify; node addresses are not in the serving certificate.
    pub server_name: String,
    /// A new request each interval.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// When a request is given up.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// When an unanswered request counts as slow; it stays open.
    #[serde(with = "duration")]
    pub slow: Duration,
    /// Greens in a row before a node enters.
    pub success_threshold: u32,
    /// Keep a connection open, and dial at once when it ends.
    pub hold_connection: bool,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/readyz".to_owned(),
            scheme: "https".to_owned(),
            alive_path: "/readyz?exclude=etcd&exclude=etcd-readiness".to_owned(),
            port: 0,
            ca_file: String::new(),
            server_name: "kubernetes".to_owned(),
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(6),
            slow: Duration::from_secs(1),
            success_threshold: 2,
            hold_connection: true,
        }
    }
}

/// `health.reAddDelay`: doubles with each unforced removal of the same node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ReAddDelay {
    /// After the first removal.
    #[serde(with = "duration")]
    pub initial: Duration,
    /// Never longer than this.
    #[serde(with = "duration")]
    pub max: Duration,
}

impl Default for ReAddDelay {
    fn default() -> Self {
        Self { initial: Duration::from_secs(2), max: Duration::from_mins(1) }
    }
}
