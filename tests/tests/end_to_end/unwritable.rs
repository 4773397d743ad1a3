//! An agent that may write nowhere, neither in its runtime folder nor where it was started: it works all the same, and a
//! verb that has to write a file says which one, and leaves it as it was.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::{binary, merge};
use tests::alone::{Alone, Ended, Verb};
use tests::process::Process;
use tests::wait::until;
use tests::world::SOON;
use tokio::process::Command;

/// Who may write nowhere: root may everywhere.
const NOBODY: u32 = 65_534;
const LONG: Duration = Duration::from_secs(60);

struct Unprivileged {
    alone: Alone,
    config: PathBuf,
}

impl Unprivileged {
    async fn start() -> Result<Self> {
        let alone = Alone::start().await?;
        let node = |name: &str, ip: &str| {
            json!({
                "metadata": {"name": name, "uid": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": ip}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            })
        };
        let nodes = json!({"items": [node("cp-0", "10.0.0.10"), node("cp-1", "10.0.0.11")]});
        std::fs::create_dir(alone.file("list"))?;
        std::fs::write(alone.file("list/nodes.yaml"), nodes.to_string())?;
        std::fs::copy(binary()?, alone.file("agent"))?;
        let mut settings = alone.settings();
        let over = json!({
            "kubeconfig": "", "nodes": {"source": "File", "file": alone.file("list/nodes.yaml")},
            "health": {"probe": {"enabled": false}}, "server": {"bindAddress": "127.0.0.1:0"},
        });
        merge(&mut settings, over);
        let config = alone.file("agent.yaml");
        std::fs::write(&config, settings.to_string())?;
        let it = Self { alone, config };
        it.mode("", 0o755)?;
        for secret in ["credentials/serviceaccount.json", "credentials/project-id"] {
            it.give(secret)?;
            it.mode(secret, 0o400)?;
        }
        it.mode("list", 0o555)?;
        Ok(it)
    }

    fn mode(&self, name: &str, mode: u32) -> Result<()> {
        Ok(std::fs::set_permissions(self.alone.file(name), std::fs::Permissions::from_mode(mode))?)
    }

    fn give(&self, name: &str) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            chown(self.alone.file(name), Some(NOBODY), Some(NOBODY))?;
        }
        Ok(())
    }

    /// The agent's binary, as somebody who may write nowhere, where systemd and others say that it may.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.alone.file("agent"));
        command.args(arguments).arg("--config").arg(&self.config).current_dir(self.alone.file("list"));
        command.env_remove("KUBECONFIG").env_remove("NODE_NAME");
        for folder in ["RUNTIME_DIRECTORY", "STATE_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR", "HOME"] {
            command.env(folder, self.alone.file("list"));
        }
        command.env("NOTIFY_SOCKET", self.alone.file("list/nobody-listens.socket"));
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    async fn verb(&self, name: &str, arguments: &[&str]) -> Result<Ended> {
        Verb::spawn(self.command(arguments), &self.alone.file(name))?.ended(LONG).await
    }

    async fn awaits_targets(&self, wanted: &[&str]) -> Result<()> {
        until(&format!("the targets {wanted:?}"), SOON, || async {
            let targets = self.alone.targets();
            ensure!(targets == wanted, "{targets:?}");
            Ok(())
        })
        .await
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

#[tokio::test]
async fn an_unwritable_runtime_folder_is_in_nobodys_way_and_what_must_be_written_says_so() -> Result<()> {
    let it = Unprivileged::start().await?;
    let run = it.command(&["run"]);
    let agent = Process::start("agent", run.into_std(), it.alone.file("agent.log"))?;
    it.awaits_targets(&["cp-0 10.0.0.10", "cp-1 10.0.0.11"]).await?;

    let list = it.alone.file("list/nodes.yaml");
    let before: Value = serde_json::from_str(&std::fs::read_to_string(&list)?)?;
    let ended = it.verb("refused", &["drain", "cp-1"]).await?.with(1)?;
    let line = ended.stderr.lines().find(|line| line.starts_with("error: ")).context("no error")?;
    let said = ["nodes.file", "list/nodes.yaml", "Permission denied"].iter().all(|words| line.contains(words));
    assert!(said && ended.stderr.matches("error: ").count() == 1, "{}", ended.stderr);
    assert_eq!(serde_json::from_str::<Value>(&std::fs::read_to_string(&list)?)?, before);
    assert_eq!(names(&it.alone.file("list"))?, ["nodes.yaml"], "nothing half made is left");
    assert_eq!(it.alone.targets().len(), 2);

    // Where it may write, the same verb does its work.
    it.mode("list", 0o755)?;
    it.give("list")?;
    it.verb("taken", &["drain", "cp-1"]).await?.with(0)?;
    it.awaits_targets(&["cp-0 10.0.0.10"]).await?;
    agent.terminate()?;
    let status = agent.exited(SOON).await?;
    assert_eq!(status.code(), Some(0), "{}", agent.tail(20));
    assert!(!agent.output()?.contains("panicked"));
    Ok(())
}
