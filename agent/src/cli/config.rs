//! `config`: the settings, checked and printed.

use std::process::ExitCode;

use clap::Subcommand;
use decide::settings::Unavailable;

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
        Verb::Check(file) => with_settings(&file, global, |loaded| {
            let note = |u: &Unavailable| format!("note: {} is not available yet; {} is in effect\n", u.path, u.off);
            print(&format!("the settings are valid\n{}", loaded.unavailable.iter().map(note).collect::<String>()))
        }),
        Verb::Show(file) => with_settings(&file, global, |loaded| print(&config::show(&loaded.settings))),
        Verb::Defaults => finished(print(&config::defaults())),
    }
}
