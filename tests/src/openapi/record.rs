//! Counts of what was compared, and the file in which all processes add theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::check::Findings;

/// What one emulator, or several, have compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Requests by operation, and of these the answers by status; status 0: none, or one that was bent on purpose.
    pub operations: BTreeMap<String, BTreeMap<u16, u64>>,
    /// Requests that the document does not allow and that were refused.
    pub refused: u64,
    /// Requests that the document has no operation for.
    pub outside: u64,
    /// Differences by the row that explains them.
    pub known: BTreeMap<String, u64>,
    /// Differences that no row explains.
    pub unexplained: BTreeSet<String>,
}

impl Tally {
    /// Adds what a check has found; `status`: of an answer that was compared.
    pub fn add(&mut self, findings: &Findings, status: Option<u16>) {
        let Some(operation) = &findings.operation else {
            self.outside += 1;
            return;
        };
        *self.operations.entry(operation.clone()).or_default().entry(status.unwrap_or(0)).or_insert(0) += 1;
        self.refused += u64::from(findings.refused);
        for difference in &findings.differences {
            match difference.known() {
                Some(id) => *self.known.entry(id.to_owned()).or_insert(0) += 1,
                None => {
                    self.unexplained.insert(difference.to_string());
                }
            }
        }
    }

    /// Adds those of another.
    pub fn join(&mut self, other: Self) {
        for (operation, statuses) in other.operations {
            let own = self.operations.entry(operation).or_default();
            for (status, count) in statuses {
                *own.entry(status).or_insert(0) += count;
            }
        }
        self.refused += other.refused;
        self.outside += other.outside;
        for (id, count) in other.known {
            *self.known.entry(id).or_insert(0) += count;
        }
        self.unexplained.extend(other.unexplained);
    }

    /// How many requests fell to an operation of the document.
    pub fn requests(&self) -> u64 {
        self.operations.values().flat_map(BTreeMap::values).sum()
    }

    /// Adds a line to the file that the environment names, if it names one.
    pub(crate) fn record(&self) -> Result<()> {
        let Some(path) = std::env::var_os(super::RECORDS).filter(|path| !path.is_empty()) else { return Ok(()) };
        let line = serde_json::to_string(self).context("printing what was compared")? + "\n";
        let file = OpenOptions::new().create(true).append(true).open(&path);
        // One write: lines of several processes do not mix.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("adding to {}", Path::new(&path).display()))
    }
}

/// The sum of all lines of a file.
///
/// # Errors
/// When it is not there, or no such file.
pub fn read_records(path: &Path) -> Result<Tally> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut sum = Tally::default();
    for (index, line) in text.lines().enumerate() {
        let tally = serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), index + 1))?;
        sum.join(tally);
    }
    Ok(sum)
}
