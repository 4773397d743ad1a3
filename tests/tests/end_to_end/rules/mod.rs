//! The ten rules over the evidence, against real API servers and etcd.
//!
//! What must not happen is looked for in everything that was ever sent to STACKIT, not in what is there at the end. How
//! long a fault lasts is part of it, so these tests do sleep: for as long as the fault, never in the hope of a result.
//!
//! `RULES_SOAK=1` has the long ones as long as they are meant: 30 stalls of etcd, a leader stopped for 90 s.

mod etcd;
mod leader;
mod link;
mod nodes;
mod probes;
mod silence;

use std::time::Duration;

use anyhow::{Result, ensure};
use decide::endpoints::Frozen;
use serde_json::json;
use tests::agent::Agent;
use tests::wait::until;
use tests::world::{NODES, World, targets_of};

/// Longer than an API server and a probe take on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the long ones are to be long.
pub(crate) fn soak() -> bool {
    std::env::var_os("RULES_SOAK").is_some()
}

/// An agent on this node that has seen all three serve, and all three in the balancer.
pub(crate) async fn settled(world: &World, node: &str) -> Result<Agent> {
    let agent = world.agent(node, World::quick_election()).await?;
    world.awaits_targets(&NODES, PATIENCE).await?;
    sees_all(&agent).await?;
    Ok(agent)
}

/// Waits until an agent sees three healthy nodes.
pub(crate) async fn sees_all(agent: &Agent) -> Result<()> {
    agent.awaits_metric("shoot_exposure_nodes{verdict=\"healthy\"}", 3.0, PATIENCE).await
}

/// Fails if any of these nodes was ever missing in a write.
pub(crate) fn never_left(world: &World, nodes: &[&str]) -> Result<()> {
    for body in world.emulator.bodies("PUT", "/load-balancers/") {
        let targets = targets_of(&body);
        for node in nodes {
            let is_there = targets.iter().any(|target| target.starts_with(&format!("{node} ")));
            ensure!(is_there, "{node} was taken out: {targets:?}");
        }
    }
    world.check_invariants()
}

/// Waits until the targets are frozen for this reason.
pub(crate) async fn frozen(agent: &Agent, why: Frozen) -> Result<()> {
    agent.awaits_metric(&format!("shoot_exposure_frozen{{reason=\"{}\"}}", why.word()), 1.0, PATIENCE).await
}

/// Waits until nothing is frozen.
pub(crate) async fn free(agent: &Agent) -> Result<()> {
    until("nothing to be frozen", PATIENCE, || async {
        for why in Frozen::ALL {
            let set = agent.metric(&format!("shoot_exposure_frozen{{reason=\"{}\"}}", why.word())).await?;
            ensure!(set < 0.5, "{}", why.word());
        }
        Ok(())
    })
    .await
}

/// The end of a trouble that should take nobody: nothing is frozen, the exposure is ready, no write lacked a node.
pub(crate) async fn nobody_left(world: &World, agent: &Agent) -> Result<()> {
    free(agent).await?;
    world.awaits_success(PATIENCE).await?;
    never_left(world, &NODES)
}

/// Marks a node as drained, or takes the mark away.
pub(crate) async fn drain(world: &World, node: &str, on: bool) -> Result<()> {
    let value = on.then_some("true");
    let patch = json!({"metadata": {"annotations": {"exposure.gardener.cloud/drain": value}}});
    world.nodes().patch(node, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await?;
    Ok(())
}
