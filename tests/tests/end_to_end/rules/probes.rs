//! API servers that do not answer, and connections that end.

use std::time::Duration;

use anyhow::{Result, ensure};
use decide::endpoints::Frozen;
use serde_json::json;
use tests::agent::merge;
use tests::control_plane::ControlPlane;
use tests::world::{NODES, World};

use super::super::reach::black_hole;
use super::{PATIENCE, drain, free, frozen, never_left, nobody_left, sees_all, settled};

#[tokio::test]
async fn rule_2_two_of_three_that_fall_silent_stay() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-0").await?;
    for node in ["cp-1", "cp-2"] {
        world.api_server(node).process().pause()?;
    }
    frozen(&agent, Frozen::SharedCause).await?;
    // Longer than the 3 s and 5 s that removals are apart.
    tokio::time::sleep(Duration::from_secs(10)).await;
    never_left(&world, &NODES)?;
    for node in ["cp-1", "cp-2"] {
        world.api_server(node).process().resume()?;
    }
    sees_all(&agent).await?;
    free(&agent).await?;
    never_left(&world, &NODES)
}

#[tokio::test]
async fn rule_4_all_stopped_keeps_all_and_a_restart_of_the_agent_meanwhile_changes_nothing() -> Result<()> {
    let world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    for server in world.control_plane.api_servers() {
        server.process().pause()?;
    }
    frozen(&agent, Frozen::NoHealthyNodes).await?;
    agent.process().restart()?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    never_left(&world, &NODES)?;
    for server in world.control_plane.api_servers() {
        server.process().resume()?;
    }
    sees_all(&agent).await?;
    nobody_left(&world, &agent).await
}

#[tokio::test]
async fn rule_2_an_agent_that_restarts_while_two_are_silent_knows_no_better_and_keeps_them() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-0").await?;
    for node in ["cp-1", "cp-2"] {
        world.api_server(node).process().pause()?;
    }
    frozen(&agent, Frozen::SharedCause).await?;
    agent.process().restart()?;
    // It has never had an answer of theirs: no evidence, and no reason to let them in if they were out.
    agent.awaits_metric("shoot_exposure_nodes{verdict=\"unproven\"}", 2.0, PATIENCE).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    never_left(&world, &NODES)?;
    for node in ["cp-1", "cp-2"] {
        world.api_server(node).process().resume()?;
    }
    sees_all(&agent).await?;
    free(&agent).await?;
    never_left(&world, &NODES)
}

#[tokio::test]
async fn rule_3_two_drained_nodes_serve_when_the_third_is_killed() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-1").await?;
    world.admin_at("cp-1").await?;
    for node in ["cp-1", "cp-2"] {
        drain(&world, node, true).await?;
    }
    world.awaits_targets(&["cp-0"], PATIENCE).await?;
    world.api_server("cp-0").kill()?;
    world.awaits_targets(&["cp-1", "cp-2"], PATIENCE).await?;
    world.api_server("cp-0").restart().await?;
    // Their marks count again.
    world.awaits_targets(&["cp-0"], PATIENCE).await?;
    for node in ["cp-1", "cp-2"] {
        drain(&world, node, false).await?;
    }
    world.awaits_targets(&NODES, PATIENCE).await?;
    free(&agent).await?;
    world.check_invariants()
}

#[tokio::test]
async fn the_end_of_a_connection_takes_nobody() -> Result<()> {
    // Each request has a chance of one in fifty to be answered with a GOAWAY.
    let flags = ControlPlane::builder().api_servers(3).links().flag("--goaway-chance=0.02");
    let world = World::managed(flags).await?;
    world.create_exposure(json!({})).await?;
    let mut over = World::quick_election();
    merge(&mut over, json!({"health": {"probe": {"interval": "100ms"}}}));
    let agent = world.agent("cp-0", over).await?;
    world.awaits_targets(&NODES, PATIENCE).await?;
    let greens = async || agent.metric("shoot_exposure_probe_results_total{class=\"green\"}").await;
    let before = greens().await?;
    tests::wait::until("a thousand good answers, some twenty of them with a GOAWAY", PATIENCE, || async {
        let seen = greens().await? - before;
        ensure!(seen >= 1_000.0, "{seen}");
        Ok(())
    })
    .await?;
    for class in ["refused", "shutdown", "red"] {
        let seen = agent.metric(&format!("shoot_exposure_probe_results_total{{class=\"{class}\"}}")).await?;
        ensure!(seen < 0.5, "{seen} times {class}");
    }
    never_left(&world, &NODES)
}

#[tokio::test]
async fn rule_5_two_killed_one_after_the_other_leave_the_third_which_stays_when_it_is_killed_too() -> Result<()> {
    let world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.api_server("cp-1").kill()?;
    world.awaits_targets(&["cp-0", "cp-2"], PATIENCE).await?;
    world.api_server("cp-2").kill()?;
    world.awaits_targets(&["cp-0"], PATIENCE).await?;
    world.api_server("cp-0").kill()?;
    frozen(&agent, Frozen::NoHealthyNodes).await?;
    never_left(&world, &["cp-0"])?;
    for node in NODES {
        world.api_server(node).process().restart()?;
    }
    world.awaits_targets(&NODES, PATIENCE * 2).await?;
    free(&agent).await?;
    world.check_invariants()
}

#[tokio::test]
async fn probes_never_go_through_a_proxy() -> Result<()> {
    let mut world = World::three().await?;
    let (proxy, seen) = black_hole().await?;
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"];
    let mut environment: Vec<(&str, &str)> = proxies.map(|name| (name, proxy.as_str())).to_vec();
    // The emulator's address, which is nobody else's.
    environment.push(("NO_PROXY", "127.0.0.1"));
    let agent = world.agent_with("cp-0", json!({}), &environment).await?;
    world.awaits_targets(&NODES, PATIENCE).await?;
    sees_all(&agent).await?;
    world.admin_at("cp-0").await?;
    world.api_server("cp-1").kill()?;
    world.awaits_targets(&["cp-0", "cp-2"], PATIENCE).await?;
    let lines = seen.lock().map(|lines| lines.clone()).unwrap_or_default();
    ensure!(lines.is_empty(), "the proxy was asked: {lines:?}");
    Ok(())
}
