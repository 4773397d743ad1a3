//! How a verb ends: what it prints, and the exit code.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

use crate::host::systemd::Notifier;
use crate::run::{TimedOut, Unusable};

/// The exit codes, the same for all verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// 0: done, nothing to do, healthy.
    Done,
    /// 1: it did not work.
    Failed,
    /// 2: wrong usage, or settings that cannot be used.
    Unusable,
    /// 3: what was waited for has not come.
    TimedOut,
    /// 4: it differs from what is wished, or is degraded.
    Differs,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => ExitCode::SUCCESS,
            Ending::Failed => ExitCode::from(1),
            Ending::Unusable => ExitCode::from(2),
            Ending::TimedOut => ExitCode::from(3),
            Ending::Differs => ExitCode::from(4),
        }
    }
}

/// The exit code of a result; an error is said on stderr.
pub(super) fn finished(result: anyhow::Result<Ending>) -> ExitCode {
    let ending = result.unwrap_or_else(|error| {
        complain(&format!("error: {error:#}\n"));
        match error {
            error if error.is::<Unusable>() => Ending::Unusable,
            error if error.is::<TimedOut>() => Ending::TimedOut,
            _ => Ending::Failed,
        }
    });
    ending.into()
}

/// Prints data, and is done. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> anyhow::Result<Ending> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(Ending::Done),
    }
}

/// Says something on stderr, and to systemd where it listens: `systemctl status` shows it after the end as well.
pub(super) fn complain(text: &str) {
    Notifier::from_environment().status(text);
    // Where stderr is gone, the exit code is all that is left.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
