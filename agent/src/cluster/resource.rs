//! The custom resources: `SelfHostedShootExposure` in full, as upstream defines it.
//!
//! Source: Gardener contract section 1. Other kinds are read leniently as plain values, see [`super::facts`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, CustomResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `spec`.
#[expect(clippy::duplicated_attributes, reason = "each column has a type; clippy takes them for one attribute")]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "extensions.gardener.cloud",
    version = "v1alpha1",
    kind = "SelfHostedShootExposure",
    plural = "selfhostedshootexposures",
    singular = "selfhostedshootexposure",
    shortname = "exp",
    namespaced,
    status = "SelfHostedShootExposureStatus",
    derive = "PartialEq",
    doc = "How the control plane of a self-hosted shoot is exposed, and what came of it.",
    label("gardener.cloud/deletion-protected", "true"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", description = "The type of the exposure."),
    printcolumn(
        name = "IP",
        type_ = "string",
        json_path = ".status.ingress[0].ip",
        description = "The IP of the first ingress."
    ),
    printcolumn(
        name = "Hostname",
        type_ = "string",
        json_path = ".status.ingress[0].hostname",
        description = "The hostname of the first ingress."
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.lastOperation.state",
        description = "The state of the last operation."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "The time since creation."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SelfHostedShootExposureSpec {
    /// The type of the exposure, such as `stackit`.
    pub r#type: String,
    /// The extension class: `garden`, `seed` or `shoot`; absent means `shoot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "immutable_string")]
    pub class: Option<String>,
    /// Configuration of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub provider_config: Option<Value>,
    /// The Secret with the cloud credentials; set for managed infrastructure only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_reference")]
    pub credentials_ref: Option<ObjectReference>,
    /// The port on which the balancer listens and the API servers serve.
    pub port: i32,
    /// The control-plane nodes to expose.
    pub endpoints: Vec<ControlPlaneEndpoint>,
}

/// A control-plane node to expose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneEndpoint {
    /// The name of the Node.
    pub node_name: String,
    /// The addresses of the Node.
    pub addresses: Vec<NodeAddress>,
}

/// An address of a Node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeAddress {
    /// `Hostname`, `InternalIP`, `ExternalIP`, `InternalDNS` or `ExternalDNS`.
    pub r#type: String,
    /// The address.
    pub address: String,
}

/// A reference to an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// API version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Resource version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Path of a field inside the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
}

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfHostedShootExposureStatus {
    /// Conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Where clients reach the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<Ingress>>,
    /// The last error; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// The last operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_operation: Option<LastOperation>,
    /// The generation that was last worked on to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the provider keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub provider_status: Option<Value>,
    /// Resources that the state refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<NamedResourceReference>>,
    /// State for a migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub state: Option<Value>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type.
    pub r#type: String,
    /// `True`, `False`, `Unknown` or `Progressing`.
    pub status: String,
    /// When the status last changed.
    pub last_transition_time: Time,
    /// When the condition was last written.
    pub last_update_time: Time,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Error codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<String>>,
}

/// Where clients reach the control plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `VIP` or `Proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_mode: Option<String>,
    /// The state of single ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port_statuses")]
    pub ports: Option<Vec<PortStatus>>,
}

/// The state of a port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortStatus {
    /// The port.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// What is wrong with it.
    pub error: String,
}

/// The last operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastOperation {
    /// What it is doing, for people.
    pub description: String,
    /// When that was last written.
    pub last_update_time: Time,
    /// Progress in percent.
    pub progress: i32,
    /// `Processing`, `Succeeded`, `Error`, `Failed`, `Pending` or `Aborted`.
    pub state: String,
    /// `Create`, `Reconcile`, `Delete`, `Migrate` or `Restore`.
    pub r#type: String,
}

/// The last error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// What went wrong, for people.
    pub description: String,
    /// The task that failed.
    #[serde(rename = "taskID", default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Error codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<String>>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
}

/// A resource that the state refers to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedResourceReference {
    /// The name of the reference.
    pub name: String,
    /// The resource.
    #[schemars(schema_with = "cross_version_reference")]
    pub resource_ref: CrossVersionObjectReference,
}

/// A reference across API versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrossVersionObjectReference {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// API version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
}

/// The CustomResourceDefinition, with the schema that upstream's own has.
pub fn definition() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(SelfHostedShootExposure::crd())?;
    // A Rust `Option` is a field that may be absent; schemars says null as well, upstream does not.
    forbid_null(&mut definition["spec"]["versions"]);
    Ok(definition)
}

fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|key, value| !(key == "nullable" && value.is_boolean()));
            fields.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        _ => {}
    }
}

fn immutable_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The extension class: `garden`, `seed` or `shoot`; absent means `shoot`.",
        "type": "string",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "Value is immutable"}],
    })
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn object_reference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The Secret with the cloud credentials; set for managed infrastructure only.",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"}, "fieldPath": {"type": "string"}, "kind": {"type": "string"},
            "name": {"type": "string"}, "namespace": {"type": "string"}, "resourceVersion": {"type": "string"},
            "uid": {"type": "string"},
        },
        "x-kubernetes-map-type": "atomic",
    })
}

fn cross_version_reference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The resource.",
        "type": "object",
        "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "name": {"type": "string"}},
        "required": ["kind", "name"],
        "x-kubernetes-map-type": "atomic",
    })
}

fn port_statuses(_: &mut SchemaGenerator) -> Schema {
    // What Kubernetes takes for an error: a CamelCase word, after a domain where it is a provider's own.
    const ERROR: &str = concat!(
        r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
        r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
    );
    json_schema!({
        "description": "The state of single ports.",
        "type": "array",
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "properties": {
                "error": {"type": "string", "maxLength": 316, "pattern": ERROR},
                "port": {"type": "integer", "format": "int32"},
                "protocol": {"type": "string"},
            },
            "required": ["error", "port", "protocol"],
        },
    })
}
