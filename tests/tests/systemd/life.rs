//! A unit's life on a machine where nobody answers: start, signs of life, reload, signals, the end.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::booted::Machine;
use tests::wait::until;
use tests::world::NETWORK;

use super::{AGENT, install, settings};

/// A project that is nobody's.
const PROJECT: &str = "2028e5d4-af4f-45e2-98df-502be37a4317";
const DEADLINE: std::time::Duration = tests::booted::BOOT;

/// Stands for kubelet and containerd: says when it is stopped.
fn stopped_in_order(name: &str) -> String {
    format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
         ExecStop=/bin/sh -c 'echo {name} stops >> /order'\n[Install]\nWantedBy=multi-user.target\n"
    )
}

#[tokio::test]
async fn without_an_api_server_it_starts_lives_and_ends_as_it_is_told() -> Result<()> {
    let Some(mut machine) = Machine::new("alone")? else { return Ok(()) };
    for name in ["kubelet", "containerd"] {
        machine.write(&format!("/etc/systemd/system/{name}.service"), &stopped_in_order(name))?;
    }
    machine.boot(true).await?;
    install(&machine, &settings(json!({})))?;
    machine.note("-- nobody answers, not even a kubeconfig is there: it starts, and says what it waits for");
    machine.run(&format!("systemctl enable --now kubelet containerd {AGENT}"))?;
    machine
        .awaits_property(AGENT, "StatusText", |status| status.contains("/etc/shoot-exposure-agent/kubeconfig"))
        .await?;
    let kubeconfig = std::fs::read_to_string(tests::world::repository("systemd/kubeconfig"))?;
    machine.write("/etc/shoot-exposure-agent/kubernetes/ca.crt", &authority()?)?;
    machine.write("/etc/shoot-exposure-agent/kubernetes/token", "a-token")?;
    machine.write("/etc/shoot-exposure-agent/kubeconfig", &kubeconfig)?;
    let status = machine.awaits_property(AGENT, "StatusText", |status| status.contains("Nodes not listed yet")).await?;
    ensure!(status.starts_with("follows; not ready: "), "{status}");
    let process = machine.property(AGENT, "MainPID")?;

    machine.note("-- it is nobody in particular, and nobody else reads what it reads");
    let who = machine.run(&format!("stat -c %U:%G /proc/{process}"))?;
    ensure!(who.trim() == "shoot-exposure-agent:shoot-exposure-agent", "{who}");
    let folders =
        machine.run("stat -c '%a %U:%G %n' /etc/shoot-exposure-agent/*/ /etc/shoot-exposure-agent/kubernetes/*")?;
    ensure!(folders.matches("2750 root:shoot-exposure-agent").count() == 2, "{folders}");
    ensure!(machine.run("runuser -u nobody -- cat /etc/shoot-exposure-agent/kubernetes/token").is_err(), "read");

    machine.note("-- SIGKILL: it is started again");
    machine.run(&format!("kill -KILL {process}"))?;
    machine.awaits_property(AGENT, "NRestarts", |restarts| restarts == "1").await?;
    machine.awaits_property(AGENT, "SubState", |state| state == "running").await?;

    machine.note("-- a stopped process gives no sign of life: killed, and started again");
    machine.write(&format!("/etc/systemd/system/{AGENT}.service.d/quick.conf"), "[Service]\nWatchdogSec=3\n")?;
    machine.run(&format!("systemctl daemon-reload && systemctl restart {AGENT}"))?;
    let process = machine.property(AGENT, "MainPID")?;
    // Twice the limit without a restart: the signs of life do arrive.
    let fed = machine.run(&format!("sleep 6; systemctl show --property=MainPID --value {AGENT}"))?;
    ensure!(fed.trim() == process, "killed although it lives: {fed}");
    machine.run(&format!("kill -STOP {process}"))?;
    machine.awaits_property(AGENT, "MainPID", |other| other != process && other != "0").await?;
    let journal = machine.run(&format!("journalctl --no-pager --output=cat --unit={AGENT} | grep -i watchdog"))?;
    ensure!(journal.contains("Watchdog timeout"), "{journal}");
    machine.awaits_property(AGENT, "SubState", |state| state == "running").await?;

    machine.note("-- reload: refused settings change nothing, good ones are in effect, the process stays");
    let process = machine.property(AGENT, "MainPID")?;
    let reload = |settings: serde_json::Value| {
        machine.write("/etc/shoot-exposure-agent/config.yaml", &settings.to_string())?;
        machine.run(&format!("systemctl reload {AGENT}"))
    };
    reload(settings(json!({"log": {"level": "loud"}})))?;
    machine
        .awaits_property(AGENT, "StatusText", |status| {
            status.contains("settings refused") && status.contains("log.level")
        })
        .await?;
    reload(settings(json!({"log": {"level": "debug"}})))?;
    machine.awaits_property(AGENT, "StatusText", |status| !status.contains("settings refused")).await?;
    machine.awaits_property(AGENT, "SubState", |state| state == "running").await?;
    let journal = machine.run(&format!("journalctl --no-pager --output=cat --unit={AGENT} | grep -i -A1 SIGHUP"))?;
    ensure!(journal.contains("SIGHUP: reading the settings again"), "{journal}");
    ensure!(machine.property(AGENT, "MainPID")? == process, "another process");

    machine.note("-- switched off: the agent goes before kubelet and containerd");
    let order = format!("[Service]\nExecStopPost=+/bin/sh -c 'echo {AGENT} has stopped >> /order'\n");
    machine.write(&format!("/etc/systemd/system/{AGENT}.service.d/order.conf"), &order)?;
    machine.run("systemctl daemon-reload")?;
    machine.power_off().await?;
    let order = std::fs::read_to_string(machine.path("/order"))?;
    machine.note(&format!("/order:\n{order}"));
    ensure!(order.starts_with(&format!("{AGENT} has stopped\n")) && order.lines().count() == 3, "{order}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_is_one_line_of_status_and_mends_itself() -> Result<()> {
    let Some(mut machine) = Machine::new("mistakes")? else { return Ok(()) };
    machine.boot(true).await?;
    install(&machine, &settings(json!({"exposure": {"prot": 443}, "log": {"level": "loud"}})))?;
    machine.note("-- mistakes in the settings: all of them, and exit code 2");
    ensure!(machine.run(&format!("systemctl start {AGENT}")).is_err(), "started");
    let status = machine.awaits_property(AGENT, "StatusText", |status| !status.is_empty()).await?;
    ensure!(status.contains("exposure.prot") && status.contains("log.level"), "{status}");
    machine.awaits_property(AGENT, "ExecMainStatus", |code| code == "2").await?;
    machine.note("-- somebody mends the file: the next start is a good one, by itself");
    machine.write("/etc/shoot-exposure-agent/config.yaml", &settings(json!({})).to_string())?;
    machine.awaits_property(AGENT, "SubState", |state| state == "running").await?;

    machine.note("-- a port in use");
    machine.run(&format!("systemctl stop {AGENT}"))?;
    let standing = settings(json!({
        "server": {"bindAddress": "127.0.0.1:9440"},
        "nodes": {"source": "File", "file": "/nodes.yaml"},
        "exposure": {"name": "root"},
        "stackit": {"region": "eu01", "networkID": NETWORK, "technicalID": "t", "projectID": PROJECT},
    }));
    machine.write("/etc/shoot-exposure-agent/config.yaml", &standing.to_string())?;
    machine.run("systemd-run --unit=other /opt/bin/shoot-exposure-agent run")?;
    until("the port to be taken", DEADLINE, || async {
        let open = machine.quiet("grep -c ':24E0 00000000:0000 0A' /proc/net/tcp")?;
        ensure!(open.trim() == "1", "{open}");
        Ok(())
    })
    .await?;
    ensure!(machine.run(&format!("systemctl start {AGENT}")).is_err(), "started");
    let status = machine.awaits_property(AGENT, "StatusText", |status| status.contains("127.0.0.1:9440")).await?;
    ensure!(status.contains("server.bindAddress") && status.contains("set another port"), "{status}");
    machine.power_off().await
}

/// A certificate that nothing here is signed by.
fn authority() -> Result<String> {
    Ok(tests::control_plane::certificates::Authority::new("kubernetes")?.pem())
}
