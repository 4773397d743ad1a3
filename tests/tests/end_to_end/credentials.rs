//! Credentials come, change and break while the agent runs.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::control_plane::certificates::replace;
use tests::emulator::{Assertion, Federation, KeyOptions};
use tests::wait::until;
use tests::world::{SOON, World};

const WORKS: &str = "the changed credential works";

fn key(world: &World) -> Result<Value> {
    world.emulator.service_account_key(&KeyOptions::default())
}

fn revoke(world: &World, key: &Value) {
    world.emulator.revoke_key(key["credentials"]["kid"].as_str().unwrap_or_default());
}

/// Waits until the exposure waits, without an error, for something that `text` names.
async fn awaits_waiting(world: &World, text: &str) -> Result<()> {
    until(&format!("the exposure to wait for {text}"), SOON, || async {
        let status = world.status().await?;
        let description = status["lastOperation"]["description"].as_str().unwrap_or_default();
        ensure!(status["lastOperation"]["state"] == "Processing" && description.contains(text), "{status}");
        ensure!(status["lastError"].is_null(), "{status}");
        Ok(())
    })
    .await
}

/// Nothing that was handed out before is good any more: what works now works with what is in use now.
async fn works_with_what_is_in_use(world: &World, ready: bool) -> Result<()> {
    world.emulator.revoke_tokens();
    world.set_ready("cp-2", ready).await?;
    let all = ["cp-0", "cp-1", "cp-2"];
    world.awaits_targets(if ready { &all } else { &all[..2] }, SOON).await?;
    world.awaits_success(SOON).await.map(drop)
}

fn no_secret_was_said(agent: &Agent) -> Result<()> {
    let log = agent.log()?;
    ensure!(!log.contains("PRIVATE KEY") && !log.contains("eyJ"), "a secret in the log");
    Ok(())
}

#[tokio::test]
async fn a_key_that_does_not_work_takes_nobodys_place() -> Result<()> {
    let world = World::start().await?;
    let (first, broken, next) = (key(&world)?, key(&world)?, key(&world)?);
    revoke(&world, &broken);
    world.write_key(&first)?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    world.write_key(&broken)?;
    agent.awaits_log(&["CredentialsInvalid", "the old one stays"], SOON).await?;
    works_with_what_is_in_use(&world, false).await?;
    // What is no key at all does not even get that far.
    world.write_key(&json!({"credentials": "none"}))?;
    agent.awaits_log(&["CredentialsInvalid", "what was read last stays"], SOON).await?;
    works_with_what_is_in_use(&world, true).await?;
    until("/readyz?verbose to show it", SOON, || async {
        let (status, text) = agent.get("/readyz?verbose").await?;
        ensure!(status == 200 && text.contains("credentials") && text.contains("serviceaccount.json"), "{text}");
        Ok(())
    })
    .await?;

    world.write_key(&next)?;
    agent.awaits_log(&[WORKS], SOON).await?;
    revoke(&world, &first);
    works_with_what_is_in_use(&world, false).await?;
    // Files that others can read are named once, however often they change.
    assert_eq!(agent.log()?.matches("can be read by everybody").count(), 1);
    no_secret_was_said(&agent)
}

/// A Secret as the kubelet mounts it: files are links through `..data`, which is swapped as a whole.
fn mount(folder: &Path, version: &str, files: &[(&str, String)]) -> Result<()> {
    std::fs::create_dir_all(folder.join(version))?;
    for (name, content) in files {
        std::fs::write(folder.join(version).join(name), content)?;
        if std::fs::symlink_metadata(folder.join(name)).is_err() {
            symlink(Path::new("..data").join(name), folder.join(name))?;
        }
    }
    symlink(version, folder.join("..data_tmp"))?;
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    Ok(())
}

#[tokio::test]
async fn a_mounted_secret_appears_later_and_is_swapped_as_a_whole() -> Result<()> {
    let world = World::start().await?;
    let folder = world.file("mounted");
    let agent = world.agent("cp-0", json!({"stackit": {"credentialsDirectory": folder}})).await?;
    awaits_waiting(&world, "serviceaccount.json").await?;
    let files =
        |key: &Value| [("serviceaccount.json", key.to_string()), ("project-id", world.emulator.project().into())];
    let (first, next) = (key(&world)?, key(&world)?);
    mount(&folder, "..2026_01", &files(&first))?;
    world.awaits_success(SOON).await?;
    mount(&folder, "..2026_02", &files(&next))?;
    agent.awaits_log(&[WORKS], SOON).await?;
    revoke(&world, &first);
    works_with_what_is_in_use(&world, false).await
}

#[tokio::test]
async fn the_secret_that_the_exposure_names_is_followed() -> Result<()> {
    let world = World::without_exposure().await?;
    let reference = json!({"apiVersion": "v1", "kind": "Secret", "namespace": "kube-system", "name": "cloudprovider"});
    world.create_exposure(json!({"spec": {"credentialsRef": reference}})).await?;
    let agent = world.agent("cp-0", json!({"stackit": {"credentials": "SecretRef"}})).await?;
    awaits_waiting(&world, "there is no such Secret").await?;

    // As it is before the shoot is connected to its garden: nobody has requested a token yet.
    let secrets: Api<Secret> = Api::namespaced(world.admin.clone(), "kube-system");
    let config = json!({
        "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1", "kind": "WorkloadIdentityConfig",
        "projectID": world.emulator.project(), "serviceAccountEmail": Federation::default().client_id,
        "tokenEndpoint": world.emulator.federation_token_url(),
    });
    let secret = json!({"metadata": {"name": "cloudprovider"}, "stringData": {"config": config.to_string()}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    awaits_waiting(&world, "but not token").await?;
    world.emulator.federation(Federation::default())?;
    let patch = async |data: Value| {
        secrets.patch("cloudprovider", &PatchParams::default(), &Patch::Merge(json!({"stringData": data}))).await
    };
    patch(json!({"token": world.emulator.assertion(&Assertion::default())?})).await?;
    world.awaits_success(SOON).await?;
    agent.awaits_log(&["read the credentials", "workload identity federation"], SOON).await?;

    let next = key(&world)?;
    patch(json!({"serviceaccount.json": next.to_string(), "project-id": world.emulator.project()})).await?;
    agent.awaits_log(&[WORKS, "flow=\"key\""], SOON).await?;
    works_with_what_is_in_use(&world, false).await?;
    // A Secret that goes takes nothing away.
    secrets.delete("cloudprovider", &DeleteParams::default()).await?;
    agent.awaits_log(&["there is no such Secret", "what was read last stays"], SOON).await?;
    works_with_what_is_in_use(&world, true).await?;
    no_secret_was_said(&agent)
}

#[tokio::test]
async fn a_workload_identity_is_exchanged_and_its_token_read_anew() -> Result<()> {
    let world = World::start().await?;
    world.emulator.federation(Federation::default())?;
    let folder = world.file("identity");
    std::fs::create_dir(&folder)?;
    let config = json!({
        "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1", "kind": "WorkloadIdentityConfig",
        "projectID": world.emulator.project(), "serviceAccountEmail": Federation::default().client_id,
    });
    std::fs::write(folder.join("config"), config.to_string())?;
    let stackit = json!({"credentialsDirectory": folder, "tokenEndpoint": world.emulator.federation_token_url()});
    let agent = world.agent("cp-0", json!({ "stackit": stackit })).await?;
    awaits_waiting(&world, "but not token").await?;
    // With the line break that many tools leave at the end.
    let token = || anyhow::Ok(format!("{}\n", world.emulator.assertion(&Assertion::default())?));
    replace(&folder.join("token"), &token()?)?;
    world.awaits_success(SOON).await?;
    let exchanges = world.emulator.count("POST", "/oauth/v2/token");
    assert!(exchanges >= 1 && world.emulator.count("POST", "/oauth/v2/token") == exchanges);
    replace(&folder.join("token"), &token()?)?;
    agent.awaits_log(&[WORKS], SOON).await?;
    works_with_what_is_in_use(&world, false).await?;
    // One that has expired is no better than none, and the old one goes on.
    let expired = Assertion { valid_for: -60, ..Assertion::default() };
    replace(&folder.join("token"), &world.emulator.assertion(&expired)?)?;
    agent.awaits_log(&["CredentialsInvalid"], SOON).await?;
    no_secret_was_said(&agent)
}

#[tokio::test]
async fn a_follower_keeps_a_valid_token() -> Result<()> {
    const EXPIRY: &str = "shoot_exposure_token_expiry_timestamp_seconds";
    let world = World::start().await?;
    let _leader = world.agent("cp-0", json!({})).await?;
    world.awaits_holder("cp-0", SOON).await?;
    let follower = world.agent("cp-1", json!({})).await?;
    until("the follower to have a token", SOON, || async {
        let seen = follower.metric(EXPIRY).await?;
        ensure!(seen > 1_000_000_000.0, "{seen}");
        Ok(())
    })
    .await
}
