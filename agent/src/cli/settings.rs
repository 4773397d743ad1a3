//! Settings for a verb: file, environment and flags, and what happens when they cannot be used.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::ending::{Ending, complain, finished};
use crate::host::config::{self, DEFAULT_FILE, Loaded, Override, Source};

#[derive(Debug, clap::Args)]
pub(super) struct Global {
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

#[derive(Debug, clap::Args)]
pub(super) struct ConfigFile {
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

/// Runs a verb with the settings in effect, or says everything that is wrong with them.
pub(super) fn with_settings(
    file: &ConfigFile,
    global: &Global,
    verb: impl FnOnce(Loaded) -> anyhow::Result<Ending>,
) -> ExitCode {
    match source(file, global).load() {
        Ok(loaded) => finished(verb(loaded)),
        Err(mistakes) => {
            complain(&format!("{mistakes}\n"));
            Ending::Unusable.into()
        }
    }
}

/// Where the settings come from.
pub(super) fn source(file: &ConfigFile, global: &Global) -> Source {
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
