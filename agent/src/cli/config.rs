//! `config`: the settings, checked and printed.

use std::process::ExitCode;

use clap::Subcommand;

use super::ending::{finished, print};
use super::settings::{ConfigFile, Global, with_settings};
use crate::host::config;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Say everything that is wrong with the settings
    Check(ConfigFile),
    /// Print the settings in effect, secrets as ****
    Show(ConfigFile),
    /// Print every setting with its default
    Defaults,
}

pub(super) fn answer(verb: Verb, global: &Global) -> ExitCode {
    match verb {
        Verb::Check(file) => with_settings(&file, global, |_| print("the settings are valid\n")),
        Verb::Show(file) => with_settings(&file, global, |loaded| print(&config::show(&loaded.settings))),
        Verb::Defaults => finished(print(&config::defaults())),
    }
}
