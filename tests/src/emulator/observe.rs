//! What a test can learn from the journal.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::handle::Handle;
use super::journal::Entry;
use super::write::forbidden_fields;
use crate::openapi::Tally;

/// How often a method, path and status came together; status 0 stands for "no answer".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Counter {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// HTTP status, 0 if there was no answer.
    pub status: u16,
    /// How often.
    pub count: u64,
}

impl Handle {
    /// All requests so far, in the order of arrival.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared().look(|state| state.journal.entries().to_vec())
    }

    /// Forgets all requests so far, and with them every count.
    pub fn clear_journal(&self) {
        self.shared().change(|state| state.journal.clear());
    }

    /// Looks at the journal without a copy of it.
    pub fn with_journal<T>(&self, look: impl FnOnce(&[Entry]) -> T) -> T {
        self.shared().look(|state| look(state.journal.entries()))
    }

    /// The journal as JSON lines.
    pub fn journal_lines(&self) -> String {
        let line = |entry: &Entry| serde_json::to_string(entry).unwrap_or_default() + "\n";
        self.with_journal(|entries| entries.iter().map(line).collect())
    }

    /// How many requests had this method and this part in their path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.with_journal(|entries| entries.iter().filter(|it| it.method == method && it.path.contains(part)).count())
    }

    /// The bodies received with this method and this part in the path.
    pub fn bodies(&self, method: &str, part: &str) -> Vec<Value> {
        let fits = |entry: &&Entry| entry.method == method && entry.path.contains(part);
        self.with_journal(|entries| entries.iter().filter(fits).filter_map(|entry| entry.request.clone()).collect())
    }

    /// Counters by method, path and status.
    pub fn counters(&self) -> Vec<Counter> {
        let mut counts = BTreeMap::new();
        self.with_journal(|entries| {
            for entry in entries {
                let key = (entry.method.clone(), entry.path.clone(), entry.status.unwrap_or(0));
                *counts.entry(key).or_insert(0) += 1;
            }
        });
        let counter = |((method, path, status), count)| Counter { method, path, status, count };
        counts.into_iter().map(counter).collect()
    }

    /// Requests to the two token endpoints by grant type, refused ones included (E11).
    pub fn token_requests(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.with_journal(|entries| {
            for entry in entries.iter().filter(|entry| matches!(entry.path.as_str(), "/token" | "/oauth/v2/token")) {
                let grant = entry.request.as_ref().and_then(|form| form["grant_type"].as_str()).unwrap_or_default();
                *counts.entry(grant.to_owned()).or_insert(0) += 1;
            }
        });
        counts
    }

    /// Compares all requests and answers since the last call with the provider's description of the API, where the
    /// environment names one ([`crate::openapi`]), and adds the counts to the records.
    ///
    /// # Errors
    /// When something differs that is not explained, or the counts cannot be recorded.
    pub fn conforms(&self) -> anyhow::Result<()> {
        let Some(tally) = self.shared().change(|state| state.journal.take_compared()) else { return Ok(()) };
        if tally == Tally::default() {
            return Ok(());
        }
        tally.record()?;
        let unexplained: Vec<&str> = tally.unexplained.iter().map(String::as_str).collect();
        anyhow::ensure!(
            unexplained.is_empty(),
            "this differs from the provider's description of the API and is not in tests/CONFORMANCE.md:\n  {}",
            unexplained.join("\n  ")
        );
        Ok(())
    }

    /// `User-Agent` of the last request that had one.
    pub fn last_user_agent(&self) -> Option<String> {
        self.with_journal(|entries| entries.iter().rev().find_map(|entry| entry.user_agent.clone()))
    }

    /// POST, PUT and DELETE of balancers, pools and credentials within the last 60 s of the emulator's clock; more than a
    /// few mean a reconcile loop.
    pub fn writes_per_minute(&self) -> usize {
        let now = self.shared().look(|state| state.clock.elapsed().as_millis());
        self.with_journal(|entries| {
            let recent = |entry: &&Entry| u128::from(entry.at_milliseconds) + 60_000 > now;
            entries.iter().filter(recent).filter(|entry| is_write(entry)).count()
        })
    }

    /// Fields that were sent although no client may send them, as `PUT /path: field`. Empty is the proof that none were.
    pub fn forbidden_fields(&self) -> Vec<String> {
        self.with_journal(|entries| {
            let sent = |entry: &Entry| {
                let fields = entry.request.as_ref().map(forbidden_fields).unwrap_or_default();
                let line = |field| format!("{} {}: {field}", entry.method, entry.path);
                fields.into_iter().map(line).collect::<Vec<_>>()
            };
            let writes = entries.iter().filter(|entry| is_write(entry) && entry.path.contains("/load-balancers"));
            writes.flat_map(sent).collect()
        })
    }
}

fn is_write(entry: &Entry) -> bool {
    entry.path.starts_with("/v2/projects/") && matches!(entry.method.as_str(), "POST" | "PUT" | "DELETE")
}
