//! The agent as a process: the real binary, its settings in a file, its admin server asked over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::control_plane::certificates::replace;
use crate::control_plane::use_ring;
use crate::namespaces::Seat;
use crate::process::{Folder, Process};
use crate::wait::{hopeless, until};

/// Path of a binary to test instead of this workspace's.
const BINARY: &str = "SHOOT_EXPOSURE_AGENT";
/// What cargo tells a test about itself; build scripts of dependencies would believe that something has changed.
const ABOUT_THIS_TEST: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
/// Time for the process to listen.
const START: Duration = Duration::from_secs(10);

/// Where the binary is, or why not.
static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The agent's binary from now on, unless `SHOOT_EXPOSURE_AGENT` names one or somebody has asked for it before.
pub fn use_binary(path: PathBuf) {
    let named = std::env::var_os(BINARY).map_or(path, PathBuf::from);
    // Whoever has asked before goes on with what there was.
    let _ = BUILT.set(Ok(named));
}

/// The agent's binary: the one named in `SHOOT_EXPOSURE_AGENT`, else built from this workspace, in the profile of
/// the tests themselves.
pub fn binary() -> Result<&'static Path> {
    let named = || std::env::var_os(BINARY).map(PathBuf::from);
    let built = BUILT.get_or_init(|| match named() {
        Some(path) => Ok(path),
        None => build(false).map_err(|error| format!("{error:#}")),
    });
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

/// The binary that ships: the one under test, where that is one, else built now.
pub fn release() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY).map(PathBuf::from)
        && path.parent().is_some_and(|folder| folder.ends_with("release"))
    {
        return Ok(path);
    }
    build(true)
}

/// Builds the binary beside the tests, in the release profile or in that of the tests themselves.
pub fn build(release: bool) -> Result<PathBuf> {
    // Tests run from `<target>/<profile>/deps`, binaries of this package from `<target>/<profile>`.
    let own = std::env::current_exe().context("finding the test's own path")?;
    let folder = own.ancestors().nth(1).context("the test lies in no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let target = folder.parent().context("the profile lies in no folder")?;
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("build").arg("--quiet").arg("--target-dir").arg(target);
    command.args(["--package", "shoot-exposure-agent", "--bin", "shoot-exposure-agent"]);
    let release = release || folder.ends_with("release");
    if release {
        command.arg("--release");
    }
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ABOUT_THIS_TEST.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    let output = command.output().context("running cargo")?;
    ensure!(output.status.success(), "cannot build the agent:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(if release { target.join("release") } else { folder.to_owned() }.join("shoot-exposure-agent"))
}

/// Runs a verb to its end.
pub fn run(arguments: &[&str]) -> Result<std::process::Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments).env_remove("KUBECONFIG");
    command.output().with_context(|| format!("running {arguments:?}"))
}

/// Runs a verb to its end, while the test goes on with everything else.
pub async fn verb(arguments: &[&str]) -> Result<std::process::Output> {
    let mut command = tokio::process::Command::new(binary()?);
    command.args(arguments).env_remove("KUBECONFIG").kill_on_drop(true);
    command.output().await.with_context(|| format!("running {arguments:?}"))
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    config: PathBuf,
    client: reqwest::Client,
}

impl Agent {
    /// Starts `run` with these settings and waits until the admin server listens. `name` is the node's name.
    ///
    /// `settings` is merged over what every test needs: the name and a free admin port.
    pub async fn start(name: &str, settings: Value, folder: &Folder) -> Result<Self> {
        Self::start_with(name, settings, folder, &[]).await
    }

    /// As [`Agent::start`], with these variables in its environment.
    pub async fn start_with(
        name: &str,
        settings: Value,
        folder: &Folder,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_at(&Seat::here(Ipv4Addr::LOCALHOST), name, settings, folder, environment).await
    }

    /// As [`Agent::start_with`], in this seat; the admin server listens on its address.
    pub async fn start_at(
        seat: &Seat,
        name: &str,
        settings: Value,
        folder: &Folder,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_of(binary()?, seat, name, settings, folder, environment).await
    }

    /// As [`Agent::start_at`], of another binary.
    pub async fn start_of(
        binary: &Path,
        seat: &Seat,
        name: &str,
        settings: Value,
        folder: &Folder,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut effective = serde_json::json!({
            "apiVersion": "agent.exposure.gardener.cloud/v1alpha1",
            "kind": "AgentConfiguration",
            "nodeName": name,
            "server": {"bindAddress": format!("{}:0", seat.address)},
            "log": {"level": "debug"},
        });
        merge(&mut effective, settings);
        let config = folder.join(format!("{name}.yaml"));
        // JSON is YAML.
        std::fs::write(&config, effective.to_string()).context("writing the settings")?;
        let mut command = seat.command(binary);
        command.arg("run").arg("--config").arg(&config).env_remove("KUBECONFIG").env_remove("NODE_NAME");
        command.envs(environment.iter().copied());
        let process = Process::start(name, command, folder.join(format!("{name}.log")))?;
        use_ring();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let agent = Self { process, config, client };
        until("the admin server to listen", START, || async { agent.admin().map(drop) }).await?;
        Ok(agent)
    }

    /// Merges `over` over the settings in the file, and replaces that at once.
    pub fn change_settings(&self, over: Value) -> Result<()> {
        let mut settings = serde_json::from_str(&std::fs::read_to_string(&self.config)?)?;
        merge(&mut settings, over);
        replace(&self.config, &settings.to_string())
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The settings file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Everything it has logged.
    pub fn log(&self) -> Result<String> {
        self.process.output()
    }

    /// The admin server's address, of the last start.
    pub fn admin(&self) -> Result<String> {
        const SAID: &str = "admin server listens";
        let log = self.log()?;
        if let Some(status) = self.process.exit()? {
            return Err(hopeless(format!("the agent has ended with {status}:\n{}", self.process.tail(20))));
        }
        let line = log.lines().rev().find_map(|line| line.split_once(SAID)).context("it does not listen yet")?;
        // As text it is `address=127.0.0.1:9440`, as JSON `"address":"127.0.0.1:9440"`.
        let mut words = line.1.split(|c: char| c.is_whitespace() || matches!(c, '=' | '"' | ','));
        let address = words.find(|word| word.parse::<SocketAddr>().is_ok());
        address.map(str::to_owned).with_context(|| format!("no address in {line:?}"))
    }

    /// Asks the admin server; the status and the text.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("http://{}{path}", self.admin()?);
        let answer = self.client.get(&url).send().await.with_context(|| format!("asking {url}"))?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The value of a metric with exactly these labels, as in `shoot_exposure_frozen{reason="no_nodes"}`.
    pub async fn metric(&self, series: &str) -> Result<f64> {
        let (status, text) = self.get("/metrics").await?;
        ensure!(status == 200, "/metrics answers {status}");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.with_context(|| format!("no {series} in:\n{text}"))?.trim().parse().context("not a number")
    }

    /// Waits until a metric has a value.
    pub async fn awaits_metric(&self, series: &str, value: f64, deadline: Duration) -> Result<()> {
        until(&format!("{series} to be {value}"), deadline, || async {
            let seen = self.metric(series).await?;
            // Numbers that were written as whole numbers come back as such.
            if (seen - value).abs() < f64::EPSILON { Ok(()) } else { bail!("{seen}") }
        })
        .await
    }

    /// Waits until a line of the log holds all of these words.
    pub async fn awaits_log(&self, words: &[&str], deadline: Duration) -> Result<()> {
        until(&format!("{words:?} in the log"), deadline, || async {
            let log = self.log()?;
            let said = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
            ensure!(said, "the log ends with:\n{}", self.process.tail(10));
            Ok(())
        })
        .await
    }
}

/// Merges `over` into `base`, object by object.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
