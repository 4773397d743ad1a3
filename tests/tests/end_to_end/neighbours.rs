//! Gardener and the provider extension next door.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tests::control_plane::users::ADMIN;
use tests::emulator::{Action, Fault};
use tests::wait::until;
use tests::world::{BALANCER, NETWORK, SHOOT, SOON, TECHNICAL_ID, World};

const FINALIZER: &str = "extensions.gardener.cloud/selfhostedshootexposure";

async fn patch(world: &World, patch: Value) -> Result<()> {
    world.exposures().patch(SHOOT, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn ask(world: &World, operation: Value) -> Result<()> {
    patch(world, json!({"metadata": {"annotations": {"gardener.cloud/operation": operation}}})).await
}

async fn awaits_gone(world: &World) -> Result<()> {
    until("the exposure to be gone", SOON, || async {
        ensure!(world.exposures().get_opt(SHOOT).await?.is_none(), "still there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn while_the_state_is_being_restored_nothing_is_written() -> Result<()> {
    let world = World::without_exposure().await?;
    let annotations = json!({"gardener.cloud/operation": "wait-for-state"});
    world.create_exposure(json!({"metadata": {"annotations": annotations}})).await?;
    let agent = world.agent("cp-0", json!({})).await?;
    agent.awaits_log(&["waiting for Gardener to restore the state"], SOON).await?;
    let object = world.exposures().get(SHOOT).await?;
    assert_eq!((&object.metadata.finalizers, &object.data["status"]), (&None, &Value::Null));
    assert_eq!(world.emulator.balancers().len(), 0);

    ask(&world, json!("restore")).await?;
    let status = world.awaits_success(SOON).await?;
    assert_eq!(status["lastOperation"]["type"], "Restore");
    assert_eq!(world.targets().len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_migrated_exposure_leaves_its_balancer_and_a_restored_one_takes_it_back() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    ask(&world, json!("migrate")).await?;
    let status = world.awaits_success(SOON).await?;
    assert_eq!(status["lastOperation"]["type"], "Migrate");
    assert_eq!(status["providerStatus"]["name"], BALANCER);
    let object = world.exposures().get(SHOOT).await?;
    assert!(!object.metadata.finalizers.unwrap_or_default().contains(&FINALIZER.to_owned()));
    // Left alone from here on, by the next agent too.
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_holder("cp-0", SOON).await?;
    let puts = world.emulator.count("PUT", "/load-balancers/");
    world.set_ready("cp-1", false).await?;
    agent.awaits_log(&["handed over by `migrate`"], SOON).await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), puts);

    ask(&world, json!("restore")).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    let status = world.awaits_success(SOON).await?;
    assert_eq!(status["lastOperation"]["type"], "Restore");
    let object = world.exposures().get(SHOOT).await?;
    assert!(object.metadata.finalizers.unwrap_or_default().contains(&FINALIZER.to_owned()));

    // And once more, to the end: the object goes, the balancer stays.
    ask(&world, json!("migrate")).await?;
    until("the second migration", SOON, || async {
        let status = world.awaits_success(SOON).await?;
        ensure!(status["lastOperation"]["type"] == "Migrate", "{status}");
        Ok(())
    })
    .await?;
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    awaits_gone(&world).await?;
    assert!(world.emulator.balancer(BALANCER).is_some());
    assert_eq!(world.emulator.count("DELETE", "/load-balancers/"), 0);
    Ok(())
}

#[tokio::test]
async fn an_error_of_before_goes_as_soon_as_it_is_no_longer_true() -> Result<()> {
    let world = World::start().await?;
    let error = json!({"status": {"lastError": {"description": "of another time"}}});
    world.exposures().patch_status(SHOOT, &PatchParams::default(), &Patch::Merge(error)).await?;
    // The balancer takes its time, which is no error.
    world.emulator.set_delays(tests::emulator::Delays {
        create: std::time::Duration::from_secs(3600),
        ..tests::emulator::Delays::default()
    });
    let _agent = world.agent("cp-0", json!({})).await?;
    until("processing without an error", SOON, || async {
        let status = world.status().await?;
        ensure!(status["lastOperation"]["state"] == "Processing" && status["lastError"].is_null(), "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_forced_deletion_does_not_wait_for_a_cloud_that_is_away() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.inject(Fault::new(Action::internal_error()).path("/load-balancers"));
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    world.awaits_error("500", SOON).await?;
    let forced = json!({"spec": {"shoot": {"metadata": {"annotations": {
        "confirmation.gardener.cloud/force-deletion": "true"}}}}});
    let cluster = ["patch", "clusters.extensions.gardener.cloud", "kube-system", "--type=merge", "-p"];
    let forced = forced.to_string();
    let arguments: Vec<&str> = cluster.into_iter().chain([forced.as_str()]).collect();
    let output = world.control_plane.kubectl(&ADMIN, &arguments).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    awaits_gone(&world).await?;
    agent.awaits_log(&["LoadBalancerLeftBehind", BALANCER, "500"], SOON).await?;
    assert!(world.emulator.balancer(BALANCER).is_some());
    Ok(())
}

#[tokio::test]
async fn a_forced_deletion_deletes_the_balancer_where_it_can() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let forced = json!({"spec": {"shoot": {"metadata": {"annotations": {
        "confirmation.gardener.cloud/force-deletion": "1"}}}}})
    .to_string();
    let arguments =
        ["patch", "clusters.extensions.gardener.cloud", "kube-system", "--type=merge", "-p", forced.as_str()];
    assert!(world.control_plane.kubectl(&ADMIN, &arguments).await?.status.success());
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    awaits_gone(&world).await?;
    assert_eq!(world.emulator.balancer(BALANCER), None);
    Ok(())
}

#[tokio::test]
async fn the_provider_extension_is_asked_where_it_makes_the_balancer() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"controllers": {"exposure": false}})).await?;
    until("endpoints and the wish", SOON, || async {
        let object = world.exposures().get(SHOOT).await?;
        let endpoints = object.data["spec"]["endpoints"].as_array().map(Vec::len);
        ensure!(endpoints == Some(3), "{endpoints:?}");
        let annotations = object.metadata.annotations.unwrap_or_default();
        ensure!(annotations.get("gardener.cloud/operation").is_some_and(|it| it == "reconcile"), "{annotations:?}");
        let asked = annotations.get("gardener.cloud/timestamp").cloned().unwrap_or_default();
        ensure!(asked.contains('.') && asked.ends_with('Z'), "{asked}");
        ensure!(asked.parse::<k8s_openapi::jiff::Timestamp>().is_ok(), "{asked}");
        Ok(())
    })
    .await?;
    // The extension takes the annotation away; the next change asks again.
    ask(&world, Value::Null).await?;
    world.set_ready("cp-1", false).await?;
    until("the next wish", SOON, || async {
        let object = world.exposures().get(SHOOT).await?;
        ensure!(object.data["spec"]["endpoints"].as_array().is_some_and(|it| it.len() == 2), "not yet");
        let annotations = object.metadata.annotations.unwrap_or_default();
        ensure!(annotations.get("gardener.cloud/operation").is_some_and(|it| it == "reconcile"), "{annotations:?}");
        Ok(())
    })
    .await?;
    assert_eq!(world.emulator.balancers().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_provider_config_that_gardenlet_wipes_does_not_open_the_control_plane() -> Result<()> {
    let world = World::without_exposure().await?;
    let config = json!({
        "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1",
        "kind": "SelfHostedShootExposureConfig",
        "loadBalancer": {"planID": "p50", "accessControl": {"allowedSourceRanges": ["192.0.2.0/24"]}},
    });
    world.create_exposure(json!({"spec": {"providerConfig": config}})).await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"planID": "p250"}})).await?;
    world.awaits_success(SOON).await?;
    // As gardenlet does it: the whole spec, nulls for what it does not fill, its own order of endpoints.
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let endpoints: Vec<Value> = ["cp-2", "cp-0", "cp-1"]
        .iter()
        .map(|name| {
            let address = format!("10.0.0.1{}", &name[3..]);
            json!({"nodeName": name, "addresses": [{"type": "InternalIP", "address": address}]})
        })
        .collect();
    patch(
        &world,
        json!({
            "metadata": {"annotations": {"gardener.cloud/operation": "reconcile", "gardener.cloud/timestamp": now}},
            "spec": {"providerConfig": null, "credentialsRef": null, "port": 443, "endpoints": endpoints},
        }),
    )
    .await?;
    until("the plan of the settings", SOON, || async {
        let balancer = world.emulator.balancer(BALANCER).unwrap_or_default();
        ensure!(balancer["planId"] == "p250", "{}", balancer["planId"]);
        Ok(())
    })
    .await?;
    world.awaits_success(SOON).await?;
    let balancer = world.emulator.balancer(BALANCER).unwrap();
    assert_eq!(balancer["options"]["accessControl"]["allowedSourceRanges"], json!(["192.0.2.0/24"]));
    world.check_invariants()
}

#[tokio::test]
async fn unmanaged_infrastructure_needs_neither_cluster_nor_infrastructure() -> Result<()> {
    let world = World::unmanaged().await?;
    let agent = world
        .agent(
            "cp-0",
            json!({"stackit": {"region": "eu01", "projectID": world.emulator.project(), "networkID": NETWORK,
                "technicalID": TECHNICAL_ID}}),
        )
        .await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.targets().len(), 3);
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    until("/readyz to be green", SOON, || async {
        let (status, text) = agent.get("/readyz").await?;
        ensure!(status == 200, "{text}");
        Ok(())
    })
    .await?;
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    awaits_gone(&world).await?;
    assert_eq!(world.emulator.balancer(BALANCER), None);
    Ok(())
}

/// What the provider extension makes of the object on each reconciliation: a whole PUT of what it knows. The address goes
/// without its flag, which promotes it; idle timeout and health check are unknown to it.
async fn extension_reconciles(world: &World) -> Result<()> {
    let spec = world.exposures().get(SHOOT).await?.data["spec"].clone();
    let targets: Vec<Value> = spec["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|endpoint| json!({"displayName": endpoint["nodeName"], "ip": endpoint["addresses"][0]["address"]}))
        .collect();
    world.emulator.edit(BALANCER, |balancer| {
        let port = &spec["port"];
        balancer["options"] = json!({});
        balancer["listeners"] = json!([{"displayName": "control-plane", "port": port, "protocol": "PROTOCOL_TCP",
            "targetPool": "control-plane"}]);
        balancer["targetPools"] = json!([{"name": "control-plane", "targetPort": port, "targets": targets}]);
    });
    Ok(())
}

#[tokio::test]
async fn an_extension_that_reconciles_the_same_object_is_named_and_does_not_keep_a_bad_node_in() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s"}})).await?;
    world.awaits_success(SOON).await?;
    let began = Instant::now();
    let puts = world.emulator.count("PUT", "/load-balancers/");
    let extension = async {
        let mut each = tokio::time::interval(Duration::from_secs(1));
        loop {
            each.tick().await;
            extension_reconciles(&world).await?;
        }
    };
    let story = async {
        until("the condition", SOON, || async {
            let status = world.status().await?;
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition["type"] == "LoadBalancerReady");
            ensure!(ready.is_some_and(|ready| ready["reason"] == "ForeignWriter"), "{ready:?}");
            Ok(())
        })
        .await?;
        let events: Api<Event> = Api::namespaced(world.admin.clone(), "kube-system");
        until("the event", SOON, || async {
            let events = events.list(&ListParams::default()).await?;
            let named = events.items.iter().any(|event| event.reason.as_deref() == Some("ForeignWriter"));
            ensure!(named, "{} other events", events.items.len());
            Ok(())
        })
        .await?;
        world.set_ready("cp-1", false).await?;
        world.awaits_targets(&["cp-0", "cp-2"], Duration::from_secs(5)).await?;
        world.set_ready("cp-1", true).await?;
        world.awaits_targets(&["cp-0", "cp-1", "cp-2"], SOON).await?;
        let status = world.status().await?;
        ensure!(status["lastError"].is_null(), "{status}");
        anyhow::Ok(())
    };
    tokio::select! {
        ended = extension => return ended,
        told = story => told?,
    }
    // Six at once and twelve a minute; a target that leaves is not counted out, nor is the answer to a conflict.
    let most = 6 + usize::try_from(began.elapsed().as_secs())? / 5 + 4;
    let puts = world.emulator.count("PUT", "/load-balancers/") - puts;
    assert!(puts <= most, "{puts} writes in {:?}", began.elapsed());
    let address = &world.emulator.balancer(BALANCER).unwrap()["externalAddress"];
    assert_eq!(&world.status().await?["ingress"][0]["ip"], address);
    world.check_invariants()
}
