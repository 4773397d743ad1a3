//! The main job in a minute: a STACKIT load balancer on loopback, an agent in front of it, nodes that fail.
//!
//! Needs nothing but Rust: no Kubernetes, no cloud, no root. The agent is this very program, started again as
//! `playground agent …`, so that it is a process of its own with the real command line. Deliberately not here yet: a
//! data plane to send requests through, and a live view.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tests::emulator::{Action, Emulator, Fault, KeyOptions, Options};
use tests::process::{Folder, Process};
use tests::wait::until;
use tests::world::targets_of;

/// Name of the balancer that the settings below lead to.
const BALANCER: &str = "shoot--garden--playground-exp-playground";
/// Long enough for any step.
const SOON: Duration = Duration::from_secs(20);

/// Starts a STACKIT emulator and an agent, and lets nodes and cloud fail.
#[derive(Parser)]
struct Arguments {
    /// Keep everything running at the end, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let own = arguments.next().unwrap_or_default();
    if arguments.next().is_some_and(|first| first == "agent") {
        return shoot_exposure_agent::cli::main(std::iter::once(own).chain(arguments));
    }
    let arguments = Arguments::parse();
    let played = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(play(&arguments)));
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is on stage.
struct Stage {
    emulator: Emulator,
    agent: Process,
    nodes: PathBuf,
    started: Instant,
}

async fn play(arguments: &Arguments) -> Result<()> {
    let folder = Folder::new("playground")?;
    let stage = Stage::set(&folder).await?;
    stage.say("three control-plane nodes are ready: the agent makes a load balancer");
    stage.ready([true, true, true])?;
    stage.awaits(&["cp-0", "cp-1", "cp-2"]).await?;

    stage.say("cp-1 turns NotReady: its target leaves by one PUT");
    let puts = stage.emulator.count("PUT", "/load-balancers/");
    stage.ready([true, false, true])?;
    stage.awaits(&["cp-0", "cp-2"]).await?;
    let sent = stage.emulator.count("PUT", "/load-balancers/") - puts;
    ensure!(sent == 1, "{sent} PUTs were sent, one was enough");

    stage.say("all nodes turn NotReady: nothing proves that they are gone, so the pool is frozen, never empty");
    stage.ready([false, false, false])?;
    stage.awaits_log("TargetsFrozen").await?;
    stage.awaits(&["cp-0", "cp-2"]).await?;

    stage.say("the cloud answers 500 while all nodes come back: the agent waits and tries again");
    stage.emulator.inject(Fault::new(Action::internal_error()).method("PUT").times(2));
    stage.ready([true, true, true])?;
    stage.awaits(&["cp-0", "cp-1", "cp-2"]).await?;

    stage.say("somebody else removes two targets: the agent notices and repairs it");
    let agent_reads = stage.emulator.count("GET", "/load-balancers/");
    stage.emulator.edit(BALANCER, |balancer| {
        if let Some(targets) = balancer["targetPools"][0]["targets"].as_array_mut() {
            targets.truncate(1);
        }
    });
    stage.awaits(&["cp-0", "cp-1", "cp-2"]).await?;
    let reads = stage.emulator.count("GET", "/load-balancers/") - agent_reads;
    stage.say(&format!("repaired after {reads} look(s) at the balancer; nothing that others own was touched"));

    if arguments.stay {
        println!("\nstill running; Ctrl-C ends it\n  emulator  {}/_emulator/journal", stage.emulator.url());
        println!("  nodes     {}\n  log       {}", stage.nodes.display(), stage.agent.log().display());
        tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    }
    stage.agent.terminate()?;
    let ended = stage.agent.exited(SOON).await?;
    ensure!(ended.success(), "the agent ended with {ended}");
    stage.say("the agent was told to stop, and has");
    println!("\nall as expected");
    Ok(())
}

impl Stage {
    async fn set(folder: &Folder) -> Result<Self> {
        let emulator = Emulator::start(Options::default()).await?;
        let key = emulator.service_account_key(&KeyOptions::default())?;
        let credentials = folder.join("credentials");
        std::fs::create_dir(&credentials).context("making the credentials folder")?;
        write(&credentials.join("serviceaccount.json"), &key)?;
        let nodes = folder.join("nodes.yaml");
        write(&nodes, &node_list([true; 3]))?;
        let config = folder.join("config.yaml");
        let settings = json!({
            "nodes": {"source": "File", "file": nodes},
            "exposure": {"name": "playground"},
            "health": {"probe": {"enabled": false}},
            "server": {"bindAddress": "127.0.0.1:0"},
            "stackit": {
                "credentialsDirectory": credentials, "loadBalancerEndpoint": emulator.url(),
                "projectID": emulator.project(), "region": emulator.region(),
                "networkID": "5f2b1c3d-9a4e-4b6f-8c7d-0123456789ab", "technicalID": "shoot--garden--playground",
            },
        });
        write(&config, &settings)?;
        let mut command = Command::new(std::env::current_exe().context("finding the own path")?);
        command.arg("agent").arg("run").arg("--config").arg(&config);
        let agent = Process::start("agent", command, folder.join("agent.log"))?;
        println!("emulator {}   agent pid {}\n", emulator.url(), agent.id());
        Ok(Self { emulator, agent, nodes, started: Instant::now() })
    }

    fn say(&self, what: &str) {
        println!("{:6.2} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// Replaces the Node list, as an editor would: at once.
    fn ready(&self, ready: [bool; 3]) -> Result<()> {
        let new = self.nodes.with_extension("new");
        write(&new, &node_list(ready))?;
        std::fs::rename(&new, &self.nodes).context("replacing the Node list")
    }

    /// Waits until the balancer has exactly these targets, and says so.
    async fn awaits(&self, nodes: &[&str]) -> Result<()> {
        let since = Instant::now();
        let targets = until(&format!("targets {nodes:?}"), SOON, || async {
            self.alive()?;
            let targets = targets_of(&self.emulator.balancer(BALANCER).unwrap_or_default());
            let names: Vec<&str> = targets.iter().filter_map(|target| target.split(' ').next()).collect();
            ensure!(names == nodes, "{targets:?}");
            Ok(targets)
        })
        .await?;
        self.say(&format!("  -> after {:.2} s: {}", since.elapsed().as_secs_f64(), targets.join(", ")));
        Ok(())
    }

    async fn awaits_log(&self, word: &str) -> Result<()> {
        until(&format!("{word} in the log"), SOON, || async {
            self.alive()?;
            ensure!(self.agent.output()?.contains(word), "not yet");
            Ok(())
        })
        .await
    }

    fn alive(&self) -> Result<()> {
        match self.agent.exit()? {
            Some(status) => bail!("the agent has ended with {status}:\n{}", self.agent.tail(20)),
            None => Ok(()),
        }
    }
}

fn node_list(ready: [bool; 3]) -> Value {
    let node = |(index, ready): (usize, bool)| {
        json!({
            "metadata": {"name": format!("cp-{index}"), "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "status": {
                "addresses": [{"type": "InternalIP", "address": format!("10.0.1.{}", 10 + index)}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": ready.into_iter().enumerate().map(node).collect::<Vec<_>>()})
}

fn write(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, value.to_string()).with_context(|| format!("writing {}", path.display()))
}
