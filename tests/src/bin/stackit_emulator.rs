//! The STACKIT emulator as a program of its own: for demos, and for tests of other processes.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use decide::settings::duration;
use ipnet::Ipv4Net;
use tests::emulator::{DataPlane, Delays, Emulator, KeyOptions, Options, Profile, Switches, Tls};
use tokio::signal::unix::{SignalKind, signal};

/// A double of the STACKIT network-load-balancer API and of its token endpoints; with --data-plane its balancers carry bytes,
/// too.
///
/// Prints one line once it can be used: `ready url=URL`, with a data plane `ready url=URL address-pool=CIDR`. URL/ is a page
/// of its state; URL/_emulator/ lists its controls: faults, switches, the journal and more.
#[derive(Parser)]
#[command(name = "stackit-emulator")]
struct Arguments {
    /// Where to listen; port 0 for any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
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
    /// How fast the cloud is: instant; fast (50 ms a step); realistic (90 s to create, 10 s to write, 30 s to delete)
    #[arg(long, default_value = "fast")]
    profile: Profile,
    /// How long creating takes, in place of the profile's time: 500ms, 90s, 2m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    create_time: Option<Duration>,
    /// How long a write takes, in place of the profile's time
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    update_time: Option<Duration>,
    /// How long deleting takes, in place of the profile's time
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    delete_time: Option<Duration>,
    /// Refuse what the real cloud is only believed to accept: unknown fields, a reused `jti`
    #[arg(long)]
    strict: bool,
    /// Write every request and its answer to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Let balancers listen on loopback and carry bytes to their targets
    #[arg(long)]
    data_plane: bool,
    /// Where external addresses come from, within 127.0.0.0/8 [default: a free /24 of 127.100.0.0/16]
    #[arg(long, value_name = "CIDR", requires = "data_plane")]
    address_pool: Option<Ipv4Net>,
    /// Added to each listener's port, where ports below 1024 are not allowed
    #[arg(long, value_name = "PORTS", default_value_t = 0, requires = "data_plane")]
    port_offset: u16,
    /// A cloud address and the loopback address that stands for it, e.g. 192.168.0.10=127.0.1.10; 10.x.y.z is 127.x.y.z
    /// without being told
    #[arg(long, value_name = "CLOUD=LOCAL", value_parser = mapping, requires = "data_plane")]
    map: Vec<(IpAddr, IpAddr)>,
    /// How many times faster health checks, idle and connect timeouts run
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "data_plane")]
    time_scale: f64,
    /// Connections at once, in place of what the plan allows
    #[arg(long, value_name = "COUNT", requires = "data_plane")]
    max_connections: Option<usize>,
}

impl Arguments {
    fn data_plane(&self) -> Option<DataPlane> {
        self.data_plane.then(|| DataPlane {
            address_pool: self.address_pool,
            port_offset: self.port_offset,
            address_map: self.map.iter().copied().collect(),
            namespaces: None,
            time_scale: self.time_scale,
            max_connections: self.max_connections,
        })
    }

    fn delays(&self) -> Delays {
        let profile = self.profile.delays();
        Delays {
            create: self.create_time.unwrap_or(profile.create),
            update: self.update_time.unwrap_or(profile.update),
            delete: self.delete_time.unwrap_or(profile.delete),
        }
    }

    fn switches(&self) -> Switches {
        Switches { reject_unknown_fields: self.strict, reject_reused_jti: self.strict, ..Switches::default() }
    }
}

fn mapping(text: &str) -> anyhow::Result<(IpAddr, IpAddr)> {
    let (cloud, local) = text.split_once('=').context("not of the form CLOUD=LOCAL")?;
    Ok((cloud.parse().context("reading the cloud's address")?, local.parse().context("reading the loopback address")?))
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
    let (data_plane, delays, switches) = (arguments.data_plane(), arguments.delays(), arguments.switches());
    let emulator = Emulator::start(Options {
        data_plane,
        switches,
        listen: arguments.listen,
        tls: arguments.tls.then(Tls::default),
        project: arguments.project,
        region: arguments.region,
        profile: arguments.profile,
        journal: arguments.journal,
        ..Options::default()
    })
    .await?;
    emulator.set_delays(delays);
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
    let mut ready = format!("ready url={}", emulator.url());
    if arguments.data_plane {
        write!(ready, " address-pool={}", emulator.address_pool())?;
    }
    let mut output = std::io::stdout();
    writeln!(output, "{ready}").and_then(|()| output.flush()).context("printing the ready line")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    emulator.conforms()
}

fn write_key(emulator: &Emulator, path: &PathBuf) -> anyhow::Result<()> {
    let key = emulator.service_account_key(&KeyOptions::default()).context("making a service-account key")?;
    let text = serde_json::to_string_pretty(&key).context("printing a service-account key")?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
