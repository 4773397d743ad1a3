//! The verbs: what they read, what they print, how they end.
//!
//! Data goes to stdout, the log and errors to stderr. Exit codes: 0 done, 1 failed, 2 usage or configuration.
//! Deliberately not here: work; each verb calls one function.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use decide::settings::Unavailable;
use tracing::info;

use crate::admin::log;
use crate::cluster::resource;
use crate::host::config::{self, DEFAULT_FILE, Loaded, Override, Source};
use crate::{REVISION, VERSION, run};

/// Wrong usage, or settings that cannot be used.
const UNUSABLE: u8 = 2;

/// Keeps the API server of a Gardener self-hosted shoot reachable through a STACKIT network load balancer.
#[derive(Debug, Parser)]
#[command(name = "shoot-exposure-agent", disable_version_flag = true, max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Log level, over the setting log.level: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log format, over the setting log.format: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Kubeconfig, over the setting kubeconfig
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the agent until SIGTERM or SIGINT
    Run(ConfigFile),
    /// Hands off: nothing is written to the cloud nor to spec.endpoints until `resume`
    Pause(ConfigFile),
    /// Take over again after `pause`
    Resume(ConfigFile),
    /// Check or print the settings
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print what to install
    Manifest {
        /// What to print
        what: Manifest,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Say everything that is wrong with the settings
    Check(ConfigFile),
    /// Print the settings in effect, secrets as ****
    Show(ConfigFile),
    /// Print every setting with its default
    Defaults,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Manifest {
    /// The SelfHostedShootExposure CustomResourceDefinition
    Crd,
}

/// Parses the arguments, does what they say and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and ends with 0, a mistake to stderr and with 2.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(UNUSABLE) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.verb {
        Verb::Run(file) => {
            with_settings(&file, &arguments.global, |loaded| start(loaded, source(&file, &arguments.global)))
        }
        Verb::Pause(file) => with_settings(&file, &arguments.global, |loaded| hands_off(&loaded, true)),
        Verb::Resume(file) => with_settings(&file, &arguments.global, |loaded| hands_off(&loaded, false)),
        Verb::Config(ConfigVerb::Check(file)) => with_settings(&file, &arguments.global, |loaded| {
            let note = |u: &Unavailable| format!("note: {} is not available yet; {} is in effect\n", u.path, u.off);
            print(&format!("the settings are valid\n{}", loaded.unavailable.iter().map(note).collect::<String>()))
        }),
        Verb::Config(ConfigVerb::Show(file)) => {
            with_settings(&file, &arguments.global, |loaded| print(&config::show(&loaded.settings)))
        }
        Verb::Config(ConfigVerb::Defaults) => finished(print(&config::defaults())),
        Verb::Manifest { what: Manifest::Crd } => finished(crd().and_then(|text| print(&text))),
        Verb::Version => finished(print(&format!("shoot-exposure-agent {VERSION} ({REVISION})\n"))),
    }
}

/// The CustomResourceDefinition as YAML.
pub fn crd() -> anyhow::Result<String> {
    let definition = resource::definition().context("describing the CustomResourceDefinition")?;
    serde_saphyr::to_string(&definition).context("printing the CustomResourceDefinition")
}

fn start(loaded: Loaded, source: Source) -> anyhow::Result<()> {
    let log = log::init(&loaded.settings.log).context("starting the log")?;
    for unavailable in &loaded.unavailable {
        info!(setting = unavailable.path, in_effect = unavailable.off, "not available yet");
    }
    runtime()?.block_on(run::run(loaded.settings, source, log))
}

fn hands_off(loaded: &Loaded, paused: bool) -> anyhow::Result<()> {
    print(&runtime()?.block_on(run::hands_off::set(&loaded.settings, paused))?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // One TLS provider for everything: reqwest and kube find it here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")
}

fn with_settings(file: &ConfigFile, global: &Global, verb: impl FnOnce(Loaded) -> anyhow::Result<()>) -> ExitCode {
    match source(file, global).load() {
        Ok(loaded) => finished(verb(loaded)),
        Err(mistakes) => {
            complain(&format!("{mistakes}\n"));
            ExitCode::from(UNUSABLE)
        }
    }
}

fn source(file: &ConfigFile, global: &Global) -> Source {
    // Of the environment only what may be a setting is kept.
    let ours = |(name, _): &(OsString, OsString)| {
        let start = name.as_encoded_bytes().get(..config::PREFIX.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(config::PREFIX.as_bytes()))
    };
    let environment = std::env::vars_os().filter(ours).collect();
    Source { file: file.config.clone(), environment, overrides: overrides(global) }
}

fn overrides(global: &Global) -> Vec<Override> {
    [
        ("--log-level", "log.level", &global.log_level),
        ("--log-format", "log.format", &global.log_format),
        ("--kubeconfig", "kubeconfig", &global.kubeconfig),
    ]
    .into_iter()
    .filter_map(|(flag, path, value)| {
        Some(Override { flag: flag.to_owned(), path: path.to_owned(), value: value.clone()? })
    })
    .collect()
}

fn finished(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}\n"));
            if error.is::<run::Unusable>() { ExitCode::from(UNUSABLE) } else { ExitCode::FAILURE }
        }
    }
}

/// Prints data. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(()),
    }
}

fn complain(text: &str) {
    // Where stderr is gone, the exit code is all that is left.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
