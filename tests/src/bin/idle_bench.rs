//! What an idle agent costs: memory and processor time with three nodes, on a real API server.
//!
//! `SHOOT_EXPOSURE_AGENT=target/release/shoot-exposure-agent cargo run -p tests --bin idle-bench [SECONDS]`
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tests::world::{SOON, World};

#[tokio::main]
async fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(30), |text| text.parse()).context("SECONDS is a number")?;
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({"log": {"level": "info"}})).await?;
    world.awaits_success(SOON).await?;
    let before = cpu_seconds(agent.process().id())?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = cpu_seconds(agent.process().id())? - before;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process().id()))?;
    let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().trim().to_owned();
    println!("three nodes, idle for {seconds} s after the exposure was ready");
    for name in ["VmRSS:", "RssAnon:", "RssFile:", "VmHWM:", "Threads:"] {
        println!("  {}", field(name));
    }
    println!("  CPU: {used:.2} s, {:.3} % of a core", used * 100.0 / f64::from(u32::try_from(seconds)?));
    Ok(())
}

/// User and system time of a process so far.
fn cpu_seconds(process: u32) -> Result<f64> {
    /// `USER_HZ`: a constant of the kernel's interface.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The command's name may hold anything; the numbers begin behind its closing parenthesis.
    let numbers: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| numbers.get(index).and_then(|text| text.parse::<f64>().ok()).context("/proc/PID/stat");
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}
