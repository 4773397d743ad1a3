//! The rules for a load balancer as a whole, each with its number.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::Value;

use super::answer::{Check, Violation, require};
use super::balancer::{Balancer, Mode};
use super::credential::Credential;
use super::listener;
use super::pool;
use super::switches::{EphemeralForm, Switches};

/// What the rules depend on besides the body.
pub(crate) struct Rules<'a> {
    pub(crate) switches: &'a Switches,
    pub(crate) credentials: &'a BTreeMap<String, Credential>,
}

/// A body for POST, and the addressing mode it asks for.
pub(crate) fn create(body: &Value, rules: &Rules<'_>) -> Result<Mode, Violation> {
    require(text(body, "version").is_empty(), "E26", "version", "must be empty for a new load balancer")?;
    balancer(body, rules)?;
    Mode::wanted(body)
}

/// A body for PUT on `stored`, and the addressing mode afterwards.
pub(crate) fn update(body: &Value, stored: &Balancer, rules: &Rules<'_>) -> Result<Mode, Violation> {
    require(text(body, "name") == stored.name, "E62", "name", "must be the name in the path")?;
    require(!text(body, "version").is_empty(), "E60", "version", "must be the version last read")?;
    let named = list(body, "listeners").iter().any(|listener| !text(listener, "name").is_empty());
    require(!named || rules.switches.ignore_listener_name, "E66", "listeners[].name", "is read-only")?;
    immutable(body, stored)?;
    balancer(body, rules)?;
    match keeps_ephemeral(body, stored, rules.switches.ephemeral_form)? {
        Some(mode) => Ok(mode),
        None => readdress(body, stored),
    }
}

/// The rules that POST and PUT share.
fn balancer(body: &Value, rules: &Rules<'_>) -> Check {
    require(is_name(text(body, "name")), "E24", "name", "must be 1 to 63 of a-z, 0-9 and inner dashes")?;
    plan(text(body, "planId"), rules.switches)?;
    labels(&body["labels"])?;
    networks(list(body, "networks"))?;
    let (listeners, pools) = (list(body, "listeners"), list(body, "targetPools"));
    require(listeners.len() <= 20, "E36", "listeners", "at most 20")?;
    require(pools.len() <= 20, "E36", "targetPools", "at most 20")?;
    pool::unique_names(pools)?;
    pools.iter().enumerate().try_for_each(|(at, it)| pool::check(it, &format!("targetPools[{at}]"), rules.switches))?;
    listeners
        .iter()
        .enumerate()
        .try_for_each(|(at, it)| listener::check(it, &format!("listeners[{at}]"), pools, rules.switches))?;
    listener::no_overlap(listeners)?;
    options(&body["options"], rules)
}

fn plan(plan: &str, switches: &Switches) -> Check {
    let offered = plan.is_empty() || switches.plans.iter().any(|known| known == plan);
    require(offered, "E34", "planId", format!("no plan {plan:?}"))
}

fn labels(labels: &Value) -> Check {
    let labels = labels.as_object().map_or_else(Vec::new, |labels| labels.iter().collect());
    require(labels.len() <= 64, "E35", "labels", "at most 64")?;
    for (key, value) in labels {
        let at = format!("labels[{key}]");
        require(is_label(key) && !key.is_empty(), "E35", &at, "a key is 1 to 63 of A-Z, a-z, 0-9 and inner - _ .")?;
        require(!key.starts_with("stackit-"), "E35", &at, "the prefix stackit- is reserved")?;
        let value = value.as_str().unwrap_or_default();
        require(is_label(value), "E35", &at, "a value is 0 to 63 of A-Z, a-z, 0-9 and inner - _ .")?;
    }
    Ok(())
}

fn networks(networks: &[Value]) -> Check {
    let [network] = networks else { return require(false, "E29", "networks", "exactly one network is supported") };
    require(is_uuid_v4(text(network, "networkId")), "E29", "networks[0].networkId", "must be a UUID of version 4")?;
    let supported = text(network, "role") == "ROLE_LISTENERS_AND_TARGETS";
    require(supported, "E29", "networks[0].role", "only ROLE_LISTENERS_AND_TARGETS is supported")
}

fn options(options: &Value, rules: &Rules<'_>) -> Check {
    for range in list(&options["accessControl"], "allowedSourceRanges") {
        let valid = range.as_str().is_some_and(|range| range.parse::<IpNet>().is_ok());
        require(valid, "E47", "options.accessControl.allowedSourceRanges", format!("{range} is no CIDR"))?;
    }
    for kind in ["logs", "metrics"] {
        let reference = text(&options["observability"][kind], "credentialsRef");
        let known = reference.is_empty() || rules.credentials.contains_key(reference);
        let at = format!("options.observability.{kind}.credentialsRef");
        require(known || rules.switches.accept_unknown_credentials, "E48", at, "no such credential")?;
    }
    Ok(())
}

fn immutable(body: &Value, stored: &Balancer) -> Check {
    let same_networks = stored.spec.get("networks") == Some(&body["networks"]);
    require(same_networks, "E67", "networks", "cannot be changed")?;
    let flag = "disableTargetSecurityGroupAssignment";
    let before = stored.spec.get(flag).and_then(Value::as_bool).unwrap_or(false);
    require(before == body[flag].as_bool().unwrap_or(false), "E67", flag, "cannot be changed")
}

/// E68, E69: an ephemeral balancer that says that it stays one; `None` where the ordinary rules are enough.
fn keeps_ephemeral(body: &Value, stored: &Balancer, form: EphemeralForm) -> Result<Option<Mode>, Violation> {
    let flag = "options.ephemeralAddress";
    let Some(address) = stored.external.filter(|_| stored.mode == Mode::Ephemeral) else { return Ok(None) };
    if body["options"]["ephemeralAddress"] != true || form == EphemeralForm::Flag {
        return Ok(None);
    }
    require(form == EphemeralForm::FlagAndAddress, "E68", flag, "is not supported here")?;
    let same = text(body, "externalAddress").parse() == Ok(address);
    require(same, "E68", "externalAddress", "must be the address of the load balancer")?;
    Ok(Some(Mode::Ephemeral))
}

/// The addressing mode after a PUT, if it may change like that.
fn readdress(body: &Value, stored: &Balancer) -> Result<Mode, Violation> {
    let wanted = Mode::wanted(body).map_err(|violation| match violation.rule {
        "E30" => Violation { rule: "E73", ..violation },
        "E31" if violation.field == "options.ephemeralAddress" => Violation { rule: "E69", ..violation },
        _ => violation,
    })?;
    match (&stored.mode, &wanted) {
        (before, after) if before == after => {}
        // E70: the promotion. Nothing is said about it, and nothing takes it back.
        (Mode::Ephemeral, Mode::Static(address)) if stored.external == Some(*address) => {}
        (Mode::Private, _) | (_, Mode::Private) => {
            require(false, "E67", "options.privateNetworkOnly", "cannot be changed")?;
        }
        (_, Mode::Ephemeral) => {
            require(false, "E72", "options.ephemeralAddress", "a static address cannot become ephemeral")?;
        }
        (_, Mode::Static(_)) => require(false, "E71", "externalAddress", "cannot be changed")?,
    }
    Ok(wanted)
}

/// A string field, empty when absent.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// A list field, empty when absent.
pub(crate) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// The name of a balancer or pool.
pub(crate) fn is_name(name: &str) -> bool {
    is_display_name(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// The name of a target, where upper case is fine.
pub(crate) fn is_display_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_label(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
}

/// The strict lower-case pattern of the API.
pub(crate) fn is_uuid_v4(text: &str) -> bool {
    let lower = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let parsed = uuid::Uuid::try_parse(text).ok();
    text.len() == 36
        && lower
        && parsed.is_some_and(|id| id.get_version_num() == 4 && id.get_variant() == uuid::Variant::RFC4122)
}

/// `eu01` and its like.
pub(crate) fn is_region(text: &str) -> bool {
    let (letters, digits) = text.split_at(text.len().saturating_sub(2).min(text.len()));
    (2..=4).contains(&letters.len())
        && letters.bytes().all(|byte| byte.is_ascii_lowercase())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}
