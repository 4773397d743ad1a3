//! What talks to Kubernetes: nodes, exposures, facts about the shoot, the Lease.
//!
//! Deliberately not here: decisions. Objects are turned into the plain values that `decide` works on, and what it
//! decides is sent.

pub mod client;

pub mod reach;

pub mod router;

mod transport;

pub mod watch;

pub mod nodes;
pub mod pods;

pub mod resource;

pub mod exposures;

pub mod facts;

pub mod dns;

pub mod lease;

pub mod events;

use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::time::Duration;

/// A request to the API server that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiFailure {
    /// 404.
    NotFound,
    /// 409: somebody else was faster.
    Conflict,
    /// 403, in the API server's words: they name verb and resource.
    Forbidden(String),
    /// Anything else, in words.
    Other(String),
}

impl std::fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApiFailure::NotFound => f.write_str("not found"),
            ApiFailure::Conflict => f.write_str("somebody else was faster"),
            ApiFailure::Forbidden(what) | ApiFailure::Other(what) => f.write_str(what),
        }
    }
}

/// Sends one request and gives up after `timeout`: kube's own client waits for an answer without end.
pub async fn within<T>(
    timeout: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiFailure> {
    match tokio::time::timeout(timeout, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(ApiFailure::NotFound),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(ApiFailure::Conflict),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(ApiFailure::Forbidden(status.message.clone())),
        Ok(Err(error)) => Err(ApiFailure::Other(explain(&error))),
        Err(_) => Err(ApiFailure::Other(format!("no answer from the API server within {timeout:?}"))),
    }
}

/// An error of kube in one line: the API server's own message, else the chain of causes. kube repeats each source in
/// its own text, so only what is new is added.
pub fn explain(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return if status.message.is_empty() { format!("status {}", status.code) } else { status.message.clone() };
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The innermost cause: what was found.
pub fn root(error: &kube::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
