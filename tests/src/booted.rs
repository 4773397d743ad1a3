//! A machine with a booted systemd: a small Debian in a container of systemd-nspawn.
//!
//! The root is made once by debootstrap, in `target/booted/<key>/`; each machine has a copy of its own. What runs there
//! reaches the API server and the emulator of the test over loopback, which it shares, unless it asks for a network of
//! its own, where there is nothing. What a test does to a machine is kept as a transcript in `target/booted/transcripts/`.
//!
//! Needs root, and the Debian packages debootstrap and systemd-container, which are installed where they are missing.
//! Without root there is no machine, which is said; as root a machine that does not come up is a failure.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::MutexGuard;

use crate::agent;
use crate::control_plane::binaries::{build_once, key_of, target_folder};
use crate::process::{Folder, Process, say};
use crate::wait::until;

/// A machine boots within a second; here seven others may be busy.
pub const BOOT: Duration = Duration::from_secs(60);

/// The public CA roots, there and here.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How nspawn says that the machine wants to boot again.
const REBOOTS: i32 = 133;
const RELEASE: &str = "bookworm";
/// What systemd needs to boot; the rest of the minimal set is a shell.
const PACKAGES: &str = "systemd,dbus";
/// Weight without use here, and what the minimal set lacks. A journal on disk survives a reboot.
const SLIM: &str = "rm -rf var/cache/apt var/lib/apt/lists usr/share/doc usr/share/man usr/share/locale; \
                    rm -f etc/machine-id; touch etc/machine-id; mkdir -p var/log/journal; \
                    echo 127.0.0.1 localhost > etc/hosts; \
                    ln -sf /dev/null etc/systemd/system/console-getty.service";

/// Whether a test can do what needs root; says so where it cannot.
pub fn root_or_skip(what: &str) -> bool {
    // The folder of a process belongs to who it is.
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !root {
        say(&format!("SKIPPED: {what}: this test is not root"));
    }
    root
}

/// Installs Debian packages where one of these programs is missing.
pub fn installed(programs: &[&str], packages: &[&str]) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if programs.iter().all(there) {
        return Ok(());
    }
    say(&format!("installing {}, once", packages.join(", ")));
    // The lists of a fresh machine may be empty or old; they are fetched when it does not go without.
    let install = || {
        let mut command = Command::new("apt-get");
        command.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        done(&mut command)
    };
    install().or_else(|_| {
        done(Command::new("apt-get").args(["update", "-q"]))?;
        install()
    })?;
    Ok(())
}

/// Runs a command to its end; its output, or an error with all it said.
pub fn done(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let text = text(&output);
    ensure!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    Ok(text)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The root that machines are copies of, made by the first who asks.
pub fn debian() -> Result<PathBuf> {
    installed(&["debootstrap", "systemd-nspawn"], &["debootstrap", "systemd-container"])?;
    let folder = target_folder()?.join("booted").join(key_of(&[RELEASE, PACKAGES, SLIM, std::env::consts::ARCH]));
    build_once(&folder, "root", |into| {
        say(&format!("a root with systemd: debootstrap {RELEASE}, once, about a minute"));
        let root = into.join("root");
        let include = format!("--include={PACKAGES}");
        done(Command::new("debootstrap").args(["--variant=minbase", &include, RELEASE]).arg(&root))?;
        done(Command::new("sh").args(["-c", SLIM]).current_dir(&root)).map(drop)
    })
}

/// Machines see the control groups of this one, so two of them would take away each other's.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A machine, off or on. Dropped, it is gone.
#[derive(Debug)]
pub struct Machine {
    // In the order in which they go: first what uses, then what is used.
    process: Option<Process>,
    turn: Option<MutexGuard<'static, ()>>,
    folder: Folder,
    name: &'static str,
    transcript: Mutex<String>,
}

impl Machine {
    /// One that is off, with the agent's binary in `/opt/bin`. `None`, and a line on stderr, where this is not root.
    pub fn new(name: &'static str) -> Result<Option<Self>> {
        if !root_or_skip(&format!("the booted machine {name}")) {
            return Ok(None);
        }
        let debian = debian()?;
        let folder = Folder::new(name)?;
        let machine = Self { process: None, turn: None, folder, name, transcript: Mutex::default() };
        done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian).arg(machine.root()))?;
        fs::create_dir_all(machine.path("/opt/bin"))?;
        fs::copy(agent::binary()?, machine.path("/opt/bin/shoot-exposure-agent")).context("copying the agent")?;
        // The package ca-certificates would bring openssl along.
        fs::create_dir_all(machine.path("/etc/ssl/certs"))?;
        fs::copy(ROOTS, machine.path(ROOTS)).context("copying the public CA roots")?;
        Ok(Some(machine))
    }

    /// Its file system.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// A file of it, seen from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Writes a file as somebody does who replaces its content in place; folders are made.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        fs::write(&file, content).with_context(|| format!("writing {}", file.display()))
    }

    /// Switches it on when no other machine is, and waits until everything has started. `alone`: in a network of its own, where
    /// nobody answers.
    pub async fn boot(&mut self, alone: bool) -> Result<()> {
        if self.turn.is_none() {
            self.turn = Some(TURN.lock().await);
        }
        let mut command = Command::new("systemd-nspawn");
        command.args(["-q", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--link-journal=no"]);
        command.args(["--resolv-conf=off", "--timezone=off"]).arg(format!("--hostname={}", self.name));
        if alone {
            command.arg("--private-network");
        }
        command.arg("--directory").arg(self.root());
        self.process = Some(Process::start(self.name, command, self.folder.join("console.log"))?);
        self.note("switched on");
        self.started().await
    }

    /// Switches it off in good order, and waits until it is.
    pub async fn power_off(&mut self) -> Result<()> {
        self.run("systemctl poweroff")?;
        let process = self.process.take().context("it is off")?;
        process.exited(BOOT).await.with_context(|| process.tail(20))?;
        self.turn = None;
        self.note("switched off");
        Ok(())
    }

    /// Boots it again, and waits until everything has started.
    pub async fn reboot(&self) -> Result<()> {
        self.run("systemctl reboot")?;
        let process = self.process.as_ref().context("it is off")?;
        let status = process.exited(BOOT).await?;
        // nspawn leaves it to whoever has started it to start it again.
        ensure!(status.code() == Some(REBOOTS), "{status}: {}", process.tail(20));
        process.restart()?;
        self.note("booted again");
        self.started().await
    }

    async fn started(&self) -> Result<()> {
        until("the machine to be up", BOOT, || async {
            let state = self.quiet("systemctl is-system-running")?;
            ensure!(["running", "degraded"].contains(&state.trim()), "{state}");
            Ok(())
        })
        .await
        .with_context(|| self.process.as_ref().map_or_else(String::new, |process| process.tail(20)))
    }

    /// Runs a line of shell in it as root; all it said. The transcript has it. An error when it fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.enter(line)?;
        let text = text(&output);
        self.note(&format!("{}# {line}\n{text}", self.name));
        ensure!(output.status.success(), "`{line}`: {}\n{text}", output.status);
        Ok(text)
    }

    /// As [`Machine::run`], for what is asked again and again: not in the transcript, and whatever its exit code is.
    pub fn quiet(&self, line: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.enter(line)?.stdout).into_owned())
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        Ok(self.quiet(&format!("systemctl show --property={name} --value {unit}"))?.trim().to_owned())
    }

    /// Waits until a property of a unit is as wanted.
    pub async fn awaits_property(&self, unit: &str, name: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let value = until(&format!("{name} of {unit}"), BOOT, || async {
            let value = self.property(unit, name)?;
            if wanted(&value) {
                return Ok(value);
            }
            let log = self.quiet(&format!("journalctl --no-pager --output=cat --lines=15 --unit={unit}"))?;
            bail!("`{value}`; its journal ends with:\n{log}")
        })
        .await?;
        self.note(&format!("{unit}: {name}={value}"));
        Ok(value)
    }

    /// Something worth keeping, on a line of its own.
    pub fn note(&self, text: &str) {
        let mut transcript = self.transcript.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string does not fail.
        let _ = writeln!(transcript, "{}", text.trim_end());
    }

    fn enter(&self, line: &str) -> Result<Output> {
        let first = self.first_process()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &first, "--all", "--", "/bin/sh", "-c", line]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).output().context("running nsenter")
    }

    /// The process that is number 1 inside: a child of nspawn, another one after each boot.
    fn first_process(&self) -> Result<u32> {
        let nspawn = self.process.as_ref().context("the machine is off")?.id();
        for entry in fs::read_dir("/proc")?.flatten() {
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if field("PPid:") == Some(nspawn.to_string().as_str())
                && field("NSpid:").is_some_and(|ids| ids.ends_with("\t1"))
            {
                return entry.file_name().to_string_lossy().parse().context("a number");
            }
        }
        bail!("no process is number 1 in it")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let transcript = std::mem::take(&mut *self.transcript.lock().unwrap_or_else(PoisonError::into_inner));
        let keep = || -> Result<()> {
            let folder = target_folder()?.join("booted/transcripts");
            fs::create_dir_all(&folder)?;
            Ok(fs::write(folder.join(format!("{}.txt", self.name)), transcript)?)
        };
        if let Err(error) = keep() {
            say(&format!("the transcript of {} is lost: {error:#}", self.name));
        }
    }
}
