//! `pause` and `resume`: what an operator tells the agents.

use std::process::ExitCode;

use super::daemon::runtime;
use super::ending::{Ending, print};
use super::settings::{ConfigFile, Global, with_settings};
use crate::host::config::Loaded;
use crate::run;

pub(super) fn pause(file: &ConfigFile, global: &Global) -> ExitCode {
    with_settings(file, global, |loaded| hands_off(&loaded, true))
}

pub(super) fn resume(file: &ConfigFile, global: &Global) -> ExitCode {
    with_settings(file, global, |loaded| hands_off(&loaded, false))
}

fn hands_off(loaded: &Loaded, paused: bool) -> anyhow::Result<Ending> {
    print(&runtime()?.block_on(run::hands_off::set(&loaded.settings, paused))?)
}
