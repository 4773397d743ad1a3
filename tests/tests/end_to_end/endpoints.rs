//! Nodes change, and the balancer follows.

use anyhow::Result;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::fixture;
use tests::wait::until;
use tests::world::{BALANCER, NETWORK, SHOOT, SOON, World};

#[tokio::test]
async fn three_nodes_become_a_balancer_with_three_targets() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    let status = world.awaits_success(SOON).await?;
    assert_eq!(world.targets(), ["cp-0 10.0.0.10", "cp-1 10.0.0.11", "cp-2 10.0.0.12"]);

    let balancer = world.emulator.balancer(BALANCER).unwrap();
    assert_eq!(status["ingress"][0]["ip"], balancer["externalAddress"]);
    assert_eq!(balancer["labels"]["cluster.stackit.cloud"], "shoot--garden--root");
    assert_eq!(balancer["labels"]["exposure.stackit.cloud"], "root");
    assert_eq!(balancer["networks"][0]["networkId"], NETWORK);
    assert_eq!(balancer["listeners"][0]["tcp"]["idleTimeout"], "3600s");
    assert_eq!(balancer["targetPools"][0]["activeHealthCheck"]["unhealthyThreshold"], 3);

    let record = &status["providerStatus"];
    assert_eq!(
        (&record["name"], &record["projectID"], &record["region"], &record["technicalID"]),
        (&json!(BALANCER), &json!(world.emulator.project()), &json!("eu01"), &json!("shoot--garden--root"))
    );
    let exposure = world.exposures().get(SHOOT).await?;
    let names: Vec<_> =
        exposure.data["spec"]["endpoints"].as_array().unwrap().iter().map(|e| e["nodeName"].clone()).collect();
    assert_eq!(names, ["cp-0", "cp-1", "cp-2"]);

    let output = world
        .control_plane
        .kubectl(&tests::control_plane::users::ADMIN, &["get", "exp", "-n", "kube-system", SHOOT])
        .await?;
    let table = String::from_utf8(output.stdout)?;
    assert!(table.contains(status["ingress"][0]["ip"].as_str().unwrap()), "{table}");
    assert!(table.lines().next().unwrap().split_whitespace().eq(["NAME", "TYPE", "IP", "HOSTNAME", "STATUS", "AGE"]));

    agent.awaits_metric("shoot_exposure_targets", 3.0, SOON).await?;
    agent.awaits_metric("shoot_exposure_desired_targets", 3.0, SOON).await?;
    agent.awaits_metric("shoot_exposure_nodes{verdict=\"healthy\"}", 3.0, SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn only_spec_endpoints_is_applied_and_under_its_own_field_manager() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let exposure = world.exposures().get(SHOOT).await?;
    let entries = exposure.metadata.managed_fields.unwrap();
    let entry = entries.iter().find(|e| e.manager.as_deref() == Some("shoot-exposure-agent-endpoints")).unwrap();
    assert_eq!(entry.operation.as_deref(), Some("Apply"));
    assert_eq!(serde_json::to_value(entry.fields_v1.as_ref().unwrap())?, json!({"f:spec": {"f:endpoints": {}}}));
    Ok(())
}

#[tokio::test]
async fn a_node_that_turns_not_ready_leaves_by_one_put_and_no_get_before_it() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "10m"}})).await?;
    world.awaits_success(SOON).await?;
    // A new leader reads again up to 30 s after it began: from then on a read has to do with a change.
    until("the last read of a new leader", std::time::Duration::from_secs(60), || async {
        let reads: Vec<u64> = world.emulator.with_journal(|entries| {
            entries.iter().filter(|entry| entry.method == "GET").map(|entry| entry.at_milliseconds).collect()
        });
        let over = reads.last().unwrap_or(&0) - reads.first().unwrap_or(&0);
        anyhow::ensure!(over > 29_000, "{reads:?}");
        Ok(())
    })
    .await?;
    world.emulator.clear_journal();

    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    let methods: Vec<String> = world.emulator.journal().into_iter().map(|entry| entry.method).collect();
    assert_eq!(methods[0], "PUT", "{methods:?}");
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 1);

    world.set_ready("cp-1", true).await?;
    world.awaits_targets(&["cp-0", "cp-1", "cp-2"], SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn nothing_healthy_freezes_the_pool_with_a_reason_and_it_mends_itself() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let frozen = "shoot_exposure_frozen{reason=\"no_healthy_nodes\"}";
    world.set_ready("cp-0", false).await?;
    world.awaits_targets(&["cp-1", "cp-2"], SOON).await?;
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-2"], SOON).await?;
    world.set_ready("cp-2", false).await?;
    agent.awaits_metric(frozen, 1.0, SOON).await?;
    agent.awaits_log(&["TargetsFrozen", "no_healthy_nodes"], SOON).await?;
    assert_eq!(world.targets(), ["cp-2 10.0.0.12"]);

    // A restart in that state knows the last good set from the balancer, and says the same.
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    let puts = world.emulator.count("PUT", "/load-balancers/");
    let agent = world.agent("cp-0", json!({})).await?;
    agent.awaits_metric(frozen, 1.0, SOON).await?;
    agent.awaits_metric("shoot_exposure_targets", 1.0, SOON).await?;
    assert_eq!(world.targets(), ["cp-2 10.0.0.12"]);
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), puts);

    world.set_ready("cp-0", true).await?;
    world.awaits_targets(&["cp-0"], SOON).await?;
    agent.awaits_metric(frozen, 0.0, SOON).await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn a_node_without_an_address_is_left_out_and_blocks_nobody() -> Result<()> {
    let world = World::start().await?;
    fixture::node("cp-3").control_plane().create(&world.admin).await?;
    fixture::node("worker").internal_ip("10.0.0.99").create(&world.admin).await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_targets(&["cp-0", "cp-1", "cp-2"], SOON).await?;
    agent.awaits_log(&["cp-3", "no InternalIP"], SOON).await?;
    agent.awaits_metric("shoot_exposure_nodes{verdict=\"no_address\"}", 1.0, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn node_names_that_the_cloud_does_not_take_are_made_fit() -> Result<()> {
    let world = World::start().await?;
    fixture::node("cp-3.example.com").internal_ip("10.0.0.13").control_plane().create(&world.admin).await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let targets = world.targets();
    assert!(targets[3].starts_with("cp-3-example-com-") && targets[3].ends_with(" 10.0.0.13"), "{targets:?}");
    Ok(())
}

#[tokio::test]
async fn a_foreign_spec_endpoints_is_applied_over_and_never_reaches_the_balancer() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let foreign = json!([{"nodeName": "evil", "addresses": [{"type": "InternalIP", "address": "10.66.66.66"}]}]);
    let patch = Patch::Merge(json!({"spec": {"endpoints": foreign}}));
    world.exposures().patch(SHOOT, &PatchParams::default(), &patch).await?;
    until("our endpoints to be back", SOON, || async {
        let endpoints = world.exposures().get(SHOOT).await?.data["spec"]["endpoints"].clone();
        anyhow::ensure!(endpoints.as_array().is_some_and(|e| e.len() == 3), "{endpoints}");
        Ok(())
    })
    .await?;
    world.awaits_success(SOON).await?;
    assert!(!world.emulator.journal_lines().contains("10.66.66.66"));
    Ok(())
}

#[tokio::test]
async fn where_others_decide_the_endpoints_the_balancer_follows_the_object() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({"controllers": {"endpoints": false}})).await?;
    agent.awaits_log(&["waiting for a first endpoint"], SOON).await?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 0);
    let endpoints = json!([
        {"nodeName": "cp-1", "addresses": [{"type": "Hostname", "address": "cp-1"}, {"type": "InternalIP", "address": "10.0.0.11"}]},
        {"nodeName": "cp-9", "addresses": [{"type": "Hostname", "address": "cp-9"}]},
    ]);
    let patch = Patch::Merge(json!({"spec": {"endpoints": endpoints}}));
    world.exposures().patch(SHOOT, &PatchParams::default(), &patch).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.targets(), ["cp-1 10.0.0.11"]);
    assert_eq!(world.exposures().get(SHOOT).await?.data["spec"]["endpoints"], endpoints);
    Ok(())
}
