//! The rules for target pools.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::answer::{Check, require};
use super::listener::is_port;
use super::shape::seconds;
use super::switches::Switches;
use super::validate::{is_display_name, is_name, list, text};

/// No two pools of one name (E40).
pub(crate) fn unique_names(pools: &[Value]) -> Check {
    let mut seen = BTreeSet::new();
    pools.iter().try_for_each(|pool| {
        require(seen.insert(text(pool, "name")), "E40", "targetPools", format!("two pools {:?}", text(pool, "name")))
    })
}

/// One pool by itself.
pub(crate) fn check(pool: &Value, at: &str, switches: &Switches) -> Check {
    require(is_name(text(pool, "name")), "E40", format!("{at}.name"), "must be 1 to 63 of a-z, 0-9 and inner dashes")?;
    require(is_port(&pool["targetPort"]), "E37", format!("{at}.targetPort"), "must be 1 to 65535")?;
    let targets = list(pool, "targets");
    let most = switches.max_targets;
    require(targets.len() <= most, "E36", format!("{at}.targets"), format!("at most {most}"))?;
    let enough = !targets.is_empty() || switches.accept_empty_targets;
    require(enough, "E44", format!("{at}.targets"), "at least one is needed")?;
    let mut seen = BTreeSet::new();
    for (index, target) in targets.iter().enumerate() {
        let at = format!("{at}.targets[{index}]");
        let name = is_display_name(text(target, "displayName"));
        require(name, "E42", format!("{at}.displayName"), "must be 1 to 63 of A-Z, a-z, 0-9 and inner dashes")?;
        let address = text(target, "ip").parse::<IpAddr>();
        require(address.is_ok(), "E43", format!("{at}.ip"), "must be an IP address")?;
        let refused = address.as_ref().is_ok_and(|address| switches.refused_targets.contains(address));
        require(!refused, "E43", format!("{at}.ip"), "is refused as a target")?;
        require(seen.insert(address.ok()), "E43", format!("{at}.ip"), "is in the pool already")?;
    }
    health_check(&pool["activeHealthCheck"], &format!("{at}.activeHealthCheck"))
}

fn health_check(check: &Value, at: &str) -> Check {
    for name in ["healthyThreshold", "unhealthyThreshold"] {
        let threshold = check[name].as_i64().unwrap_or(1);
        require((1..=1_000_000).contains(&threshold), "E46", format!("{at}.{name}"), "must be 1 to 1000000")?;
    }
    for name in ["interval", "intervalJitter", "timeout"] {
        let duration = check[name].as_str().and_then(seconds).unwrap_or(0.0);
        require(duration >= 0.0, "E46", format!("{at}.{name}"), "must not be negative")?;
    }
    require(
        check["altPort"].is_null() || is_port(&check["altPort"]),
        "E46",
        format!("{at}.altPort"),
        "must be 1 to 65535",
    )?;
    list(&check["httpHealthChecks"], "okStatuses").iter().try_for_each(|status| {
        let number = status.as_str().and_then(|text| text.parse::<u16>().ok());
        let fine = number.is_some_and(|number| (200..=299).contains(&number));
        require(fine, "E46", format!("{at}.httpHealthChecks.okStatuses"), format!("{status} is not 200 to 299"))
    })
}
