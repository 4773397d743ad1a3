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

use backon::{ExponentialBuilder, Retryable};

/// The pauses of whoever does one thing: 0.25, 0.5, then 1 s; together eight seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(1);
const TRIES: usize = 9;

/// A request to the API server that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiFailure {
    /// 404.
    NotFound,
    /// 409: somebody else was faster.
    Conflict,
    /// 403, in the API server's words: they name verb and resource.
    Forbidden(String),
    /// 429 or 5xx: it is just starting, or overloaded; the same a moment later may do.
    Busy(String),
    /// Anything else, in words.
    Other(String),
}

impl std::fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApiFailure::NotFound => f.write_str("not found"),
            ApiFailure::Conflict => f.write_str("somebody else was faster"),
            ApiFailure::Forbidden(what) | ApiFailure::Busy(what) | ApiFailure::Other(what) => f.write_str(what),
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
        Ok(Err(error)) => Err(match &error {
            kube::Error::Api(status) if status.code == 429 || status.code >= 500 => ApiFailure::Busy(explain(&error)),
            _ => ApiFailure::Other(explain(&error)),
        }),
        Err(_) => Err(ApiFailure::Other(format!("no answer from the API server within {timeout:?}"))),
    }
}

/// Asks again, some seconds long, while the API server is busy: for somebody who does one thing and would have to do it
/// again. Whoever runs on has pauses of its own.
pub async fn patiently<T, F>(ask: impl FnMut() -> F) -> Result<T, ApiFailure>
where
    F: Future<Output = Result<T, ApiFailure>>,
{
    let pauses =
        ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LAST_PAUSE).with_max_times(TRIES);
    ask.retry(pauses).when(|failure| matches!(failure, ApiFailure::Busy(_))).await
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    async fn asked(
        answers: impl Fn(usize) -> Result<&'static str, ApiFailure>,
    ) -> (Result<&'static str, ApiFailure>, usize) {
        let tries = AtomicUsize::new(0);
        let answer = patiently(|| {
            let answer = answers(tries.fetch_add(1, Ordering::Relaxed));
            async { answer }
        });
        (answer.await, tries.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_busy_is_asked_again_for_some_seconds_and_nobody_else() {
        let busy = || Err(ApiFailure::Busy("storage is (re)initializing".to_owned()));
        let began = tokio::time::Instant::now();
        let (answer, tries) = asked(|tried| if tried < 3 { busy() } else { Ok("here") }).await;
        assert_eq!((answer.unwrap(), tries), ("here", 4));
        let (answer, tries) = asked(|_| busy()).await;
        assert!(matches!(answer, Err(ApiFailure::Busy(_))), "{answer:?}");
        assert_eq!(tries, TRIES + 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let (answer, tries) = asked(|_| Err(ApiFailure::Forbidden("no".to_owned()))).await;
        assert!(matches!(answer, Err(ApiFailure::Forbidden(_))), "{answer:?}");
        assert_eq!(tries, 1);
    }
}
