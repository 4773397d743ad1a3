//! `run`: the daemon.

use std::process::ExitCode;

use anyhow::Context;

use super::ending::Ending;
use super::settings::{ConfigFile, Global, source, with_settings};
use crate::admin::log;
use crate::host::config::{Loaded, Source};
use crate::run;

pub(super) fn run(file: &ConfigFile, global: &Global) -> ExitCode {
    with_settings(file, global, |loaded| start(loaded, source(file, global)))
}

fn start(loaded: Loaded, source: Source) -> anyhow::Result<Ending> {
    let log = log::init(&loaded.settings.log).context("starting the log")?;
    runtime()?.block_on(run::run(loaded.settings, source, log)).map(|()| Ending::Done)
}

/// What every verb that talks to others runs on.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // One TLS provider for everything: reqwest and kube find it here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")
}
