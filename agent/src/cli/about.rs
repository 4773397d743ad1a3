//! `version`: what this program is.

use std::process::ExitCode;

use super::ending::{finished, print};
use crate::{REVISION, VERSION};

pub(super) fn version() -> ExitCode {
    finished(print(&format!("shoot-exposure-agent {VERSION} ({REVISION})\n")))
}
