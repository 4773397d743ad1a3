//! Who may connect: ranges of the settings, of a file and of the exposure, and the shoot's own.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::control_plane::certificates::replace;
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World};

fn settings(file: &std::path::Path, ranges: &[&str]) -> Value {
    json!({"loadBalancer": {"accessControl": {"sourceRangesFile": file, "allowedSourceRanges": ranges}}})
}

/// Waits for something that the agent does after it has looked at the file: the change of another setting.
async fn has_looked(world: &World, agent: &Agent, plan: &str) -> Result<()> {
    agent.change_settings(json!({"loadBalancer": {"planID": plan}}))?;
    until("the plan", SOON, || async {
        let balancer = world.emulator.balancer(BALANCER).unwrap_or_default();
        ensure!(balancer["planId"] == plan, "{}", balancer["planId"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn settings_file_exposure_and_egress_are_united() -> Result<()> {
    let world = World::without_exposure().await?;
    let file = world.file("ranges");
    std::fs::write(&file, "# office\n198.51.100.0/24  # first floor\n\n2001:db8::/32\n")?;
    let config = |ranges: Value| {
        json!({"spec": {"providerConfig": {
            "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1",
            "kind": "SelfHostedShootExposureConfig",
            "loadBalancer": {"accessControl": {"allowedSourceRanges": ranges}},
        }}})
    };
    world.create_exposure(config(json!(["192.0.2.0/24"]))).await?;
    let agent = world.agent("cp-0", settings(&file, &["10.0.0.0/8"])).await?;
    let all = ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"];
    world.awaits_source_ranges(&all, SOON).await?;
    agent.awaits_log(&["the shoot has no egress CIDRs"], SOON).await?;
    // The shoot's own nodes are let in as soon as their addresses are known.
    world.set_infrastructure(json!({"egressCIDRs": ["203.0.113.200/32"]})).await?;
    let with_egress = ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32", "203.0.113.200/32"];
    world.awaits_source_ranges(&with_egress, SOON).await?;
    // A whole-spec write that wipes the providerConfig takes its ranges away, and opens nothing.
    let wipe = Patch::Merge(json!({"spec": {"providerConfig": null}}));
    world.exposures().patch(SHOOT, &PatchParams::default(), &wipe).await?;
    world.awaits_source_ranges(&["10.0.0.0/8", "198.51.100.0/24", "2001:db8::/32", "203.0.113.200/32"], SOON).await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn a_file_that_becomes_empty_or_wrong_keeps_the_last_good_ranges() -> Result<()> {
    let world = World::start().await?;
    let file = world.file("ranges");
    std::fs::write(&file, "192.0.2.0/24\n")?;
    let agent = world.agent("cp-0", settings(&file, &[])).await?;
    world.awaits_source_ranges(&["192.0.2.0/24"], SOON).await?;
    std::fs::write(&file, "")?;
    agent.awaits_log(&["the last good ones stay", "holds no range"], SOON).await?;
    has_looked(&world, &agent, "p50").await?;
    assert_eq!(world.source_ranges().as_deref(), Some(&["192.0.2.0/24".to_owned()][..]));
    replace(&file, "192.0.2.0/24\n198.51.100.1/24\n")?;
    agent.awaits_log(&["the last good ones stay", "line 2", "write 198.51.100.0/24"], SOON).await?;
    std::fs::remove_file(&file)?;
    agent.awaits_log(&["the last good ones stay", "No such file"], SOON).await?;
    has_looked(&world, &agent, "p10").await?;
    assert_eq!(world.source_ranges().as_deref(), Some(&["192.0.2.0/24".to_owned()][..]));
    replace(&file, "198.51.100.0/24\n")?;
    world.awaits_source_ranges(&["198.51.100.0/24"], SOON).await?;
    world.awaits_success(SOON).await.map(drop)
}

#[tokio::test]
async fn nothing_is_opened_while_the_file_was_never_read() -> Result<()> {
    let world = World::start().await?;
    let file = world.file("ranges");
    let agent = world.agent("cp-0", settings(&file, &[])).await?;
    agent.awaits_log(&["cannot read the source ranges"], SOON).await?;
    until("the exposure to wait for the file", SOON, || async {
        let status = world.status().await?;
        let description = status["lastOperation"]["description"].as_str().unwrap_or_default();
        ensure!(description.contains("sourceRangesFile"), "{status}");
        ensure!(status["lastError"].is_null(), "{status}");
        Ok(())
    })
    .await?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 0);
    // A file that appears later.
    std::fs::write(&file, "192.0.2.0/24\n")?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.source_ranges().as_deref(), Some(&["192.0.2.0/24".to_owned()][..]));
    // Another agent that cannot read it changes what it must, and lets the ranges be.
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    std::fs::remove_file(&file)?;
    let _other = world.agent("cp-1", settings(&file, &[])).await?;
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
    assert_eq!(world.source_ranges().as_deref(), Some(&["192.0.2.0/24".to_owned()][..]));
    world.check_invariants()
}
