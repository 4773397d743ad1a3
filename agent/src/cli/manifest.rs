//! `manifest`: what to install.

use std::process::ExitCode;

use clap::ValueEnum;

use super::ending::{self, Ending, complain};
use crate::manifest;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to print
    what: Manifest,
    /// The image to name, with its registry and tag
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Manifest {
    /// Units, account and folders for systemd, each behind its path
    Systemd,
    /// The part of an OperatingSystemConfig that brings the units to a node
    OperatingSystemConfig,
    /// Settings and DaemonSet; wants `rbac` as well
    Daemonset,
    /// The same as a Pod for the kubelet's manifest folder
    StaticPod,
    /// ServiceAccount and rights
    Rbac,
    /// The SelfHostedShootExposure CustomResourceDefinition
    Crd,
}

pub(super) fn print(arguments: &Arguments) -> ExitCode {
    let names_an_image = [Manifest::OperatingSystemConfig, Manifest::Daemonset, Manifest::StaticPod];
    let image = match arguments.image.as_deref() {
        None => manifest::IMAGE,
        Some(_) if !names_an_image.contains(&arguments.what) => return unusable("--image: there is no image in it"),
        Some(image) if !is_reference(image) => return unusable(&format!("--image: `{image}` names no image")),
        Some(image) => image,
    };
    let text = match arguments.what {
        Manifest::Systemd => Ok(manifest::systemd()),
        Manifest::OperatingSystemConfig => Ok(manifest::operating_system_config(image)),
        Manifest::Daemonset => Ok(manifest::daemonset(image)),
        Manifest::StaticPod => Ok(manifest::static_pod(image)),
        Manifest::Rbac => Ok(manifest::RBAC.to_owned()),
        Manifest::Crd => manifest::crd(),
    };
    ending::finished(text.and_then(|text| ending::print(&text)))
}

fn unusable(mistake: &str) -> ExitCode {
    complain(&format!("error: {mistake}\n"));
    Ending::Unusable.into()
}

/// Whether it looks like an image. What it may not hold would change the meaning of the text around it.
fn is_reference(image: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/@".contains(c);
    image.starts_with(|c: char| c.is_ascii_alphanumeric()) && image.chars().all(fits)
}
