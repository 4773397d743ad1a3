//! The messages of the API as tables, and how protobuf JSON is read: unknown fields and `null` are dropped, numbers may
//! come as strings, names of enums and durations are checked.

use serde_json::{Map, Value};

use super::answer::{Violation, require};

/// A field's name and kind.
pub(crate) type Field = (&'static str, Kind);

/// What a value must look like.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Flag,
    Integer,
    Duration,
    Choice(&'static [&'static str]),
    TextMap,
    List(&'static Kind),
    Message(&'static [Field]),
}

use Kind::{Choice, Duration, Flag, Integer, List, Message, Text, TextMap};

/// `LoadBalancer`: the same set of fields for create, update and answer.
pub(crate) static LOAD_BALANCER: Kind = Message(&[
    ("name", Text),
    ("version", Text),
    ("region", Text),
    ("planId", Text),
    ("status", Choice(&["STATUS_UNSPECIFIED", "STATUS_PENDING", "STATUS_READY", "STATUS_ERROR", "STATUS_TERMINATING"])),
    ("errors", List(&Message(&[("type", Text), ("description", Text)]))),
    ("externalAddress", Text),
    ("privateAddress", Text),
    ("labels", TextMap),
    ("networks", List(&NETWORK)),
    ("listeners", List(&LISTENER)),
    ("targetPools", List(&TARGET_POOL)),
    ("options", Message(OPTIONS)),
    ("disableTargetSecurityGroupAssignment", Flag),
    ("loadBalancerSecurityGroup", Message(SECURITY_GROUP)),
    ("targetSecurityGroup", Message(SECURITY_GROUP)),
]);

static SECURITY_GROUP: &[Field] = &[("id", Text), ("name", Text)];

static NETWORK: Kind = Message(&[
    ("networkId", Text),
    ("role", Choice(&["ROLE_UNSPECIFIED", "ROLE_LISTENERS_AND_TARGETS", "ROLE_LISTENERS", "ROLE_TARGETS"])),
]);

static LISTENER: Kind = Message(&[
    ("name", Text),
    ("displayName", Text),
    ("port", Integer),
    (
        "protocol",
        Choice(&[
            "PROTOCOL_UNSPECIFIED",
            "PROTOCOL_TCP",
            "PROTOCOL_UDP",
            "PROTOCOL_TCP_PROXY",
            "PROTOCOL_TLS_PASSTHROUGH",
        ]),
    ),
    ("targetPool", Text),
    ("tcp", Message(&[("idleTimeout", Duration)])),
    ("udp", Message(&[("idleTimeout", Duration)])),
    ("serverNameIndicators", List(&Message(&[("name", Text)]))),
]);

/// `TargetPool`: also the body of the target pool's own PUT.
pub(crate) static TARGET_POOL: Kind = Message(&[
    ("name", Text),
    ("targetPort", Integer),
    ("targets", List(&Message(&[("displayName", Text), ("ip", Text)]))),
    ("sessionPersistence", Message(&[("useSourceIpAddress", Flag)])),
    (
        "activeHealthCheck",
        Message(&[
            ("healthyThreshold", Integer),
            ("unhealthyThreshold", Integer),
            ("interval", Duration),
            ("intervalJitter", Duration),
            ("timeout", Duration),
            ("altPort", Integer),
            (
                "httpHealthChecks",
                Message(&[
                    ("okStatuses", List(&Text)),
                    ("path", Text),
                    ("tls", Message(&[("enabled", Flag), ("customCa", Text), ("skipCertificateValidation", Flag)])),
                ]),
            ),
        ]),
    ),
]);

static OPTIONS: &[Field] = &[
    ("ephemeralAddress", Flag),
    ("privateNetworkOnly", Flag),
    ("accessControl", Message(&[("allowedSourceRanges", List(&Text))])),
    ("observability", Message(&[("logs", Message(PUSH)), ("metrics", Message(PUSH))])),
];

static PUSH: &[Field] = &[("credentialsRef", Text), ("pushUrl", Text)];

/// The body that makes or changes a credential.
pub(crate) static CREDENTIAL: Kind = Message(&[("displayName", Text), ("username", Text), ("password", Text)]);

/// Reads `text` as `kind`; `strict` refuses unknown fields (E19).
pub(crate) fn read(kind: &Kind, text: &str, strict: bool) -> Result<Value, Violation> {
    let value: Value = serde_json::from_str(text).map_err(|error| Violation {
        rule: "E18",
        field: "body".to_owned(),
        message: format!("malformed JSON: {error}"),
    })?;
    decode(kind, value, "body", strict)
}

/// Checks `value` against `kind` and gives it back in its canonical form (E18 to E20).
pub(crate) fn decode(kind: &Kind, value: Value, at: &str, strict: bool) -> Result<Value, Violation> {
    let wrong = |rule, expected: &str| Violation { rule, field: at.to_owned(), message: format!("must be {expected}") };
    match (kind, value) {
        (Text, value @ Value::String(_)) | (Flag, value @ Value::Bool(_)) => Ok(value),
        (Integer, value) => integer(&value).map(Value::from).ok_or_else(|| wrong("E18", "a number")),
        (Duration, Value::String(text)) => {
            require(seconds(&text).is_some(), "E20", at, "must be a duration in seconds, such as 300s")?;
            Ok(Value::String(text))
        }
        (Choice(names), Value::String(text)) => {
            require(names.contains(&text.as_str()), "E18", at, format!("unknown name {text:?}"))?;
            Ok(Value::String(text))
        }
        (TextMap, Value::Object(fields)) => {
            require(fields.values().all(Value::is_string), "E18", at, "must be a map of strings")?;
            Ok(Value::Object(fields))
        }
        (List(kind), Value::Array(items)) => {
            let decoded = items
                .into_iter()
                .enumerate()
                .map(|(index, item)| decode(kind, item, &format!("{at}[{index}]"), strict));
            decoded.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        (Message(fields), Value::Object(given)) => message(fields, given, at, strict),
        (Text | Duration | Choice(_), _) => Err(wrong("E18", "a string")),
        (Flag, _) => Err(wrong("E18", "true or false")),
        (List(_), _) => Err(wrong("E18", "a list")),
        (TextMap | Message(_), _) => Err(wrong("E18", "an object")),
    }
}

fn message(fields: &[Field], given: Map<String, Value>, at: &str, strict: bool) -> Result<Value, Violation> {
    let mut decoded = Map::new();
    for (name, value) in given {
        let path = if at == "body" { name.clone() } else { format!("{at}.{name}") };
        match fields.iter().find(|(known, _)| *known == name) {
            Some(_) if value.is_null() => {}
            Some((_, kind)) => {
                decoded.insert(name, decode(kind, value, &path, strict)?);
            }
            None => require(!strict, "E19", path, "unknown field")?,
        }
    }
    Ok(Value::Object(decoded))
}

/// A 32-bit integer, as a number or as a string of one (E20).
fn integer(value: &Value) -> Option<i64> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    number.filter(|number| i32::try_from(*number).is_ok())
}

/// The seconds of a duration such as `300s` or `1.5s`, if it is one.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let number = text.strip_suffix('s')?;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let decimal =
        |part: &str, longest| (1..=longest).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if decimal(whole, 12) && decimal(fraction, 9) && !leading_zero { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{LOAD_BALANCER, decode, read, seconds};

    #[test]
    fn e20_durations_follow_the_pattern() {
        for (text, expected) in [("300s", Some(300.0)), ("1.5s", Some(1.5)), ("-5s", Some(-5.0)), ("0s", Some(0.0))] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for text in ["5m", "300", "s", "01s", "1.s", ".5s", "1e3s", "+1s", "1.1234567890s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn e18_e19_e20_protobuf_json() {
        let given = json!({"name": "a", "status": null, "nope": 1, "listeners": [{"port": "6443"}]});
        let decoded = decode(&LOAD_BALANCER, given.clone(), "body", false).ok();
        assert_eq!(decoded, Some(json!({"name": "a", "listeners": [{"port": 6443}]})));
        let rule = |value, strict| decode(&LOAD_BALANCER, value, "body", strict).err().map(|it| (it.rule, it.field));
        assert_eq!(rule(given, true), Some(("E19", "nope".to_owned())));
        assert_eq!(rule(json!({"listeners": [{"port": "x"}]}), false), Some(("E18", "listeners[0].port".to_owned())));
        assert_eq!(rule(json!({"status": ""}), false), Some(("E18", "status".to_owned())));
        assert_eq!(read(&LOAD_BALANCER, "{", false).err().map(|it| it.rule), Some("E18"));
    }
}
