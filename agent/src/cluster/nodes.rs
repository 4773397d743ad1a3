//! The control-plane Nodes.
//!
//! Only what a verdict needs is ever kept: images, managed fields and heartbeats are dropped while parsing, so a
//! kubelet's status update that changes no verdict is no event at all. What is written to a Node is annotations of this
//! project, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use decide::health::{Condition, DRAIN_UNTIL, DRAINED_AT, NodeAddress, NodeView};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde_json::json;

use super::watch::Read;
use super::{ApiFailure, within};

/// Annotations under this domain are ours; all others are dropped.
const OWN_ANNOTATIONS: &str = "exposure.gardener.cloud/";

/// Field manager for annotations.
const MANAGER: &str = "shoot-exposure-agent-exposure";
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Annotations to set, or to remove where there is no value.
pub type Changes<'a> = [(&'a str, Option<String>)];

/// The Nodes, for who reads or marks them once.
#[derive(Clone)]
pub struct Nodes {
    api: Api<SlimNode>,
}

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

impl Nodes {
    /// All Nodes that the client may see.
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client) }
    }

    /// The Nodes that a label selector picks, by name. One that cannot be read is left out: the watch names it.
    pub async fn list(&self, selector: &str) -> Result<BTreeMap<String, NodeView>, ApiFailure> {
        let list = within(TIMEOUT, self.api.list(&ListParams::default().labels(selector))).await?;
        Ok(list.items.into_iter().filter_map(|node| view(node).ok()).collect())
    }

    /// Changes annotations of one Node.
    pub async fn annotate(&self, node: &str, changes: &Changes<'_>) -> Result<(), ApiFailure> {
        let annotations: serde_json::Map<_, _> =
            changes.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        within(TIMEOUT, self.api.patch(node, &parameters, &patch)).await.map(drop)
    }
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
    let time =
        |key: &str| annotations.get(key).and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_second);
    let (drain_until, drained_at) = (time(DRAIN_UNTIL), time(DRAINED_AT));
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
        drain_until,
        drained_at,
        vouched_for: false,
    };
    Ok((name, view))
}
