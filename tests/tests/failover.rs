//! The rig runs: one fault, from the command line to the figures. No time is judged here, the machine may be busy.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::namespaces::for_test;
use tests::process::Folder;

#[test]
fn a_killed_api_server_leaves_and_comes_back_on_the_rig() -> Result<()> {
    // The program makes a network of its own.
    if for_test("the rig of failover-bench", 0)?.is_none() {
        return Ok(());
    }
    let folder = Folder::new("failover")?;
    let figures = folder.join("figures.json");
    let output = bench(&["--class", "kill", "--quick", "--json"], Some(&figures))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Value = serde_json::from_slice(&std::fs::read(&figures).with_context(|| said.to_string())?)?;
    let class = &figures["classes"][0];
    ensure!(class["class"] == "kill" && class["n"] == 1, "{class}");
    for time in ["put", "removal", "back"] {
        ensure!(class[time]["p50"].as_f64().is_some_and(|time| time > 0.0), "{time}: {class}");
        ensure!(class[time]["p99"].is_null(), "a p99 of one run: {class}");
    }
    ensure!(class["requests"].as_u64().is_some_and(|requests| requests > 10), "{class}");
    ensure!(class["samples"][0]["problems"].as_array().is_some_and(Vec::is_empty), "{class}");
    ensure!(said.contains("| `kill`: SIGKILL of a follower's kube-apiserver | 1 |"), "{said}");
    let left = Command::new("ip").args(["netns", "list"]).output()?;
    let left = String::from_utf8_lossy(&left.stdout);
    ensure!(!left.contains(&format!("sea-{}-", pid(&said)?)), "left behind: {left}");
    Ok(())
}

#[test]
fn what_it_cannot_do_is_said() -> Result<()> {
    let output = bench(&["--class", "earthquake"], None)?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    ensure!(String::from_utf8_lossy(&output.stderr).contains("kill-leaders"), "{output:?}");
    Ok(())
}

fn bench(arguments: &[&str], file: Option<&Path>) -> Result<std::process::Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_failover-bench"));
    command.args(arguments).args(file).output().context("running failover-bench")
}

/// Its process id, which is in the names of its namespaces.
fn pid(said: &str) -> Result<u32> {
    let line = said.lines().find_map(|line| line.strip_prefix("failover-bench, process "));
    line.context("it does not say its process id")?.trim().parse().context("reading its process id")
}
