//! The settings: every key of the configuration file with its default, and what makes no sense among them.
//!
//! The structs mirror the YAML tree; a field has the key's name in snake case, so `leaderElection.renewDeadline` is
//! `settings.leader_election.renew_deadline` and `stackit.projectID` is `settings.stackit.project_id`:
//!
//! | section | type | in |
//! |---|---|---|
//! | `kubernetes`, `controllers`, `exposure`, `nodes`, `leaderElection` | [`Kubernetes`], [`Controllers`], [`Exposure`], [`Nodes`], [`LeaderElection`] | `cluster.rs` |
//! | `health` | [`Health`], [`Probe`], [`ReAddDelay`] | `health.rs` |
//! | `stackit`, `loadBalancer` | [`Stackit`], [`LoadBalancer`], [`ActiveHealthCheck`], [`AccessControl`] | `cloud.rs` |
//! | `server`, `log` | [`Server`], [`Log`] | `server.rs` |
//!
//! Durations are [`std::time::Duration`]. An empty string stands for "not set", as the documentation writes it; the
//! methods next to such a field ([`Stackit::region`] and its like) give it as an `Option`.
//!
//! Not here: where settings come from (files, environment, flags), which the program itself reads, and the
//! defaults that only the cluster knows (region, project, network).

mod checks;
mod cloud;
mod cluster;
pub mod duration;
mod health;
mod mistakes;
mod reload;
mod server;
mod tree;
mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use cloud::{AccessControl, ActiveHealthCheck, CredentialsSource, LoadBalancer, Stackit};
pub use cluster::{Controllers, Exposure, Kubernetes, LeaderElection, NodeSource, Nodes};
pub use health::{Health, Probe, ReAddDelay};
pub use mistakes::Mistake;
pub use reload::{Reloaded, reload, waits_for_restart};
pub use server::{Log, LogFormat, LogLevel, Server};
pub use words::{LabelTerm, is_node_name, label_terms};

/// The only `apiVersion` this program reads.
pub const API_VERSION: &str = "agent.exposure.gardener.cloud/v1alpha1";

/// The only `kind` this program reads.
pub const KIND: &str = "AgentConfiguration";

/// Everything that can be set. The order of the fields is the order in which they are printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// This node's name; empty: `$NODE_NAME`, else the hostname.
    pub node_name: String,
    /// A kubeconfig file; empty: `$KUBECONFIG`, else in-cluster, else the file beside the settings.
    pub kubeconfig: String,
    /// How the API server is reached.
    pub kubernetes: Kubernetes,
    /// Who does what.
    pub controllers: Controllers,
    /// Which exposure objects are ours.
    pub exposure: Exposure,
    /// Where the control-plane nodes are read.
    pub nodes: Nodes,
    /// What counts as evidence about a node.
    pub health: Health,
    /// The Lease.
    pub leader_election: LeaderElection,
    /// The cloud's side.
    pub stackit: Stackit,
    /// The balancer itself.
    pub load_balancer: LoadBalancer,
    /// The admin server.
    pub server: Server,
    /// Log output.
    pub log: Log,
}

impl Settings {
    /// The time limit of a call to STACKIT: `stackit.requestTimeout`, but no longer than half of the renew deadline
    /// while there is an election. A write starts only if it ends before that deadline; a longer limit would let
    /// none start.
    pub fn call_timeout(&self) -> Duration {
        let limit = self.stackit.request_timeout;
        if self.leader_election.enabled { limit.min(self.leader_election.renew_deadline / 2) } else { limit }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            node_name: String::new(),
            kubeconfig: String::new(),
            kubernetes: Kubernetes::default(),
            controllers: Controllers::default(),
            exposure: Exposure::default(),
            nodes: Nodes::default(),
            health: Health::default(),
            leader_election: LeaderElection::default(),
            stackit: Stackit::default(),
            load_balancer: LoadBalancer::default(),
            server: Server::default(),
            log: Log::default(),
        }
    }
}

impl Settings {
    /// `nodeName`, if set.
    pub fn node_name(&self) -> Option<&str> {
        set(&self.node_name)
    }

    /// `kubeconfig`, if set.
    pub fn kubeconfig(&self) -> Option<&str> {
        set(&self.kubeconfig)
    }

    /// Everything that makes no sense, all at once, in the order of the keys.
    pub fn mistakes(&self) -> Vec<Mistake> {
        checks::all(self)
    }
}

/// A canonical CIDR, or what was found and what to write instead.
pub(crate) fn canonical_range(text: &str) -> Result<ipnet::IpNet, String> {
    words::cidr(text).map_err(|complaint| format!("{}; {}", complaint.found, complaint.hint))?;
    text.parse().map_err(|_| format!("{text:?} is not a CIDR"))
}

/// A string setting whose empty value means "not set".
fn set(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests;
