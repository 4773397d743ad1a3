//! Settings that were read again: what takes effect at once, and what waits for the next start.
//!
//! What waits is what others were told already (an address that is bound, the name of a Lease, the watches on Nodes
//! and exposures) and what makes up the balancer's identity: a balancer never moves.

use serde_json::Value;

use super::Settings;
use super::tree::{leaves, pointer};

/// The keys and sections that are looked at once, at the start.
const AT_START: &[&str] = &[
    "nodeName",
    "kubernetes",
    "controllers",
    "exposure.namespace",
    "exposure.name",
    "exposure.type",
    "exposure.class",
    "nodes",
    // As a whole: agents whose times differ would not agree on who leads.
    "leaderElection",
    "stackit.region",
    "stackit.projectID",
    "stackit.networkID",
    "stackit.technicalID",
    "server",
];

/// What [`reload`] makes of settings that were read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// In effect from now on: the new ones, with the old values of what waits.
    pub settings: Settings,
    /// Dotted paths of the keys that take effect now, in order.
    pub applied: Vec<String>,
    /// Dotted paths of the keys that differ and take effect at the next start, in order.
    pub waiting: Vec<String>,
}

/// Whether a change of this key takes effect at the next start only.
pub fn waits_for_restart(path: &str) -> bool {
    let speaks = |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    AT_START.iter().any(|key| speaks(key))
}

/// Puts settings that were read again over those in effect.
pub fn reload(in_effect: &Settings, read: Settings) -> Reloaded {
    let (Ok(old), Ok(mut new)) = (serde_json::to_value(in_effect), serde_json::to_value(&read)) else {
        return Reloaded { settings: read, applied: Vec::new(), waiting: Vec::new() };
    };
    let mut applied = Vec::new();
    let mut waiting = Vec::new();
    for path in leaves(&old) {
        let pointer = pointer(&path);
        let (Some(before), Some(after)) = (old.pointer(&pointer), new.pointer_mut(&pointer)) else { continue };
        if before == after {
            continue;
        }
        if waits_for_restart(&path) {
            *after = Value::clone(before);
            waiting.push(path);
        } else {
            applied.push(path);
        }
    }
    // Each value comes from settings that were read, so the whole reads back.
    let settings = serde_json::from_value(new).unwrap_or(read);
    Reloaded { settings, applied, waiting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_and_what_does_not() {
        for (path, waits) in [
            ("nodeName", true),
            ("kubeconfig", false),
            ("kubernetes.fallback", true),
            ("controllers.endpoints", true),
            ("controllers.dns", true),
            ("exposure.namespace", true),
            ("exposure.name", true),
            ("exposure.type", true),
            ("exposure.class", true),
            ("exposure.createIfMissing", false),
            ("exposure.port", false),
            ("nodes.source", true),
            ("nodes.selector", true),
            ("health.conditions", false),
            ("health.probe.interval", false),
            ("leaderElection.leaseName", true),
            ("leaderElection.renewDeadline", true),
            ("stackit.credentials", false),
            ("stackit.credentialsDirectory", false),
            ("stackit.region", true),
            ("stackit.projectID", true),
            ("stackit.networkID", true),
            ("stackit.technicalID", true),
            ("stackit.loadBalancerEndpoint", false),
            ("stackit.caBundle", false),
            ("loadBalancer.planID", false),
            ("loadBalancer.accessControl.sourceRangesFile", false),
            ("server.bindAddress", true),
            ("server.metricsBindAddress", true),
            ("log.level", false),
        ] {
            assert_eq!(waits_for_restart(path), waits, "{path}");
        }
    }

    #[test]
    fn every_row_names_keys() {
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        for path in AT_START {
            assert!(defaults.pointer(&pointer(path)).is_some(), "{path} is no key");
        }
    }

    #[test]
    fn what_waits_keeps_its_old_value() {
        let old = Settings::default();
        let mut read = Settings::default();
        read.load_balancer.plan_id = "p50".to_owned();
        read.server.bind_address = "127.0.0.1:1".to_owned();
        read.exposure.name = "root".to_owned();
        read.exposure.port = 6443;
        let Reloaded { settings, applied, waiting } = reload(&old, read);
        assert_eq!(applied, ["exposure.port", "loadBalancer.planID"]);
        assert_eq!(waiting, ["exposure.name", "server.bindAddress"]);
        assert_eq!((settings.load_balancer.plan_id.as_str(), settings.exposure.port), ("p50", 6443));
        assert_eq!((settings.server, settings.exposure.name.as_str()), (old.server, ""));
    }

    #[test]
    fn the_same_settings_change_nothing() {
        let same = reload(&Settings::default(), Settings::default());
        assert_eq!((same.applied.len(), same.waiting.len()), (0, 0));
        assert_eq!(same.settings, Settings::default());
    }
}
