//! Gardener's webhook fails closed: with its server away, every write to the exposure itself is refused.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::control_plane::users::ADMIN;
use tests::wait::until;
use tests::world::{SHOOT, SOON, World};

/// Nobody listens at port 9 of loopback.
const WEBHOOK: &str = r"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: gardener-resource-manager}
webhooks:
- name: validation.extensions.selfhostedshootexposures.resources.gardener.cloud
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 2
  clientConfig: {url: 'https://127.0.0.1:9/validate'}
  rules:
  - apiGroups: [extensions.gardener.cloud]
    apiVersions: [v1alpha1]
    resources: [selfhostedshootexposures]
    operations: [CREATE, UPDATE]
";

/// Closes it, and waits until the API server knows.
async fn close(world: &World) -> Result<()> {
    world.control_plane.apply(&[WEBHOOK]).await?;
    until("writes to be refused", SOON, || async {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"probe": "x"}}}));
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        ensure!(world.exposures().patch(SHOOT, &dry_run, &patch).await.is_err(), "not yet");
        Ok(())
    })
    .await
}

async fn open(world: &World) -> Result<()> {
    let arguments = ["delete", "validatingwebhookconfigurations", "gardener-resource-manager"];
    ensure!(world.control_plane.kubectl(&ADMIN, &arguments).await?.status.success(), "cannot delete the webhook");
    Ok(())
}

#[tokio::test]
async fn removals_reach_the_balancer_while_every_write_to_the_object_is_refused() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    close(&world).await?;
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    until("the status to say so", SOON, || async {
        let status = world.status().await?;
        let targets = status["providerStatus"]["targets"].as_array().map(Vec::len);
        ensure!(targets == Some(2), "{status}");
        Ok(())
    })
    .await?;
    agent.awaits_log(&["applying spec.endpoints", "webhook"], SOON).await?;
    let there = world.exposures().get(SHOOT).await?.data["spec"]["endpoints"].as_array().map(Vec::len);
    assert_eq!(there, Some(3));

    open(&world).await?;
    until("spec.endpoints to follow", SOON, || async {
        let object = world.exposures().get(SHOOT).await?;
        let there = object.data["spec"]["endpoints"].as_array().map(Vec::len);
        ensure!(there == Some(2), "{there:?}");
        Ok(())
    })
    .await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn nothing_is_made_as_long_as_the_finalizer_is_refused() -> Result<()> {
    let world = World::start().await?;
    close(&world).await?;
    let agent = world.agent("cp-0", json!({})).await?;
    agent.awaits_log(&["adding the finalizer", "webhook"], SOON).await?;
    until("the status to say what is waited for", SOON, || async {
        let status = world.status().await?;
        let description = status["lastOperation"]["description"].as_str().unwrap_or_default();
        ensure!(description.contains("finalizer"), "{status}");
        Ok(())
    })
    .await?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 0);
    open(&world).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.targets().len(), 3);
    Ok(())
}
