//! The floor: a bare loop that watches Nodes and PUTs, with no object in between, no judgement and no memory.
//!
//! It is a process of its own on the leader's node, as the agent is, with Nodes and a balancer of its own: agent and
//! floor never work at the same time, and take turns from run to run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::{Value, json};

use super::rig::{PATIENCE, Rig};
use super::run::milliseconds;
use crate::emulator::{Entry, Handle};
use crate::fixture;
use crate::process::Process;
use crate::wait::until;
use crate::world::{BALANCER, targets_of};

/// The name of its balancer, and the label of its Nodes.
pub const NAME: &str = "floor";
/// Its Nodes; their addresses (TEST-NET-1) lead nowhere.
const NODES: [&str; 3] = ["floor-0", "floor-1", "floor-2"];

/// What the loop needs to know.
#[derive(clap::Args, Debug, Clone)]
pub struct Arguments {
    /// How to reach Kubernetes
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where its balancer is
    #[arg(long)]
    url: String,
    /// An access token
    #[arg(long)]
    token: String,
    /// The body of a PUT, but for version and targets
    #[arg(long)]
    body: PathBuf,
}

/// A running loop.
#[derive(Debug)]
pub struct Floor {
    _process: Process,
    leader: usize,
}

impl Floor {
    /// Starts it on the leader's node.
    pub async fn start(rig: &Rig<'_>, leader: usize) -> Result<Self> {
        let admin = &rig.admins[leader];
        let nodes: Api<Node> = Api::all(admin.clone());
        for (index, name) in NODES.into_iter().enumerate() {
            if nodes.get_opt(name).await?.is_none() {
                let address = format!("192.0.2.{}", 10 + index);
                fixture::node(name).internal_ip(&address).label(NAME, "true").create(admin).await?;
            }
        }
        let mut body = rig.emulator().balancer(BALANCER).context("there is no balancer to be like")?;
        body["name"] = json!(NAME);
        for field in [
            "version",
            "status",
            "errors",
            "privateAddress",
            "region",
            "externalAddress",
            "loadBalancerSecurityGroup",
            "targetSecurityGroup",
        ] {
            if let Some(body) = body.as_object_mut() {
                body.remove(field);
            }
        }
        for listener in body["listeners"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            listener.remove("name");
        }
        if rig.emulator().balancer(NAME).is_none() {
            rig.emulator().create(&body).context("creating the floor's balancer")?;
        }
        let file = rig.world.file("floor.json");
        std::fs::write(&file, body.to_string())?;
        let settings = rig.world.settings_of(crate::world::NODES[leader])?;
        let emulator = rig.emulator();
        let mut command = rig.network.seat(leader).command(&std::env::current_exe()?);
        command.arg("floor").arg("--kubeconfig").arg(settings["kubeconfig"].as_str().unwrap_or_default());
        command.arg("--token").arg(emulator.access_token()).arg("--body").arg(file).arg("--url").arg(format!(
            "{}/v2/projects/{}/regions/{}/load-balancers/{NAME}",
            emulator.url(),
            emulator.project(),
            emulator.region()
        ));
        let process = Process::start("floor", command, rig.world.file("floor.log"))?;
        until("the floor to be ready", PATIENCE, || async {
            ensure!(process.output()?.contains("ready"), "{}", process.tail(5));
            Ok(())
        })
        .await?;
        Ok(Self { _process: process, leader })
    }

    /// Whether it is where the leader is.
    pub fn is_at(&self, leader: usize) -> bool {
        self.leader == leader
    }

    /// One event, and how long its PUT took to come, in milliseconds. Then the same back.
    pub async fn event(&self, rig: &Rig<'_>, leader: usize) -> Result<f64> {
        let node = NODES[1];
        let began = Instant::now();
        fixture::set_ready(&rig.admins[leader], node, false).await?;
        let put = put(rig.emulator(), began, 2).await?;
        let again = Instant::now();
        fixture::set_ready(&rig.admins[leader], node, true).await?;
        self::put(rig.emulator(), again, 3).await?;
        Ok(milliseconds(put.arrived - began))
    }
}

async fn put(emulator: &Handle, from: Instant, count: usize) -> Result<Entry> {
    let found = |emulator: &Handle| {
        emulator.with_journal(|entries| {
            let fits = |entry: &&Entry| {
                let targets = targets_of(entry.request.as_ref().unwrap_or(&Value::Null));
                let is_ours = entry.method == "PUT" && entry.path.ends_with(&format!("/{NAME}"));
                is_ours && entry.arrived >= from && entry.answered.is_some() && targets.len() == count
            };
            entries.iter().find(fits).cloned()
        })
    };
    emulator.wait_for(|emulator| found(emulator).is_some(), PATIENCE).await.context("the floor's PUT")?;
    found(emulator).context("the journal has lost a request")
}

/// The loop itself, in its own process.
pub async fn run(arguments: Arguments) -> Result<()> {
    let kubeconfig = Kubeconfig::read_from(&arguments.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let nodes: Api<Node> = Api::all(Client::try_from(config)?);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut body: Value = serde_json::from_slice(&std::fs::read(&arguments.body)?)?;
    let shown: Value = http.get(&arguments.url).bearer_auth(&arguments.token).send().await?.json().await?;
    body["version"] = shown["version"].clone();
    let mut ready = BTreeMap::new();
    let mut sent = Value::Null;
    let mut events = pin!(watcher(nodes, watcher::Config::default().labels(NAME)));
    while let Some(event) = events.try_next().await? {
        match event {
            Event::Apply(node) | Event::InitApply(node) => {
                let address = node.status.as_ref().and_then(|status| {
                    let addresses = status.addresses.as_ref()?;
                    addresses.iter().find(|address| address.type_ == "InternalIP").map(|it| it.address.clone())
                });
                let target = json!({"displayName": node.name_any(), "ip": address});
                ready.insert(node.name_any(), (fixture::readiness(&node) == Some("True")).then_some(target));
                if matches!(sent, Value::Null) {
                    continue;
                }
            }
            Event::Delete(node) => drop(ready.remove(&node.name_any())),
            Event::Init => continue,
            Event::InitDone => tell("ready"),
        }
        let targets = json!(ready.values().flatten().collect::<Vec<_>>());
        if targets != sent {
            body["targetPools"][0]["targets"] = targets.clone();
            let put = http.put(&arguments.url).bearer_auth(&arguments.token).json(&body).send().await?;
            let answer: Value = put.error_for_status()?.json().await?;
            body["version"] = answer["version"].clone();
            sent = targets;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "who started it reads that")]
fn tell(word: &str) {
    println!("{word}");
}
