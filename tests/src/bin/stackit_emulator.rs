//! The STACKIT emulator as a program of its own: for demos, and for tests of other processes.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tests::emulator::{Emulator, KeyOptions, Options, Profile, Tls};
use tokio::signal::unix::{SignalKind, signal};

/// A double of the STACKIT network-load-balancer API (control plane only) and of its token endpoints.
///
/// Prints one line, `ready url=URL`, once it can be used. Faults, switches and the journal are under URL/_emulator/.
#[derive(Parser)]
#[command(name = "stackit-emulator")]
struct Arguments {
    /// Where to listen; port 0 for any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Speak HTTPS, with a certificate of a CA made for this run
    #[arg(long)]
    tls: bool,
    /// Write the CA's certificate (PEM) to this file
    #[arg(long, value_name = "FILE", requires = "tls")]
    write_ca: Option<PathBuf>,
    /// Write a fresh service-account key to this file
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write `project-id` and `serviceaccount.json` to this directory
    #[arg(long, value_name = "DIR")]
    credentials_dir: Option<PathBuf>,
    /// The project's id, a UUID of version 4
    #[arg(long, default_value_t = Options::default().project)]
    project: String,
    /// The region
    #[arg(long, default_value_t = Options::default().region)]
    region: String,
    /// How fast the cloud is: instant, test or realistic
    #[arg(long, default_value = "test")]
    profile: Profile,
    /// Write every request and its answer to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "stackit-emulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Before the ready line: whoever reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let emulator = Emulator::start(Options {
        listen: arguments.listen,
        tls: arguments.tls.then(Tls::default),
        project: arguments.project,
        region: arguments.region,
        profile: arguments.profile,
        journal: arguments.journal,
        ..Options::default()
    })
    .await?;
    if let (Some(path), Some(pem)) = (&arguments.write_ca, emulator.authority_pem()) {
        fs::write(path, pem).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &arguments.key_file {
        write_key(&emulator, path)?;
    }
    if let Some(directory) = &arguments.credentials_dir {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        let path = directory.join("project-id");
        fs::write(&path, emulator.project()).with_context(|| format!("writing {}", path.display()))?;
        write_key(&emulator, &directory.join("serviceaccount.json"))?;
    }
    let mut output = std::io::stdout();
    writeln!(output, "ready url={}", emulator.url())
        .and_then(|()| output.flush())
        .context("printing the ready line")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn write_key(emulator: &Emulator, path: &PathBuf) -> anyhow::Result<()> {
    let key = emulator.service_account_key(&KeyOptions::default()).context("making a service-account key")?;
    let text = serde_json::to_string_pretty(&key).context("printing a service-account key")?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
