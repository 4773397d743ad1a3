//! `DNSRecord` objects: reading them, and the one write that is made to them.

use std::time::Duration;

use decide::dns::Record;
use decide::exposure::OPERATION;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::watch::Read;
use super::{ApiFailure, within};

/// Field manager.
const DNS: &str = "shoot-exposure-agent-dns";
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// For the watch: lenient, as with every kind that is not ours.
pub fn view(object: DynamicObject) -> Read<Record> {
    let name = object.metadata.name.unwrap_or_default();
    let spec = &object.data["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let values = spec["values"].as_array().map(|values| values.iter().filter_map(text).collect());
    Ok((name, Record { kind: text(&spec["recordType"]).unwrap_or_default(), values: values.unwrap_or_default() }))
}

/// Makes a record hold this and asks its provider to carry it out, as gardenlet does: without a timestamp, and nobody
/// waits.
pub async fn write(api: &Api<DynamicObject>, name: &str, record: &Record) -> Result<Record, ApiFailure> {
    let patch = json!({
        "metadata": {"annotations": {OPERATION: "reconcile"}},
        "spec": {"recordType": record.kind, "values": record.values},
    });
    let parameters = PatchParams { field_manager: Some(DNS.to_owned()), ..PatchParams::default() };
    let written = within(TIMEOUT, api.patch(name, &parameters, &Patch::Merge(patch))).await?;
    view(written).map(|(_, record)| record).map_err(ApiFailure::Other)
}
