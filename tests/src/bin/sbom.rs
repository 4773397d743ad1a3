//! What the agent's binary consists of, as CycloneDX: every crate that is linked in, from cargo's own resolution, and
//! the C and Rust runtimes. The same commit and toolchain give the same bytes.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const LOCK: &str = include_str!("../../../Cargo.lock");

/// Prints the CycloneDX document of the agent.
#[derive(Parser)]
struct Arguments {
    /// The target it was built for
    #[arg(long)]
    target: String,
    /// The binary, for its hash
    #[arg(long)]
    binary: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let document = document(&arguments.target, &arguments.binary)?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// One crate as `cargo tree` prints it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
}

fn document(target: &str, binary: &Path) -> Result<Value> {
    let checksums = checksums();
    let crates = crates(target)?;
    let agent = crates.iter().find(|found| found.name == "shoot-exposure-agent").context("no agent in its own tree")?;
    let mut components: Vec<Value> =
        crates.iter().filter(|found| *found != agent).map(|found| component(found, &checksums)).collect();
    components.push(runtime("rust-std", "pkg:generic/rust-std", &rust_version()?));
    if let Some(version) = c_version(target)? {
        components.push(runtime("glibc", "pkg:generic/glibc", &version));
    }
    let bytes = std::fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": "shoot-exposure-agent", "name": agent.name, "version": agent.version,
            "licenses": [{"expression": agent.licence}],
            "hashes": [{"alg": "SHA-256", "content": hex(&Sha256::digest(&bytes))}],
        }},
        "components": components,
    }))
}

fn component(found: &Crate, checksums: &BTreeMap<(String, String), String>) -> Value {
    let purl = format!("pkg:cargo/{}@{}", found.name, found.version);
    // Old crates separate a choice by a slash, which is no SPDX.
    let licence = found.licence.replace('/', " OR ").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut component = json!({
        "type": "library", "bom-ref": purl, "name": found.name, "version": found.version, "purl": purl,
        "licenses": [{"expression": licence}],
    });
    if let Some(checksum) = checksums.get(&(found.name.clone(), found.version.clone())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

fn runtime(name: &str, purl: &str, version: &str) -> Value {
    let purl = format!("{purl}@{version}");
    json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
}

/// What is linked in: no build scripts, no macros, no crates of tests.
fn crates(target: &str) -> Result<BTreeSet<Crate>> {
    let arguments = ["tree", "--locked", "--package", "shoot-exposure-agent", "--edges", "normal,no-proc-macro"];
    let format = ["--prefix", "none", "--format", "{p}|{l}", "--target", target];
    let text = output(Command::new(cargo()).args(arguments).args(format))?;
    text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).map(parse).collect()
}

/// `name v1.2.3 (somewhere)|licence`
fn parse(line: &str) -> Result<Crate> {
    let (package, licence) = line.split_once('|').with_context(|| format!("no licence in `{line}`"))?;
    let mut words = package.split_whitespace();
    let (name, version) = (words.next(), words.next().and_then(|version| version.strip_prefix('v')));
    let (name, version) = name.zip(version).with_context(|| format!("no name and version in `{line}`"))?;
    Ok(Crate { name: name.to_owned(), version: version.to_owned(), licence: licence.trim().to_owned() })
}

/// The checksums that Cargo.lock pins, by name and version.
fn checksums() -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.map(|rest| rest.trim_end_matches('"').to_owned())
    };
    let blocks = LOCK.split("[[package]]");
    blocks
        .filter_map(|block| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?)))
        .collect()
}

fn rust_version() -> Result<String> {
    let text = output(Command::new("rustc").arg("--version"))?;
    text.split_whitespace().nth(1).map(str::to_owned).context("rustc does not say its version")
}

/// The version of the C library, which is the machine's own; musl comes with Rust.
fn c_version(target: &str) -> Result<Option<String>> {
    if !target.ends_with("gnu") {
        return Ok(None);
    }
    let text = output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    Ok(text.split_whitespace().nth(1).map(str::to_owned))
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
