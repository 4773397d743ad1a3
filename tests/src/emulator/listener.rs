//! The rules for listeners.

use serde_json::Value;

use super::answer::{Check, require};
use super::shape::seconds;
use super::switches::Switches;
use super::validate::{list, text};

/// One listener by itself; `pools` are those of the same balancer.
pub(crate) fn check(listener: &Value, at: &str, pools: &[Value], switches: &Switches) -> Check {
    require(is_port(&listener["port"]), "E37", format!("{at}.port"), "must be 1 to 65535")?;
    let protocol = text(listener, "protocol");
    let known = !matches!(protocol, "" | "PROTOCOL_UNSPECIFIED");
    require(known, "E38", format!("{at}.protocol"), "is needed")?;
    let passthrough = protocol == "PROTOCOL_TLS_PASSTHROUGH";
    let domains = !list(listener, "serverNameIndicators").is_empty();
    require(passthrough || !domains, "E39", format!("{at}.serverNameIndicators"), "needs PROTOCOL_TLS_PASSTHROUGH")?;
    let pool = text(listener, "targetPool");
    let exists = pools.iter().any(|known| text(known, "name") == pool);
    require(exists, "E40", format!("{at}.targetPool"), format!("no target pool {pool:?}"))?;
    idle_timeout(&listener["tcp"], &format!("{at}.tcp.idleTimeout"), 3_600.0, switches)?;
    idle_timeout(&listener["udp"], &format!("{at}.udp.idleTimeout"), 120.0, switches)
}

/// All listeners together: what may share a port (E38, E39).
pub(crate) fn no_overlap(listeners: &[Value]) -> Check {
    for (index, one) in listeners.iter().enumerate() {
        for other in listeners.iter().take(index).filter(|other| other["port"] == one["port"]) {
            shared_port(one, other, &format!("listeners[{index}].port"))?;
        }
    }
    Ok(())
}

fn shared_port(one: &Value, other: &Value, at: &str) -> Check {
    match (text(one, "protocol"), text(other, "protocol")) {
        ("PROTOCOL_UDP", "PROTOCOL_UDP") => require(false, "E38", at, "two UDP listeners on one port"),
        ("PROTOCOL_UDP", _) | (_, "PROTOCOL_UDP") => Ok(()),
        ("PROTOCOL_TLS_PASSTHROUGH", "PROTOCOL_TLS_PASSTHROUGH") => {
            let (mine, theirs) = (list(one, "serverNameIndicators"), list(other, "serverNameIndicators"));
            require(!(mine.is_empty() && theirs.is_empty()), "E39", at, "two default listeners on one port")?;
            let common = mine.iter().any(|domain| theirs.contains(domain));
            require(!common, "E39", at, "one domain in two listeners on one port")?;
            require(one["tcp"] == other["tcp"], "E39", at, "different TCP options on one port")
        }
        _ => require(false, "E38", at, "two TCP listeners on one port"),
    }
}

fn idle_timeout(protocol: &Value, at: &str, most: f64, switches: &Switches) -> Check {
    let Some(idle) = protocol["idleTimeout"].as_str().and_then(seconds) else { return Ok(()) };
    let enough = idle > 0.0 || (idle == 0.0 && switches.accept_zero_idle_timeout);
    require(enough && idle <= most, "E41", at, format!("must be more than 0s and at most {most}s"))
}

/// A port that can be listened on or connected to.
pub(crate) fn is_port(value: &Value) -> bool {
    value.as_i64().is_some_and(|port| (1..=65_535).contains(&port))
}
