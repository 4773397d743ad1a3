//! Links that are cut, on network namespaces: root only.

use std::time::Duration;

use anyhow::{Result, bail};
use tests::control_plane::ControlPlane;
use tests::namespaces::{for_test, in_hub};
use tests::world::{NODES, World};

use super::{PATIENCE, free, never_left, sees_all};

const WHAT: &str = "a rule that needs links to cut";

#[test]
fn only_the_leaders_link_is_down_and_only_the_leaders_node_leaves() -> Result<()> {
    let Some(network) = for_test(WHAT, 3)? else { return Ok(()) };
    in_hub(&network, || async {
        let mut world = World::across(&network, ControlPlane::builder()).await?;
        let mut agents = Vec::new();
        for node in NODES {
            agents.push(world.agent(node, World::quick_election()).await?);
        }
        world.awaits_targets(&NODES, PATIENCE).await?;
        for agent in &agents {
            sees_all(agent).await?;
        }
        let holder = world.holder().await?;
        let Some(leader) = NODES.iter().position(|node| holder.starts_with(&format!("{node}_"))) else {
            bail!("held by `{holder}`");
        };
        let others: Vec<&str> = NODES.into_iter().filter(|node| *node != NODES[leader]).collect();
        world.admin_at(others[0]).await?;
        network.unplug(leader)?;
        world.awaits_targets(&others, PATIENCE).await?;
        // To the leader everybody else looks silent: nothing that follows from that.
        tokio::time::sleep(Duration::from_secs(10)).await;
        never_left(&world, &others)?;
        network.plug(leader)?;
        world.awaits_targets(&NODES, PATIENCE).await?;
        for agent in &agents {
            sees_all(agent).await?;
            free(agent).await?;
        }
        never_left(&world, &others)
    })
}

#[test]
fn a_node_that_takes_no_new_connections_leaves_although_the_open_ones_go_on() -> Result<()> {
    let Some(network) = for_test(WHAT, 3)? else { return Ok(()) };
    in_hub(&network, || async {
        let world = World::across(&network, ControlPlane::builder()).await?;
        let agent = world.agent("cp-0", World::quick_election()).await?;
        world.awaits_targets(&NODES, PATIENCE).await?;
        sees_all(&agent).await?;
        network.drop_new_connections(1, world.port())?;
        world.awaits_targets(&["cp-0", "cp-2"], PATIENCE).await?;
        network.admit_new_connections(1)?;
        world.awaits_targets(&NODES, PATIENCE).await?;
        free(&agent).await?;
        never_left(&world, &["cp-0", "cp-2"])
    })
}
