//! One load balancer: what was written (`spec`, `mode`) and what became of it, kept apart.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::answer::Violation;
use super::switches::Switches;
use super::wire::{Null, merge};

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Ready,
    Error,
    Terminating,
}

/// How it gets its address: exactly one of three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ephemeral,
    Static(IpAddr),
    Private,
}

/// A type and a description of `errors`.
pub(crate) type Trouble = (&'static str, String);

#[derive(Clone, Debug)]
pub(crate) struct Balancer {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) region: String,
    pub(crate) spec: Map<String, Value>,
    pub(crate) mode: Mode,
    pub(crate) status: Status,
    pub(crate) errors: Vec<Trouble>,
    /// The ephemeral address, or the static one.
    pub(crate) external: Option<IpAddr>,
    pub(crate) private: Option<IpAddr>,
    /// The ids of the two security groups, once provisioned.
    pub(crate) groups: Option<(String, String)>,
    /// When the controller moves it on.
    pub(crate) due: Option<Instant>,
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::Pending => "STATUS_PENDING",
            Self::Ready => "STATUS_READY",
            Self::Error => "STATUS_ERROR",
            Self::Terminating => "STATUS_TERMINATING",
        }
    }
}

impl Mode {
    /// The addressing mode that a body asks for (E30, E31, E73).
    pub(crate) fn wanted(body: &Value) -> Result<Self, Violation> {
        let violation = |rule, field: &str, message: &str| {
            Err(Violation { rule, field: field.to_owned(), message: message.to_owned() })
        };
        let external = body["externalAddress"].as_str().filter(|text| !text.is_empty());
        let option = |name: &str| body["options"][name].as_bool().unwrap_or(false);
        match (external, option("ephemeralAddress"), option("privateNetworkOnly")) {
            (Some(text), false, false) => match text.parse() {
                Ok(address) => Ok(Self::Static(address)),
                Err(_) => violation("E31", "externalAddress", "must be an IP address"),
            },
            (None, true, false) => Ok(Self::Ephemeral),
            (None, false, true) => Ok(Self::Private),
            (None, false, false) => {
                violation("E30", "externalAddress", "an external address, an ephemeral or a private one is needed")
            }
            (Some(_), true, false) => violation(
                "E31",
                "options.ephemeralAddress",
                "Ephemeral address is not supported for existing floating IPs",
            ),
            _ => violation("E31", "options", "only one way of addressing is possible"),
        }
    }
}

/// The part of a body that is kept as it came: not what the server says (E28), not what `Mode` holds.
pub(crate) fn spec(body: Value, plans: &[String]) -> Map<String, Value> {
    let Value::Object(mut spec) = body else { return Map::new() };
    for field in [
        "name",
        "version",
        "region",
        "status",
        "errors",
        "externalAddress",
        "privateAddress",
        "loadBalancerSecurityGroup",
        "targetSecurityGroup",
    ] {
        spec.shift_remove(field);
    }
    if spec.get("labels").is_some_and(|labels| labels.as_object().is_some_and(Map::is_empty)) {
        spec.shift_remove("labels");
    }
    if let Some(options) = spec.get_mut("options").and_then(Value::as_object_mut) {
        options.shift_remove("ephemeralAddress");
        options.shift_remove("privateNetworkOnly");
    }
    // E21: the smallest plan is the default.
    let plan = spec.entry("planId").or_insert(Value::Null);
    if plan.as_str().is_none_or(str::is_empty) {
        *plan = json!(plans.first().map_or("p10", String::as_str));
    }
    spec.entry("disableTargetSecurityGroupAssignment").or_insert(json!(false));
    for listener in spec.get_mut("listeners").and_then(Value::as_array_mut).into_iter().flatten() {
        name_listener(listener);
    }
    spec
}

/// E23: a listener without a name of its own is called after its protocol and port.
fn name_listener(listener: &mut Value) {
    let protocol = listener["protocol"].as_str().unwrap_or_default().trim_start_matches("PROTOCOL_");
    let fallback = format!("{}-{}", protocol.to_lowercase().replace('_', "-"), listener["port"]);
    let Some(fields) = listener.as_object_mut() else { return };
    let display = fields.get("displayName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let display = display.map_or(fallback, str::to_owned);
    fields.insert("displayName".to_owned(), json!(display));
    fields.insert("name".to_owned(), json!(display));
}

impl Balancer {
    /// As GET shows it.
    pub(crate) fn show(&self, switches: &Switches) -> Value {
        let mut shown = json!({"name": self.name, "version": self.version, "region": self.region,
            "status": switches.status.as_deref().unwrap_or(self.status.text())});
        if let Some(errors) = self.shown_errors(switches) {
            shown["errors"] = errors;
        }
        if let Some(address) = self.shown_external(switches) {
            shown["externalAddress"] = json!(address);
        }
        if let Some(address) = self.private {
            shown["privateAddress"] = json!(address);
        }
        merge(&mut shown, &Value::Object(self.spec.clone()), Null::Stays);
        shown["options"] = self.shown_options(switches);
        if let Some((own, targets)) = &self.groups {
            shown["loadBalancerSecurityGroup"] = json!({"id": own, "name": format!("{}-lb", self.name)});
            shown["targetSecurityGroup"] = json!({"id": targets, "name": format!("{}-targets", self.name)});
        }
        if switches.numbers_as_strings {
            numbers_to_strings(&mut shown);
        }
        if let Some(overlay) = &switches.overlay {
            merge(&mut shown, overlay, Null::Stays);
        }
        shown
    }

    fn shown_errors(&self, switches: &Switches) -> Option<Value> {
        let own = || self.errors.iter().map(|(kind, text)| json!({"type": kind, "description": text})).collect();
        switches.errors.clone().or_else(|| (!self.errors.is_empty()).then(own))
    }

    fn shown_external(&self, switches: &Switches) -> Option<IpAddr> {
        let withheld = switches.withhold_address && self.mode == Mode::Ephemeral;
        self.external.filter(|_| !withheld)
    }

    fn shown_options(&self, switches: &Switches) -> Value {
        let mut options = self.spec.get("options").cloned().unwrap_or_else(|| json!({}));
        if self.mode == Mode::Ephemeral {
            options["ephemeralAddress"] = json!(true);
        }
        if self.mode == Mode::Private || switches.show_false {
            options["privateNetworkOnly"] = json!(self.mode == Mode::Private);
        }
        if switches.show_empty_access_control && options["accessControl"].is_null() {
            options["accessControl"] = json!({});
        }
        options
    }

    /// The addresses of all targets, pool by pool.
    pub(crate) fn targets(&self) -> Vec<IpAddr> {
        let pools = self.spec.get("targetPools").and_then(Value::as_array).into_iter().flatten();
        let targets = pools.filter_map(|pool| pool["targets"].as_array()).flatten();
        targets.filter_map(|target| target["ip"].as_str()?.parse().ok()).collect()
    }

    /// The credentials that observability refers to.
    pub(crate) fn credentials(&self) -> Vec<&str> {
        let Some(observability) = self.spec.get("options").map(|options| &options["observability"]) else {
            return Vec::new();
        };
        ["logs", "metrics"].iter().filter_map(|kind| observability[*kind]["credentialsRef"].as_str()).collect()
    }
}

fn numbers_to_strings(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(number.to_string()),
        Value::Array(items) => items.iter_mut().for_each(numbers_to_strings),
        Value::Object(fields) => fields.values_mut().for_each(numbers_to_strings),
        _ => {}
    }
}
