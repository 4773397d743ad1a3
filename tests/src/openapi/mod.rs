//! The provider's own description of its API, where there is one, and whether requests and answers keep to it.
//!
//! The environment variable `STACKIT_OPENAPI` names the document (OpenAPI 3.0, JSON). Then every emulator compares each
//! request and each answer with it as they go into the journal; what differs and is not in the table of [`known`] fails
//! whoever runs the emulator. `STACKIT_OPENAPI_RECORDS` names a file that all processes add their counts to; the program
//! `conformance` makes a report of it. Without the variables nothing happens.
//!
//! # What must hold
//! * What the agent sends fits the document, whatever is answered.
//! * What anybody else sends and the document does not allow is refused.
//! * What is answered fits the document, unless a fault or a switch has bent it on purpose.
//!
//! # What is not here
//! Schema keywords that the document does not use: one that is new stops the reading, so that nothing goes unchecked
//! unseen. Rules that the document states in prose only: they are the emulator's own (E24 to E48). Requests that the document
//! has no operation for (the token endpoints, the controls of the emulator) are counted and not judged.

mod check;
mod known;
mod operation;
mod record;
mod schema;

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

pub use check::{Difference, Exchange, Findings, Given, Side};
pub use known::{KNOWN, Known};
pub use record::{Tally, read_records};
pub use schema::{Kind, Misfit};

use operation::Operation;
use schema::Schemas;

/// Names the document.
pub const DOCUMENT: &str = "STACKIT_OPENAPI";
/// Names the file with the counts of all processes.
pub const RECORDS: &str = "STACKIT_OPENAPI_RECORDS";

/// The document.
#[derive(Debug)]
pub struct Document {
    operations: Vec<Operation>,
    schemas: Schemas,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is no OpenAPI document, or says something in a way that is not understood here.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let document: Value = serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))?;
        Self::parse(&document).with_context(|| format!("understanding {}", path.display()))
    }

    fn parse(document: &Value) -> Result<Self> {
        let paths = document["paths"].as_object().context("it has no `paths`")?;
        let operations = operation::all(paths)?;
        let mut schemas = Schemas::new(&document["components"]["schemas"])?;
        for operation in &operations {
            operation.schemas().try_for_each(|schema| schemas.learn(schema, &operation.name))?;
        }
        Ok(Self { operations, schemas })
    }

    /// The operations as `GET /path/{name}`, in the order of the document.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.operations.iter().map(|operation| operation.name.as_str())
    }
}

/// The document that the environment names, read once; `None`: it names none.
///
/// # Errors
/// As [`Document::read`].
pub fn document() -> Result<Option<&'static Document>> {
    static READ: OnceLock<Result<Option<Document>, String>> = OnceLock::new();
    let read = READ.get_or_init(|| {
        let path = std::env::var_os(DOCUMENT).filter(|path| !path.is_empty());
        path.map(|path| Document::read(Path::new(&path))).transpose().map_err(|error| format!("{DOCUMENT}: {error:#}"))
    });
    read.as_ref().map(Option::as_ref).map_err(|error| anyhow!("{error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests;
