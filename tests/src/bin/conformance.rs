//! The report of what was compared with the provider's description of the API.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tests::openapi::{DOCUMENT, Document, KNOWN, RECORDS, document, read_records};

/// Reports what the tests have compared with the provider's OpenAPI document.
///
/// STACKIT_OPENAPI names the document. The counts are what the tests have left in the file STACKIT_OPENAPI_RECORDS. Ends with 1
/// when something differs that tests/CONFORMANCE.md does not explain, when an operation was never asked for, or a known
/// difference never met.
#[derive(Parser)]
#[command(name = "conformance")]
struct Arguments {
    /// The counts [default: what STACKIT_OPENAPI_RECORDS names]
    records: Option<PathBuf>,
}

fn main() -> ExitCode {
    match report(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn report(arguments: &Arguments) -> Result<()> {
    let document: &Document = document()?.with_context(|| format!("{DOCUMENT} names no document"))?;
    let path = arguments.records.clone().or_else(|| std::env::var_os(RECORDS).map(PathBuf::from));
    let tally = read_records(&path.with_context(|| format!("neither an argument nor {RECORDS} names the counts"))?)?;
    let mut out = std::io::stdout();
    writeln!(out, "{} requests compared; 0: no answer, or one that a fault has bent\n", tally.requests())?;
    let mut missing = Vec::new();
    let none = BTreeMap::new();
    for operation in document.operations() {
        let statuses = tally.operations.get(operation).unwrap_or(&none);
        if !statuses.contains_key(&200) {
            missing.push(format!("{operation} was never answered with 200"));
        }
        let counts: Vec<String> = statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        writeln!(out, "  {operation}\n      {}", counts.join("  "))?;
    }
    writeln!(out, "\n{} requests did not fit and were refused, as they should be", tally.refused)?;
    writeln!(out, "{} requests are not in the document: token endpoints, unknown paths", tally.outside)?;
    writeln!(out, "known differences:")?;
    for known in KNOWN {
        let count = tally.known.get(known.id).copied().unwrap_or(0);
        if count == 0 {
            missing.push(format!("the known difference {} was never met", known.id));
        }
        writeln!(out, "  {}: {count}", known.id)?;
    }
    missing.extend(tally.unexplained.iter().map(|what| format!("not explained: {what}")));
    if missing.is_empty() {
        writeln!(out, "nothing else differs")?;
        return Ok(());
    }
    bail!("\n  {}", missing.join("\n  "))
}
