//! `bootstrap` and `teardown`: one thing, done once.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use decide::settings::{LogLevel, duration};
use serde::Serialize;

use super::daemon::runtime;
use super::ending::{Ending, print};
use super::settings::{ConfigFile, Global, with_settings};
use crate::admin::log;
use crate::host::config::Loaded;
use crate::run::TimedOut;
use crate::run::once::bootstrap::{self, Made};
use crate::run::once::teardown;

#[derive(Debug, clap::Args)]
pub(super) struct Bootstrap {
    #[command(flatten)]
    file: ConfigFile,
    /// A control-plane node that enters without evidence; as often as there are some
    #[arg(long = "endpoint", value_name = "NAME=IP")]
    endpoints: Vec<String>,
    /// How long to wait until it is ready
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = time)]
    timeout: Duration,
    /// How to print what was made; text is the address alone
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Teardown {
    #[command(flatten)]
    file: ConfigFile,
    /// The name of the load balancer that is to be deleted
    #[arg(long, value_name = "BALANCER_NAME")]
    confirm: Option<String>,
    /// Wait until it is gone, also where another agent does it
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = time)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

/// The result of a bootstrap as a program reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    made: Option<&'a Made>,
}

pub(super) fn bootstrap(arguments: &Bootstrap, global: &Global) -> ExitCode {
    with_settings(&arguments.file, global, |loaded| {
        quietly(&loaded)?;
        let request = bootstrap::Request { endpoints: arguments.endpoints.clone(), timeout: arguments.timeout };
        let made = runtime()?.block_on(bootstrap::bootstrap(loaded.settings, &request));
        match &made {
            Ok(made) => print(&shown(arguments.output, Some(made), None)?)?,
            Err(error) if error.is::<TimedOut>() => print(&shown(arguments.output, None, Some(format!("{error:#}")))?)?,
            Err(_) => Ending::Failed,
        };
        made.map(|_| Ending::Done)
    })
}

pub(super) fn teardown(arguments: &Teardown, global: &Global) -> ExitCode {
    with_settings(&arguments.file, global, |loaded| {
        quietly(&loaded)?;
        let Teardown { confirm, wait, timeout, .. } = arguments;
        let request = teardown::Request { confirm: confirm.clone(), wait: *wait, timeout: *timeout };
        print(&runtime()?.block_on(teardown::teardown(loaded.settings, &request))?)
    })
}

/// Starts the log, for errors alone unless somebody asks for more: the steps tell what there is to tell.
fn quietly(loaded: &Loaded) -> anyhow::Result<()> {
    let mut wish = loaded.settings.log.clone();
    if !loaded.explicit.contains("log.level") {
        wish.level = LogLevel::Error;
    }
    log::init(&wish).context("starting the log").map(drop)
}

fn shown(output: Output, made: Option<&Made>, waiting_for: Option<String>) -> anyhow::Result<String> {
    let result = Answer {
        api_version: decide::settings::API_VERSION,
        kind: "BootstrapResult",
        ready: made.is_some(),
        waiting_for,
        made,
    };
    match output {
        Output::Text => Ok(made.map(Made::text).unwrap_or_default()),
        Output::Json => serde_json::to_string(&result).map(|text| text + "\n").context("printing the result"),
        Output::Yaml => serde_saphyr::to_string(&result).context("printing the result"),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(time) if time.is_zero() => Err("0s is not longer than nothing".to_owned()),
        time => time,
    }
}
