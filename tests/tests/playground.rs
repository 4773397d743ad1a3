//! The playground as a program: its scripts, its screen, and that nothing of it is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use tests::process::{Folder, Process, ended_by};
use tests::wait::until;
use tests::world::repository;

/// Long against everything here; the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

/// Cargo puts the program one folder above the tests.
fn program() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("playground")
}

fn play(arguments: &[&str]) -> Output {
    // The program is its own agent, whichever one the other tests are about.
    Command::new(program()).args(arguments).env_remove("SHOOT_EXPOSURE_AGENT").output().unwrap()
}

fn script(folder: &Folder, text: &str) -> String {
    let path = folder.join("script.txt");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Without what differs from run to run: times and counts.
fn normalised(transcript: &str) -> String {
    let times = Regex::new(r" *[0-9]+\.[0-9]{2} s").unwrap();
    let counts = Regex::new(r"-> [0-9]+ of [0-9]+ requests").unwrap();
    counts.replace_all(&times.replace_all(transcript, " # s"), "-> # of # requests").into_owned()
}

#[test]
fn the_tour_comes_true_and_its_transcript_is_what_it_prints() -> Result<()> {
    let tour = repository("tests/playground/tour.txt");
    let output = play(&["--script", tour.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let recorded = repository("tests/playground/transcript.txt");
    if std::env::var_os("ACCEPT").is_some() {
        std::fs::write(&recorded, &said)?;
    }
    assert_eq!(normalised(&said), normalised(&std::fs::read_to_string(recorded)?), "ACCEPT=1 records it anew");
    let readme = std::fs::read_to_string(repository("README.md"))?;
    let shown = readme.split("the first third:\n\n```\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.context("README.md shows no part of the transcript")?;
    assert!(normalised(&said).contains(&normalised(shown)), "README.md shows what is not printed:\n{shown}");
    Ok(())
}

#[test]
fn three_real_api_servers_and_three_agents_play_too() -> Result<()> {
    let output = play(&["--kubernetes", "--script", repository("tests/playground/kubernetes.txt").to_str().unwrap()]);
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && said.ends_with("all as expected\n"), "{said}");
    Ok(())
}

#[test]
fn a_request_that_fails_and_that_no_line_allows_fails_the_play() -> Result<()> {
    let folder = Folder::new("play")?;
    let hangs = "expect targets cp-0 cp-1 cp-2 within 30s\nload 20\nhang cp-1\nexpect targets cp-0 cp-1 cp-2 for 5s\n";
    let output = play(&["--script", &script(&folder, hangs)]);
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("requests have failed since the last line that allows any"), "{said}");
    let allowed = format!("{hangs}restore cp-1\nexpect failures <= 60 of at least 60\nrun 1s\n");
    let output = play(&["--script", &script(&folder, &allowed)]);
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{said}");
    let failed =
        Regex::new(r"-> ([0-9]+) of [0-9]+ requests")?.captures(&said).context("no count")?[1].parse::<u32>()?;
    assert!(failed > 0, "a server that hangs was asked: {said}");
    Ok(())
}

#[test]
fn what_does_not_come_true_is_told() -> Result<()> {
    let folder = Folder::new("play")?;
    let output = play(&["--script", &script(&folder, "expect targets cp-0 within 1s\n")]);
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1));
    for part in ["`expect targets cp-0 within 1s` did not come true", "the targets are ", "the last that happened"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let output = play(&["--script", &script(&folder, "dance\nkill cp-7\n")]);
    let said = String::from_utf8(output.stdout)?;
    assert_eq!((output.status.code(), said.matches("line ").count()), (Some(2), 2), "{said}");
    Ok(())
}

/// The processes whose parent it is, directly or not.
fn descendants(of: u32) -> BTreeSet<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map(|(_, after)| after.to_owned()).unwrap_or_default();
        if let Some(parent) = after.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok()) {
            parents.push((id, parent));
        }
    }
    let mut found = BTreeSet::from([of]);
    while let Some((id, _)) = parents.iter().find(|(id, parent)| found.contains(parent) && !found.contains(id)) {
        found.insert(*id);
    }
    found.remove(&of);
    found
}

/// Gone, or dead with a parent that has not noticed yet.
fn gone(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[tokio::test]
async fn whichever_way_it_ends_nothing_is_left_behind() -> Result<()> {
    // An abort is what a panic is in the release profile.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGABRT, Signal::SIGKILL] {
        let folder = Folder::new("play")?;
        let own = folder.join("tmp");
        std::fs::create_dir(&own)?;
        let endless = script(&folder, "expect targets cp-0 cp-1 cp-2 within 30s\nload 10\nrun 60m\n");
        let mut command = Command::new(program());
        command.args(["--script", &endless]).env("TMPDIR", &own).env_remove("SHOOT_EXPOSURE_AGENT");
        let process = Process::start("playground", command, folder.join("log"))?;
        let plays = || async {
            ensure!(process.output()?.contains("run 60m"), "{}", process.output()?);
            Ok(())
        };
        until("the play", SOON, plays).await?;
        let started = descendants(process.id());
        // The agent, three API servers, and the shell that cleans up.
        assert!(started.len() >= 5, "{started:?}");
        assert!(std::fs::read_dir(&own)?.count() >= 2);
        kill(Pid::from_raw(process.id().cast_signed()), signal)?;
        let status = process.exited(SOON).await?;
        match signal {
            Signal::SIGINT => assert_eq!(status.code(), Some(130)),
            Signal::SIGTERM => assert_eq!(status.code(), Some(143)),
            other => assert!(ended_by(status, other), "{status}"),
        }
        until(&format!("nothing to be left after {signal}"), SOON, || async {
            let alive: Vec<&u32> = started.iter().filter(|id| !gone(**id)).collect();
            ensure!(alive.is_empty(), "{alive:?} run");
            let left: Vec<_> = std::fs::read_dir(&own)?.flatten().map(|entry| entry.file_name()).collect();
            ensure!(left.is_empty(), "{left:?} is there");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// A terminal of our own: what is on it, and a hand on its keys.
struct Screen {
    keys: File,
    seen: Arc<Mutex<String>>,
    terminal: OwnedFd,
}

impl Screen {
    fn new() -> Result<Self> {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&keys)?;
        unlockpt(&keys)?;
        let path = ptsname(&keys, Vec::new())?;
        tcsetwinsize(&keys, Winsize { ws_row: 40, ws_col: 110, ws_xpixel: 0, ws_ypixel: 0 })?;
        let terminal = File::options().read(true).write(true).open(Path::new(path.to_str()?))?.into();
        let keys = File::from(keys);
        let (mut from, seen) = (keys.try_clone()?, Arc::<Mutex<String>>::default());
        let into = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = from.read(&mut buffer) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Ok(Self { keys, seen, terminal })
    }

    /// The last whole screen, without colours.
    fn last(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let whole = seen.rsplit("\x1b[H").nth(1).unwrap_or_default();
        Regex::new("\x1b\\[[0-9;?]*[A-Za-z]").unwrap().replace_all(whole, "").into_owned()
    }

    async fn shows(&self, what: &[&str]) -> Result<()> {
        until(&format!("{what:?} on the screen"), SOON, || async {
            let screen = self.last();
            let there = screen.lines().any(|line| what.iter().all(|part| line.contains(part)));
            ensure!(there, "{screen}");
            Ok(())
        })
        .await
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("pressing keys")
    }

    fn modes(&self) -> Result<Termios> {
        tcgetattr(&self.terminal).context("asking for the modes")
    }
}

fn ended(child: &mut Child) -> Result<ExitStatus> {
    child.try_wait()?.context("it runs")
}

#[tokio::test]
async fn on_a_terminal_it_shows_how_things_are_and_takes_keys() -> Result<()> {
    let mut screen = Screen::new()?;
    let before = screen.modes()?;
    let mut command = Command::new(program());
    command.env_remove("SHOOT_EXPOSURE_AGENT");
    command.stdin(screen.terminal.try_clone()?).stdout(screen.terminal.try_clone()?);
    let mut child = command.spawn()?;
    screen.shows(&["balancer", "READY"]).await?;
    screen.shows(&["cp-1", "serves", "healthy", "yes"]).await?;
    assert_ne!(screen.modes()?.local_modes, before.local_modes);
    screen.press("2k")?;
    screen.shows(&["cp-1", "killed", "no"]).await?;
    screen.shows(&["you", "kill cp-1"]).await?;
    screen.press("r")?;
    screen.shows(&["cp-1", "serves", "yes"]).await?;
    screen.press("3d")?;
    screen.shows(&["cp-2", "drained", "no"]).await?;
    screen.press("dc")?;
    screen.shows(&["cloud", "answers 503"]).await?;
    screen.press("ct")?;
    screen.shows(&["cloud", "up", "key 2"]).await?;
    screen.shows(&["cp-2", "yes"]).await?;
    screen.press("1h")?;
    screen.shows(&["cp-0", "hangs"]).await?;
    screen.shows(&["clients", "no answer within 3s"]).await?;
    screen.press("rn")?;
    screen.shows(&["cp-0", "not ready", "no"]).await?;
    screen.press("q")?;
    let ended = until("the end", SOON, || std::future::ready(ended(&mut child))).await?;
    assert!(ended.success(), "{ended}\n{}", screen.last());
    let after = screen.modes()?;
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
    let all = screen.seen.lock().unwrap();
    assert!(all.trim_end().ends_with("\x1b[?25h\x1b[?1049l"), "the cursor and the old screen are back");
    Ok(())
}
