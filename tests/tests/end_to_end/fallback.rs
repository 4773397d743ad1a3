//! An agent whose own API server is away goes on through the other nodes', and comes back to its own.

use anyhow::Result;
use serde_json::json;
use tests::world::{SOON, World};

#[tokio::test]
async fn each_node_has_an_api_server_of_its_own() -> Result<()> {
    let mut world = World::three().await?;
    let _agent = world.agent("cp-1", json!({})).await?;
    world.awaits_success(SOON).await?;
    let targets = world.targets();
    for (target, server) in targets.iter().zip(world.control_plane.api_servers()) {
        assert!(target.ends_with(&format!(" {}", server.address().ip())), "{targets:?}");
    }
    // The agent's own one is neither of these.
    world.admin_at("cp-2").await?;
    world.api_server("cp-0").kill()?;
    world.set_ready("cp-0", false).await?;
    world.awaits_targets(&["cp-1", "cp-2"], SOON).await?;
    world.check_invariants()
}
