//! Settings change while the agent runs.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::agent::Agent;
use tests::control_plane::certificates::replace;
use tests::wait::until;
use tests::world::{BALANCER, SOON, World};

const GOOD: &str = "shoot_exposure_config_reload_total{result=\"success\"}";
const BAD: &str = "shoot_exposure_config_reload_total{result=\"error\"}";

async fn awaits_plan(world: &World, plan: &str) -> Result<()> {
    until(&format!("the plan {plan}"), SOON, || async {
        let balancer = world.emulator.balancer(BALANCER).unwrap_or_default();
        ensure!(balancer["planId"] == plan, "{}", balancer["planId"]);
        Ok(())
    })
    .await
}

async fn awaits_ready(agent: &Agent, ready: bool) -> Result<String> {
    until(&format!("/readyz to be {ready}"), SOON, || async {
        let (status, text) = agent.get("/readyz?verbose").await?;
        ensure!((status == 200) == ready, "{status} {text}");
        Ok(text)
    })
    .await
}

#[tokio::test]
async fn a_valid_change_is_in_effect_without_a_restart() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({"log": {"level": "info"}})).await?;
    world.awaits_success(SOON).await?;
    assert_eq!((agent.metric(GOOD).await?, agent.metric(BAD).await?), (0.0, 0.0));
    agent.change_settings(json!({"loadBalancer": {"planID": "p50", "tcpIdleTimeout": "30m"}}))?;
    awaits_plan(&world, "p50").await?;
    let balancer = world.emulator.balancer(BALANCER).unwrap_or_default();
    assert_eq!(balancer["listeners"][0]["tcp"]["idleTimeout"], "1800s");
    world.awaits_success(SOON).await?;
    agent.awaits_metric(GOOD, 1.0, SOON).await?;
    agent.awaits_log(&["read the settings again", "loadBalancer.planID"], SOON).await?;
    // Level and format of the log follow.
    agent.change_settings(json!({"log": {"level": "debug", "format": "json"}}))?;
    agent.awaits_log(&["\"level\":\"DEBUG\""], SOON).await?;
    assert!(agent.process().exit()?.is_none());
    world.check_invariants()
}

#[tokio::test]
async fn an_invalid_change_keeps_the_last_good_settings_and_is_said() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    awaits_ready(&agent, true).await?;
    let good = std::fs::read_to_string(agent.config())?;
    agent.change_settings(json!({
        "loadBalancer": {"planID": "p50", "resync": "soon"}, "nonsense": 1,
    }))?;
    agent.awaits_metric(BAD, 1.0, SOON).await?;
    agent.awaits_log(&["loadBalancer.resync"], SOON).await?;
    agent.awaits_log(&["nonsense"], SOON).await?;
    let text = awaits_ready(&agent, false).await?;
    assert!(text.contains("settings"), "{text}");
    // It goes on with what it had.
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
    assert_eq!(world.emulator.balancer(BALANCER).unwrap_or_default()["planId"], "p10");
    // No file at all is no wish for the defaults.
    std::fs::remove_file(agent.config())?;
    agent.awaits_metric(BAD, 2.0, SOON).await?;
    replace(agent.config(), &good)?;
    awaits_ready(&agent, true).await?;
    agent.change_settings(json!({"loadBalancer": {"planID": "p50"}}))?;
    awaits_plan(&world, "p50").await
}

#[tokio::test]
async fn what_waits_for_a_restart_is_said_and_keeps_its_old_value() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    agent.change_settings(json!({
        "stackit": {"region": "eu02"}, "leaderElection": {"leaseName": "other"}, "controllers": {"endpoints": false},
        "exposure": {"class": "seed"}, "server": {"metricsBindAddress": "127.0.0.1:1"},
        "loadBalancer": {"planID": "p50"},
    }))?;
    awaits_plan(&world, "p50").await?;
    for path in
        ["stackit.region", "leaderElection.leaseName", "controllers.endpoints", "exposure.class", "metricsBindAddress"]
    {
        agent.awaits_log(&["take effect at the next start", path], SOON).await?;
    }
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
    world.awaits_success(SOON).await?;
    Ok(())
}

#[tokio::test]
async fn sighup_reads_the_settings_again() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    agent.process().signal(Signal::SIGHUP)?;
    agent.awaits_metric(GOOD, 1.0, SOON).await?;
    std::fs::write(agent.config(), "loadBalancer: {planID: [}")?;
    agent.process().signal(Signal::SIGHUP)?;
    agent.awaits_log(&["the last good ones stay in effect"], SOON).await?;
    assert!(agent.process().exit()?.is_none());
    Ok(())
}
