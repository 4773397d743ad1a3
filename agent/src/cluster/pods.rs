//! The static pods of etcd and kube-apiserver, as their mirror pods show them.
//!
//! Source: Gardener contract section 5. A pod that is not Ready proves nothing by itself, because a kubelet may be
//! late; it only lets other evidence count at once. Deliberately not here: all other pods.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::watch::Read;

/// Labels of the pods that are followed.
pub const SELECTOR: &str = "static-pod=true,gardener.cloud/role=controlplane";

/// A Pod with the fields that are read.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Pod)]
pub struct SlimPod {
    /// `metadata`.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    #[serde(default)]
    node_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct SlimStatus {
    #[serde(default)]
    conditions: Option<Vec<SlimCondition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct SlimCondition {
    r#type: String,
    status: String,
}

/// A static pod that the API server of a node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPod {
    /// The node it runs on.
    pub node: String,
    /// Its condition `Ready` is `False`; unknown is not.
    pub ill: bool,
}

/// A mirror pod as far as deciding needs it: those of the events' etcd and of other components are never ill.
pub fn view(pod: SlimPod) -> Read<StaticPod> {
    let SlimPod { metadata, spec, status } = pod;
    let labels = metadata.labels.unwrap_or_default();
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    let etcd = (is("app", "etcd-statefulset") || is("app", "etcd")) && is("role", "main");
    let needed = etcd || is("role", "apiserver");
    let not_ready = |condition: &SlimCondition| condition.r#type == "Ready" && condition.status == "False";
    let ill = needed && status.conditions.unwrap_or_default().iter().any(not_ready);
    Ok((metadata.name.ok_or("a Pod without a name")?, StaticPod { node: spec.node_name, ill }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ill(labels: &serde_json::Value, ready: &str) -> bool {
        let pod = json!({"metadata": {"name": "p", "labels": labels}, "spec": {"nodeName": "cp-0"},
                         "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let (name, pod) = view(serde_json::from_value(pod).unwrap()).unwrap();
        assert_eq!((name.as_str(), pod.node.as_str()), ("p", "cp-0"));
        pod.ill
    }

    #[test]
    fn only_the_api_server_and_its_etcd_count_and_only_when_they_say_no() {
        let apiserver = || json!({"app": "kubernetes", "role": "apiserver"});
        assert!(ill(&apiserver(), "False"));
        assert!(!ill(&apiserver(), "True") && !ill(&apiserver(), "Unknown"));
        assert!(ill(&json!({"app": "etcd-statefulset", "role": "main"}), "False"));
        assert!(ill(&json!({"app": "etcd", "role": "main"}), "False"));
        assert!(!ill(&json!({"app": "etcd-statefulset", "role": "events"}), "False"));
        assert!(!ill(&json!({"app": "kubernetes", "role": "scheduler"}), "False"));
    }

    #[test]
    fn a_pod_without_a_status_is_not_ill() {
        let (_, pod) = view(serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap()).unwrap();
        assert!(!pod.ill && pod.node.is_empty());
    }
}
