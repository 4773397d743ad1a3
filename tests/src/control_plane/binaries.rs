//! The programs of the control plane: taken from `KUBEBUILDER_ASSETS`, or built once from their Go modules.
//!
//! Each is built when it is first asked for, into `target/control-plane/<key>/`, under a file lock, so that
//! tests that run side by side build it once; it appears there only when it is complete. The key changes with
//! whatever could change the result.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

use crate::process::say;

/// Names a folder with ready binaries, as everywhere in the ecosystem (`setup-envtest` fills one).
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The pins, compiled in: the tests find them wherever they run.
const GO_MOD: &str = include_str!("../../control-plane/go.mod");
const GO_SUM: &str = include_str!("../../control-plane/go.sum");

/// How often a long build says that it still works.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A program of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `kube-apiserver`
    ApiServer,
    /// `etcd`
    Etcd,
    /// `kubectl`
    Kubectl,
    /// `kube-controller-manager`, which `setup-envtest` does not bring.
    ControllerManager,
}

impl Binary {
    /// The name of its file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::Etcd => "etcd",
            Self::Kubectl => "kubectl",
            Self::ControllerManager => "kube-controller-manager",
        }
    }

    fn package(self) -> String {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3".into(),
            _ => format!("k8s.io/kubernetes/cmd/{}", self.file_name()),
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Etcd => pinned("go.etcd.io/etcd/server/v3"),
            _ => kubernetes_version(),
        }
    }

    /// Where it is; builds it first if it has to.
    pub async fn path(self) -> Result<PathBuf> {
        let find = move || {
            if let Some(folder) = std::env::var_os(ASSETS) {
                return in_assets(self, Path::new(&folder));
            }
            let folder = target_folder()?.join("control-plane").join(key());
            build_once(&folder, self.file_name(), |into| build(self, OsStr::new("go"), into))
        };
        tokio::task::spawn_blocking(find).await.context("looking for a binary of the control plane")?
    }
}

/// The version of Kubernetes that the pins name, like `v1.36.3`.
pub fn kubernetes_version() -> &'static str {
    pinned("k8s.io/kubernetes")
}

fn pinned(module: &str) -> &'static str {
    let mut lines = GO_MOD.lines().map(str::split_whitespace);
    lines.find_map(|mut words| words.next().filter(|word| *word == module).and(words.next())).unwrap_or("unknown")
}

fn in_assets(binary: Binary, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(binary.file_name());
    ensure!(path.is_file(), "{ASSETS} is {}, and there is no {} in it", folder.display(), binary.file_name());
    Ok(path)
}

/// cargo's target folder. A relative `CARGO_TARGET_DIR` counts from the workspace.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file())
        .with_context(|| format!("no Cargo.lock in {} or above it", env!("CARGO_MANIFEST_DIR")))?;
    Ok(workspace.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())))
}

fn key() -> String {
    key_of(&[GO_MOD, GO_SUM, std::env::consts::ARCH, &flags().join(" ")])
}

/// A name for what is made of these parts, and of nothing else.
pub(crate) fn key_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    })
}

/// The flags of `go build`. Without the stamp `/version` would say `v0.0.0-master`.
fn flags() -> [String; 4] {
    let version = kubernetes_version();
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let stamp = "k8s.io/component-base/version";
    [
        "-mod=readonly".into(),
        "-trimpath".into(),
        "-ldflags".into(),
        format!("-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"),
    ]
}

/// The file or folder `name` in `folder`, made by `build` if it is not there.
///
/// `build` gets an empty folder and leaves the file there. It runs in one process and one thread at a time; what
/// fails leaves nothing behind, and the next one tries again.
pub(crate) fn build_once(folder: &Path, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let lock = File::create(folder.join(".lock")).with_context(|| format!("making a lock in {}", folder.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say(&format!("another test builds in {}, waiting for it", folder.display()));
            lock.lock().with_context(|| format!("waiting for the lock in {}", folder.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("taking the lock in {}", folder.display()));
        }
    }
    if path.exists() {
        return Ok(path);
    }
    let unfinished = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(folder)
        .with_context(|| format!("making a folder in {}", folder.display()))?;
    build(unfinished.path())?;
    fs::rename(unfinished.path().join(name), &path).with_context(|| format!("moving {name} to its place"))?;
    Ok(path)
}

fn build(binary: Binary, go: &OsStr, into: &Path) -> Result<()> {
    let name = binary.file_name();
    for (file, content) in [("go.mod", GO_MOD), ("go.sum", GO_SUM)] {
        fs::write(into.join(file), content).with_context(|| format!("writing {file} to {}", into.display()))?;
    }
    let mut command = Command::new(go);
    command
        .current_dir(into)
        .envs([("CGO_ENABLED", "0"), ("GOWORK", "off")])
        .args(["build", "-o", name])
        .args(flags())
        .arg(binary.package());
    // What `go env -w` or a shell set for other work must not decide what comes out here.
    for name in ["GOOS", "GOARCH", "GOFLAGS"] {
        command.env_remove(name);
    }
    let child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(anyhow!(missing_go(go))),
        other => other.with_context(|| format!("starting {} build", go.display()))?,
    };
    say(&format!(
        "control plane: building {name} {}, once; with empty caches and two cores all of it takes 5 to 8 minutes",
        binary.version(),
    ));
    let started = Instant::now();
    let (send, finished) = channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    let output = loop {
        match finished.recv_timeout(HEARTBEAT) {
            Ok(output) => break output.with_context(|| format!("waiting for {} build", go.display()))?,
            Err(RecvTimeoutError::Timeout) => {
                say(&format!("control plane: still building {name}, {} s", started.elapsed().as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that waits for {name} has gone"),
        }
    };
    ensure!(
        output.status.success(),
        "building {name}: {} build ended with {}:\n{}",
        go.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    say(&format!("control plane: built {name} in {} s", started.elapsed().as_secs()));
    Ok(())
}

fn missing_go(go: &OsStr) -> String {
    let version = GO_MOD.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("1");
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    format!(
        "these tests run against a real kube-apiserver and there is no `{}` to build it with: install Go {minor} or \
         newer (https://go.dev/dl), or set {ASSETS} to a folder with kube-apiserver, etcd and kubectl",
        go.display()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_pins_say_which_version_it_is() {
        assert!(kubernetes_version().starts_with("v1.36."), "{}", kubernetes_version());
        assert!(Binary::Etcd.version().starts_with("v3.6."), "{}", Binary::Etcd.version());
        assert!(flags()[3].contains(&format!("gitVersion={} ", kubernetes_version())), "{}", flags()[3]);
        assert!(flags()[3].ends_with("gitMinor=36"), "{}", flags()[3]);
        assert_eq!(key().len(), 16);
    }

    #[test]
    fn assets_are_used_as_they_are() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let error = in_assets(Binary::ControllerManager, folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("there is no kube-controller-manager in it"), "{error}");
        fs::write(folder.path().join("etcd"), "")?;
        assert_eq!(in_assets(Binary::Etcd, folder.path())?, folder.path().join("etcd"));
        Ok(())
    }

    #[test]
    fn a_machine_without_go_is_told_what_to_install_in_one_sentence() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let error = build(Binary::Etcd, OsStr::new("/nowhere/go"), folder.path()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("install Go 1.26 or newer"), "{text}");
        assert!(text.contains("set KUBEBUILDER_ASSETS to"), "{text}");
        assert!(!text.contains('\n') && !text.contains(". "), "{text}");
        Ok(())
    }

    #[test]
    fn many_at_once_build_once() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let builds = AtomicUsize::new(0);
        let paths = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        build_once(folder.path(), "etcd", |into| {
                            builds.fetch_add(1, Ordering::SeqCst);
                            // Half a file is not seen by the others: it gets its name when it is whole.
                            fs::write(into.join("etcd"), "half")?;
                            thread::yield_now();
                            Ok(fs::write(into.join("etcd"), "whole")?)
                        })
                        .and_then(|path| Ok(fs::read_to_string(path)?))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>>>()
        })?;
        assert_eq!(paths, ["whole"; 8]);
        assert_eq!(builds.into_inner(), 1);
        Ok(())
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_the_next_one_tries_again() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let failed = build_once(folder.path(), "etcd", |into| {
            fs::write(into.join("etcd"), "half")?;
            bail!("no network")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no network");
        let left: Vec<_> =
            fs::read_dir(folder.path())?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        assert_eq!(left, [".lock"]);
        build_once(folder.path(), "etcd", |into| Ok(fs::write(into.join("etcd"), "whole")?))?;
        Ok(())
    }
}
