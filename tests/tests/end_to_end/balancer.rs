//! The balancer as STACKIT keeps it: adopted, repaired, owned by others, lost, and in every state it reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use shoot_exposure_agent::cloud::{LoadBalancers, Place, Rest, Tokens, credentials};
use tests::emulator::EphemeralForm;
use tests::fixture;
use tests::wait::until;
use tests::world::{BALANCER, NETWORK, SHOOT, SOON, World, targets_of};

/// A change that another client makes.
type Edit = fn(&mut Value);

/// What the provider extension would make: no health check, no idle timeout, the targets it knows.
fn by_the_extension() -> decide::desired::LoadBalancer {
    use decide::desired::{AddressMode, Listener, LoadBalancer, Target, TargetPool};
    LoadBalancer {
        name: BALANCER.to_owned(),
        plan_id: "p10".to_owned(),
        labels: decide::names::labels("shoot--garden--root", SHOOT),
        network_id: NETWORK.to_owned(),
        address: AddressMode::Ephemeral,
        listener: Some(Listener {
            display_name: "control-plane".to_owned(),
            port: 443,
            protocol: "PROTOCOL_TCP".to_owned(),
            target_pool: "control-plane".to_owned(),
            tcp_idle_timeout: None,
        }),
        target_pool: Some(TargetPool {
            target_port: 443,
            targets: [Target { name: "cp-9".to_owned(), ip: [10, 0, 0, 19].into() }].into(),
            active_health_check: None,
        }),
        allowed_source_ranges: None,
        keep_source_ranges: false,
        address_form: decide::desired::AddressForm::default(),
    }
}

/// Another client of the same project.
fn other_client(world: &World) -> Result<Rest> {
    let found = credentials::read(&world.credentials(), None, std::time::SystemTime::now());
    let found = found.map_err(|fault| anyhow::anyhow!(fault.message))?;
    let tokens = Tokens::new(found.source, SOON, None, Arc::new(()))?;
    let (endpoint, project_id) = (world.emulator.url(), world.emulator.project());
    Ok(Rest::new(Place { endpoint, project_id, region: "eu01" }, SOON, None, tokens, Arc::new(()))?)
}

async fn create(world: &World, wish: &decide::desired::LoadBalancer) -> Result<Value> {
    other_client(world)?.create(wish).await.map_err(|fault| anyhow::anyhow!(fault.message))?;
    until("the other's balancer to be ready", SOON, || async {
        let balancer = world.emulator.balancer(BALANCER).context("not there")?;
        ensure!(balancer["status"] == "STATUS_READY", "{balancer}");
        Ok(balancer)
    })
    .await
}

#[tokio::test]
async fn a_balancer_of_the_provider_extension_is_adopted_with_its_address() -> Result<()> {
    let world = World::start().await?;
    let before = create(&world, &by_the_extension()).await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    let status = world.awaits_success(SOON).await?;
    assert_eq!(status["ingress"][0]["ip"], before["externalAddress"]);
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 1, "only the other's own");
    assert_eq!(world.targets().len(), 3);
    let after = world.emulator.balancer(BALANCER).unwrap();
    assert_eq!(after["options"]["ephemeralAddress"], true, "an ephemeral address must not be promoted");
    assert_eq!(after["listeners"][0]["tcp"]["idleTimeout"], "3600s");
    world.check_invariants()
}

#[tokio::test]
async fn what_belongs_to_others_goes_back_as_it_was_read() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s"}})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.edit(BALANCER, |balancer| {
        let pool = json!({"name": "theirs", "targetPort": 80, "targets": [{"displayName": "x", "ip": "10.9.9.9"}]});
        let listener = json!({"displayName": "theirs", "port": 80, "protocol": "PROTOCOL_TCP", "targetPool": "theirs",
                              "tcp": {"idleTimeout": "77s"}});
        balancer["targetPools"].as_array_mut().unwrap().push(pool);
        balancer["listeners"].as_array_mut().unwrap().push(listener);
        balancer["targetPools"][0]["sessionPersistence"] = json!({"useSourceIpAddress": true});
        balancer["labels"]["team"] = json!("network");
    });
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    let balancer = world.emulator.balancer(BALANCER).unwrap();
    assert_eq!(balancer["labels"]["team"], "network");
    assert_eq!(balancer["targetPools"][0]["sessionPersistence"]["useSourceIpAddress"], true);
    assert_eq!(balancer["targetPools"][1]["targets"], json!([{"displayName": "x", "ip": "10.9.9.9"}]));
    assert_eq!(balancer["listeners"][1]["tcp"]["idleTimeout"], "77s");
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn a_balancer_of_somebody_else_is_left_alone_on_deletion_too() -> Result<()> {
    let world = World::start().await?;
    let mut wish = by_the_extension();
    wish.labels.insert("cluster.stackit.cloud".to_owned(), "shoot--other--one".to_owned());
    let before = create(&world, &wish).await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s"}})).await?;
    let status = world.awaits_error("belongs to somebody else", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_CONFIGURATION_PROBLEM"]));
    // Status and finalizer are written side by side; without the finalizer the object would just go.
    until("the finalizer", SOON, || async {
        let finalizers = world.exposures().get(SHOOT).await?.metadata.finalizers.unwrap_or_default();
        ensure!(!finalizers.is_empty(), "not there");
        Ok(())
    })
    .await?;
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    world.awaits_error("Error deleting", SOON).await?;
    assert_eq!(world.emulator.balancer(BALANCER).unwrap(), before);
    assert_eq!(world.emulator.count("PUT", "/load-balancers") + world.emulator.count("DELETE", "/load-balancers"), 0);

    // The labels are set right: it is meant to be ours after all.
    world
        .emulator
        .edit(BALANCER, |balancer| balancer["labels"]["cluster.stackit.cloud"] = json!("shoot--garden--root"));
    world.awaits_gone(SOON).await
}

#[tokio::test]
async fn a_balancer_that_somebody_deleted_is_made_anew() -> Result<()> {
    let world = World::start().await?;
    // The name rests for the lease duration and a request.
    let mut over = World::quick_election();
    over["loadBalancer"] = json!({"resync": "1s"});
    let _agent = world.agent("cp-0", over).await?;
    let before = world.awaits_success(SOON).await?["ingress"][0]["ip"].clone();
    world.emulator.terminate(BALANCER);
    until("another address", SOON, || async {
        let status = world.awaits_success(SOON).await?;
        ensure!(status["ingress"][0]["ip"] != before, "{status}");
        Ok(())
    })
    .await?;
    assert_eq!(world.targets().len(), 3);
    world.check_invariants()
}

#[tokio::test]
async fn drift_is_repaired_whoever_caused_it_and_counted() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s", "writesPerMinute": 600}})).await?;
    world.awaits_success(SOON).await?;
    let edits: [(&str, Edit); 5] = [
        ("targets", |b| b["targetPools"][0]["targets"].as_array_mut().unwrap().truncate(1)),
        ("plan", |b| b["planId"] = json!("p50")),
        ("labels", |b| drop(b["labels"].as_object_mut().unwrap().remove("exposure.stackit.cloud"))),
        ("listener", |b| b["listeners"][0]["tcp"]["idleTimeout"] = json!("60s")),
        ("active_health_check", |b| b["targetPools"][0]["activeHealthCheck"]["interval"] = json!("30s")),
    ];
    let wanted = world.emulator.balancer(BALANCER).unwrap();
    for (field, edit) in edits {
        world.emulator.edit(BALANCER, edit);
        until(&format!("{field} to be repaired"), SOON, || async {
            let balancer = world.emulator.balancer(BALANCER).context("gone")?;
            for part in ["targetPools", "planId", "labels", "listeners"] {
                ensure!(balancer[part] == wanted[part], "{part}: {}", balancer[part]);
            }
            Ok(())
        })
        .await?;
        agent.awaits_metric(&format!("shoot_exposure_drift_total{{field=\"{field}\"}}"), 1.0, SOON).await?;
        world.awaits_success(SOON).await?;
    }
    world.check_invariants()
}

#[tokio::test]
async fn a_field_that_never_changes_is_reported_and_nothing_is_made_anew() -> Result<()> {
    let world = World::start().await?;
    let first = world.agent("cp-0", json!({})).await?;
    let before = world.awaits_success(SOON).await?["ingress"][0]["ip"].clone();
    first.process().terminate()?;
    first.process().exited(SOON).await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"privateNetworkOnly": true}})).await?;
    let status = world.awaits_error("loadBalancer.privateNetworkOnly", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_CONFIGURATION_PROBLEM"]));
    // The nodes are followed all the same.
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    assert_eq!(world.emulator.balancer(BALANCER).unwrap()["externalAddress"], before);
    world.check_invariants()
}

#[tokio::test]
async fn an_addressing_form_that_is_refused_is_tried_once_and_the_other_one_is_kept() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.ephemeral_form = EphemeralForm::FlagAndAddress);
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"writesPerMinute": 600}})).await?;
    world.awaits_success(SOON).await?;
    for (ready, nodes) in
        [(false, &["cp-0", "cp-2"][..]), (true, &["cp-0", "cp-1", "cp-2"]), (false, &["cp-0", "cp-2"])]
    {
        world.set_ready("cp-1", ready).await?;
        world.awaits_targets(nodes, SOON).await?;
        world.awaits_success(SOON).await?;
    }
    let forms = world.emulator.bodies("PUT", "/load-balancers");
    let forms: Vec<bool> = forms.iter().map(|body| body.get("externalAddress").is_some()).collect();
    assert_eq!(forms, [false, true, true, true], "whether the address went along");
    assert!(world.emulator.addresses().iter().all(|address| !address.kept), "an address was promoted");
    world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
    world.awaits_gone(SOON).await
}

#[tokio::test]
async fn an_api_that_takes_no_addressing_form_is_reported_and_not_asked_all_the_time() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.ephemeral_form = EphemeralForm::Neither);
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    world.set_ready("cp-1", false).await?;
    let status = world.awaits_error("400", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_CONFIGURATION_PROBLEM"]));
    // Both forms at once, and from then on one of them after a pause that grows.
    let reported = Instant::now();
    world.emulator.wait_for(|emulator| emulator.count("PUT", "/load-balancers/") >= 4, SOON).await?;
    assert!(reported.elapsed() > Duration::from_secs(2), "{:?}", reported.elapsed());
    let forms = world.emulator.bodies("PUT", "/load-balancers");
    let forms: Vec<bool> = forms.iter().map(|body| body.get("externalAddress").is_some()).collect();
    assert_eq!(forms, [false, true, false, false], "whether the address went along");
    world.emulator.set_switches(|switches| switches.ephemeral_form = EphemeralForm::Flag);
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await.map(drop)
}

#[tokio::test]
async fn a_target_that_is_refused_holds_back_neither_a_removal_nor_a_good_one() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"writesPerMinute": 600}})).await?;
    world.awaits_success(SOON).await?;
    let refused = "10.0.0.20".parse().unwrap();
    world.emulator.set_switches(|switches| switches.refused_targets = [refused].into());
    // While nothing may be written it all piles up.
    world.exposures().patch(SHOOT, &PatchParams::default(), &paused(Some("true"))).await?;
    awaits_conditions(&world, "Paused").await?;
    for (name, address) in [("cp-3", "10.0.0.20"), ("cp-4", "10.0.0.21")] {
        fixture::node(name).internal_ip(address).control_plane().create(&world.admin).await?;
    }
    world.set_ready("cp-1", false).await?;
    awaits_conditions(&world, "cp-1").await?;
    world.exposures().patch(SHOOT, &PatchParams::default(), &paused(None)).await?;
    world.awaits_targets(&["cp-0", "cp-2", "cp-4"], SOON).await?;
    let status = world.awaits_error("is refused as a target", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_CONFIGURATION_PROBLEM"]));
    let puts: Vec<usize> =
        world.emulator.bodies("PUT", "/load-balancers").iter().map(|body| targets_of(body).len()).collect();
    assert_eq!(puts[..4], [4, 2, 3, 3], "all of it, the removal, then one after the other: {puts:?}");

    world.emulator.set_switches(|switches| switches.refused_targets.clear());
    world.awaits_targets(&["cp-0", "cp-2", "cp-3", "cp-4"], SOON).await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

/// Waits until a condition says this.
async fn awaits_conditions(world: &World, text: &str) -> Result<()> {
    until(&format!("a condition with {text:?}"), SOON, || async {
        let status = world.status().await?;
        ensure!(status["conditions"].to_string().contains(text), "{status}");
        Ok(())
    })
    .await
}

fn paused(value: Option<&str>) -> Patch<Value> {
    Patch::Merge(json!({"metadata": {"annotations": {"exposure.gardener.cloud/paused": value}}}))
}

#[tokio::test]
async fn a_private_balancer_shows_its_private_address() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"privateNetworkOnly": true}})).await?;
    let status = world.awaits_success(SOON).await?;
    let balancer = world.emulator.balancer(BALANCER).unwrap();
    assert_eq!(status["ingress"][0]["ip"], balancer["privateAddress"]);
    assert_eq!(balancer.get("externalAddress"), None);
    Ok(())
}

/// Waits until the exposure is processed without an error, as everybody who waits for it must see it.
async fn awaits_processing(world: &World, text: &str) -> Result<()> {
    until(&format!("Processing with {text:?}"), SOON, || async {
        let status = world.status().await?;
        let last = &status["lastOperation"];
        ensure!(last["state"] == "Processing" && status["lastError"].is_null(), "{status}");
        ensure!(last["description"].as_str().unwrap_or_default().contains(text), "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pending_is_not_an_error() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.hold_pending = true);
    let _agent = world.agent("cp-0", json!({})).await?;
    awaits_processing(&world, "STATUS_PENDING").await?;
    // A balancer on its way is written to again, not waited for.
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.emulator.set_switches(|switches| switches.hold_pending = false);
    world.awaits_success(SOON).await.map(drop)
}

#[tokio::test]
async fn a_target_that_is_not_active_yet_is_not_an_error() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.known_targets = Some(["10.0.0.10".parse().unwrap()].into()));
    let _agent = world.agent("cp-0", json!({})).await?;
    awaits_processing(&world, "TYPE_TARGET_NOT_ACTIVE").await?;
    world.emulator.set_switches(|switches| switches.known_targets = None);
    world.awaits_success(Duration::from_secs(40)).await.map(drop)
}

#[tokio::test]
async fn a_quota_is_reported_and_met_when_it_grows() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.max_load_balancers = 0);
    let _agent = world.agent("cp-0", json!({})).await?;
    let status = world.awaits_error("429", SOON).await?;
    assert!(status["lastError"]["codes"].as_array().unwrap().contains(&json!("ERR_INFRA_QUOTA_EXCEEDED")), "{status}");
    world.emulator.set_switches(|switches| switches.max_load_balancers = 10);
    world.awaits_success(SOON).await.map(drop)
}

#[tokio::test]
async fn a_project_that_never_had_a_balancer_gets_its_first() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.service_enabled = false);
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await.map(drop)
}

#[tokio::test]
async fn a_server_that_puts_things_in_its_own_order_is_not_fought() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.canonicalise = true);
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s"}})).await?;
    world.awaits_success(SOON).await?;
    let reads = world.emulator.count("GET", "/load-balancers/");
    world.emulator.wait_for(|emulator| emulator.count("GET", "/load-balancers/") >= reads + 3, SOON).await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 0);
    Ok(())
}
