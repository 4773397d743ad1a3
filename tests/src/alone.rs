//! A shoot before its control plane: STACKIT and nothing else. And verbs that do one thing there, or in a [`World`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::agent::{binary, merge};
use crate::emulator::{Emulator, KeyOptions, Options};
use crate::process::Folder;
use crate::wait::until;
use crate::world::{BALANCER, NETWORK, SHOOT, TECHNICAL_ID, World, targets_of};

/// STACKIT, and credentials for it.
pub struct Alone {
    /// STACKIT.
    pub emulator: Emulator,
    folder: Folder,
}

impl Alone {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let (emulator, folder) = (Emulator::start(Options::default()).await?, Folder::new("alone")?);
        std::fs::create_dir(folder.join("credentials"))?;
        let key = emulator.service_account_key(&KeyOptions::default())?;
        std::fs::write(folder.join("credentials/serviceaccount.json"), key.to_string())?;
        std::fs::write(folder.join("credentials/project-id"), emulator.project())?;
        Ok(Self { emulator, folder })
    }

    /// Settings that say everything that a cluster would.
    pub fn settings(&self) -> Value {
        let mut settings = complete();
        let kubeconfig = self.folder.join("not-there-yet.kubeconfig");
        let stackit = json!({
            "credentialsDirectory": self.folder.join("credentials"), "loadBalancerEndpoint": self.emulator.url(),
        });
        merge(&mut settings, json!({"kubeconfig": kubeconfig, "stackit": stackit}));
        settings
    }

    /// Starts a verb, with `over` merged over the settings.
    pub fn verb(&self, over: Value, arguments: &[&str]) -> Result<Verb> {
        let mut settings = self.settings();
        merge(&mut settings, over);
        Verb::start(self.folder.path(), &settings, arguments)
    }

    /// A file of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The targets of the balancer as `name ip`, sorted.
    pub fn targets(&self) -> Vec<String> {
        self.emulator.balancer(BALANCER).map(|balancer| targets_of(&balancer)).unwrap_or_default()
    }
}

/// What must be set where no Kubernetes says it, for the shoot of a [`World`].
pub fn complete() -> Value {
    json!({
        "exposure": {"name": SHOOT},
        "stackit": {"region": "eu01", "networkID": NETWORK, "technicalID": TECHNICAL_ID},
    })
}

impl World {
    /// Starts a verb, with `over` merged over the settings that fit this world.
    pub fn verb(&self, over: Value, arguments: &[&str]) -> Result<Verb> {
        let mut settings = self.settings()?;
        merge(&mut settings, over);
        Verb::start(self.file("").as_path(), &settings, arguments)
    }
}

/// A verb that runs; killed when dropped.
pub struct Verb {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a verb has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Verb {
    /// Starts the binary with these settings in a file: `arguments` and `--config FILE`.
    pub fn start(folder: &Path, settings: &Value, arguments: &[&str]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let config = folder.join(format!("verb-{count}.yaml"));
        // JSON is YAML.
        std::fs::write(&config, settings.to_string()).context("writing the settings")?;
        let mut command = Command::new(binary()?);
        command.args(arguments).arg("--config").arg(&config);
        Self::spawn(command, &config.with_extension(""))
    }

    /// Starts a command; what it prints goes into files beside `base`.
    pub fn spawn(mut command: Command, base: &Path) -> Result<Self> {
        let (stdout, stderr) = (base.with_extension("out"), base.with_extension("err"));
        let file = |path: &Path| std::fs::File::create(path).with_context(|| path.display().to_string());
        command.stdin(Stdio::null()).stdout(file(&stdout)?).stderr(file(&stderr)?);
        command.env_remove("KUBECONFIG").env_remove("NODE_NAME").kill_on_drop(true);
        let child = command.spawn().context("starting the verb")?;
        Ok(Self { child, stdout, stderr })
    }

    /// What it has said so far.
    pub fn said(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.stderr)?)
    }

    /// Waits until it has said this.
    pub async fn awaits_said(&self, words: &str, deadline: Duration) -> Result<()> {
        until(&format!("{words:?} on stderr"), deadline, || async {
            let said = self.said()?;
            ensure!(said.contains(words), "{said}");
            Ok(())
        })
        .await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().context("it has ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal).with_context(|| format!("sending {signal}"))
    }

    /// Ends it (SIGKILL), and returns when it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the verb")
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, deadline: Duration) -> Result<Ended> {
        let status = tokio::time::timeout(deadline, self.child.wait()).await;
        let said = || std::fs::read_to_string(&self.stderr).unwrap_or_default();
        let status = status.with_context(|| format!("it runs after {deadline:?}, and has said:\n{}", said()))??;
        Ok(Ended { code: status.code(), stdout: std::fs::read_to_string(&self.stdout)?, stderr: said() })
    }
}

impl Ended {
    /// Fails, with all that it has said, unless it ended like this.
    pub fn with(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == Some(code),
            "ended with {:?} instead of {code}, after it said:\n{}",
            self.code,
            self.stderr
        );
        Ok(self)
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {}", self.stdout))
    }
}
