//! `status` and `plan`: how it is, and what would be done.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use decide::settings::Settings;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::daemon::runtime;
use super::ending::{Ending, print};
use super::settings::{ConfigFile, Global, with_settings};
use crate::run;

/// Pause between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(2);
/// What empties a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    file: ConfigFile,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
    /// Print it again whenever it changes, until SIGINT
    #[arg(long)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table for people
    Text,
    /// JSON; with --watch one line each time
    Json,
    /// YAML; with --watch one document each time
    Yaml,
}

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    file: ConfigFile,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: PlanFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlanFormat {
    /// A diff for people
    Text,
    /// JSON
    Json,
}

pub(super) fn status(arguments: &Status, global: &Global) -> ExitCode {
    with_settings(&arguments.file, global, |loaded| {
        let settings = loaded.settings;
        let runtime = runtime()?;
        if arguments.watch {
            return runtime.block_on(follow(&settings, arguments.output));
        }
        let status = runtime.block_on(run::status::look(&settings))?;
        print(&printed(&status, arguments.output, false)?)?;
        Ok(ending(&status))
    })
}

/// Prints it whenever it changes, and ends as it was last.
async fn follow(settings: &Settings, format: Format) -> anyhow::Result<Ending> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut said = String::new();
    let mut last;
    loop {
        let text = match run::status::look(settings).await {
            Ok(status) => {
                last = ending(&status);
                printed(&status, format, true)?
            }
            Err(error) if said.is_empty() => return Err(error),
            // It was there a moment ago: it may come back.
            Err(error) => {
                last = Ending::Differs;
                let gone = serde_json::json!({"healthy": false, "problems": [format!("{error:#}")], "nodes": [], "exposures": []});
                printed(&gone, format, true)?
            }
        };
        if text != said {
            let clear = matches!(format, Format::Text) && std::io::stdout().is_terminal();
            let gap = if matches!(format, Format::Text) && !said.is_empty() { "\n" } else { "" };
            print(&if clear { format!("{CLEAR}{text}") } else { format!("{gap}{text}") })?;
            said = text;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = interrupt.recv() => return Ok(last),
            _ = terminate.recv() => return Ok(last),
        }
    }
}

fn printed(status: &Value, format: Format, follows: bool) -> anyhow::Result<String> {
    Ok(match format {
        Format::Text => run::status::table(status),
        Format::Json if follows => format!("{status}\n"),
        Format::Json => format!("{status:#}\n"),
        Format::Yaml => {
            let text = serde_saphyr::to_string(status).context("printing YAML")?;
            format!("{}{}\n", if follows { "---\n" } else { "" }, text.trim_end())
        }
    })
}

fn ending(status: &Value) -> Ending {
    if status["healthy"] == true { Ending::Done } else { Ending::Differs }
}

pub(super) fn plan(arguments: &Plan, global: &Global) -> ExitCode {
    with_settings(&arguments.file, global, |loaded| {
        let plan = runtime()?.block_on(run::plan::plan(loaded.settings))?;
        print(&match arguments.output {
            PlanFormat::Text => run::plan::text(&plan),
            PlanFormat::Json => format!("{plan:#}\n"),
        })?;
        let mut failed = plan["exposures"].as_array().into_iter().flatten().filter_map(|e| e["failed"].as_str());
        match failed.next() {
            Some(failed) if plan["pending"] == false => bail!("{failed}"),
            _ => Ok(if plan["pending"] == true { Ending::Differs } else { Ending::Done }),
        }
    })
}
