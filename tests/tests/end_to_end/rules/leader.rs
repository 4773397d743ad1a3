//! The leader is stopped while others go on, and wakes up with what it knew.

use std::time::Duration;

use anyhow::Result;
use tests::agent::Agent;
use tests::world::{NODES, World};

use super::{PATIENCE, never_left, sees_all, soak};

/// Stops the leader for so long while an API server comes and goes; nobody may leave whom nothing is wrong with.
async fn stopped(world: &mut World, agents: &[Agent], time: Duration) -> Result<()> {
    world.admin_at("cp-2").await?;
    world.awaits_targets(&NODES, PATIENCE).await?;
    for agent in agents {
        sees_all(agent).await?;
    }
    let holder = world.holder().await?;
    let leader = agents.iter().find(|agent| holder.starts_with(&format!("{}_", agent.process().name())));
    let leader = leader.ok_or_else(|| anyhow::anyhow!("no agent of ours holds the Lease: {holder}"))?;
    leader.process().pause()?;
    let began = tokio::time::Instant::now();
    // Under fire: what the leader would see if it could look.
    world.api_server("cp-1").process().pause()?;
    tokio::time::sleep(Duration::from_secs(2).min(time)).await;
    world.api_server("cp-1").kill()?;
    world.api_server("cp-1").restart().await?;
    tokio::time::sleep_until(began + time).await;
    // All is well again when it wakes: whoever leaves from now on leaves wrongly.
    world.awaits_targets(&NODES, PATIENCE).await?;
    world.emulator.clear_journal();
    leader.process().resume()?;
    // Some rounds of probes, each of which could be misread.
    tokio::time::sleep(Duration::from_secs(8)).await;
    for agent in agents {
        sees_all(agent).await?;
    }
    never_left(world, &NODES)
}

#[tokio::test]
async fn rule_9_a_leader_that_was_stopped_takes_its_own_pause_for_nobodys_silence() -> Result<()> {
    let mut world = World::three().await?;
    let mut agents = Vec::new();
    for node in NODES {
        agents.push(world.agent(node, World::quick_election()).await?);
    }
    for seconds in if soak() { vec![3, 20, 90] } else { vec![3, 20] } {
        stopped(&mut world, &agents, Duration::from_secs(seconds)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn rule_9_an_agent_alone_that_was_stopped_and_finds_all_as_it_was_writes_nothing() -> Result<()> {
    let world = World::three().await?;
    let agent = super::settled(&world, "cp-0").await?;
    for seconds in [3, 20] {
        agent.process().pause()?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        agent.process().resume()?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        sees_all(&agent).await?;
    }
    never_left(&world, &NODES)
}
