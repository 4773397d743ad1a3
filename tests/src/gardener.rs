//! Gardener's own manifests, as its Go module brings them; nothing of it is kept here. Where the module cannot be had,
//! who asks says what was not compared.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The version whose manifests are meant, and the sum that Go's checksum database has for it.
const MODULE: &str = "github.com/gardener/gardener@v1.150.0";
const SUM: &str = "h1:/saUAvvyfGasVxTZWREyaMDBXH6fFnS632K067zqC4c=";
/// 34 MB; after the first time it is there at once.
const PATIENCE: Duration = Duration::from_secs(180);

/// Gardener's CustomResourceDefinition of a resource, as YAML; in `Err` why the module cannot be had.
pub async fn definition(group: &str, plural: &str) -> Result<Result<String, String>> {
    static FOLDER: OnceCell<Result<PathBuf, String>> = OnceCell::const_new();
    let folder = FOLDER.get_or_init(async || download().await.map_err(|error| format!("{error:#}"))).await;
    let folder = match folder {
        Ok(folder) => folder,
        Err(why) => return Ok(Err(why.clone())),
    };
    let file = folder.join("example/seed-crds").join(format!("10-crd-{group}_{plural}.yaml"));
    Ok(Ok(std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?))
}

async fn download() -> Result<PathBuf> {
    let mut go = Command::new("go");
    // Of no module of ours.
    go.args(["mod", "download", "-json", MODULE]).current_dir(std::env::temp_dir()).stdin(Stdio::null());
    let output = tokio::time::timeout(PATIENCE, go.kill_on_drop(true).output());
    let output = output.await.with_context(|| format!("downloading {MODULE}"))?.context("running go")?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "downloading {MODULE}: {}", format!("{answer}{words}").trim());
    let found: Value = serde_json::from_str(&answer).context("reading what `go mod download -json` says")?;
    ensure!(found["Sum"] == SUM, "{MODULE} has the sum {}, not {SUM}", found["Sum"]);
    Ok(PathBuf::from(found["Dir"].as_str().context("`go mod download -json` names no folder")?))
}
