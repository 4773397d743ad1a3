//! `pause`, `resume`, `drain` and `undrain`: what an operator tells the agents.

use std::process::ExitCode;
use std::time::Duration;

use decide::settings::duration;

use super::daemon::runtime;
use super::ending::{Ending, complain, print};
use super::settings::{ConfigFile, Global, with_settings};
use crate::host::config::Loaded;
use crate::run;
use crate::run::drain::Wish;

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// The node's name
    node: String,
    #[command(flatten)]
    file: ConfigFile,
    /// Return when no load balancer sends anybody to the node any more
    #[arg(long)]
    wait: bool,
    /// How long to wait for that
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
    /// End the drain by itself after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    lasts: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Undrain {
    /// The node's name
    node: String,
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn pause(file: &ConfigFile, global: &Global) -> ExitCode {
    with_settings(file, global, |loaded| hands_off(&loaded, true))
}

pub(super) fn resume(file: &ConfigFile, global: &Global) -> ExitCode {
    with_settings(file, global, |loaded| hands_off(&loaded, false))
}

fn hands_off(loaded: &Loaded, paused: bool) -> anyhow::Result<Ending> {
    print(&runtime()?.block_on(run::hands_off::set(&loaded.settings, paused))?)
}

pub(super) fn drain(arguments: Drain, global: &Global) -> ExitCode {
    let Drain { node, file, wait, timeout, lasts } = arguments;
    with_settings(&file, global, |loaded| {
        let wish = Wish { node, wait, timeout, lasts };
        let tell = |what: &str| complain(&format!("{what}\n"));
        print(&runtime()?.block_on(run::drain::drain(&loaded.settings, &wish, tell))?)
    })
}

pub(super) fn undrain(arguments: &Undrain, global: &Global) -> ExitCode {
    with_settings(&arguments.file, global, |loaded| {
        print(&runtime()?.block_on(run::drain::undrain(&loaded.settings, &arguments.node))?)
    })
}
