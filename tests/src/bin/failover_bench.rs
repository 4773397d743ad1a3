//! What clients see when a part of the control plane fails, and how soon it is mended.
//!
//! `cargo run --release -p tests --bin failover-bench -- --help`. Needs root and iproute2 for three network namespaces as
//! nodes, each with its own etcd member, kube-apiserver and agent; nothing leaves them.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use decide::settings::duration;
use serde_json::json;
use tests::agent;
use tests::emulator::raise_file_limit;
use tests::failover::class::Class;
use tests::failover::figures::{Figures, table};
use tests::failover::floor::{self, Floor};
use tests::failover::rig::Rig;
use tests::failover::run::run;
use tests::failover::soak::soak;
use tests::namespaces::{Network, in_hub, missing};

/// Nodes of the network.
const NODES: u8 = 3;

/// Breaks a control plane in many ways and measures what follows: until the PUT, the removal, the return, and how many
/// requests of clients fail.
#[derive(Parser)]
#[command(name = "failover-bench")]
struct Arguments {
    /// Only these classes
    #[arg(long, value_enum, value_delimiter = ',')]
    class: Vec<Class>,
    /// Runs of each class; a p99 needs 100
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// One run of each class
    #[arg(long)]
    quick: bool,
    /// Write everything that was measured to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Let nothing fail for so long (30m) while both cores are busy, and count wrong removals
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    soak: Option<Duration>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a process of the benchmark is.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Floor(floor::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    raise_file_limit();
    // The clients of this process and of the floor choose it by default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match &arguments.role {
        Some(Role::Floor(floor)) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")
            .and_then(|runtime| runtime.block_on(floor::run(floor.clone()))),
        None => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failover-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    if let Some(missing) = missing() {
        bail!("cannot run here: {missing}");
    }
    println!("failover-bench, process {}", std::process::id());
    // Outside, before anything is measured: it may have to be built.
    agent::binary()?;
    let network = Network::new(NODES)?;
    in_hub(&network, || all(arguments, &network))
}

async fn all(arguments: &Arguments, network: &Network) -> Result<()> {
    let mut rig = Rig::start(network).await.context("starting the rig")?;
    let runs = if arguments.quick { 1 } else { arguments.runs };
    let classes = match (arguments.class.is_empty(), arguments.soak) {
        (true, None) => Class::value_variants().to_vec(),
        _ => arguments.class.clone(),
    };
    let mut figures = Vec::new();
    for class in classes {
        let of_class = samples(&mut rig, class, runs).await.with_context(|| format!("measuring {}", class.name()))?;
        print!("\n{}", table(std::slice::from_ref(&of_class)));
        figures.push(of_class);
        write(arguments, &figures, None)?;
    }
    if figures.len() > 1 {
        println!("\nMilliseconds: p50 / p99 / max.\n\n{}", table(&figures));
    }
    let mut soaked = None;
    if let Some(time) = arguments.soak {
        let soak = soak(&rig, time, 2).await?;
        println!(
            "{} wrong removals in {:.1} min of load with {} busy cores; {} of {} requests failed",
            soak.wrong_removals.len(),
            soak.minutes,
            soak.busy,
            soak.failed,
            soak.requests
        );
        soaked = Some(soak);
    }
    write(arguments, &figures, soaked.as_ref())?;
    let missed: Vec<String> = figures.iter().filter(|it| !it.verdict().0).map(|it| it.class.name()).collect();
    let wrong = soaked.is_some_and(|soak| !soak.wrong_removals.is_empty());
    if !missed.is_empty() || wrong {
        bail!("goals missed: {}{}", missed.join(", "), if wrong { " and 0 wrong removals" } else { "" });
    }
    Ok(())
}

async fn samples(rig: &mut Rig<'_>, class: Class, runs: usize) -> Result<Figures> {
    rig.lease(class.short_lease()).await?;
    let mut samples = Vec::new();
    let mut floor: Option<Floor> = None;
    for round in 0..runs {
        if class == Class::NodeEvent {
            let leader = rig.settled().await?;
            if floor.as_ref().is_none_or(|floor| !floor.is_at(leader)) {
                floor = Some(Floor::start(rig, leader).await?);
            }
        }
        let sample = run(rig, class, round, floor.as_ref()).await?;
        println!("{} {}/{runs}: {}", class.name(), round + 1, serde_json::to_string(&sample)?);
        samples.push(sample);
    }
    Ok(Figures { class, samples })
}

fn write(arguments: &Arguments, figures: &[Figures], soak: Option<&tests::failover::soak::Soak>) -> Result<()> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let classes: Vec<_> = figures.iter().map(Figures::json).collect();
    let text = serde_json::to_string_pretty(&json!({"milliseconds": true, "classes": classes, "soak": soak}))?;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
