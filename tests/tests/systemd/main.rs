//! The units of `systemd/` in a real systemd, and what it makes of them.
//!
//! Where this is not root nothing boots, which is said on stderr.
#![allow(clippy::unwrap_used)]

mod cluster;
mod life;
mod units;

use anyhow::Result;
use tests::booted::Machine;

/// The agent's unit.
const AGENT: &str = "shoot-exposure-agent";
/// As systemd/README.md installs: each file behind its path.
const INSTALL: &str = r#"/opt/bin/shoot-exposure-agent manifest systemd |
  awk '/^# \// { file = $2; system("mkdir -p $(dirname " file ")"); next } { print > file }'
systemctl daemon-reload
systemctl start shoot-exposure-agent-account"#;

/// Installs the units on a machine that runs. The settings are written before: the unit wants to be started at once.
fn install(machine: &Machine, settings: &serde_json::Value) -> Result<()> {
    // JSON is YAML.
    machine.write("/etc/shoot-exposure-agent/config.yaml", &settings.to_string())?;
    machine.run(INSTALL).map(drop)
}

/// Settings for a machine: its admin server must not be in the way of others'.
fn settings(over: serde_json::Value) -> serde_json::Value {
    let mut settings = serde_json::json!({
        "apiVersion": "agent.exposure.gardener.cloud/v1alpha1",
        "kind": "AgentConfiguration",
        "nodeName": "cp-0",
        "server": {"bindAddress": "127.0.0.1:0"},
    });
    tests::agent::merge(&mut settings, over);
    settings
}
