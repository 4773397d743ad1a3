//! F17: a server that stores something else than it was given, though it means the same.

use serde_json::{Map, Value, json};

/// Reorders targets and ranges, removes duplicates, lower-cases names of targets, writes out defaults.
pub(crate) fn canonicalise(spec: &mut Map<String, Value>) {
    let list = |value: Option<&mut Value>| value.and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    let mut listeners = list(spec.get_mut("listeners"));
    for listener in &mut listeners {
        match listener["protocol"].as_str() {
            Some("PROTOCOL_UDP") => default(listener, "udp", &json!({"idleTimeout": "60s"})),
            _ => default(listener, "tcp", &json!({"idleTimeout": "300s"})),
        }
    }
    let mut pools = list(spec.get_mut("targetPools"));
    for pool in &mut pools {
        let mut targets = list(pool.get_mut("targets"));
        for target in &mut targets {
            target["displayName"] = json!(target["displayName"].as_str().unwrap_or_default().to_lowercase());
        }
        targets.sort_by_key(|target| std::cmp::Reverse(target["ip"].to_string()));
        pool["targets"] = json!(targets);
        default(pool, "sessionPersistence", &json!({"useSourceIpAddress": false}));
        default(
            pool,
            "activeHealthCheck",
            &json!({"healthyThreshold": 2, "unhealthyThreshold": 3,
            "interval": "5s", "timeout": "5s"}),
        );
    }
    spec.insert("listeners".to_owned(), json!(listeners));
    spec.insert("targetPools".to_owned(), json!(pools));
    if let Some(ranges) = spec.get_mut("options").and_then(|it| it.pointer_mut("/accessControl/allowedSourceRanges")) {
        let mut sorted = list(Some(ranges));
        sorted.sort_by_key(ToString::to_string);
        sorted.dedup();
        *ranges = json!(sorted);
    }
}

fn default(object: &mut Value, field: &str, value: &Value) {
    if object[field].is_null() {
        object[field] = value.clone();
    }
}
