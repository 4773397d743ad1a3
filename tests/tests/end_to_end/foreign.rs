//! Others who write what is ours: once it is repaired, again and again it is said and no longer fought.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tests::control_plane::users::ADMIN;
use tests::wait::until;
use tests::world::{BALANCER, SOON, World};

async fn reasons(world: &World) -> Result<Vec<String>> {
    let events: Api<Event> = Api::namespaced(world.admin.clone(), "kube-system");
    let list = events.list(&ListParams::default()).await?;
    Ok(list.items.into_iter().filter_map(|event| event.reason).collect())
}

async fn awaits_plan(world: &World, plan: &str) -> Result<()> {
    until(&format!("plan {plan}"), SOON, || async {
        let balancer = world.emulator.balancer(BALANCER).context("gone")?;
        ensure!(balancer["planId"] == plan && balancer["status"] == "STATUS_READY", "{}", balancer["planId"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn f22_ranges_that_somebody_else_opens_are_closed_again() -> Result<()> {
    let world = World::start().await?;
    let access = json!({"allowedSourceRanges": ["192.0.2.0/24"], "includeEgressCIDRs": false});
    let over = json!({"loadBalancer": {"resync": "1s", "accessControl": access}});
    let agent = world.agent("cp-0", over).await?;
    world.awaits_success(SOON).await?;
    for ranges in [json!(["0.0.0.0/0"]), json!([])] {
        world.emulator.edit(BALANCER, |balancer| {
            balancer["options"]["accessControl"] = json!({ "allowedSourceRanges": ranges });
        });
        world.awaits_source_ranges(&["192.0.2.0/24"], SOON).await?;
    }
    agent.awaits_metric("shoot_exposure_drift_total{field=\"access_control\"}", 2.0, SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn f22_somebody_who_changes_the_same_again_and_again_is_named_and_targets_go_on() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s", "writesPerMinute": 600}})).await?;
    world.awaits_success(SOON).await?;
    for round in 1..=3 {
        world.emulator.edit(BALANCER, |balancer| balancer["planId"] = json!("p50"));
        if round < 3 {
            awaits_plan(&world, "p10").await?;
        }
    }
    agent.awaits_log(&["ForeignWriter", "plan was changed by somebody else three times"], SOON).await?;
    until("the condition", SOON, || async {
        let status = world.status().await?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "LoadBalancerReady");
        let ready = ready.context("no condition")?;
        ensure!(ready["reason"] == "ForeignWriter" && ready["status"] == "True", "{ready}");
        ensure!(ready["message"].as_str().unwrap_or_default().contains("plan"), "{ready}");
        Ok(())
    })
    .await?;
    until("the event", SOON, || async {
        let reasons = reasons(&world).await?;
        ensure!(reasons.iter().any(|reason| reason == "ForeignWriter"), "{reasons:?}");
        Ok(())
    })
    .await?;

    // Targets go on, and the plan stays as the other wants it.
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    awaits_plan(&world, "p50").await?;
    // A target that was taken out and is put back is out again at once, however often.
    let back = json!({"displayName": "cp-1", "ip": "10.0.0.11"});
    for round in 1..=4 {
        let puts = world.emulator.count("PUT", "/load-balancers/");
        world.emulator.edit(BALANCER, |balancer| {
            balancer["targetPools"][0]["targets"].as_array_mut().unwrap().push(back.clone());
        });
        world.awaits_targets(&["cp-0", "cp-2"], SOON).await.with_context(|| format!("round {round}"))?;
        assert_eq!(world.emulator.count("PUT", "/load-balancers/"), puts + 1, "round {round}");
    }
    awaits_plan(&world, "p50").await?;
    assert!(world.status().await?["lastError"].is_null());
    world.check_invariants()
}

#[tokio::test]
async fn without_the_right_to_write_events_everything_else_works() -> Result<()> {
    let world = World::start().await?;
    let role = ["get", "role", "shoot-exposure-agent", "-n", "kube-system", "-o", "json"];
    let mut role: Value = serde_json::from_slice(&world.control_plane.kubectl(&ADMIN, &role).await?.stdout)?;
    let rules = role["rules"].as_array_mut().context("no rules")?;
    rules.retain(|rule| rule["resources"] != json!(["events"]));
    let patch = json!({ "rules": rules }).to_string();
    let arguments = ["patch", "role", "shoot-exposure-agent", "-n", "kube-system", "--type=merge", "-p", &patch];
    ensure!(world.control_plane.kubectl(&ADMIN, &arguments).await?.status.success(), "cannot take the right away");

    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    agent.awaits_log(&["cannot write events", "forbidden"], SOON).await?;
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    agent.awaits_log(&["TargetRemoved", "cp-1"], SOON).await?;
    assert_eq!(agent.log()?.matches("cannot write events").count(), 1);
    assert_eq!(reasons(&world).await?, Vec::<String>::new());
    Ok(())
}
