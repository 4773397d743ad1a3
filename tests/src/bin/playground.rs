//! The playground: `tests::playground` as a program. It is its own agent and its own API servers as well, so that nothing else
//! has to be built.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use tests::playground::{Line, Play, Telling, Terminal, api_server, live, parse, recite};
use tests::process::Folder;
use tokio::signal::unix::{SignalKind, signal};

/// Under this name the program is the agent.
const AGENT: &str = "shoot-exposure-agent";
/// What is played where there is no terminal and no script is named.
const TOUR: &str = include_str!("../../playground/tour.txt");

/// A load balancer and three API servers to break, and the agent that keeps clients from noticing.
///
/// Starts an emulated STACKIT cloud whose balancer carries bytes on loopback, three small TLS API servers, an agent with its
/// Nodes in a file, and clients that go through the balancer. On a terminal it shows how things are and takes keys; else, or
/// with --script, it plays a script and prints each line of it. Nothing is left behind, whichever way it ends.
///
/// Exit codes: 0 played to its end, 1 something did not come true or a request failed that no line allows, 2 usage or a script that is none, 130 and
/// 143 ended by a signal.
#[derive(Parser)]
#[command(name = "playground", max_term_width = 120)]
struct Arguments {
    /// Play this script; the steps are explained in tests/playground/README.md
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Three real kube-apiservers on one etcd, three agents and a Lease; needs Go 1.26 to build them once, or
    /// KUBEBUILDER_ASSETS
    #[arg(long)]
    kubernetes: bool,
    /// With a script, print what agents and clients say as well
    #[arg(long)]
    events: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let own = arguments.next().unwrap_or_default();
    if Path::new(&own).file_name().is_some_and(|name| name == AGENT) {
        return shoot_exposure_agent::cli::main(std::iter::once(own).chain(arguments));
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == "api-server") {
        return api_server::main(arguments);
    }
    let arguments = Arguments::parse();
    let script = match script(&arguments) {
        Ok(script) => script,
        Err(error) => {
            say(&format!("{error:#}"));
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let played = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(run(&arguments, script)));
    played.unwrap_or_else(|error| {
        say(&format!("failed: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Plays, until the end or a signal. What was started goes when this returns.
async fn run(arguments: &Arguments, script: Option<Vec<Line>>) -> Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let on_terminal = script.is_none();
    let code = tokio::select! {
        played = play(arguments, script) => return played.map(|()| ExitCode::SUCCESS),
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hang_up.recv() => 129,
    };
    // Who looks at the screen ends it this way.
    Ok(if on_terminal && code == 130 { ExitCode::SUCCESS } else { ExitCode::from(code) })
}

/// `None`: it is played by hand.
fn script(arguments: &Arguments) -> Result<Option<Vec<Line>>> {
    let parsed = match &arguments.script {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            parse(&text).with_context(|| path.display().to_string())
        }
        None if Terminal::is_there() => return Ok(None),
        None => parse(TOUR).context("the tour"),
    };
    parsed.map(Some)
}

async fn play(arguments: &Arguments, script: Option<Vec<Line>>) -> Result<()> {
    let programs = Folder::new("playground-program")?;
    let own = std::env::current_exe().context("finding the own path")?;
    let agent = programs.join(AGENT);
    std::os::unix::fs::symlink(&own, &agent).context("giving the agent its name")?;
    tests::agent::use_binary(agent);
    if arguments.kubernetes {
        say("starting etcd, three kube-apiservers and three agents (the first time ever builds them: minutes)");
    } else {
        say("starting an emulated cloud, three API servers and an agent");
    }
    let mut play = Play::start(&own, arguments.kubernetes).await?;
    if let Some(script) = script {
        let telling = if arguments.events { Telling::Everything } else { Telling::Steps };
        recite(&mut play, &script, telling).await?;
        play.end().await?;
        say("all as expected");
    } else {
        live(&mut play).await?;
        play.end().await?;
    }
    Ok(())
}

fn say(what: &str) {
    // A reader that has gone needs to be told nothing.
    let _ = writeln!(std::io::stdout(), "{what}");
}
