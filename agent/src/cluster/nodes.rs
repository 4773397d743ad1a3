//! The control-plane Nodes.
//!
//! Only what a verdict needs is ever kept: images, managed fields and heartbeats are dropped while parsing, so a
//! kubelet's status update that changes no verdict is no event at all.

use std::collections::BTreeMap;

use decide::health::{Condition, DRAIN_UNTIL, NodeAddress, NodeView};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use serde::Deserialize;

use super::watch::Read;

/// Annotations under this domain are ours; all others are dropped.
const OWN_ANNOTATIONS: &str = "exposure.gardener.cloud/";

/// A Node with the fields that are read.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Node)]
pub struct SlimNode {
    /// `metadata`.
    pub metadata: ObjectMeta,
    /// `spec`.
    #[serde(default)]
    pub spec: SlimSpec,
    /// `status`.
    #[serde(default)]
    pub status: SlimStatus,
}

/// `spec` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SlimSpec {
    #[serde(default)]
    taints: Option<Vec<SlimTaint>>,
}

/// `status` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimStatus {
    #[serde(default)]
    addresses: Option<Vec<SlimAddress>>,
    #[serde(default)]
    conditions: Option<Vec<SlimCondition>>,
    #[serde(default)]
    node_info: Option<SlimNodeInfo>,
}

#[derive(Clone, Debug, Deserialize)]
struct SlimTaint {
    key: String,
}

#[derive(Clone, Debug, Deserialize)]
struct SlimAddress {
    r#type: String,
    address: String,
}

#[derive(Clone, Debug, Deserialize)]
struct SlimCondition {
    r#type: String,
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimNodeInfo {
    #[serde(default, rename = "bootID")]
    boot_id: String,
}

/// A Node as far as deciding needs it.
pub fn view(node: SlimNode) -> Read<NodeView> {
    let SlimNode { metadata, spec, status } = node;
    let name = metadata.name.ok_or("a Node without a name")?;
    let annotations: BTreeMap<String, String> = metadata
        .annotations
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| key.starts_with(OWN_ANNOTATIONS))
        .collect();
    let address = |a: SlimAddress| NodeAddress { kind: a.r#type, address: a.address };
    let condition =
        |c: SlimCondition| Condition { kind: c.r#type, status: c.status, reason: c.reason.unwrap_or_default() };
    let drain_until = annotations.get(DRAIN_UNTIL).and_then(|text| text.parse::<Timestamp>().ok());
    let view = NodeView {
        name: name.clone(),
        uid: metadata.uid.unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
        labels: metadata.labels.unwrap_or_default(),
        annotations,
        taints: spec.taints.unwrap_or_default().into_iter().map(|taint| taint.key).collect(),
        addresses: status.addresses.unwrap_or_default().into_iter().map(address).collect(),
        conditions: status.conditions.unwrap_or_default().into_iter().map(condition).collect(),
        boot_id: status.node_info.unwrap_or_default().boot_id,
        drain_until: drain_until.map(Timestamp::as_second),
        vouched_for: false,
    };
    Ok((name, view))
}
