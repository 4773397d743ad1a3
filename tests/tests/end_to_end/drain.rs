//! Drains: by an operator, and before a planned shutdown.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tests::agent::{Agent, verb};
use tests::system_bus::SystemBus;
use tests::wait::until;
use tests::world::{NODES, SHOOT, SOON, World};

const DRAIN: &str = "exposure.gardener.cloud/drain";
const DRAIN_BOOT: &str = "exposure.gardener.cloud/drain-boot";

/// Runs a verb with the settings of this world: exit code, stdout, stderr.
async fn run(world: &World, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let config = world.file("verb.yaml");
    std::fs::write(&config, world.settings()?.to_string())?;
    let config = config.display().to_string();
    let output = verb(&[arguments, &["--config", &config]].concat()).await?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("output that is no text");
    Ok((output.status.code(), text(output.stdout)?, text(output.stderr)?))
}

async fn annotation(world: &World, node: &str, key: &str) -> Result<Option<String>> {
    Ok(world.nodes().get(node).await?.annotations().get(key).cloned())
}

#[tokio::test]
async fn a_drain_returns_when_the_balancer_sends_nobody_there_any_more() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let started = Instant::now();
    let (code, said, log) = run(&world, &["drain", "cp-1", "--wait"]).await?;
    assert_eq!(code, Some(0), "{said}{log}");
    assert!(said.contains("`cp-1` is drained") && log.contains("waiting for"), "{said}{log}");
    assert!(started.elapsed() >= Duration::from_secs(2), "connections had no time to leave");
    assert_eq!(world.targets(), ["cp-0 10.0.0.10", "cp-2 10.0.0.12"]);
    let record = world.status().await?["providerStatus"].clone();
    assert_eq!((&record["settled"], record["targets"].as_array().map(Vec::len)), (&json!(true), Some(2)), "{record}");
    assert_eq!(annotation(&world, "cp-1", DRAIN).await?.as_deref(), Some("true"));
    // Again, and for a node that is out already: nothing is waited for but the two seconds.
    assert_eq!(run(&world, &["drain", "cp-1", "--wait", "--timeout", "10s"]).await?.0, Some(0));

    let (code, said, _) = run(&world, &["undrain", "cp-1"]).await?;
    assert_eq!((code, said.as_str()), (Some(0), "`cp-1` is not drained any more\n"));
    world.awaits_targets(&NODES, SOON).await?;
    let left: Vec<String> = world.nodes().get("cp-1").await?.annotations().keys().cloned().collect();
    assert!(!left.iter().any(|key| key.starts_with("exposure.gardener.cloud/")), "{left:?}");
    world.check_invariants()
}

#[tokio::test]
async fn nobody_drains_the_last_target_and_an_unknown_node_is_named() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    for node in ["cp-1", "cp-2"] {
        assert_eq!(run(&world, &["drain", node]).await?.0, Some(0));
    }
    world.awaits_targets(&["cp-0"], SOON).await?;
    let (code, _, log) = run(&world, &["drain", "cp-0", "--wait"]).await?;
    assert_eq!(code, Some(1));
    assert!(log.contains("no target would be left; cp-1: maintenance (drained), cp-2: maintenance"), "{log}");
    assert_eq!(annotation(&world, "cp-0", DRAIN).await?, None, "it was refused");

    let (code, _, log) = run(&world, &["drain", "cp-9"]).await?;
    assert_eq!(code, Some(1));
    assert!(log.contains("no control-plane node `cp-9`; there are: cp-0, cp-1, cp-2"), "{log}");
    world.check_invariants()
}

#[tokio::test]
async fn a_drain_says_what_it_waits_for_when_its_time_is_up() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    let (code, _, log) = run(&world, &["drain", "cp-1", "--wait", "--timeout", "1s"]).await?;
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("target cp-1 (10.0.0.11) to leave") && log.contains("no agent leads"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_drain_for_a_while_ends_by_itself() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(run(&world, &["drain", "cp-1", "--for", "5s"]).await?.0, Some(0));
    world.awaits_targets(&["cp-0", "cp-2"], Duration::from_secs(4)).await?;
    // Well within the half minute in which an agent looks up by itself.
    world.awaits_targets(&NODES, Duration::from_secs(10)).await
}

#[tokio::test]
async fn the_right_that_is_missing_is_named() -> Result<()> {
    let world = World::start().await?;
    let roles: Api<ClusterRole> = Api::all(world.admin.clone());
    let mut role = roles.get("shoot-exposure-agent").await?;
    for rule in role.rules.iter_mut().flatten() {
        rule.verbs.retain(|verb| verb != "patch");
    }
    role.rules.get_or_insert_default().retain(|rule| !rule.verbs.is_empty());
    roles.replace("shoot-exposure-agent", &kube::api::PostParams::default(), &role).await?;
    until("the verb to be refused", SOON, || async {
        let (code, _, log) = run(&world, &["drain", "cp-1"]).await?;
        ensure!(code == Some(1) && log.contains("the verb `patch` on the resource `nodes`"), "{code:?} {log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_forgotten_drain_and_a_forgotten_pause_show() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    for kind in ["drain", "pause"] {
        agent.awaits_metric(&format!("shoot_exposure_forgotten{{kind=\"{kind}\"}}"), 0.0, SOON).await?;
    }
    assert_eq!(run(&world, &["drain", "cp-1"]).await?.0, Some(0));
    assert_eq!(run(&world, &["pause"]).await?.0, Some(0));
    let long_ago = |key: &str| Patch::Merge(json!({"metadata": {"annotations": {key: "2024-01-02T03:04:05Z"}}}));
    let (drained, paused) =
        (long_ago("exposure.gardener.cloud/drained-at"), long_ago("exposure.gardener.cloud/paused-at"));
    world.nodes().patch("cp-1", &PatchParams::default(), &drained).await?;
    world.exposures().patch(SHOOT, &PatchParams::default(), &paused).await?;
    for kind in ["drain", "pause"] {
        agent.awaits_metric(&format!("shoot_exposure_forgotten{{kind=\"{kind}\"}}"), 1.0, SOON).await?;
    }
    let events: Api<Event> = Api::namespaced(world.admin.clone(), "kube-system");
    for reason in ["DrainForgotten", "PauseForgotten"] {
        until(&format!("the event {reason}"), SOON, || async {
            let events = events.list(&ListParams::default()).await?;
            let found = events.items.iter().find(|event| event.reason.as_deref() == Some(reason));
            let event = found.context("not yet")?;
            ensure!(event.type_.as_deref() == Some("Warning"), "{event:?}");
            Ok(())
        })
        .await?;
    }
    assert_eq!(run(&world, &["resume"]).await?.0, Some(0));
    assert_eq!(run(&world, &["undrain", "cp-1"]).await?.0, Some(0));
    for kind in ["drain", "pause"] {
        agent.awaits_metric(&format!("shoot_exposure_forgotten{{kind=\"{kind}\"}}"), 0.0, SOON).await?;
    }
    Ok(())
}

/// Gives a node the boot ID of its next boot.
async fn reboots(world: &World, node: &str, boot: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"status": {"nodeInfo": {"bootID": boot}}}));
    world.nodes().patch_status(node, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// An agent on a machine whose systemd is asked over this bus.
async fn on_a_machine(world: &World, node: &str, bus: &SystemBus) -> Result<Agent> {
    let address = bus.address();
    world.agent_with(node, World::quick_election(), &[("DBUS_SYSTEM_BUS_ADDRESS", &address)]).await
}

#[tokio::test]
async fn all_three_reboot_in_turn_and_leave_no_marks() -> Result<()> {
    let world = World::start().await?;
    let bus = SystemBus::start(&world.file("bus"))?;
    let mut agents = Vec::new();
    for node in NODES {
        agents.push(on_a_machine(&world, node, &bus).await?);
    }
    world.awaits_success(SOON).await?;
    world.awaits_targets(&NODES, SOON).await?;
    for (index, node) in NODES.into_iter().enumerate() {
        bus.say("stopping");
        agents[index].process().terminate()?;
        let status = agents[index].process().exited(Duration::from_secs(60)).await?;
        assert_eq!(status.code(), Some(0));
        // It has waited: its target was gone before the agent was.
        let others: Vec<&str> = NODES.into_iter().filter(|other| *other != node).collect();
        let targets = world.targets();
        assert!(!targets.iter().any(|target| target.starts_with(node)), "{targets:?}: {}", agents[index].log()?);
        assert_eq!(annotation(&world, node, DRAIN_BOOT).await?, Some(format!("boot-1-of-{node}")));
        world.awaits_targets(&others, SOON).await?;

        bus.say("running");
        reboots(&world, node, &format!("boot-2-of-{node}")).await?;
        // By its boot ID alone: whether the agent comes up does not matter.
        world.awaits_targets(&NODES, SOON).await?;
        agents[index] = on_a_machine(&world, node, &bus).await?;
        until("the mark to be gone", SOON, || async {
            let mark = annotation(&world, node, DRAIN_BOOT).await?;
            ensure!(mark.is_none(), "{mark:?}");
            Ok(())
        })
        .await?;
    }
    world.awaits_targets(&NODES, SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn an_agent_that_is_restarted_marks_nothing_and_an_operators_drain_outlives_a_reboot() -> Result<()> {
    let world = World::start().await?;
    let bus = SystemBus::start(&world.file("bus"))?;
    let agent = on_a_machine(&world, "cp-0", &bus).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(run(&world, &["drain", "cp-0", "--wait"]).await?.0, Some(0));
    let puts = world.emulator.count("PUT", "/load-balancers/");
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    assert_eq!(annotation(&world, "cp-0", DRAIN_BOOT).await?, None);

    // The mark of a boot that is not over, as a userspace that is restarted leaves it.
    let patch = Patch::Merge(json!({"metadata": {"annotations": {DRAIN_BOOT: "boot-1-of-cp-0"}}}));
    world.nodes().patch("cp-0", &PatchParams::default(), &patch).await?;
    let _agent = on_a_machine(&world, "cp-0", &bus).await?;
    until("the agent's own mark to be gone", SOON, || async {
        let mark = annotation(&world, "cp-0", DRAIN_BOOT).await?;
        ensure!(mark.is_none(), "{mark:?}");
        Ok(())
    })
    .await?;
    reboots(&world, "cp-0", "boot-2-of-cp-0").await?;
    assert_eq!(annotation(&world, "cp-0", DRAIN).await?.as_deref(), Some("true"));
    world.awaits_success(SOON).await?;
    assert_eq!(world.targets(), ["cp-1 10.0.0.11", "cp-2 10.0.0.12"]);
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), puts);
    Ok(())
}
