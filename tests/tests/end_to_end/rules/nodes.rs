//! Nodes that come and go.
//!
//! One API server listens on every loopback address, so that any number of Nodes serves.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, bail};
use decide::endpoints::Frozen;
use kube::api::DeleteParams;
use serde_json::json;
use tests::agent::{Agent, merge};
use tests::control_plane::ControlPlane;
use tests::fixture;
use tests::world::{NODES, World};

use super::{PATIENCE, free, frozen, never_left};

/// A world whose Nodes all serve, and an agent.
struct Shoot {
    world: World,
    agent: Agent,
}

impl Shoot {
    /// With these Nodes at the beginning.
    async fn of(nodes: &[&str]) -> Result<Self> {
        let world = World::managed(ControlPlane::builder().flag("--bind-address=0.0.0.0")).await?;
        for name in NODES {
            world.nodes().delete(name, &DeleteParams::default()).await?;
        }
        let port = world.control_plane.api_server().address().port();
        world.create_exposure(json!({"spec": {"port": port}})).await?;
        let mut over = World::quick_election();
        merge(&mut over, json!({"health": {"probe": {"enabled": true}, "reAddDelay": {"max": "2s"}}}));
        for name in nodes {
            create(&world, name).await?;
        }
        let agent = world.agent("cp-0", over).await?;
        world.awaits_targets(nodes, PATIENCE).await?;
        Ok(Self { world, agent })
    }

    async fn delete(&self, node: &str) -> Result<()> {
        self.world.nodes().delete(node, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// A Node at an address of its own, made from its number.
async fn create(world: &World, name: &str) -> Result<()> {
    let IpAddr::V4(server) = world.control_plane.api_server().address().ip() else { bail!("not IPv4") };
    let number: u8 = name.trim_start_matches("cp-").parse()?;
    let [a, b, c, _] = server.octets();
    let address = Ipv4Addr::new(a, b, c, 10 + number).to_string();
    fixture::node(name).internal_ip(&address).control_plane().create(&world.admin).await.map(drop)
}

/// Nodes that are deleted one after the other are gone; a list without them may be wrong.
#[tokio::test]
async fn a_list_that_lost_most_nodes_takes_nobody_until_it_has_them_again() -> Result<()> {
    let shoot = Shoot::of(&NODES).await?;
    shoot.agent.process().kill()?;
    for name in ["cp-1", "cp-2"] {
        shoot.delete(name).await?;
    }
    shoot.agent.process().restart()?;
    frozen(&shoot.agent, Frozen::MostNodesAbsent).await?;
    // And again, as it is not the first list that counts.
    shoot.agent.process().restart()?;
    frozen(&shoot.agent, Frozen::MostNodesAbsent).await?;
    never_left(&shoot.world, &NODES)?;
    // With the first that is back the list has lost one of three, which may leave until it is back, too.
    for name in ["cp-1", "cp-2"] {
        create(&shoot.world, name).await?;
    }
    free(&shoot.agent).await?;
    shoot.world.awaits_targets(&NODES, PATIENCE).await?;
    shoot.world.check_invariants()
}

#[tokio::test]
async fn one_node_becomes_three_and_one_again() -> Result<()> {
    let shoot = Shoot::of(&["cp-0"]).await?;
    for name in ["cp-1", "cp-2"] {
        create(&shoot.world, name).await?;
    }
    shoot.world.awaits_targets(&NODES, PATIENCE).await?;
    shoot.delete("cp-2").await?;
    shoot.world.awaits_targets(&["cp-0", "cp-1"], PATIENCE).await?;
    shoot.delete("cp-1").await?;
    shoot.world.awaits_targets(&["cp-0"], PATIENCE).await?;
    free(&shoot.agent).await?;
    never_left(&shoot.world, &["cp-0"])
}

#[tokio::test]
async fn all_three_replaced_one_by_one() -> Result<()> {
    let shoot = Shoot::of(&NODES).await?;
    let mut names: Vec<&str> = NODES.to_vec();
    for (old, new) in [("cp-0", "cp-3"), ("cp-1", "cp-4"), ("cp-2", "cp-5")] {
        create(&shoot.world, new).await?;
        names.push(new);
        shoot.world.awaits_targets(&names, PATIENCE).await?;
        shoot.delete(old).await?;
        names.retain(|name| *name != old);
        shoot.world.awaits_targets(&names, PATIENCE).await?;
    }
    free(&shoot.agent).await?;
    shoot.world.check_invariants()
}

#[tokio::test]
async fn all_three_replaced_at_once() -> Result<()> {
    let shoot = Shoot::of(&NODES).await?;
    let new = ["cp-3", "cp-4", "cp-5"];
    for name in NODES {
        shoot.delete(name).await?;
    }
    frozen(&shoot.agent, Frozen::NoNodes).await?;
    for name in new {
        create(&shoot.world, name).await?;
    }
    shoot.world.awaits_targets(&new, PATIENCE).await?;
    free(&shoot.agent).await?;
    // And while nobody looks.
    shoot.agent.process().kill()?;
    for (old, again) in new.into_iter().zip(NODES) {
        shoot.delete(old).await?;
        create(&shoot.world, again).await?;
    }
    shoot.agent.process().restart()?;
    shoot.world.awaits_targets(&NODES, PATIENCE).await?;
    free(&shoot.agent).await?;
    shoot.world.check_invariants()
}

#[tokio::test]
async fn rule_8_nodes_made_anew_under_their_names_bring_their_addresses_along() -> Result<()> {
    let Shoot { world, agent } = Shoot::of(&NODES).await?;
    let IpAddr::V4(server) = world.control_plane.api_server().address().ip() else { bail!("not IPv4") };
    let [a, b, c, _] = server.octets();
    for (number, name) in (20..).zip(NODES) {
        world.nodes().delete(name, &DeleteParams::default()).await?;
        let address = Ipv4Addr::new(a, b, c, number).to_string();
        fixture::node(name).internal_ip(&address).control_plane().create(&world.admin).await?;
        tests::wait::until("the new address", PATIENCE, || async {
            let targets = world.targets();
            anyhow::ensure!(targets.contains(&format!("{name} {address}")) && targets.len() == 3, "{targets:?}");
            Ok(())
        })
        .await?;
    }
    free(&agent).await?;
    world.check_invariants()
}
