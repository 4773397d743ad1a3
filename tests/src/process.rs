//! Child processes of a test: their output in a file, their end certain.
//!
//! Whatever a test starts is gone when the test is: a [`Process`] is killed and a [`Folder`] removed when it is
//! dropped, also by a panic. When the test process itself ends before it can drop anything (Ctrl-C, an abort, a
//! value in a `static`), the janitor does the same: a small shell that reads the list of what there is from a
//! pipe, and cleans up when the pipe closes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::wait::until;

/// Set, to anything: the folders of the tests stay, with all logs, and stderr says where.
const KEEP: &str = "KEEP_TEST_FOLDERS";

/// A stopped process stops within this; one that does not hangs in the kernel.
const STOPS: Duration = Duration::from_secs(10);

/// A child process in a group of its own, with stdout and stderr in one log file.
///
/// It can be stopped and started again with the same command. All methods take `&self`, so that a test can kill
/// what others use.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    command: Mutex<Command>,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command`, with stdin empty and the output appended to the file `log`.
    pub fn start(name: impl Into<String>, mut command: Command, log: impl Into<PathBuf>) -> Result<Self> {
        let (name, log) = (name.into(), log.into());
        let child = spawn(&name, &mut command, &log)?;
        Ok(Self { name, log, command: Mutex::new(command), child: Mutex::new(child) })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, of the last start.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// The file that holds everything it has printed, over all starts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last `lines` of what it has printed; for messages, so it never fails.
    pub fn tail(&self, lines: usize) -> String {
        let output = self.output().unwrap_or_else(|error| format!("{error:#}"));
        let from = output.lines().count().saturating_sub(lines);
        output.lines().skip(from).collect::<Vec<_>>().join("\n")
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&self) -> Result<Option<ExitStatus>> {
        lock(&self.child).try_wait().with_context(|| format!("asking how {} ended", self.name))
    }

    /// Sends a signal to it and its own children. An error when it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = lock(&self.child);
        // Under the lock and before it is reaped the id cannot belong to anyone else.
        let ended = child.try_wait().with_context(|| format!("asking whether {} runs", self.name))?;
        match ended {
            Some(status) => Err(anyhow!("{} has ended: {status}", self.name)),
            None => killpg(group(&child), signal).with_context(|| format!("sending {signal} to {}", self.name)),
        }
    }

    /// Freezes it (SIGSTOP): its sockets stay open, nothing answers. Returns when each of its threads has stopped, which
    /// is a moment after the signal was sent.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let end = Instant::now() + STOPS;
        while !is_stopped(self.id()).with_context(|| format!("looking whether {} has stopped", self.name))? {
            ensure!(Instant::now() < end, "{} goes on {STOPS:?} after SIGSTOP", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks it to end (SIGTERM); [`Process::exited`] awaits it.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Ends it (SIGKILL) and returns when it is gone. Nothing to do when it has ended already.
    pub fn kill(&self) -> Result<ExitStatus> {
        end(&mut lock(&self.child)).with_context(|| format!("killing {}", self.name))
    }

    /// Waits until it has ended by itself.
    pub async fn exited(&self, deadline: Duration) -> Result<ExitStatus> {
        until(&format!("the end of {}", self.name), deadline, || async {
            self.exit()?.ok_or_else(|| anyhow!("it runs; its log ends with:\n{}", self.tail(20)))
        })
        .await
    }

    /// Starts it again with the same command and log; kills it first if it still runs.
    pub fn restart(&self) -> Result<()> {
        let mut child = lock(&self.child);
        end(&mut child).with_context(|| format!("killing {}", self.name))?;
        *child = spawn(&self.name, &mut lock(&self.command), &self.log)?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Dropping has nobody to tell; what cannot be killed now, the janitor tries again.
        let _ = end(&mut lock(&self.child));
    }
}

/// Whether no thread of a process runs any more.
fn is_stopped(id: u32) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let stat = match fs::read_to_string(thread?.path().join("stat")) {
            Ok(stat) => stat,
            // It has ended meanwhile.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        // The state follows the name, which is in parentheses and may hold any.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        if !state.is_some_and(|state| "TtZX".contains(state)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Child> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("opening the log of {name}, {}", log.display()))?;
    let errors = output.try_clone().with_context(|| format!("opening the log of {name} twice"))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {name}, {}", command.get_program().display()))?;
    janitor(&format!("started {}", child.id()));
    Ok(child)
}

/// Kills the group of a child that runs, and reaps it.
fn end(child: &mut Child) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        janitor(&format!("ended {}", child.id()));
        return Ok(status);
    }
    match killpg(group(child), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(error.into()),
    }
    let status = child.wait()?;
    janitor(&format!("ended {}", child.id()));
    Ok(status)
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// A panic while the lock was held (a failed assertion of some test) does not make the child unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a process ended because of `signal`.
pub fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}

/// A folder that goes away with its test.
#[derive(Debug)]
pub struct Folder(Option<TempDir>, PathBuf);

impl Folder {
    /// Makes one among the system's temporary files; its name begins with `name`.
    pub fn new(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir()
            .with_context(|| format!("making a temporary folder for {name}"))?;
        let path = folder.path().to_owned();
        if std::env::var_os(KEEP).is_none() {
            janitor(&format!("folder {}", path.display()));
        }
        Ok(Self(Some(folder), path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.1
    }

    /// The path of `name` in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.1.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_some()
            && let Some(folder) = self.0.take()
        {
            say(&format!("kept {}", folder.keep().display()));
        }
    }
}

/// A line on stderr that shows up at once, not only when a test has failed: the test runner captures the print
/// macros, not the stream.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// What cleans up after a test process that could not.
///
/// Reads lines until the test process is gone, then kills the groups and removes the namespaces and folders that are
/// left.
const JANITOR: &str = r#"
groups=' '
spaces=' '
trap '' HUP INT TERM
while read -r what which; do
    case $what in
    started) groups="$groups$which " ;;
    ended) case $groups in *" $which "*) groups="${groups%% "$which" *} ${groups#* "$which" }" ;; esac ;;
    folder) set -- "$@" "$which" ;;
    namespace) spaces="$spaces$which " ;;
    removed) case $spaces in *" $which "*) spaces="${spaces%% "$which" *} ${spaces#* "$which" }" ;; esac ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
for space in $spaces; do ip netns delete "$space"; done
rm -rf -- "$@"
"#;

/// Has the janitor remove a network namespace, should this process end before it does so itself.
pub(crate) fn janitor_namespace(name: &str) {
    janitor(&format!("namespace {name}"));
}

/// It is gone.
pub(crate) fn forget_namespace(name: &str) {
    janitor(&format!("removed {name}"));
}

/// Tells the janitor about something, and starts it before the first time.
fn janitor(line: &str) {
    static JANITOR_STDIN: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    let stdin = JANITOR_STDIN.get_or_init(|| Mutex::new(start_janitor()));
    if let Some(stdin) = lock(stdin).as_mut() {
        // Without a janitor the tests do all they should; only an abrupt end would leave something behind.
        let _ = writeln!(stdin, "{line}");
    }
}

fn start_janitor() -> Option<ChildStdin> {
    Command::new("sh")
        .args(["-c", JANITOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .ok()?
        .stdin
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests;
