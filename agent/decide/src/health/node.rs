//! A Node as far as a verdict needs it, and its addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

/// A Node as far as a verdict needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: evidence belongs to it, not to the name.
    pub uid: String,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`, those of this project only.
    pub annotations: BTreeMap<String, String>,
    /// Keys of `spec.taints`.
    pub taints: Vec<String>,
    /// `status.addresses` in their order.
    pub addresses: Vec<NodeAddress>,
    /// `status.conditions`.
    pub conditions: Vec<Condition>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: String,
    /// The annotation `exposure.gardener.cloud/drain-until`, in seconds since 1970.
    pub drain_until: Option<i64>,
    /// The annotation `exposure.gardener.cloud/drained-at`, in seconds since 1970.
    pub drained_at: Option<i64>,
    /// An operator has named it as an endpoint: it enters without further evidence.
    pub vouched_for: bool,
}

/// An entry of `status.addresses`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NodeAddress {
    /// `Hostname`, `InternalIP`, `ExternalIP`, `InternalDNS`, `ExternalDNS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address itself.
    pub address: String,
}

/// An entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub kind: String,
    /// `status`.
    pub status: String,
    /// `reason`.
    pub reason: String,
}

/// Whether labels fit a selector of the form `key`, `key=value`, joined by commas.
pub fn selected(labels: &BTreeMap<String, String>, selector: &str) -> bool {
    let terms = || selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms().all(|term| match term.split_once('=') {
        None => labels.contains_key(term),
        Some((key, value)) => labels.get(key.trim()).is_some_and(|v| v == value.trim_start_matches('=').trim()),
    })
}

impl NodeView {
    /// The first InternalIP that parses (the balancer knows one address per target).
    pub fn internal_ip(&self) -> Option<IpAddr> {
        self.addresses.iter().filter(|address| address.kind == "InternalIP").find_map(|a| a.address.parse().ok())
    }
}

/// What Gardener's validation accepts: a single bad address would have the whole object refused.
pub(super) fn valid(address: &NodeAddress) -> bool {
    match address.kind.as_str() {
        "InternalIP" | "ExternalIP" => address.address.parse::<IpAddr>().is_ok(),
        "Hostname" | "InternalDNS" | "ExternalDNS" => dns_subdomain(&address.address),
        _ => false,
    }
}

/// A DNS-1123 subdomain.
fn dns_subdomain(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}
