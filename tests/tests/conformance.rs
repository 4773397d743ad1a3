//! The emulator beside the provider's own description of the API, where `STACKIT_OPENAPI` names one.
//!
//! With it every test that runs an emulator compares all it has taken and given (`tests::openapi`). Here are the table of what
//! differs and shall, and schemathesis: a program that makes up requests from the document, good and bad ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "emulator/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the emulator, which use more of it")]
mod client;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::emulator::{Options, Profile};
use tests::openapi::{DOCUMENT, KNOWN, document};
use tests::world::repository;

use client::Cloud;

/// With one version, what it finds is about us.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

#[test]
fn the_table_of_known_differences_is_the_one_in_the_code() -> Result<()> {
    let text = std::fs::read_to_string(repository("tests/CONFORMANCE.md"))?;
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|it| it.starts_with("| `")).map(|it| it.split('|').collect()).collect();
    let named: Vec<&str> = rows.iter().map(|row| row[1].trim().trim_matches('`')).collect();
    let known: Vec<&str> = KNOWN.iter().map(|known| known.id).chain(["rules-in-prose"]).collect();
    assert_eq!(named, known);
    for row in rows {
        assert!(row.len() == 5 && row[2].len() > 20 && row[3].len() > 20, "without its reason: {row:?}");
    }
    Ok(())
}

#[tokio::test]
async fn schemathesis_finds_nothing_but_what_is_known() -> Result<()> {
    let Some(description) = document()? else {
        println!("not compared: {DOCUMENT} names no OpenAPI document of the API");
        return Ok(());
    };
    let program = schemathesis()?;
    let folder = tempfile::tempdir()?;
    let cloud = Cloud::with(Options { profile: Profile::Instant, ..Options::default() }).await;
    cloud.emulator.set_switches(|switches| (switches.max_load_balancers, switches.max_credentials) = (-1, -1));
    let config = folder.path().join("schemathesis.toml");
    // Valid by the schema and refused: `rules-in-prose`.
    std::fs::write(
        &config,
        format!(
            "[parameters]\n\"path.projectId\" = \"{}\"\n\"path.region\" = \"{}\"\n\
             [checks.positive_data_acceptance]\n\
             expected-statuses = [\"2xx\", \"400\", \"404\", \"409\"]\n",
            cloud.emulator.project(),
            cloud.emulator.region()
        ),
    )?;
    let mut command = tokio::process::Command::new(program);
    command.current_dir(folder.path()).arg("--config-file").arg(&config).arg("run");
    command.arg(std::env::var_os(DOCUMENT).context("no document")?).args(["--url", cloud.emulator.url()]);
    command.arg("--header").arg(format!("Authorization: Bearer {}", cloud.token));
    command.args(["--checks", "all", "--seed", "1", "--max-examples", "10", "--continue-on-failure", "--no-shrink"]);
    command.args(["--no-color", "--warnings", "off"]).kill_on_drop(true);
    let output = command.output().await.context("running schemathesis")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let conforms = cloud.emulator.conforms();
    ensure!(output.status.success(), "{}\n{said}\n{errors}\n{conforms:?}", output.status);
    let count = description.operations().count();
    ensure!(said.contains(&format!("Tested: {count}")), "not all {count} operations were tested:\n{said}");
    let requests = cloud.emulator.with_journal(<[_]>::len);
    ensure!(requests > 500, "only {requests} requests:\n{said}");
    println!("schemathesis sent {requests} requests to {count} operations");
    conforms
}

/// The program, installed once into cargo's target folder.
fn schemathesis() -> Result<PathBuf> {
    let folder =
        std::env::current_exe()?.ancestors().nth(3).context("the test lies in no target folder")?.join("schemathesis");
    let (program, stamp) = (folder.join("bin/schemathesis"), folder.join("version"));
    if std::fs::read_to_string(&stamp).is_ok_and(|version| version == SCHEMATHESIS) {
        return Ok(program);
    }
    let run = |command: &mut Command| {
        let output = command.output().with_context(|| format!("running {command:?}"))?;
        ensure!(
            output.status.success(),
            "{command:?}: {}\n{}\n{DOCUMENT} asks for the comparison, which needs python3 with its module venv, and PyPI",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        anyhow::Ok(())
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = |folder: &Path| folder.join("bin/pip");
    run(Command::new(pip(&folder)).args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]))?;
    std::fs::write(stamp, SCHEMATHESIS)?;
    Ok(program)
}
