//! The API server has a bad day.

use anyhow::Result;
use serde_json::json;
use tests::world::{SOON, World};

#[tokio::test]
async fn an_api_server_that_restarts_is_found_again() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let targets = world.targets();
    let api_server = world.control_plane.api_server();
    api_server.process().kill()?;
    agent.awaits_log(&["cannot watch", "Nodes"], SOON).await?;
    // Absence of information is no evidence.
    assert_eq!(world.targets(), targets);
    assert_eq!(agent.get("/livez").await?.0, 200);
    api_server.process().restart()?;
    api_server.ready().await?;
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn an_api_server_that_comes_later_than_the_agent_is_waited_for() -> Result<()> {
    let world = World::start().await?;
    let api_server = world.control_plane.api_server();
    api_server.process().kill()?;
    let agent = world.agent("cp-0", json!({})).await?;
    let (status, text) = agent.get("/readyz").await?;
    assert_eq!(status, 500, "{text}");
    api_server.process().restart()?;
    api_server.ready().await?;
    world.awaits_success(SOON).await.map(drop)
}
