//! The life of an exposure: spec, annotation, status, deletion.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tests::control_plane::users::ADMIN;
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World};

async fn patch(world: &World, patch: Value) -> Result<()> {
    world.exposures().patch(SHOOT, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_of_the_spec_is_met_without_an_annotation() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    patch(&world, json!({"spec": {"port": 6443}})).await?;
    until("the new port", SOON, || async {
        let balancer = world.emulator.balancer(BALANCER).unwrap_or_default();
        let ports = (&balancer["listeners"][0]["port"], &balancer["targetPools"][0]["targetPort"]);
        ensure!(ports == (&json!(6443), &json!(6443)), "{ports:?}");
        Ok(())
    })
    .await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn the_annotation_is_stripped_and_answered_without_a_put() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.clear_journal();
    let now = k8s_openapi::jiff::Timestamp::now();
    let annotations = json!({"gardener.cloud/operation": "reconcile", "gardener.cloud/timestamp": now.to_string()});
    patch(&world, json!({"metadata": {"annotations": annotations}})).await?;
    // Healthy means among other things: annotation gone, lastUpdateTime not before the timestamp. In whole seconds: where
    // the first success was in this very second, it still stands right after the annotation has gone.
    until("the answer", SOON, || async {
        let status = world.awaits_success(SOON).await?;
        ensure!(status["lastOperation"]["type"] == "Reconcile", "{status}");
        Ok(())
    })
    .await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 0);
    Ok(())
}

#[tokio::test]
async fn an_annotation_without_a_timestamp_is_answered_with_a_newer_time() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    let before = world.awaits_success(SOON).await?["lastOperation"]["lastUpdateTime"].clone();
    // Times are in whole seconds: only an answer in a later second can be told from the first one.
    let text = before.as_str().unwrap_or_default().to_owned();
    until("the next second", SOON, || {
        let (now, text) = (k8s_openapi::jiff::Timestamp::now(), text.clone());
        async move {
            ensure!(now.as_second() > text.parse::<k8s_openapi::jiff::Timestamp>()?.as_second(), "the same second");
            Ok(())
        }
    })
    .await?;
    patch(&world, json!({"metadata": {"annotations": {"gardener.cloud/operation": "reconcile"}}})).await?;
    until("a newer lastUpdateTime", SOON, || async {
        let status = world.awaits_success(SOON).await?;
        ensure!(status["lastOperation"]["lastUpdateTime"] != before, "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_exposure_goes_after_its_balancer() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    // The cloud takes its time: the object must still be there as long as the balancer is.
    world.emulator.set_delays(tests::emulator::Delays {
        delete: std::time::Duration::from_secs(2),
        ..tests::emulator::Delays::default()
    });
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    until("the exposure to be gone", SOON, || async {
        let there = world.exposures().get_opt(SHOOT).await?.is_some();
        let balancer = world.emulator.balancer(BALANCER);
        ensure!(there || balancer.is_none(), "the object went before its balancer");
        ensure!(!there, "still there, balancer {}", balancer.is_some());
        Ok(())
    })
    .await?;
    assert_eq!(world.emulator.balancer(BALANCER), None);
    assert_eq!(world.emulator.count("DELETE", "/load-balancers/"), 1);
    Ok(())
}

#[tokio::test]
async fn deletion_needs_neither_cluster_nor_infrastructure() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    world.dynamic("Infrastructure").delete(SHOOT, &DeleteParams::default()).await?;
    world.control_plane.kubectl(&ADMIN, &["delete", "clusters.extensions.gardener.cloud", "kube-system"]).await?;
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_gone(SOON).await
}

#[tokio::test]
async fn nothing_is_made_before_finalizer_and_record_are_stored() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    until("the balancer", SOON, || async {
        let made = world.emulator.count("POST", "/load-balancers") > 0;
        let object = world.exposures().get(SHOOT).await?;
        let finalizers = object.metadata.finalizers.unwrap_or_default();
        let stored = finalizers.contains(&"extensions.gardener.cloud/selfhostedshootexposure".to_owned())
            && object.data["status"]["providerStatus"]["name"] == BALANCER;
        // Read after the count: what is stored now may be newer than the POST, but never missing.
        ensure!(!made || stored, "made before it was stored");
        ensure!(made, "not made yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_bad_provider_config_is_reported_with_its_path_and_mends() -> Result<()> {
    let world = World::without_exposure().await?;
    let config = |ranges: Value| {
        json!({"spec": {"providerConfig": {
            "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1",
            "kind": "SelfHostedShootExposureConfig",
            "loadBalancer": {"planID": "p50", "accessControl": {"allowedSourceRanges": ranges}},
        }}})
    };
    world.create_exposure(config(json!(["192.0.2.1/24"]))).await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    let path = "spec.providerConfig.loadBalancer.accessControl.allowedSourceRanges[0]";
    let status = world
        .awaits_error(&format!("{path}: Invalid value: \"192.0.2.1/24\": must be valid canonical CIDR"), SOON)
        .await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_CONFIGURATION_PROBLEM"]));
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 0);

    patch(&world, config(json!(["192.0.2.0/24"]))).await?;
    world.awaits_success(SOON).await?;
    let balancer = world.emulator.balancer(BALANCER).unwrap();
    assert_eq!(balancer["planId"], "p50");
    assert_eq!(balancer["options"]["accessControl"]["allowedSourceRanges"], json!(["192.0.2.0/24"]));
    Ok(())
}

#[tokio::test]
async fn objects_of_another_type_or_class_are_left_alone() -> Result<()> {
    let world = World::without_exposure().await?;
    for (name, over) in [("other-type", json!({"type": "aws"})), ("other-class", json!({"class": "garden"}))] {
        world.create_exposure(json!({"metadata": {"name": name}, "spec": over})).await?;
    }
    world.create_exposure(json!({})).await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    for name in ["other-type", "other-class"] {
        let object = world.exposures().get(name).await?;
        assert_eq!(object.metadata.finalizers, None);
        assert_eq!(object.data["status"], Value::Null);
        assert_eq!(object.data["spec"]["endpoints"], json!([]));
    }
    assert_eq!(world.emulator.balancers().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_missing_exposure_is_made_where_the_settings_say_so() -> Result<()> {
    let world = World::without_exposure().await?;
    let _agent =
        world.agent("cp-0", json!({"exposure": {"name": SHOOT, "createIfMissing": true, "port": 6443}})).await?;
    world.awaits_success(SOON).await?;
    let object = world.exposures().get(SHOOT).await?;
    assert_eq!((&object.data["spec"]["type"], &object.data["spec"]["port"]), (&json!("stackit"), &json!(6443)));
    assert_eq!(world.targets().len(), 3);
    Ok(())
}
