//! What tests put into a cluster.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::control_plane::objects::FIELD_MANAGER;

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// A node to be: ready, with no addresses and no role, until told otherwise.
pub fn node(name: &str) -> NodeFixture {
    NodeFixture(Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some([("kubernetes.io/hostname".into(), name.into())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            conditions: Some(vec![ready_condition(Readiness::True)]),
            node_info: Some(NodeSystemInfo { boot_id: format!("boot-1-of-{name}"), ..NodeSystemInfo::default() }),
            ..NodeStatus::default()
        }),
    })
}

/// A Node under construction; see [`node`].
#[derive(Debug, Clone)]
#[must_use]
pub struct NodeFixture(Node);

/// What a node's condition `Ready` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The kubelet is well.
    True,
    /// The kubelet says that it is not.
    False,
    /// The kubelet has not been heard of for a while.
    Unknown,
}

impl From<bool> for Readiness {
    fn from(ready: bool) -> Self {
        if ready { Self::True } else { Self::False }
    }
}

impl NodeFixture {
    /// One more `InternalIP`.
    pub fn internal_ip(self, address: &str) -> Self {
        self.address("InternalIP", address)
    }

    /// One more address of any type.
    pub fn address(mut self, type_: &str, address: &str) -> Self {
        let address = NodeAddress { type_: type_.into(), address: address.into() };
        self.status().addresses.get_or_insert_default().push(address);
        self
    }

    /// What its condition `Ready` says.
    pub fn ready(mut self, ready: impl Into<Readiness>) -> Self {
        self.status().conditions = Some(vec![ready_condition(ready.into())]);
        self
    }

    /// With the label and the taint of a control-plane node.
    pub fn control_plane(self) -> Self {
        self.label(CONTROL_PLANE, "").taint(CONTROL_PLANE, "NoSchedule")
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0.labels_mut().insert(key.into(), value.into());
        self
    }

    /// With an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0.annotations_mut().insert(key.into(), value.into());
        self
    }

    /// With a taint.
    pub fn taint(mut self, key: &str, effect: &str) -> Self {
        let taint = Taint { key: key.into(), effect: effect.into(), ..Taint::default() };
        self.spec().taints.get_or_insert_default().push(taint);
        self
    }

    /// Cordoned.
    pub fn unschedulable(mut self) -> Self {
        self.spec().unschedulable = Some(true);
        self
    }

    /// With this boot id; a reboot gives a node another one.
    pub fn boot_id(mut self, id: &str) -> Self {
        self.status().node_info.get_or_insert_default().boot_id = id.into();
        self
    }

    /// The finished object.
    pub fn build(self) -> Node {
        self.0
    }

    /// Makes it in the cluster, with its status.
    pub async fn create(self, client: &Client) -> Result<Node> {
        create_node(client, &self.0).await
    }

    fn spec(&mut self) -> &mut NodeSpec {
        self.0.spec.get_or_insert_default()
    }

    fn status(&mut self) -> &mut NodeStatus {
        self.0.status.get_or_insert_default()
    }
}

/// Makes a Node and then its status, as a kubelet does.
pub async fn create_node(client: &Client, node: &Node) -> Result<Node> {
    let nodes: Api<Node> = Api::all(client.clone());
    let name = node.name_any();
    nodes.create(&PostParams::default(), node).await.with_context(|| format!("making the node {name}"))?;
    let status = json!({ "status": node.status });
    nodes
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .with_context(|| format!("writing the status of the node {name}"))
}

/// Sets a node's condition `Ready`, in one request, whatever else changes at the same time.
pub async fn set_ready(client: &Client, name: &str, ready: impl Into<Readiness>) -> Result<Node> {
    let nodes: Api<Node> = Api::all(client.clone());
    let status = json!({ "status": { "conditions": [ready_condition(ready.into())] } });
    nodes
        .patch_status(
            name,
            &PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() },
            &Patch::Strategic(status),
        )
        .await
        .with_context(|| format!("writing the readiness of the node {name}"))
}

/// What a node's condition `Ready` says; `None` without one.
pub fn readiness(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str())
}

fn ready_condition(ready: Readiness) -> NodeCondition {
    let (status, reason, message) = match ready {
        Readiness::True => ("True", "KubeletReady", "kubelet is posting ready status"),
        Readiness::False => ("False", "KubeletNotReady", "container runtime is down"),
        Readiness::Unknown => ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
    };
    let now = Some(Time(Timestamp::now()));
    NodeCondition {
        type_: "Ready".into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: now.clone(),
        last_transition_time: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_what_it_was_told_to_be() {
        let node = node("cp-0")
            .internal_ip("10.0.1.10")
            .address("Hostname", "cp-0")
            .control_plane()
            .annotation("a", "b")
            .boot_id("boot-2")
            .unschedulable()
            .ready(false)
            .build();
        assert_eq!(readiness(&node), Some("False"));
        assert!(node.labels().contains_key(CONTROL_PLANE));
        let (spec, status) = (node.spec.unwrap_or_default(), node.status.unwrap_or_default());
        assert_eq!(spec.unschedulable, Some(true));
        assert_eq!(spec.taints.unwrap_or_default()[0].effect, "NoSchedule");
        let addresses = status.addresses.unwrap_or_default();
        assert_eq!(addresses[0].type_, "InternalIP");
        assert_eq!(addresses[1].type_, "Hostname");
        assert_eq!(status.node_info.unwrap_or_default().boot_id, "boot-2");
    }
}
