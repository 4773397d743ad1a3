//! The verbs: what they read, what they print, how they end.
//!
//! | module | verbs |
//! |---|---|
//! | `daemon` | `run` |
//! | `once` | `bootstrap`, `teardown` |
//! | `operator` | `pause`, `resume`, `drain`, `undrain` |
//! | `config` | `config check`, `config show`, `config defaults` |
//! | `manifest` | `manifest` |
//! | `look` | `status`, `plan` |
//! | `shell`, `man`, `about` | `completion`, `man`, `version` |
//! | `settings`, `ending` | what all of them share: settings in layers, output and exit codes |
//!
//! Data goes to stdout, the log and errors to stderr. Deliberately not here: work; each verb calls one function.

mod about;
mod config;
mod daemon;
mod look;
mod man;
mod manifest;
mod once;
mod operator;
mod shell;

mod ending;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use ending::Ending;
use settings::{ConfigFile, Global};

/// Keeps the API server of a Gardener self-hosted shoot reachable through a STACKIT network load balancer.
#[derive(Debug, Parser)]
#[command(name = "shoot-exposure-agent", disable_version_flag = true, max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the agent until SIGTERM or SIGINT
    Run(ConfigFile),
    /// Make the load balancer once, with or without Kubernetes, and print where it is
    Bootstrap(once::Bootstrap),
    /// Delete the load balancer, with or without Kubernetes
    Teardown(once::Teardown),
    /// Hands off: nothing is written to the cloud nor to spec.endpoints until `resume`
    Pause(ConfigFile),
    /// Take over again after `pause`
    Resume(ConfigFile),
    /// Take a node out of the load balancer before maintenance
    Drain(operator::Drain),
    /// Put a drained node back
    Undrain(operator::Undrain),
    /// Show nodes with their verdicts, targets, load balancer, leader and last error
    Status(look::Status),
    /// Show what would be changed now; changes nothing
    Plan(look::Plan),
    /// Check or print the settings
    #[command(subcommand)]
    Config(config::Verb),
    /// Print what to install
    Manifest(manifest::Arguments),
    /// Print a script that lets a shell complete verbs and flags
    Completion {
        /// Which shell
        shell: shell::Shell,
    },
    /// Print the manual page
    Man,
    /// Print the version
    Version,
}

/// Parses the arguments, does what they say and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and ends with 0, a mistake to stderr and with 2.
            let _ = error.print();
            return if error.use_stderr() { Ending::Unusable.into() } else { Ending::Done.into() };
        }
    };
    let global = &arguments.global;
    match arguments.verb {
        Verb::Run(file) => daemon::run(&file, global),
        Verb::Bootstrap(arguments) => once::bootstrap(&arguments, global),
        Verb::Teardown(arguments) => once::teardown(&arguments, global),
        Verb::Pause(file) => operator::pause(&file, global),
        Verb::Resume(file) => operator::resume(&file, global),
        Verb::Drain(arguments) => operator::drain(arguments, global),
        Verb::Undrain(arguments) => operator::undrain(&arguments, global),
        Verb::Status(arguments) => look::status(&arguments, global),
        Verb::Plan(arguments) => look::plan(&arguments, global),
        Verb::Config(verb) => config::answer(verb, global),
        Verb::Manifest(arguments) => manifest::print(&arguments),
        Verb::Completion { shell } => shell::completion(shell, Arguments::command()),
        Verb::Man => man::man(Arguments::command()),
        Verb::Version => about::version(),
    }
}
