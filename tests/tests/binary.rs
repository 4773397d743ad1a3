//! The file that ships: one static binary, small, with the verbs that the documentation names.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use anyhow::{Context, Result};
use tests::agent::run;
use tests::world::repository;

/// Bytes that the binary may have: 9 MiB.
const LARGEST: u64 = 9 << 20;

#[test]
fn it_is_static_and_at_most_9_mib() -> Result<()> {
    let binary = tests::agent::release()?;
    let size = std::fs::metadata(&binary).with_context(|| format!("{}", binary.display()))?.len();
    println!("{size} bytes of {LARGEST}");
    assert!(size <= LARGEST, "{size} bytes are more than {LARGEST}");
    let output = Command::new("ldd").arg(&binary).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("statically linked") || text.contains("not a dynamic executable"), "{text}");
    Ok(())
}

/// What ships has no tables for walking up the stack, and the walker used to abort without a word.
#[test]
fn who_asks_for_backtraces_gets_the_error_all_the_same() -> Result<()> {
    let mut command = Command::new(tests::agent::release()?);
    command.args(["drain", "cp-0", "--config"]).arg(repository("config/agent.yaml"));
    command.env_remove("KUBECONFIG").env("RUST_BACKTRACE", "full").env_remove("RUST_LIB_BACKTRACE");
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: there is no kubeconfig"), "{output:?}");
    Ok(())
}

#[test]
fn exit_codes_are_as_documented() -> Result<()> {
    let code = |arguments: &[&str]| Ok::<_, anyhow::Error>(run(arguments)?.status.code());
    assert_eq!(code(&["version"])?, Some(0));
    assert_eq!(code(&["--help"])?, Some(0));
    assert_eq!(code(&[])?, Some(2));
    assert_eq!(code(&["no-such-verb"])?, Some(2));
    assert_eq!(code(&["config", "defaults"])?, Some(0));
    assert_eq!(code(&["config", "check", "--config", "/nowhere.yaml"])?, Some(2));
    assert_eq!(code(&["run", "--config", "/nowhere.yaml"])?, Some(2));
    Ok(())
}

#[test]
fn the_shipped_settings_are_the_defaults_and_valid() -> Result<()> {
    let file = repository("config/agent.yaml");
    let defaults = run(&["config", "defaults"])?;
    assert_eq!(String::from_utf8(defaults.stdout)?, std::fs::read_to_string(&file)?);
    let check = run(&["config", "check", "--config", file.to_str().unwrap()])?;
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    Ok(())
}

#[test]
fn every_mistake_in_the_settings_is_named_at_once() -> Result<()> {
    let folder = tests::process::Folder::new("mistakes")?;
    let file = folder.join("config.yaml");
    std::fs::write(
        &file,
        "leaderElection: {renewDeadline: 20s, retryPeriod: soon}\nexposure:\n  prot: 443\ncontrollers: {dns: 1}\n",
    )?;
    let mut command = Command::new(tests::agent::binary()?);
    command.args(["config", "check", "--config"]).arg(&file);
    command.env("SHOOT_EXPOSURE_AGENT__STACKIT__REGOIN", "eu01");
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr)?;
    for part in
        ["leaderElection.renewDeadline", "leaderElection.retryPeriod", "exposure.prot", "controllers.dns", "REGOIN"]
    {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    Ok(())
}
