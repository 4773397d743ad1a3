//! What silence alone does not do: outlive a sign of life of the kubelet, or count where nobody would take over.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use serde_json::json;
use tests::wait::until;
use tests::world::{NODES, World};
use tokio::time::{Instant, sleep};

use super::{PATIENCE, free, never_left, sees_all, settled};

/// How often a kubelet renews its Lease; here a little more often, because the agent looks every ten seconds.
const RENEWED: Duration = Duration::from_secs(4);

/// Renews a node's Lease, as its kubelet does.
async fn renew(world: &World, node: &str) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(world.nodes().into_client(), "kube-node-lease");
    let lease = Lease {
        metadata: ObjectMeta { name: Some(node.to_owned()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    };
    leases.patch(node, &PatchParams::apply("kubelet").force(), &Patch::Apply(&lease)).await?;
    Ok(())
}

/// A kubelet that renews its Lease until all three are targets; whether they are within [`PATIENCE`].
async fn renews_until_all_are_back(world: &World, node: &str) -> Result<()> {
    let kubelet = async {
        loop {
            renew(world, node).await?;
            sleep(RENEWED).await;
        }
    };
    tokio::select! {
        ended = kubelet => ended,
        back = world.awaits_targets(&NODES, PATIENCE) => back,
    }
}

#[tokio::test]
async fn rule_6_who_is_out_for_silence_is_back_when_its_kubelet_is_alive_and_stays_until_it_has_answered() -> Result<()>
{
    let mut world = World::three().await?;
    let agent = settled(&world, "cp-0").await?;
    world.admin_at("cp-0").await?;
    // A Lease that nobody renews says nothing.
    renew(&world, "cp-2").await?;
    let silent = world.api_server("cp-2").process();
    silent.pause()?;
    world.awaits_targets(&["cp-0", "cp-1"], PATIENCE).await?;
    renews_until_all_are_back(&world, "cp-2").await?;
    agent.awaits_log(&["its kubelet is alive", "node=\"cp-2\""], PATIENCE).await?;
    // It is as silent as before, and that does not count any more.
    let writes = world.emulator.bodies("PUT", "/load-balancers/").len();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        renew(&world, "cp-2").await?;
        sleep(RENEWED).await;
    }
    assert_eq!(world.emulator.bodies("PUT", "/load-balancers/").len(), writes, "something was written");
    // From its first answer on it does.
    silent.resume()?;
    let answered = format!("ip={} class=\"green\"", world.api_server("cp-2").address().ip());
    until("it to have answered again", PATIENCE, || async {
        let times = agent.log()?.lines().filter(|line| line.contains(&answered)).count();
        ensure!(times == 2, "{times}");
        Ok(())
    })
    .await?;
    silent.pause()?;
    world.awaits_targets(&["cp-0", "cp-1"], PATIENCE).await?;
    silent.resume()?;
    world.awaits_targets(&NODES, PATIENCE).await?;
    free(&agent).await?;
    world.check_invariants()
}

#[tokio::test]
async fn rule_10_without_an_election_silence_takes_nobody_and_a_refused_connection_does() -> Result<()> {
    let mut world = World::three().await?;
    let agent = world.agent("cp-0", json!({"leaderElection": {"enabled": false}})).await?;
    world.awaits_targets(&NODES, PATIENCE).await?;
    sees_all(&agent).await?;
    world.admin_at("cp-0").await?;
    let server = world.api_server("cp-2");
    server.process().pause()?;
    agent.awaits_metric("shoot_exposure_nodes{verdict=\"silent\"}", 1.0, PATIENCE).await?;
    // Far longer than a leader would wait.
    sleep(Duration::from_secs(10)).await;
    never_left(&world, &NODES)?;
    server.process().resume()?;
    sees_all(&agent).await?;
    server.kill()?;
    world.awaits_targets(&["cp-0", "cp-1"], PATIENCE).await?;
    server.restart().await?;
    world.awaits_targets(&NODES, PATIENCE).await?;
    world.check_invariants()
}
