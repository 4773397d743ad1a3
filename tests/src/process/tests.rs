//! Whatever a test starts is gone when the test is, however it ends.

use nix::sys::signal::kill;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn runs(id: u32) -> bool {
    kill(Pid::from_raw(id.cast_signed()), None).is_ok()
}

#[tokio::test]
async fn output_and_exit_are_seen() -> Result<()> {
    let folder = Folder::new("process")?;
    let process = Process::start("talker", shell("echo out; echo err >&2; exit 3"), folder.join("log"))?;
    assert_eq!(process.exited(DEADLINE).await?.code(), Some(3));
    assert_eq!(process.output()?, "out\nerr\n");
    assert_eq!(process.tail(1), "err");
    assert_eq!(process.signal(Signal::SIGTERM).unwrap_err().to_string(), "talker has ended: exit status: 3");
    process.restart()?;
    process.exited(DEADLINE).await?;
    assert_eq!(process.output()?, "out\nerr\nout\nerr\n");
    Ok(())
}

#[tokio::test]
async fn a_paused_process_does_nothing_until_it_is_resumed() -> Result<()> {
    let folder = Folder::new("process")?;
    let process = Process::start("sleeper", shell("exec sleep 600"), folder.join("log"))?;
    let state = || -> Result<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
        Ok(stat.rsplit(") ").next().unwrap_or_default()[..1].to_owned())
    };
    process.pause()?;
    until("the sleeper stopped", DEADLINE, || async {
        anyhow::ensure!(state()? == "T", "{}", state()?);
        Ok(())
    })
    .await?;
    process.resume()?;
    until("the sleeper asleep", DEADLINE, || async {
        anyhow::ensure!(state()? == "S", "{}", state()?);
        Ok(())
    })
    .await?;
    process.terminate()?;
    assert!(ended_by(process.exited(DEADLINE).await?, Signal::SIGTERM));
    Ok(())
}

#[tokio::test]
async fn dropping_kills_the_children_of_the_child_too() -> Result<()> {
    let folder = Folder::new("process")?;
    let process = Process::start("parent", shell("sleep 600 & echo $!; wait"), folder.join("log"))?;
    let grandchild = until("the grandchild", DEADLINE, || async { Ok(process.output()?.trim().parse()?) }).await?;
    let child = process.id();
    drop(process);
    assert!(!runs(child));
    gone(grandchild).await
}

#[test]
fn a_panic_kills_and_removes() -> Result<()> {
    let (send, receive) = std::sync::mpsc::channel();
    let ended = std::thread::spawn(move || {
        let folder = Folder::new("process")?;
        let process = Process::start("sleeper", shell("exec sleep 600"), folder.join("log"))?;
        send.send((process.id(), folder.path().to_owned()))?;
        assert!(process.name().is_empty(), "a panic on purpose");
        anyhow::Ok(())
    })
    .join();
    assert!(ended.is_err());
    let (id, folder) = receive.recv()?;
    assert!(!runs(id));
    assert!(!folder.exists());
    Ok(())
}

/// The half of the test below that is killed, in a process of its own.
fn wait_to_be_killed() -> Result<()> {
    let folder = Folder::new("process")?;
    let gone = Process::start("gone", shell("exit 0"), folder.join("log"))?;
    while gone.exit()?.is_none() {
        std::thread::yield_now();
    }
    drop(gone);
    let process = Process::start("sleeper", shell("exec sleep 600"), folder.join("log"))?;
    say(&format!("left: {} {}", process.id(), folder.path().display()));
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn an_abrupt_end_leaves_nothing_behind() -> Result<()> {
    const TO_BE_KILLED: &str = "TESTS_WAIT_TO_BE_KILLED";
    if std::env::var_os(TO_BE_KILLED).is_some() {
        return wait_to_be_killed();
    }
    let folder = Folder::new("process")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "process::tests::an_abrupt_end_leaves_nothing_behind", "--nocapture"]);
    command.env(TO_BE_KILLED, "1").env_remove(KEEP);
    let tests = Process::start("tests", command, folder.join("log"))?;
    let (id, left) = until("what will be left", DEADLINE, || async {
        let output = tests.output()?;
        let line = output.lines().find_map(|line| line.split("left: ").nth(1)).context(output.clone())?;
        let (id, left) = line.split_once(' ').context("no folder")?;
        Ok((id.parse()?, PathBuf::from(left)))
    })
    .await?;
    assert!(runs(id) && left.exists());
    tests.kill()?;
    gone(id).await?;
    until("the folder removed", DEADLINE, || async {
        anyhow::ensure!(!left.exists(), "it exists");
        Ok(())
    })
    .await
}

/// Gone, or a zombie whose parent (the first process of a container, perhaps) does not reap it.
async fn gone(id: u32) -> Result<()> {
    until("the process gone", DEADLINE, || async {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        anyhow::ensure!(!runs(id) || stat.contains(") Z "), "it runs: {stat}");
        Ok(())
    })
    .await
}

/// Under load it went on for a moment, and answered.
#[test]
fn a_paused_process_has_stopped_when_that_returns() -> Result<()> {
    let folder = Folder::new("paused")?;
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]);
    let busy = Process::start("busy", command, folder.join("log"))?;
    for _ in 0..50 {
        busy.pause()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", busy.id()))?;
        anyhow::ensure!(stat.contains(") T "), "{stat}");
        busy.resume()?;
    }
    busy.kill()?;
    assert!(busy.pause().is_err(), "what has ended cannot be stopped");
    Ok(())
}
