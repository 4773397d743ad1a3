//! One etcd behind all API servers: what looks like many faults is one.

use std::time::Duration;

use anyhow::{Result, ensure};
use decide::endpoints::Frozen;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use tests::wait::until;
use tests::world::{NODES, SHOOT, World};

use super::{PATIENCE, free, frozen, never_left, nobody_left, sees_all, settled, soak};

#[tokio::test]
async fn rule_2_an_etcd_that_stalls_for_seconds_takes_nobody() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-1").await?;
    let stalls: u32 = if soak() { 30 } else { 4 };
    for stall in 0..stalls {
        world.control_plane.etcd().pause()?;
        // 3 to 6 s: about as long as an API server takes to notice.
        tokio::time::sleep(Duration::from_millis(3_000 + 1_000 * u64::from(stall % 4))).await;
        world.control_plane.etcd().resume()?;
        for server in world.control_plane.api_servers() {
            server.ready().await?;
        }
        sees_all(&agent).await?;
        never_left(&world, &NODES)?;
    }
    nobody_left(&world, &agent).await
}

/// Every timer in question fires while the quorum is away: the lease's 3 s, the 20 s after which an API server counts as
/// settled, the 30 s of a refused credential, the 75 s after which Nodes are stale.
#[tokio::test]
async fn rule_1_a_lost_quorum_and_api_servers_that_restart_meanwhile_take_nobody() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.control_plane.etcd().pause()?;
    until("a freeze", PATIENCE, || async {
        let mut set = 0.0;
        for why in [Frozen::SharedCause, Frozen::NoProof, Frozen::NoHealthyNodes] {
            set += agent.metric(&format!("shoot_exposure_frozen{{reason=\"{}\"}}", why.word())).await?;
        }
        ensure!(set > 0.5, "nothing is frozen");
        Ok(())
    })
    .await?;
    for node in NODES {
        // Without etcd it does not become ready, and gives up after a while.
        world.api_server(node).process().restart()?;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(if soak() { 180 } else { 65 })).await;
    never_left(&world, &NODES)?;
    world.control_plane.etcd().resume()?;
    for node in NODES {
        world.api_server(node).process().restart()?;
    }
    // One of them is the first that is back; it must not see the others off.
    for node in NODES {
        world.api_server(node).ready().await?;
    }
    world.admin_at("cp-1").await?;
    sees_all(&agent).await?;
    nobody_left(&world, &agent).await
}

/// Each API server tries again after pauses of its own, which grow: the first that is back must not see the others off.
#[tokio::test]
async fn rule_1_all_lose_their_connections_to_etcd_for_seconds_and_are_back_one_after_the_other() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-1").await?;
    let outages: &[u64] = if soak() { &[1, 2, 3, 4, 5, 6, 8, 10, 12, 2, 3, 4, 5, 6] } else { &[3] };
    for seconds in outages {
        // Without it this trouble would be one with the last, and all the more waited for.
        tokio::time::sleep(Duration::from_secs(21)).await;
        for node in NODES {
            world.link(node).cut();
        }
        tokio::time::sleep(Duration::from_secs(*seconds)).await;
        for node in NODES {
            world.link(node).heal();
        }
        for server in world.control_plane.api_servers() {
            server.ready().await?;
        }
        sees_all(&agent).await?;
        never_left(&world, &NODES)?;
    }
    nobody_left(&world, &agent).await
}

#[tokio::test]
async fn rule_2_one_api_server_that_lost_its_etcd_leaves_and_is_back_when_it_has_it_again() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-0").await?;
    world.link("cp-1").stall();
    world.awaits_targets(&["cp-0", "cp-2"], PATIENCE).await?;
    world.link("cp-1").heal();
    world.awaits_targets(&NODES, PATIENCE).await?;
    sees_all(&agent).await?;
    never_left(&world, &["cp-0", "cp-2"])
}

#[tokio::test]
async fn a_freeze_has_its_reason_in_metric_condition_and_event_and_ends_with_its_cause() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-0").await?;
    for node in ["cp-1", "cp-2"] {
        world.api_server(node).process().pause()?;
    }
    frozen(&agent, Frozen::SharedCause).await?;
    let condition = async || {
        let status = world.status().await?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        anyhow::Ok(conditions.into_iter().find(|it| it["type"] == "EndpointsHealthy").unwrap_or_default())
    };
    until("the condition", PATIENCE, || async {
        let found = condition().await?;
        let message = found["message"].as_str().unwrap_or_default();
        ensure!(found["reason"] == "TargetsFrozen" && message.contains("may be one"), "{found}");
        Ok(())
    })
    .await?;
    until("the event", PATIENCE, || async {
        let events: Api<Event> = Api::namespaced(world.admin.clone(), "kube-system");
        let events = events.list(&ListParams::default()).await?.items;
        let ours = |event: &&Event| event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some(SHOOT);
        let reasons: Vec<_> = events.iter().filter(ours).filter_map(|event| event.reason.as_deref()).collect();
        ensure!(reasons.contains(&"TargetsFrozen"), "{reasons:?}");
        Ok(())
    })
    .await?;
    for node in ["cp-1", "cp-2"] {
        world.api_server(node).process().resume()?;
    }
    free(&agent).await?;
    until("the condition to be true again", PATIENCE, || async {
        let found = condition().await?;
        ensure!(found["status"] == "True", "{found}");
        Ok(())
    })
    .await?;
    never_left(&world, &NODES)
}

/// It serves from its cache, its watches stay open, and nothing comes through them any more.
#[tokio::test]
async fn rule_7_a_watch_that_looks_alive_behind_an_isolated_api_server_is_left() -> Result<()> {
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-2").await?;
    world.link("cp-0").stall();
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-2"], PATIENCE).await?;
    world.awaits_holder("cp-0", PATIENCE).await?;
    world.set_ready("cp-1", true).await?;
    world.link("cp-0").heal();
    world.awaits_targets(&NODES, PATIENCE).await?;
    free(&agent).await?;
    never_left(&world, &["cp-2"])
}
