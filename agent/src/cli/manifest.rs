//! `manifest`: what to install.

use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;

use super::ending;
use crate::cluster::resource;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to print
    what: Manifest,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Manifest {
    /// The SelfHostedShootExposure CustomResourceDefinition
    Crd,
}

pub(super) fn print(arguments: &Arguments) -> ExitCode {
    let text = match arguments.what {
        Manifest::Crd => crd(),
    };
    ending::finished(text.and_then(|text| ending::print(&text)))
}

/// The CustomResourceDefinition as YAML.
fn crd() -> anyhow::Result<String> {
    let definition = resource::definition().context("describing the CustomResourceDefinition")?;
    serde_saphyr::to_string(&definition).context("printing the CustomResourceDefinition")
}
