//! A PUT that is given up must not arrive later, whatever the kernel still holds of it: a link that is cut under it, on a
//! network namespace. Root only.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::control_plane::certificates::replace;
use tests::emulator::{Emulator, KeyOptions, Options};
use tests::namespaces::{HUB, for_test, in_hub};
use tests::process::Folder;
use tests::wait::until;
use tests::world::{NETWORK, SOON, targets_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

const BALANCER: &str = "shoot--garden--late-exp-late";
/// How long the link is away.
const AWAY: Duration = Duration::from_secs(10);
/// Retransmissions double from 200 ms: within this time of the cut the kernel has tried at least once after the healing.
const TRIED_AGAIN: Duration = Duration::from_secs(28);

fn node_list(names: &[&str]) -> Value {
    let node = |name: &&str| {
        let last = name.trim_start_matches("cp-");
        json!({
            "metadata": {"name": name, "uid": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "status": {
                "addresses": [{"type": "InternalIP", "address": format!("10.0.1.1{last}")}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": names.iter().map(node).collect::<Vec<_>>()})
}

async fn awaits(emulator: &Emulator, nodes: &[&str]) -> Result<()> {
    until(&format!("targets {nodes:?}"), SOON, || async {
        let targets = targets_of(&emulator.balancer(BALANCER).unwrap_or_default());
        let names: Vec<&str> = targets.iter().filter_map(|target| target.split(' ').next()).collect();
        ensure!(names == nodes, "{targets:?}");
        Ok(())
    })
    .await
}

/// Everything that arrives, as bytes: an HTTP server drops a request whose sender has closed meanwhile, unseen.
type Arrived = Arc<Mutex<Vec<u8>>>;

/// Passes everything to the emulator and keeps what came from the agent; its URL.
async fn recorder(emulator: &Emulator, arrived: &Arrived) -> Result<String> {
    let listener = TcpListener::bind((HUB, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let target: SocketAddr = emulator.url().trim_start_matches("http://").parse()?;
    let arrived = Arc::clone(arrived);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let arrived = Arc::clone(&arrived);
            tokio::spawn(async move {
                let (mut near, mut answers) = near.into_split();
                let (mut far_answers, mut far) = TcpStream::connect(target).await?.into_split();
                tokio::spawn(async move { copy(&mut far_answers, &mut answers).await });
                let mut bytes = vec![0; 16 * 1024];
                loop {
                    let read = near.read(&mut bytes).await?;
                    if read == 0 {
                        return far.shutdown().await;
                    }
                    arrived.lock().unwrap().extend_from_slice(&bytes[..read]);
                    far.write_all(&bytes[..read]).await?;
                }
            });
        }
    });
    Ok(url)
}

/// The ids of the PUTs that the agent has given up.
fn given_up(agent: &Agent) -> Result<BTreeSet<String>> {
    let log = agent.log()?;
    let lost = log.lines().filter(|line| line.contains("STACKIT gave no answer") && line.contains("PUT"));
    let id = |line: &str| Some(line.split_once("request_id=")?.1.split_whitespace().next()?.to_owned());
    Ok(lost.filter_map(id).collect())
}

fn settings(folder: &Folder, nodes: &Path, emulator: &Emulator, url: &str) -> Value {
    json!({
        "nodes": {"source": "File", "file": nodes},
        "exposure": {"name": "late"},
        "health": {"probe": {"enabled": false}},
        "loadBalancer": {"writesPerMinute": 600},
        "stackit": {
            "credentialsDirectory": folder.join("credentials"), "loadBalancerEndpoint": url,
            "projectID": emulator.project(), "region": emulator.region(), "requestTimeout": "2s",
            "networkID": NETWORK, "technicalID": "shoot--garden--late",
        },
    })
}

#[test]
fn nothing_of_a_put_whose_link_was_cut_arrives_when_it_is_healed() -> Result<()> {
    let Some(network) = for_test("a link that is cut under a PUT", 1)? else { return Ok(()) };
    in_hub(&network, || async {
        let folder = Folder::new("late")?;
        let emulator = Emulator::start(Options { listen: SocketAddr::from((HUB, 0)), ..Options::default() }).await?;
        let key = emulator.service_account_key(&KeyOptions::default())?;
        std::fs::create_dir(folder.join("credentials")).context("making the credentials folder")?;
        std::fs::write(folder.join("credentials").join("serviceaccount.json"), key.to_string())?;
        let nodes = folder.join("nodes.yaml");
        std::fs::write(&nodes, node_list(&["cp-0", "cp-1", "cp-2"]).to_string())?;
        let arrived = Arrived::default();
        let url = recorder(&emulator, &arrived).await?;
        let settings = settings(&folder, &nodes, &emulator, &url);
        let agent = Agent::start_at(network.seat(0), "cp-0", settings, &folder, &[]).await?;
        awaits(&emulator, &["cp-0", "cp-1", "cp-2"]).await?;
        // A connection for writes is open from now on: what is written next is in the kernel's hands at once.
        replace(&nodes, &node_list(&["cp-0", "cp-1"]).to_string())?;
        awaits(&emulator, &["cp-0", "cp-1"]).await?;

        network.unplug(0)?;
        let cut = Instant::now();
        replace(&nodes, &node_list(&["cp-0", "cp-1", "cp-2"]).to_string())?;
        until("the PUT to be given up", SOON, || async {
            ensure!(!given_up(&agent)?.is_empty(), "not yet");
            Ok(())
        })
        .await?;
        tokio::time::sleep(AWAY.saturating_sub(cut.elapsed())).await;
        let lost = given_up(&agent)?;
        network.plug(0)?;
        // What is decided now arrives.
        awaits(&emulator, &["cp-0", "cp-1", "cp-2"]).await?;
        // Nothing can be awaited but the absence of what must not come.
        tokio::time::sleep(TRIED_AGAIN.saturating_sub(cut.elapsed())).await;
        let arrived = String::from_utf8_lossy(&arrived.lock().unwrap()).into_owned();
        let late: Vec<&String> = lost.iter().filter(|id| arrived.contains(id.as_str())).collect();
        ensure!(late.is_empty(), "given up, and arrived all the same: {late:?}");
        ensure!(emulator.count("PUT", "/load-balancers/") >= 2, "nothing was written at all");
        Ok(())
    })
}
