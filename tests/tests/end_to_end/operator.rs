//! What an operator sees: the admin server, the CRD, and an agent without Kubernetes.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::agent::{Agent, run};
use tests::emulator::{Emulator, KeyOptions, Options};
use tests::process::Folder;
use tests::wait::until;
use tests::world::{NETWORK, SHOOT, SOON, World, targets_of};

#[tokio::test]
async fn the_admin_server_tells_how_it_is() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    until("/readyz to be green", SOON, || async {
        let (status, text) = agent.get("/readyz?verbose").await?;
        ensure!(status == 200, "{text}");
        for check in ["[+]caches ok", "[+]election ok", "readyz check passed"] {
            ensure!(text.contains(check), "no {check} in {text}");
        }
        Ok(())
    })
    .await?;
    for path in ["/livez", "/healthz"] {
        assert_eq!(agent.get(path).await?.0, 200);
    }
    assert_eq!(agent.get("/nothing").await?.0, 404);
    let version = env!("CARGO_PKG_VERSION");
    let (_, text) = agent.get("/metrics").await?;
    for part in [
        &format!("shoot_exposure_build_info{{version=\"{version}\""),
        "leader_election_master_status{name=\"shoot-exposure-agent\"} 1",
        "shoot_exposure_cloud_requests_total{method=\"POST\",code=\"200\"} 1",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(!text.contains("10.0.0.1") && !text.contains("cp-0"), "a name or address became a label");
    Ok(())
}

#[tokio::test]
async fn the_crd_has_the_immutability_rule() -> Result<()> {
    let world = World::without_exposure().await?;
    world.create_exposure(json!({"spec": {"class": "shoot"}})).await?;
    let patch = Patch::Merge(json!({"spec": {"class": "garden"}}));
    let refused = world.exposures().patch(SHOOT, &PatchParams::default(), &patch).await.unwrap_err();
    assert!(refused.to_string().contains("Value is immutable"), "{refused}");
    let incomplete = Patch::Merge(json!({"status": {"lastOperation": {"state": "Succeeded"}}}));
    assert!(world.exposures().patch_status(SHOOT, &PatchParams::default(), &incomplete).await.is_err());
    Ok(())
}

#[tokio::test]
async fn without_kubernetes_the_nodes_come_from_a_file() -> Result<()> {
    let folder = Folder::new("standalone")?;
    let emulator = Emulator::start(Options::default()).await?;
    std::fs::create_dir(folder.join("credentials"))?;
    let key = emulator.service_account_key(&KeyOptions::default())?;
    std::fs::write(folder.join("credentials/serviceaccount.json"), key.to_string())?;
    let write_nodes = |ready: [bool; 3]| {
        let node = |index: usize| {
            let status = if ready[index] { "True" } else { "False" };
            json!({
                "metadata": {"name": format!("cp-{index}"), "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": format!("10.0.0.1{index}")}],
                    "conditions": [{"type": "Ready", "status": status}],
                },
            })
        };
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [node(0), node(1), node(2)]});
        std::fs::write(folder.join("nodes.new"), list.to_string())?;
        std::fs::rename(folder.join("nodes.new"), folder.join("nodes.yaml"))
    };
    write_nodes([true; 3])?;
    let agent = Agent::start(
        "cp-0",
        json!({
            "nodes": {"source": "File", "file": folder.join("nodes.yaml")},
            "exposure": {"name": SHOOT},
            "stackit": {
                "credentialsDirectory": folder.join("credentials"), "loadBalancerEndpoint": emulator.url(),
                "projectID": emulator.project(), "region": "eu01", "networkID": NETWORK, "technicalID": "shoot--p--s",
            },
        }),
        &folder,
    )
    .await?;
    let targets = async |wanted: usize| {
        until(&format!("{wanted} targets"), SOON, || async {
            let targets = targets_of(&emulator.balancer("shoot--p--s-exp-root").unwrap_or_default());
            ensure!(targets.len() == wanted, "{targets:?}");
            Ok(())
        })
        .await
    };
    targets(3).await?;
    write_nodes([true, false, true])?;
    targets(2).await?;
    // A half-written file keeps the last good list.
    std::fs::write(folder.join("nodes.yaml"), "items:\n- metadata: {name: cp-0")?;
    agent.awaits_log(&["cannot read the Node list"], SOON).await?;
    targets(2).await?;
    write_nodes([true; 3])?;
    targets(3).await?;
    agent.awaits_log(&["the election is off"], SOON).await?;
    Ok(())
}

#[test]
fn without_kubernetes_everything_that_is_missing_is_named_at_once() -> Result<()> {
    let folder = Folder::new("missing")?;
    let config = folder.join("config.yaml");
    std::fs::write(
        &config,
        json!({"nodes": {"source": "File", "file": "/nodes.yaml"}, "server": {"bindAddress": "127.0.0.1:0"}})
            .to_string(),
    )?;
    let output = run(&["run", "--config", &config.display().to_string()])?;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr)?;
    for setting in ["exposure.name", "stackit.region", "stackit.networkID", "stackit.technicalID"] {
        assert!(text.contains(setting), "no {setting} in {text}");
    }
    Ok(())
}
