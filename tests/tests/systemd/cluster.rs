//! A machine that is a node of a cluster: what rotates, and what a reboot means.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use tests::booted::{BOOT, Machine};
use tests::control_plane::users::AGENT as ACCOUNT;
use tests::emulator::{Emulator, KeyOptions, Options};
use tests::wait::until;
use tests::world::{BALANCER, NETWORK, SOON, TECHNICAL_ID, World, repository, targets_of};

use super::{AGENT, install, settings};

/// The node's machine, installed and running, with the shipped kubeconfig: only the API server has another address.
async fn node(world: &World, name: &'static str) -> Result<Option<Machine>> {
    let Some(mut machine) = Machine::new(name)? else { return Ok(None) };
    machine.boot(false).await?;
    let over = json!({
        "health": {"probe": {"enabled": false}},
        "stackit": {"loadBalancerEndpoint": world.emulator.url()},
    });
    install(&machine, &settings(over))?;
    let access = world.control_plane.access(&ACCOUNT);
    let kubeconfig = std::fs::read_to_string(repository("systemd/kubeconfig"))?;
    let own = format!("server: {}\n    tls-server-name: localhost", access.server);
    machine.write("/etc/shoot-exposure-agent/kubernetes/ca.crt", &access.trust)?;
    machine.write("/etc/shoot-exposure-agent/kubeconfig", &kubeconfig.replace("server: https://localhost", &own))?;
    machine.write("/etc/shoot-exposure-agent/credentials/project-id", world.emulator.project())?;
    Ok(Some(machine))
}

/// Puts a key in place as gardener-node-agent does: written elsewhere, and moved.
fn move_key(machine: &Machine, key: &serde_json::Value) -> Result<()> {
    machine.write("/var/tmp/serviceaccount.json", &key.to_string())?;
    machine.run(
        "chmod 0600 /var/tmp/serviceaccount.json && mv /var/tmp/serviceaccount.json /etc/shoot-exposure-agent/credentials/ && \
         systemctl restart shoot-exposure-agent-account",
    )?;
    Ok(())
}

#[tokio::test]
async fn token_and_key_rotate_without_a_restart() -> Result<()> {
    let world = World::start().await?;
    let Some(mut machine) = node(&world, "rotation").await? else { return Ok(()) };
    let key = |id: &serde_json::Value| id["credentials"]["kid"].as_str().unwrap_or_default().to_owned();
    let (revoked, first, second) = (
        world.emulator.service_account_key(&KeyOptions::default())?,
        world.emulator.service_account_key(&KeyOptions::default())?,
        world.emulator.service_account_key(&KeyOptions::default())?,
    );
    world.emulator.revoke_key(&key(&revoked));
    machine.write("/etc/shoot-exposure-agent/kubernetes/token", "a token that nobody knows")?;
    move_key(&machine, &revoked)?;
    machine.run(&format!("systemctl enable --now {AGENT}"))?;
    let process = machine.property(AGENT, "MainPID")?;
    machine
        .awaits_property(AGENT, "StatusText", |status| {
            status.contains("Nodes not listed yet") && status.contains("Unauthorized")
        })
        .await?;

    machine.note("-- a good token is written in place");
    machine.write("/etc/shoot-exposure-agent/kubernetes/token", &ACCOUNT.token())?;
    machine.awaits_property(AGENT, "StatusText", |status| status.starts_with("leads")).await?;
    machine.awaits_property(AGENT, "StatusText", |status| status.contains("degraded: credentials")).await?;
    machine.note("-- a good key is moved in place");
    move_key(&machine, &first)?;
    world.awaits_targets(&["cp-0", "cp-1", "cp-2"], SOON).await?;
    machine.awaits_property(AGENT, "StatusText", |status| status == "leads, 3 targets; ready").await?;

    machine.note("-- the key is replaced and the old one revoked, with every token it has bought");
    move_key(&machine, &second)?;
    until("the new key to be in use", SOON, || async {
        let journal = machine.quiet(&format!("journalctl --no-pager --output=cat --unit={AGENT}"))?;
        ensure!(journal.contains("the changed credential works"), "{journal}");
        Ok(())
    })
    .await?;
    world.emulator.revoke_key(&key(&first));
    world.emulator.revoke_tokens();
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
    machine.run(&format!("systemctl show --property=MainPID,NRestarts,StatusText {AGENT}"))?;
    assert_eq!(machine.property(AGENT, "MainPID")?, process, "it was started again");
    machine.power_off().await?;
    world.check_invariants()
}

#[tokio::test]
async fn a_planned_shutdown_marks_the_node_and_the_next_boot_takes_the_mark_away() -> Result<()> {
    const MARK: &str = "exposure.gardener.cloud/drain-boot";
    let world = World::start().await?;
    let Some(mut machine) = node(&world, "reboot").await? else { return Ok(()) };
    machine.write("/etc/shoot-exposure-agent/kubernetes/token", &ACCOUNT.token())?;
    move_key(&machine, &world.emulator.service_account_key(&KeyOptions::default())?)?;
    machine.run(&format!("systemctl enable --now {AGENT}"))?;
    world.awaits_targets(&["cp-0", "cp-1", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    let mark = async || Ok::<_, anyhow::Error>(world.nodes().get("cp-0").await?.annotations().get(MARK).cloned());

    machine.note("-- the unit alone is started again: the machine goes on, nobody is marked");
    machine.run(&format!("systemctl restart {AGENT}"))?;
    machine.awaits_property(AGENT, "StatusText", |status| status == "leads, 3 targets; ready").await?;
    ensure!(mark().await?.is_none() && world.targets().len() == 3, "marked: {:?}", mark().await?);

    machine.note("-- the machine is booted again: its node is marked, and leaves the balancer before it goes");
    let seen = async {
        until("the mark", BOOT, || async {
            ensure!(mark().await?.as_deref() == Some("boot-1-of-cp-0"), "{:?}", mark().await?);
            Ok(())
        })
        .await?;
        world.awaits_targets(&["cp-1", "cp-2"], BOOT).await
    };
    let (booted, seen) = tokio::join!(machine.reboot(), seen);
    seen?;
    booted?;
    machine.note("-- up again: the mark is gone, the target is back");
    until("the mark to be gone", BOOT, || async {
        ensure!(mark().await?.is_none(), "{:?}", mark().await?);
        Ok(())
    })
    .await?;
    world.awaits_targets(&["cp-0", "cp-1", "cp-2"], BOOT).await?;
    machine.run(&format!(
        "journalctl --no-pager --output=short-monotonic --unit={AGENT} | grep -E 'machine|load balancer sends|Stopped|Started'"
    ))?;
    machine.power_off().await?;
    world.check_invariants()
}

#[tokio::test]
async fn the_balancer_is_made_before_there_is_a_cluster_and_before_the_daemon_starts() -> Result<()> {
    const BOOTSTRAP: &str = "shoot-exposure-agent-bootstrap";
    let emulator = Emulator::start(Options::default()).await?;
    let Some(mut machine) = Machine::new("first")? else { return Ok(()) };
    machine.boot(false).await?;
    let over = json!({
        "exposure": {"name": "root"},
        "stackit": {
            "loadBalancerEndpoint": emulator.url(), "region": emulator.region(), "projectID": emulator.project(),
            "networkID": NETWORK, "technicalID": TECHNICAL_ID,
        },
    });
    install(&machine, &settings(over))?;
    move_key(&machine, &emulator.service_account_key(&KeyOptions::default())?)?;
    machine.write("/etc/shoot-exposure-agent/bootstrap.env", "ENDPOINTS=--endpoint cp-0=10.0.0.10\n")?;
    machine.run(&format!("systemctl enable {BOOTSTRAP} {AGENT}; systemctl start --no-block {BOOTSTRAP} {AGENT}"))?;
    machine.awaits_property(AGENT, "SubState", |state| state == "running").await?;
    machine.awaits_property(BOOTSTRAP, "ActiveState", |state| state == "active").await?;
    machine.run(&format!("journalctl --no-pager --output=short-monotonic --unit={BOOTSTRAP} --unit={AGENT}"))?;
    let moment = |unit: &str, what: &str| Ok::<u64, anyhow::Error>(machine.property(unit, what)?.parse()?);
    let (made, started) =
        (moment(BOOTSTRAP, "ExecMainExitTimestampMonotonic")?, moment(AGENT, "ExecMainStartTimestampMonotonic")?);
    ensure!(made > 0 && made <= started, "made at {made}, started at {started}");
    let balancer = emulator.balancer(BALANCER).context("no balancer")?;
    assert_eq!(targets_of(&balancer), ["cp-0 10.0.0.10"]);
    assert_eq!(balancer["status"], "STATUS_READY");

    machine.note("-- booted again: it is done once");
    machine.reboot().await?;
    machine.awaits_property(AGENT, "SubState", |state| state == "running").await?;
    machine.awaits_property(BOOTSTRAP, "ConditionResult", |result| result == "no").await?;
    let (posts, puts) = (emulator.count("POST", "/load-balancers"), emulator.count("PUT", "/load-balancers/"));
    assert_eq!((posts, puts), (1, 0));
    machine.power_off().await
}
