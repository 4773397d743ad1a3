//! Hands off: `pause` and `resume`.

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tests::agent::run;
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World};

/// Runs a verb with the settings of this world.
fn verb(world: &World, verb: &str) -> Result<std::process::Output> {
    let config = world.credentials().join("../verb.yaml");
    std::fs::write(&config, world.settings()?.to_string())?;
    run(&[verb, "--config", &config.display().to_string()])
}

fn condition(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

#[tokio::test]
async fn a_paused_agent_writes_nothing_and_goes_on_reporting() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let output = verb(&world, "pause")?;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    agent.awaits_metric("shoot_exposure_paused", 1.0, SOON).await?;
    let puts = world.emulator.count("PUT", "/load-balancers/");
    let endpoints = world.exposures().get(SHOOT).await?.data["spec"]["endpoints"].clone();

    world.set_ready("cp-1", false).await?;
    until("the report of what is held back", SOON, || async {
        let status = world.status().await?;
        let description = status["lastOperation"]["description"].as_str().unwrap_or_default();
        ensure!(description.contains("paused") && description.contains("targets"), "{status}");
        ensure!(status["lastError"].is_null(), "{status}");
        ensure!(condition(&status, "LoadBalancerReady")["reason"] == "Paused", "{status}");
        let healthy = condition(&status, "EndpointsHealthy");
        ensure!(healthy["status"] == "False" && healthy["reason"] == "NodesUnhealthy", "{healthy}");
        Ok(())
    })
    .await?;
    agent.awaits_metric("shoot_exposure_nodes{verdict=\"not_ready\"}", 1.0, SOON).await?;
    let events: Api<Event> = Api::namespaced(world.admin.clone(), "kube-system");
    until("the event", SOON, || async {
        let events = events.list(&ListParams::default()).await?;
        ensure!(events.items.iter().any(|event| event.reason.as_deref() == Some("Paused")), "{}", events.items.len());
        Ok(())
    })
    .await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), puts);
    assert_eq!(world.exposures().get(SHOOT).await?.data["spec"]["endpoints"], endpoints);

    assert_eq!(verb(&world, "resume")?.status.code(), Some(0));
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    let status = world.awaits_success(SOON).await?;
    let ready = condition(&status, "LoadBalancerReady");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("LoadBalancerReady")));
    agent.awaits_metric("shoot_exposure_paused", 0.0, SOON).await
}

#[tokio::test]
async fn a_deletion_waits_until_it_is_resumed() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(verb(&world, "pause")?.status.code(), Some(0));
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    until("the report", SOON, || async {
        let status = world.status().await?;
        let description = status["lastOperation"]["description"].as_str().unwrap_or_default();
        ensure!(description.contains("held back until it goes: deleting the load balancer"), "{status}");
        Ok(())
    })
    .await?;
    assert!(world.emulator.balancer(BALANCER).is_some());
    assert_eq!(world.emulator.count("DELETE", "/load-balancers/"), 0);
    assert_eq!(verb(&world, "resume")?.status.code(), Some(0));
    world.awaits_gone(SOON).await
}

#[tokio::test]
async fn the_verbs_say_what_is_missing() -> Result<()> {
    let world = World::without_exposure().await?;
    // At once, though an API server that has just learnt of the kind may say first that its storage is not ready.
    let output = verb(&world, "pause")?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no SelfHostedShootExposure of type `stackit`"), "{text}");

    for name in ["one", "two"] {
        world.create_exposure(json!({"metadata": {"name": name}})).await?;
    }
    let output = verb(&world, "pause")?;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr)?;
    assert!(text.contains("one, two") && text.contains("exposure.name"), "{text}");

    let config = world.credentials().join("../none.yaml");
    std::fs::write(&config, json!({"nodes": {"source": "File", "file": "/nodes.yaml"}}).to_string())?;
    let output = run(&["pause", "--config", &config.display().to_string()])?;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr)?;
    assert!(text.contains("there is no kubeconfig"), "{text}");
    Ok(())
}

#[tokio::test]
async fn conditions_of_others_survive() -> Result<()> {
    let world = World::start().await?;
    let theirs = json!({"type": "Theirs", "status": "Progressing", "reason": "R", "message": "m",
        "lastTransitionTime": "2024-01-02T03:04:05Z", "lastUpdateTime": "2024-01-02T03:04:05Z", "codes": ["X"]});
    let patch = Patch::Merge(json!({"status": {"conditions": [theirs]}}));
    world.exposures().patch_status(SHOOT, &PatchParams::default(), &patch).await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    until("all three conditions", SOON, || async {
        let status = world.status().await?;
        ensure!(condition(&status, "Theirs") == theirs, "{status}");
        for kind in ["LoadBalancerReady", "EndpointsHealthy"] {
            ensure!(condition(&status, kind)["status"] == "True", "{status}");
        }
        Ok(())
    })
    .await
}
