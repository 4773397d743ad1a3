//! One leads; another takes over.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests::wait::until;
use tests::world::{SOON, World};

#[tokio::test]
async fn a_killed_leader_is_followed_by_another_agent() -> Result<()> {
    let world = World::start().await?;
    let first = world.agent("cp-0", World::quick_election()).await?;
    world.awaits_holder("cp-0", SOON).await?;
    let second = world.agent("cp-1", World::quick_election()).await?;
    world.awaits_success(SOON).await?;
    second.awaits_metric("leader_election_master_status{name=\"shoot-exposure-agent\"}", 0.0, SOON).await?;

    first.process().kill()?;
    world.set_ready("cp-2", false).await?;
    // Lease duration 3 s, plus what noticing and writing takes.
    world.awaits_targets(&["cp-0", "cp-1"], Duration::from_secs(5)).await?;
    world.awaits_holder("cp-1", SOON).await?;
    second.awaits_metric("leader_election_master_status{name=\"shoot-exposure-agent\"}", 1.0, SOON).await?;
    second.awaits_metric("shoot_exposure_leader_transitions_total", 1.0, SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_frees_the_lease_at_once() -> Result<()> {
    let world = World::start().await?;
    let first = world.agent("cp-0", json!({})).await?;
    world.awaits_holder("cp-0", SOON).await?;
    let _second = world.agent("cp-1", json!({})).await?;
    world.awaits_success(SOON).await?;

    first.process().terminate()?;
    // With the default Lease of 15 s: only a release can be this quick.
    world.awaits_holder("cp-1", Duration::from_secs(3)).await?;
    let status = first.process().exited(SOON).await?;
    assert_eq!(status.code(), Some(0));
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await
}

#[tokio::test]
async fn a_lone_agent_leaves_the_lease_free() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    agent.process().terminate()?;
    assert_eq!(agent.process().exited(SOON).await?.code(), Some(0));
    assert_eq!(world.holder().await?, "");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_was_stopped_for_longer_than_its_lease_writes_nothing() -> Result<()> {
    let world = World::start().await?;
    let first = world.agent("cp-0", World::quick_election()).await?;
    world.awaits_holder("cp-0", SOON).await?;
    let _second = world.agent("cp-1", World::quick_election()).await?;
    world.awaits_success(SOON).await?;

    first.process().pause()?;
    world.awaits_holder("cp-1", SOON).await?;
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
    world.awaits_success(SOON).await?;
    let puts = world.emulator.count("PUT", "/load-balancers/");
    first.process().resume()?;
    first.awaits_metric("leader_election_master_status{name=\"shoot-exposure-agent\"}", 0.0, SOON).await?;
    until("the woken agent to have caught up", SOON, || async {
        let ready = first.get("/readyz").await?;
        anyhow::ensure!(ready.0 == 200, "{}", ready.1);
        Ok(())
    })
    .await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), puts);
    assert_eq!(world.targets().len(), 2);
    Ok(())
}
