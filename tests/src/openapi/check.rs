//! One request and its answer beside the document.

use serde_json::{Value, json};

use super::operation::{Asked, Body, find};
use super::schema::{Kind, Misfit, Way};
use super::{Document, KNOWN};

/// A request and what became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange<'a> {
    /// `GET`, `PUT`, ...
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// `X-Request-ID` as sent.
    pub request_id: Option<&'a str>,
    /// The agent sent it: then it must fit, whatever is answered.
    pub by_the_agent: bool,
    /// The JSON sent; a string of what is none.
    pub request: Option<&'a Value>,
    /// The answer; `None`: there was none, or it was bent on purpose.
    pub answer: Option<Given<'a>>,
    /// The status, also of an answer that was bent.
    pub status: Option<u16>,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// `Content-Type`.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a str,
}

/// Whose part it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The agent sent what the document does not allow.
    Agent,
    /// The emulator took what the document does not allow.
    Taken,
    /// The emulator answered what the document does not know.
    Answered,
}

/// Something that differs from the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whose part it is.
    pub side: Side,
    /// The operation.
    pub operation: String,
    /// What it is.
    pub misfit: Misfit,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = match self.side {
            Side::Agent => "the agent sent",
            Side::Taken => "the emulator took",
            Side::Answered => "the emulator answered",
        };
        let Misfit { at, what, .. } = &self.misfit;
        write!(f, "{}: {side} {}{what}", self.operation, if at.is_empty() { String::new() } else { format!("{at}: ") })
    }
}

impl Difference {
    /// The row of the table that explains it.
    pub fn known(&self) -> Option<&'static str> {
        KNOWN.iter().find(|known| (known.fits)(self)).map(|known| known.id)
    }
}

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The operation of the document; `None`: it has none for this request.
    pub operation: Option<String>,
    /// What differs.
    pub differences: Vec<Difference>,
    /// The request did not fit and was refused, as it should be.
    pub refused: bool,
}

impl Document {
    /// Compares.
    pub fn check(&self, exchange: Exchange<'_>) -> Findings {
        let Asked::Operation(operation) = find(&self.operations, exchange.method, exchange.path) else {
            return Findings::default();
        };
        let difference = |side| move |misfit| Difference { side, operation: operation.name.clone(), misfit };
        let mut sent = Vec::new();
        if let Some(schema) = &operation.request {
            sent.extend(self.schemas.fit(schema, exchange.request.unwrap_or(&Value::Null), Way::ToServer));
        }
        if let Some(id) =
            exchange.request_id.filter(|id| operation.takes_request_id && uuid::Uuid::try_parse(id).is_err())
        {
            let what = format!("{id:?} is no UUID");
            sent.push(Misfit { at: "X-Request-ID".to_owned(), kind: Kind::Format, what });
        }
        let refused = exchange.status.is_some_and(|status| (400..500).contains(&status));
        let mut findings = Findings { operation: Some(operation.name.clone()), ..Findings::default() };
        if exchange.by_the_agent {
            findings.differences.extend(sent.into_iter().map(difference(Side::Agent)));
        } else if refused {
            findings.refused = !sent.is_empty();
        } else if exchange.answer.is_some() {
            findings.differences.extend(sent.into_iter().map(difference(Side::Taken)));
        }
        if let (Some(given), Some(status)) = (exchange.answer, exchange.status) {
            let answered = self.answer(operation.answer(status), given, status);
            findings.differences.extend(answered.into_iter().map(difference(Side::Answered)));
        }
        findings
    }

    fn answer(&self, described: Option<&Body>, given: Given<'_>, status: u16) -> Vec<Misfit> {
        let misfit = |kind, what| vec![Misfit { at: String::new(), kind, what }];
        match described {
            None => misfit(Kind::Undescribed, format!("{status}, which the document does not know")),
            Some(Body::Unsaid) => Vec::new(),
            Some(Body::Of(media, schema)) => {
                let own = given.content_type.split(';').next().unwrap_or_default();
                if own != media {
                    return misfit(Kind::Media, format!("{status} as {own:?} and not as {media}"));
                }
                let text = || json!(given.body);
                let body = if media == "application/json" {
                    serde_json::from_str(given.body).unwrap_or_else(|_| text())
                } else {
                    text()
                };
                if schema.is_object() { self.schemas.fit(schema, &body, Way::FromServer) } else { Vec::new() }
            }
        }
    }
}
