//! Every request and its answer, in the order of arrival.

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::gateway::Arrival;
use super::wire::form;
use crate::openapi::{Document, Exchange, Given, Tally};

/// One request and what became of it. Secrets are left out: of tokens only that they were there, of passwords `****`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Counts from 1, also across `clear_journal`.
    pub sequence: u64,
    /// Milliseconds since the emulator started, by its own clock.
    pub at_milliseconds: u64,
    /// The same for this process, to compare with other times of it.
    #[serde(skip)]
    pub arrived: Instant,
    /// When the answer was decided on.
    #[serde(skip)]
    pub answered: Option<Instant>,
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Whether there was an `Authorization: Bearer` header.
    pub authorization: bool,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// `X-Request-Id` as sent by the client.
    pub request_id: Option<String>,
    /// The JSON sent; for forms their fields; else the text.
    pub request: Option<Value>,
    /// The status answered; `None` while there is no answer, and for ever after a hang or a reset.
    pub status: Option<u16>,
    /// The body answered: JSON, or a string of what is not.
    pub response: Option<Value>,
    /// The kinds of faults that took part, e.g. `reset`.
    pub faults: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    sequence: u64,
    file: Option<File>,
    /// The provider's description of the API, and what the comparison with it has found.
    compared: Option<(&'static Document, Tally)>,
}

/// Faults that put something else in the place of the real answer.
const BENDING: [&str; 4] = ["answer", "status", "empty-body", "malformed-json"];

impl Journal {
    pub(crate) fn new(file: Option<File>, document: Option<&'static Document>) -> Self {
        let compared = document.map(|document| (document, Tally::default()));
        Self { entries: Vec::new(), sequence: 0, file, compared }
    }

    /// Notes an arrival; the number is for `finish`.
    pub(crate) fn begin(&mut self, at_milliseconds: u64, arrival: &Arrival, faults: Vec<String>) -> u64 {
        self.sequence += 1;
        let header = |name| arrival.header(name).map(str::to_owned);
        self.entries.push(Entry {
            sequence: self.sequence,
            at_milliseconds,
            arrived: Instant::now(),
            answered: None,
            method: arrival.method.clone(),
            path: arrival.path.clone(),
            query: arrival.query.clone(),
            authorization: arrival.header("authorization").is_some_and(|it| it.starts_with("Bearer ")),
            user_agent: header("user-agent"),
            request_id: header("x-request-id"),
            request: request(arrival),
            status: None,
            response: None,
            faults,
        });
        self.sequence
    }

    /// Notes the answer, or that there will be none. `bent`: switches make it another one than the API would give.
    pub(crate) fn finish(&mut self, sequence: u64, answer: Option<&Answer>, bent: bool) {
        let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.sequence == sequence) else { return };
        if let Some(answer) = answer {
            entry.answered = Some(Instant::now());
            entry.status = Some(answer.status);
            entry.response = response(answer);
        }
        if let Some((document, tally)) = &mut self.compared {
            compare(document, tally, entry, answer.filter(|_| !bent));
        }
        if let (Some(file), Ok(line)) = (&mut self.file, serde_json::to_string(entry)) {
            // The file is a convenience for people; a full disk must not fail a test.
            let _ = writeln!(file, "{line}");
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// What the comparison with the provider's description has found since the last time; `None`: there is no description.
    pub(crate) fn take_compared(&mut self) -> Option<Tally> {
        self.compared.as_mut().map(|(_, tally)| std::mem::take(tally))
    }
}

fn compare(document: &Document, tally: &mut Tally, entry: &Entry, answer: Option<&Answer>) {
    let real = answer.filter(|_| !entry.faults.iter().any(|fault| BENDING.contains(&fault.as_str())));
    let by_the_agent = entry.user_agent.as_ref().is_some_and(|agent| agent.starts_with("shoot-exposure-agent/"));
    let findings = document.check(Exchange {
        method: &entry.method,
        path: &entry.path,
        request_id: entry.request_id.as_deref(),
        by_the_agent,
        request: entry.request.as_ref(),
        answer: real.map(|answer| Given { content_type: &answer.content_type, body: &answer.body }),
        status: entry.status,
    });
    tally.add(&findings, real.map(|answer| answer.status));
}

fn request(arrival: &Arrival) -> Option<Value> {
    if arrival.body.is_empty() {
        return None;
    }
    let content_type = arrival.header("content-type").unwrap_or_default();
    if content_type.starts_with("application/x-www-form-urlencoded") {
        let harmless = |name: &str| matches!(name, "grant_type" | "client_id" | "client_assertion_type");
        let field = |(name, value): (String, String)| {
            let shown = if harmless(&name) { value } else { "****".to_owned() };
            (name, Value::String(shown))
        };
        return Some(Value::Object(form(&arrival.body).into_iter().map(field).collect::<Map<_, _>>()));
    }
    Some(json_or_text(&arrival.body))
}

fn response(answer: &Answer) -> Option<Value> {
    (!answer.body.is_empty()).then(|| json_or_text(&answer.body))
}

fn json_or_text(body: &str) -> Value {
    match serde_json::from_str(body) {
        Ok(value) => redacted(value),
        Err(_) => json!(body),
    }
}

fn redacted(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for secret in ["access_token", "refresh_token", "password"] {
            if let Some(field) = fields.get_mut(secret).filter(|field| *field != "") {
                *field = json!("****");
            }
        }
    }
    value
}
