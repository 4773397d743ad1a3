//! How others are reached: STACKIT by CloudProfile and proxy, Kubernetes by kubeconfig, CA and token that change.

use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::control_plane::certificates::{Authority, bundle, replace};
use tests::control_plane::users::{ADMIN, AGENT, Credential, STRANGER};
use tests::emulator::{Emulator, KeyOptions, Options, Tls};
use tests::wait::until;
use tests::world::{BALANCER, SOON, World};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

async fn set_profile(world: &World, spec: Value) -> Result<()> {
    let patch = json!({"spec": {"cloudProfile": {"spec": spec}}}).to_string();
    let arguments = ["patch", "clusters.extensions.gardener.cloud", "kube-system", "--type=merge", "-p", &patch];
    let output = world.control_plane.kubectl(&ADMIN, &arguments).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn provider_config(emulator: &Emulator) -> Value {
    json!({
        "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1", "kind": "CloudProfileConfig",
        "apiEndpoints": {"loadBalancer": emulator.url(), "tokenEndpoint": emulator.token_url()},
    })
}

#[tokio::test]
async fn endpoints_and_authorities_come_from_the_cloud_profile() -> Result<()> {
    let world = World::start().await?;
    set_profile(&world, json!({"providerConfig": provider_config(&world.emulator)})).await?;
    let election = json!({"leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "500ms"});
    let over =
        json!({"stackit": {"loadBalancerEndpoint": ""}, "loadBalancer": {"resync": "1s"}, "leaderElection": election});
    let agent = world.agent("cp-0", over).await?;
    world.awaits_success(SOON).await?;
    // What does not decode is named, and nothing is changed by it.
    set_profile(&world, json!({"caBundle": "no PEM"})).await?;
    agent.awaits_log(&["ConfigurationInvalid", "cloudProfile.spec.caBundle"], SOON).await?;
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;

    // STACKIT moves, to where only the CloudProfile's authority makes it trusted.
    let moved = Emulator::start(Options { tls: Some(Tls::default()), ..Options::default() }).await?;
    world.write_key(&moved.service_account_key(&KeyOptions::default())?)?;
    let authority = moved.authority_pem().unwrap_or_default();
    set_profile(&world, json!({"caBundle": authority, "providerConfig": provider_config(&moved)})).await?;
    // As if somebody had deleted it: its name rests for the lease duration and a request's time limit.
    until("the balancer at the new place", SOON, || async {
        ensure!(moved.balancer(BALANCER).is_some(), "not there");
        Ok(())
    })
    .await?;
    world.awaits_success(SOON).await.map(drop)
}

/// A proxy that swallows everything, and the first line of each request that came to it.
pub(crate) async fn black_hole() -> Result<(String, Arc<Mutex<Vec<String>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut text = [0; 256];
            let read = connection.read(&mut text).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&text[..read]).into_owned();
            lines.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
        }
    });
    Ok((url, seen))
}

#[tokio::test]
async fn a_proxy_is_for_stackit_alone() -> Result<()> {
    let world = World::start().await?;
    let (proxy, seen) = black_hole().await?;
    let environment = [("HTTP_PROXY", proxy.as_str()), ("HTTPS_PROXY", &proxy), ("NO_PROXY", "")];
    let agent = world.agent_with("cp-0", json!({}), &environment).await?;
    // STACKIT cannot be reached, which Kubernetes is told.
    let status = world.awaits_error("token", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_RETRYABLE_INFRA_DEPENDENCIES"]));
    assert_eq!(world.emulator.with_journal(<[_]>::len), 0);
    let emulator = world.emulator.url().trim_start_matches("http://").to_owned();
    let lines = seen.lock().unwrap().clone();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(&emulator)), "{lines:?}");
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;

    let count = seen.lock().unwrap().len();
    let environment = [("HTTP_PROXY", proxy.as_str()), ("HTTPS_PROXY", &proxy), ("NO_PROXY", "127.0.0.1")];
    let _agent = world.agent_with("cp-1", json!({}), &environment).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(seen.lock().unwrap().len(), count);
    Ok(())
}

/// Ends every connection to the API server, so that what comes after has to be verified anew.
async fn reconnect(world: &mut World, authority: &Authority) -> Result<()> {
    let access = tests::control_plane::users::Access { trust: authority.pem(), ..world.control_plane.access(&ADMIN) };
    let server = world.control_plane.api_server();
    server.process().restart()?;
    server.ready_to(&access).await?;
    world.admin = access.client().await?;
    Ok(())
}

async fn follows(world: &World, agent: &Agent, ready: bool) -> Result<()> {
    world.set_ready("cp-2", ready).await?;
    let all = ["cp-0", "cp-1", "cp-2"];
    world.awaits_targets(if ready { &all } else { &all[..2] }, SOON).await?;
    world.awaits_success(SOON).await?;
    world.awaits_holder("cp-0", SOON).await?;
    ensure!(agent.process().exit()?.is_none(), "the agent has ended");
    Ok(())
}

#[tokio::test]
async fn a_rotation_of_the_cluster_ca_goes_by() -> Result<()> {
    let mut world = World::start().await?;
    let agent = world.agent("cp-0", World::quick_election()).await?;
    world.awaits_success(SOON).await?;
    let id = agent.process().id();
    let new = Authority::new("kubernetes")?;
    let trust = |world: &World, pem: String| {
        let access = tests::control_plane::users::Access { trust: pem, ..world.control_plane.access(&AGENT) };
        world.control_plane.write_kubeconfig(AGENT.role, &access).map(drop)
    };
    let told = async |times: usize| {
        until("the kubeconfig to be read again", SOON, || async {
            let found = agent.log()?.matches("using Kubernetes as it is told now").count();
            ensure!(found == times, "{found} times");
            Ok(())
        })
        .await
    };
    trust(&world, bundle(&[world.control_plane.authority(), &new]))?;
    told(1).await?;
    follows(&world, &agent, false).await?;
    world.control_plane.api_server().serve_with(&new)?;
    reconnect(&mut world, &new).await?;
    follows(&world, &agent, true).await?;
    trust(&world, new.pem())?;
    told(2).await?;
    reconnect(&mut world, &new).await?;
    follows(&world, &agent, false).await?;
    // A half-written kubeconfig changes nothing.
    let kubeconfig = world.control_plane.folder().join("agent.kubeconfig");
    std::fs::write(&kubeconfig, "apiVersion: v1\nclusters: [")?;
    agent.awaits_log(&["the last good one stays"], SOON).await?;
    follows(&world, &agent, true).await?;
    assert_eq!(agent.process().id(), id);
    // Nobody was taken out who was not ill.
    for body in world.emulator.bodies("PUT", "/load-balancers/") {
        let targets = tests::world::targets_of(&body);
        assert!(
            targets.len() >= 2 && targets[0].starts_with("cp-0 ") && targets[1].starts_with("cp-1 "),
            "{targets:?}"
        );
    }
    world.check_invariants()
}

#[tokio::test]
async fn a_token_file_is_read_again_at_once() -> Result<()> {
    let world = World::start().await?;
    let token = world.file("token");
    std::fs::write(&token, STRANGER.token())?;
    let mut access = world.control_plane.access(&AGENT);
    access.credential = Credential::TokenFile(token.clone());
    let kubeconfig = world.control_plane.write_kubeconfig("with-token-file", &access)?;
    let agent = world.agent("cp-0", json!({ "kubeconfig": kubeconfig })).await?;
    agent.awaits_log(&["cannot watch", "forbidden"], SOON).await?;
    replace(&token, &AGENT.token())?;
    world.awaits_success(SOON).await?;
    follows(&world, &agent, false).await?;
    let log = agent.log()?;
    ensure!(!log.contains(&AGENT.token()) && !log.contains(&STRANGER.token()), "a token in the log");
    Ok(())
}
