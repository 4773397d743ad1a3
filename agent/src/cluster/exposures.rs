//! `SelfHostedShootExposure` objects: reading them, and each single write that is made to them.
//!
//! Every write names its field manager. Metadata is changed by merge patches that carry the resource version,
//! `spec.endpoints` by server-side apply that carries it too, status by merge patches of the fields we report.

use std::time::Duration;

use decide::conditions::{self, Condition};
use decide::dns::Ingress;
use decide::exposure::{CONFIRMATION, ExposureView, FINALIZER, OPERATION, PAUSED, PAUSED_AT, SpecEndpoint, TIMESTAMP};
use decide::health::NodeAddress;
use decide::settings::Exposure;
use decide::status::{LastError, LastOperation, Previous, Record, Report};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use super::resource::{self, SelfHostedShootExposure, SelfHostedShootExposureSpec};
use super::watch::Read;
use super::{ApiFailure, within};

/// Field manager for `spec.endpoints`.
const ENDPOINTS: &str = "shoot-exposure-agent-endpoints";
/// Field manager for everything else.
const EXPOSURE: &str = "shoot-exposure-agent-exposure";
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An exposure with what a write needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// What deciding needs.
    pub view: ExposureView,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.finalizers`, all of them.
    pub finalizers: Vec<String>,
    /// `status.ingress`, all of it.
    pub ingress: Vec<Ingress>,
}

/// The exposures of one namespace.
#[derive(Clone)]
pub struct Exposures {
    api: Api<SelfHostedShootExposure>,
}

impl Exposures {
    /// Works on `api`'s namespace.
    pub fn new(api: Api<SelfHostedShootExposure>) -> Self {
        Self { api }
    }

    /// A quorum read.
    pub async fn read(&self, name: &str) -> Result<Exposed, ApiFailure> {
        within(TIMEOUT, self.api.get(name)).await.map(exposed)
    }

    /// Makes the object with a first set of endpoints.
    pub async fn create(&self, settings: &Exposure, endpoints: &[SpecEndpoint]) -> Result<Exposed, ApiFailure> {
        let object = SelfHostedShootExposure {
            metadata: ObjectMeta { name: Some(settings.name.clone()), ..ObjectMeta::default() },
            spec: SelfHostedShootExposureSpec {
                r#type: settings.r#type.clone(),
                // Absent means `shoot`, and upstream leaves it out: the field can never be changed later.
                class: Some(settings.class.clone()).filter(|class| class != "shoot"),
                port: settings.port.into(),
                endpoints: endpoints.iter().map(to_wire).collect(),
                ..SelfHostedShootExposureSpec::default()
            },
            status: None,
        };
        let parameters = PostParams { field_manager: Some(EXPOSURE.to_owned()), ..PostParams::default() };
        within(TIMEOUT, self.api.create(&parameters, &object)).await.map(exposed)
    }

    /// Adds the finalizer.
    pub async fn add_finalizer(&self, base: &Exposed) -> Result<Exposed, ApiFailure> {
        let finalizers: Vec<&str> = base.finalizers.iter().map(String::as_str).chain([FINALIZER]).collect();
        self.patch_metadata(base, json!({"finalizers": finalizers})).await
    }

    /// Removes the finalizer; the object is gone then, if no other holds it.
    pub async fn remove_finalizer(&self, base: &Exposed) -> Result<Exposed, ApiFailure> {
        let finalizers: Vec<&String> = base.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
        self.patch_metadata(base, json!({"finalizers": finalizers})).await
    }

    /// Removes the operation annotation. Without the resource version, as Gardener does it: a newer wish for the same
    /// operation is met by what follows anyway.
    pub async fn strip_operation(&self, base: &Exposed) -> Result<Exposed, ApiFailure> {
        let patch = json!({"metadata": {"annotations": {OPERATION: null}}});
        self.merge(&base.view.name, &patch).await
    }

    /// Removes the operation annotation after its work is done, unless somebody has asked for another meanwhile.
    pub async fn finish_operation(&self, base: &Exposed) -> Result<Exposed, ApiFailure> {
        self.patch_metadata(base, json!({"annotations": {OPERATION: null}})).await
    }

    /// Sets or removes the annotation that takes the agent's hands off.
    pub async fn set_paused(&self, name: &str, paused: bool) -> Result<Exposed, ApiFailure> {
        let (value, at) = if paused {
            (json!("true"), json!(timestamp(Timestamp::now().as_second())))
        } else {
            (Value::Null, Value::Null)
        };
        self.merge(name, &json!({"metadata": {"annotations": {PAUSED: value, PAUSED_AT: at}}})).await
    }

    /// Asks for the deletion as Gardener does: confirmed first, then deleted, this object and no other of the name.
    pub async fn delete(&self, base: &Exposed) -> Result<(), ApiFailure> {
        let now = Timestamp::now();
        let annotations = json!({CONFIRMATION: "true", TIMESTAMP: format!("{now:.9}")});
        let patch = json!({"metadata": {"uid": base.view.uid, "annotations": annotations}});
        self.merge(&base.view.name, &patch).await?;
        let preconditions = Preconditions { uid: Some(base.view.uid.clone()), ..Preconditions::default() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        within(TIMEOUT, self.api.delete(&base.view.name, &parameters)).await.map(drop)
    }

    /// All of them that can be read.
    pub async fn list(&self) -> Result<Vec<Exposed>, ApiFailure> {
        let list = within(TIMEOUT, self.api.list(&ListParams::default())).await?;
        Ok(list.items.into_iter().map(exposed).collect())
    }

    /// Applies `spec.endpoints` and nothing else, computed from `base`.
    pub async fn apply_endpoints(&self, base: &Exposed, endpoints: &[SpecEndpoint]) -> Result<Exposed, ApiFailure> {
        self.apply(base, endpoints, &Value::Null).await
    }

    /// The same, and in the same write what makes the provider extension look, as gardenlet does it: its watch does
    /// not care about a changed spec.
    pub async fn hand_over_endpoints(&self, base: &Exposed, endpoints: &[SpecEndpoint]) -> Result<Exposed, ApiFailure> {
        let now = Timestamp::now();
        self.apply(base, endpoints, &json!({OPERATION: "reconcile", TIMESTAMP: format!("{now:.9}")})).await
    }

    async fn apply(&self, base: &Exposed, endpoints: &[SpecEndpoint], notes: &Value) -> Result<Exposed, ApiFailure> {
        let mut apply = json!({
            "apiVersion": "extensions.gardener.cloud/v1alpha1",
            "kind": "SelfHostedShootExposure",
            "metadata": {"name": base.view.name, "resourceVersion": base.resource_version},
            "spec": {"endpoints": endpoints.iter().map(to_wire).collect::<Vec<_>>()},
        });
        if notes.is_object() {
            apply["metadata"]["annotations"] = notes.clone();
        }
        let parameters = PatchParams::apply(ENDPOINTS).force();
        let apply = Patch::Apply(&apply);
        within(TIMEOUT, self.api.patch(&base.view.name, &parameters, &apply)).await.map(exposed)
    }

    /// Writes what is reported.
    pub async fn report(&self, base: &Exposed, report: &Report) -> Result<Exposed, ApiFailure> {
        let parameters = PatchParams { field_manager: Some(EXPOSURE.to_owned()), ..PatchParams::default() };
        let mut patch = status_patch(report);
        // A list is replaced as a whole: where others have entries in it, only the list that was read may be.
        if report.conditions.as_deref().is_some_and(conditions::has_foreign) {
            patch["metadata"] = json!({"resourceVersion": base.resource_version});
        }
        let patch = Patch::Merge(patch);
        within(TIMEOUT, self.api.patch_status(&base.view.name, &parameters, &patch)).await.map(exposed)
    }

    async fn patch_metadata(&self, base: &Exposed, mut metadata: Value) -> Result<Exposed, ApiFailure> {
        metadata["resourceVersion"] = json!(base.resource_version);
        metadata["uid"] = json!(base.view.uid);
        self.merge(&base.view.name, &json!({"metadata": metadata})).await
    }

    async fn merge(&self, name: &str, patch: &Value) -> Result<Exposed, ApiFailure> {
        let parameters = PatchParams { field_manager: Some(EXPOSURE.to_owned()), ..PatchParams::default() };
        within(TIMEOUT, self.api.patch(name, &parameters, &Patch::Merge(patch))).await.map(exposed)
    }
}

/// For the watch: an object that does not parse is reported and skipped.
pub fn view(object: DeserializeGuard<SelfHostedShootExposure>) -> Read<Exposed> {
    match object.0 {
        Ok(object) => Ok((object.metadata.name.clone().unwrap_or_default(), exposed(object))),
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            Err(format!("SelfHostedShootExposure `{name}`: {}", invalid.error))
        }
    }
}

fn exposed(object: SelfHostedShootExposure) -> Exposed {
    let SelfHostedShootExposure { metadata, spec, status } = object;
    let finalizers = metadata.finalizers.unwrap_or_default();
    let annotations = metadata.annotations.unwrap_or_default();
    let ingress = status.as_ref().and_then(|status| status.ingress.clone()).unwrap_or_default();
    let ingress = ingress.into_iter().map(|entry| Ingress { ip: entry.ip, hostname: entry.hostname }).collect();
    let time =
        |key: &str| annotations.get(key).and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_second);
    let view = ExposureView {
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
        finalizer: finalizers.iter().any(|finalizer| finalizer == FINALIZER),
        operation: annotations.get(OPERATION).cloned(),
        asked_at: time(TIMESTAMP),
        paused: annotations.get(PAUSED).is_some_and(|value| value == "true"),
        paused_at: time(PAUSED_AT),
        kind: spec.r#type,
        class: spec.class,
        port: spec.port,
        credentials: spec.credentials_ref.and_then(|r| Some((r.namespace.unwrap_or_default(), r.name?))),
        provider_config: spec.provider_config.filter(|config| !config.is_null()),
        endpoints: spec.endpoints.into_iter().map(from_wire).collect(),
        status: status.map(previous).unwrap_or_default(),
    };
    Exposed { view, resource_version: metadata.resource_version.unwrap_or_default(), finalizers, ingress }
}

fn previous(status: resource::SelfHostedShootExposureStatus) -> Previous {
    let operation = status.last_operation.map(|last| LastOperation {
        kind: last.r#type,
        state: last.state,
        progress: last.progress,
        description: last.description,
        at: last.last_update_time.0.as_second(),
    });
    let error = status
        .last_error
        .map(|last| LastError { description: last.description, codes: last.codes.unwrap_or_default() });
    // Somebody else's provider status, or one that is not complete, is no record of ours.
    let record = status.provider_status.and_then(|value| serde_json::from_value::<Record>(value).ok());
    Previous {
        operation,
        error,
        observed_generation: status.observed_generation.unwrap_or_default(),
        ingress: status.ingress.unwrap_or_default().into_iter().filter_map(|ingress| ingress.ip).collect(),
        recorded: record.as_ref().map(|record| record.identity.clone()),
        record,
        conditions: status.conditions.unwrap_or_default().into_iter().map(condition).collect(),
    }
}

fn condition(condition: resource::Condition) -> Condition {
    let seconds = |time: &Time| time.0.as_second();
    Condition {
        since: seconds(&condition.last_transition_time),
        updated: seconds(&condition.last_update_time),
        kind: condition.r#type,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        codes: condition.codes.unwrap_or_default(),
    }
}

fn status_patch(report: &Report) -> Value {
    let mut status = serde_json::Map::new();
    if let Some(last) = &report.operation {
        let value = json!({
            "type": last.kind, "state": last.state, "progress": last.progress,
            "description": last.description, "lastUpdateTime": timestamp(last.at),
        });
        status.insert("lastOperation".to_owned(), value);
    }
    if let Some(error) = &report.error {
        let at = report.operation.as_ref().map(|last| timestamp(last.at));
        let value = error.as_ref().map_or(Value::Null, |error| {
            // A merge patch keeps what it does not name: no codes must be said.
            let codes = if error.codes.is_empty() { Value::Null } else { json!(error.codes) };
            json!({"description": error.description, "codes": codes, "lastUpdateTime": at})
        });
        status.insert("lastError".to_owned(), value);
    }
    if let Some(generation) = report.observed_generation {
        status.insert("observedGeneration".to_owned(), json!(generation));
    }
    if let Some(ip) = report.ingress {
        status.insert("ingress".to_owned(), json!([{"ip": ip.to_string()}]));
    }
    if let Some(record) = &report.record {
        let mut value = serde_json::to_value(record).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            // The same: lists and versions that are empty now must go.
            for field in ["targets", "version"] {
                fields.entry(field).or_insert(Value::Null);
            }
        }
        status.insert("providerStatus".to_owned(), value);
    }
    if let Some(conditions) = &report.conditions {
        let value: Vec<Value> = conditions.iter().map(condition_patch).collect();
        status.insert("conditions".to_owned(), json!(value));
    }
    json!({"status": status})
}

fn condition_patch(condition: &Condition) -> Value {
    let mut value = json!({
        "type": condition.kind, "status": condition.status, "reason": condition.reason, "message": condition.message,
        "lastTransitionTime": timestamp(condition.since), "lastUpdateTime": timestamp(condition.updated),
    });
    if !condition.codes.is_empty() {
        value["codes"] = json!(condition.codes);
    }
    value
}

/// RFC 3339 in seconds, as Gardener writes times.
fn timestamp(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

fn from_wire(endpoint: resource::ControlPlaneEndpoint) -> SpecEndpoint {
    let address = |a: resource::NodeAddress| NodeAddress { kind: a.r#type, address: a.address };
    SpecEndpoint { node_name: endpoint.node_name, addresses: endpoint.addresses.into_iter().map(address).collect() }
}

fn to_wire(endpoint: &SpecEndpoint) -> resource::ControlPlaneEndpoint {
    let address = |a: &NodeAddress| resource::NodeAddress { r#type: a.kind.clone(), address: a.address.clone() };
    resource::ControlPlaneEndpoint {
        node_name: endpoint.node_name.clone(),
        addresses: endpoint.addresses.iter().map(address).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_whole_seconds() {
        assert_eq!(timestamp(1_700_000_000), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_cleared_error_is_null_in_the_patch() {
        let report = Report { error: Some(None), ..Report::default() };
        assert_eq!(status_patch(&report), json!({"status": {"lastError": null}}));
    }

    #[test]
    fn codes_of_an_earlier_error_do_not_survive_the_merge() {
        let error = LastError { description: "d".to_owned(), codes: vec![] };
        let report = Report { error: Some(Some(error)), ..Report::default() };
        assert_eq!(status_patch(&report)["status"]["lastError"]["codes"], Value::Null);
    }

    #[test]
    fn an_object_that_does_not_parse_is_named() {
        let object = json!({"metadata": {"name": "broken"}, "spec": {"port": "443"}});
        let guard: DeserializeGuard<SelfHostedShootExposure> = serde_json::from_value(object).unwrap();
        let reason = view(guard).unwrap_err();
        assert!(reason.starts_with("SelfHostedShootExposure `broken`: "), "{reason}");
    }
}
