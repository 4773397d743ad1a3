//! `spec.providerConfig`: upstream's `SelfHostedShootExposureConfig`, decoded strictly.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde_json::Value;

/// `apiVersion` of the provider's own objects inside `providerConfig`.
pub(super) const PROVIDER_API: &str = "stackit.provider.extensions.gardener.cloud/v1alpha1";
/// Kind of an exposure's `providerConfig`.
pub(super) const PROVIDER_KIND: &str = "SelfHostedShootExposureConfig";

/// What a `providerConfig` says.
pub(super) struct ProviderConfig {
    pub(super) plan_id: Option<String>,
    pub(super) source_ranges: BTreeSet<IpNet>,
}

/// Decodes a `SelfHostedShootExposureConfig` strictly; every mistake with its field path, ranges in upstream's words.
pub(super) fn decode(config: &Value) -> Result<ProviderConfig, Vec<String>> {
    const ROOT: &str = "spec.providerConfig";
    let mut mistakes = Vec::new();
    let mut fail = |path: &str, what: String| mistakes.push(format!("{path}: {what}"));
    for (key, wanted) in [("apiVersion", PROVIDER_API), ("kind", PROVIDER_KIND)] {
        if config.get(key).and_then(Value::as_str) != Some(wanted) {
            let found = config.get(key).unwrap_or(&Value::Null);
            fail(&format!("{ROOT}.{key}"), format!("Unsupported value: {found}: supported values: \"{wanted}\""));
        }
    }
    let mut object = |value: Option<&Value>, path: &str, known: &[&str]| match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(fields)) => {
            for key in fields.keys().filter(|key| !known.contains(&key.as_str())) {
                fail(&format!("{path}.{key}"), "unknown field".to_owned());
            }
        }
        Some(other) => fail(path, format!("Invalid value: {other}: must be an object")),
    };
    let balancer = config.get("loadBalancer");
    let access = balancer.and_then(|balancer| balancer.get("accessControl"));
    object(Some(config), ROOT, &["apiVersion", "kind", "loadBalancer"]);
    object(balancer, &format!("{ROOT}.loadBalancer"), &["planID", "accessControl"]);
    object(access, &format!("{ROOT}.loadBalancer.accessControl"), &["allowedSourceRanges"]);

    let plan_id = match balancer.and_then(|balancer| balancer.get("planID")) {
        None | Some(Value::Null) => None,
        Some(Value::String(plan)) => Some(plan.clone()).filter(|plan| !plan.is_empty()),
        Some(other) => {
            fail(&format!("{ROOT}.loadBalancer.planID"), format!("Invalid value: {other}: must be a string"));
            None
        }
    };
    let path = format!("{ROOT}.loadBalancer.accessControl.allowedSourceRanges");
    let mut source_ranges = BTreeSet::new();
    match access.and_then(|access| access.get("allowedSourceRanges")) {
        None | Some(Value::Null) => {}
        Some(Value::Array(ranges)) => {
            for (index, range) in ranges.iter().enumerate() {
                match canonical_range(range) {
                    Ok(range) => drop(source_ranges.insert(range)),
                    Err(what) => fail(&format!("{path}[{index}]"), what),
                }
            }
        }
        Some(other) => fail(&path, format!("Invalid value: {other}: must be a list")),
    }
    if mistakes.is_empty() { Ok(ProviderConfig { plan_id, source_ranges }) } else { Err(mistakes) }
}

fn canonical_range(range: &Value) -> Result<IpNet, String> {
    let Value::String(text) = range else {
        return Err(format!("Invalid value: {range}: must be a string"));
    };
    match text.parse::<IpNet>() {
        Ok(range) if range.trunc() == range => Ok(range),
        Ok(_) => Err(format!("Invalid value: {text:?}: must be valid canonical CIDR")),
        Err(_) => Err(format!("Invalid value: {text:?}: invalid CIDR address: {text}")),
    }
}
