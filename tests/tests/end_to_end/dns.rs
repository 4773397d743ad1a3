//! The external DNS record follows the balancer.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::control_plane::users::ADMIN;
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World};

pub(super) const CRD: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: dnsrecords.extensions.gardener.cloud}
spec:
  group: extensions.gardener.cloud
  scope: Namespaced
  names: {kind: DNSRecord, listKind: DNSRecordList, plural: dnsrecords, singular: dnsrecord}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

fn on() -> Value {
    json!({"controllers": {"dns": true}, "loadBalancer": {"resync": "10s"}})
}

async fn record(world: &World, kind: &str, values: &[&str]) -> Result<()> {
    let record = json!({
        "apiVersion": "extensions.gardener.cloud/v1alpha1", "kind": "DNSRecord",
        "metadata": {"name": "root-external", "namespace": "kube-system"},
        "spec": {"type": "stackit", "name": "api.root.example", "ttl": 120, "recordType": kind, "values": values},
    });
    world.control_plane.apply(&[record.to_string()]).await.map(drop)
}

/// Waits until the record holds the exposure's address; that address.
async fn awaits_the_address(world: &World) -> Result<String> {
    until("the record to hold the address", SOON, || async {
        let ip = world.status().await?["ingress"][0]["ip"].as_str().unwrap_or_default().to_owned();
        let balancer = world.emulator.balancer(BALANCER).unwrap_or_default();
        ensure!(balancer["externalAddress"] == ip.as_str() && !ip.is_empty(), "the status lags behind: {ip}");
        let record = world.dynamic("DNSRecord").get("root-external").await?;
        ensure!(record.data["spec"]["values"] == json!([ip]), "{}", record.data["spec"]);
        Ok(ip)
    })
    .await
}

#[tokio::test]
async fn a_balancer_that_was_lost_and_made_anew_takes_the_record_along() -> Result<()> {
    let world = World::start().await?;
    world.control_plane.apply(&[CRD]).await?;
    let agent = world.agent("cp-0", on()).await?;
    world.awaits_success(SOON).await?;
    agent.awaits_log(&["the DNS record waits", "root-external"], SOON).await?;

    record(&world, "A", &["192.0.2.1"]).await?;
    let first = awaits_the_address(&world).await?;
    let object = world.dynamic("DNSRecord").get("root-external").await?;
    assert_eq!(object.annotations().get("gardener.cloud/operation").map(String::as_str), Some("reconcile"));
    assert!(!object.annotations().contains_key("gardener.cloud/timestamp"));
    assert_eq!((&object.data["spec"]["ttl"], &object.data["spec"]["recordType"]), (&json!(120), &json!("A")));
    let managers = object.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect::<Vec<_>>();
    assert!(managers.contains(&"shoot-exposure-agent-dns".to_owned()), "{managers:?}");

    world.emulator.terminate(BALANCER);
    until("the balancer to be made anew", std::time::Duration::from_secs(60), || async {
        let ip = world.emulator.balancer(BALANCER).unwrap_or_default()["externalAddress"].clone();
        ensure!(ip.is_string() && ip != first.as_str(), "{ip}");
        Ok(())
    })
    .await?;
    let second = awaits_the_address(&world).await?;
    assert_ne!(first, second);
    Ok(())
}

#[tokio::test]
async fn a_record_of_another_type_is_said_once_and_left_alone() -> Result<()> {
    let world = World::start().await?;
    world.control_plane.apply(&[CRD]).await?;
    record(&world, "CNAME", &["old.example"]).await?;
    let agent = world.agent("cp-0", on()).await?;
    world.awaits_success(SOON).await?;
    agent.awaits_log(&["DnsRecordImmutable", "root-external", "CNAME"], SOON).await?;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"x": "y"}}}));
    world.exposures().patch(SHOOT, &PatchParams::default(), &patch).await?;
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    assert_eq!(agent.log()?.matches("DnsRecordImmutable").count(), 1);
    let object = world.dynamic("DNSRecord").get("root-external").await?;
    assert_eq!(object.data["spec"]["values"], json!(["old.example"]));
    let output = world.control_plane.kubectl(&ADMIN, &["get", "events", "-n", "kube-system"]).await?;
    assert!(output.status.success());
    Ok(())
}

#[tokio::test]
async fn a_paused_agent_leaves_the_record_alone_and_catches_up_when_it_is_resumed() -> Result<()> {
    let world = World::start().await?;
    world.control_plane.apply(&[CRD]).await?;
    record(&world, "A", &["192.0.2.1"]).await?;
    let agent = world.agent("cp-0", on()).await?;
    awaits_the_address(&world).await?;
    let pause = async |paused: Value| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"exposure.gardener.cloud/paused": paused}}}));
        world.exposures().patch(SHOOT, &PatchParams::default(), &patch).await
    };
    pause(json!("true")).await?;
    agent.awaits_metric("shoot_exposure_paused", 1.0, SOON).await?;
    // Somebody else has the record now, and it stays theirs over everything that happens meanwhile.
    let theirs = Patch::Merge(json!({"spec": {"values": ["192.0.2.9"]}}));
    let before = world.dynamic("DNSRecord").patch("root-external", &PatchParams::default(), &theirs).await?;
    world.set_ready("cp-1", false).await?;
    agent.awaits_metric("shoot_exposure_nodes{verdict=\"not_ready\"}", 1.0, SOON).await?;
    until("the report of what is held back", SOON, || async {
        let status = world.status().await?;
        let said = status["lastOperation"]["description"].as_str().unwrap_or_default();
        ensure!(said.contains("paused"), "{status}");
        Ok(())
    })
    .await?;
    let after = world.dynamic("DNSRecord").get("root-external").await?;
    assert_eq!(after.resource_version(), before.resource_version());

    pause(Value::Null).await?;
    awaits_the_address(&world).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await
}
