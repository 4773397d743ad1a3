//! The shoot exposure agent: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    shoot_exposure_agent::cli::main(std::env::args_os())
}
