//! One HTTP request: which client, which roots, how long, how much, and who is told.
//!
//! Redirects are never followed, so that a token reaches no other host than the one it is meant for. A proxy from
//! the environment (`HTTPS_PROXY`, `NO_PROXY`) is used here and nowhere else in the program. Deliberately not
//! here: what an answer means, see `fault`.

use std::error::Error;
use std::sync::{Arc, Once};
use std::time::Duration;

use decide::retry::{Fault, FaultKind};
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use reqwest::{Client, Url};
use tokio::time::Instant;
use uuid::Uuid;

use super::fault;
use super::fence::{Fence, Fenced, Held};
use super::setup::CaBundle;
pub use super::setup::SetupError;
use crate::host::secret::Secret;

/// Longest answer that is read: a page of balancers with 250 targets each is well below.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// Is told of each request, for the metrics.
pub trait Observer: Send + Sync {
    /// `method` is `GET`, `POST`, `PUT`, `DELETE` or, for the token endpoint, `TOKEN`; `code` the three digits of
    /// the status, `timeout` or `unreachable`.
    fn request(&self, method: &str, code: &str, took: Duration);
}

/// Nobody is told.
impl Observer for () {
    fn request(&self, _method: &str, _code: &str, _took: Duration) {}
}

/// What a client is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Reads,
    /// On connections of their own whose unacknowledged data the kernel drops after the time limit, so that an
    /// aborted write does not arrive later; never repeated below us. HTTP/1.1, where a write that is given up takes its
    /// connection with it: the next one does not queue behind what is stuck.
    Writes,
    Tokens,
}

/// A client for one purpose.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    purpose: Purpose,
    observer: Arc<dyn Observer>,
}

/// A request to be sent.
pub(super) struct Call<'a> {
    /// What is being done, for people: "reading load balancer `x`".
    pub(super) doing: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) token: Option<&'a Secret>,
    pub(super) body: Body<'a>,
    pub(super) deadline: Instant,
    /// What a write must pass.
    pub(super) fence: Fence,
}

pub(super) enum Body<'a> {
    None,
    Json(&'a serde_json::Value),
    Form(&'a [(&'a str, &'a str)]),
}

/// What came back, whatever it means.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &http::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where a redirect points, without its path: that may hold anything.
    pub(super) fn location_host(&self, asked: &str) -> Option<String> {
        let location = self.header(&LOCATION)?;
        let url = Url::parse(location).ok();
        Some(url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| asked.to_owned()))
    }

    /// `Retry-After` as a duration from now.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        fault::retry_after(self.header(&RETRY_AFTER)?, std::time::SystemTime::now())
    }

    /// Whether this is a page for a browser: some gateway's, never the API's.
    pub(super) fn is_html(&self) -> bool {
        self.header(&CONTENT_TYPE).is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
    }
}

/// No answer, or not all of it.
struct Lost {
    kind: FaultKind,
    status: Option<StatusCode>,
    /// Whether the request may have reached the server.
    sent: bool,
    why: String,
}

impl Http {
    pub(super) fn new(
        purpose: Purpose,
        timeout: Duration,
        bundle: Option<&CaBundle>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SetupError> {
        install_crypto();
        let certificates = bundle.map(|bundle| bundle.certificates.clone()).unwrap_or_default();
        let mut builder = Client::builder()
            .user_agent(concat!("shoot-exposure-agent/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Within the time limit of the request, so that running out of it tells that there was a connection.
            .connect_timeout(timeout * 3 / 4)
            .tls_certs_merge(certificates);
        if purpose != Purpose::Reads {
            builder = builder.retry(reqwest::retry::never());
        }
        if purpose == Purpose::Writes {
            builder = builder.tcp_user_timeout(timeout).http1_only();
        }
        let client = builder.build().map_err(|error| SetupError::Tls(fault::chain(&error)))?;
        Ok(Self { client, purpose, observer })
    }

    /// Sends once and reads the whole answer, within the deadline.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, Fault> {
        let request_id = Uuid::new_v4();
        let started = Instant::now();
        let outcome = self.carry(&call, request_id).await;
        let took = started.elapsed();

        let method = if self.purpose == Purpose::Tokens { "TOKEN" } else { call.method.as_str() };
        let status = match &outcome {
            Ok(answer) => Some(answer.status),
            Err(lost) => lost.status,
        };
        let code = match (&outcome, &status) {
            (_, Some(status)) => status.as_str(),
            (Err(Lost { kind: FaultKind::TimedOut, .. }), None) => "timeout",
            (_, None) => "unreachable",
        };
        self.observer.request(method, code, took);
        // The host is known from the settings; the query of a list is a page number.
        let path = call.url.path();
        match &outcome {
            Ok(Answer { status, .. }) if status.is_server_error() => {
                tracing::warn!(method, path, code, ?took, %request_id, "STACKIT failed");
            }
            Ok(Answer { status, .. }) if status.is_success() || *status == StatusCode::NOT_FOUND => {
                tracing::debug!(method, path, code, ?took, %request_id, "STACKIT answered");
            }
            Ok(_) => tracing::info!(method, path, code, ?took, %request_id, "STACKIT refused"),
            Err(Lost { why, .. }) => {
                tracing::warn!(method, path, code, ?took, %request_id, error = %why, "STACKIT gave no answer");
            }
        }
        outcome.map_err(|lost| Fault {
            kind: lost.kind,
            http_status: lost.status.map(|status| status.as_u16()),
            message: fault::message(call.doing, &lost.why),
            retry_after: None,
            outcome_unknown: lost.sent && fault::is_write(&call.method),
        })
    }

    async fn carry(&self, call: &Call<'_>, request_id: Uuid) -> Result<Answer, Lost> {
        let left = call.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let why = "not sent, the time limit has passed".to_owned();
            return Err(Lost { kind: FaultKind::TimedOut, status: None, sent: false, why });
        }
        if !call.fence.lets_through(left) {
            return Err(Lost { kind: FaultKind::Fenced, status: None, sent: false, why: Held.to_string() });
        }
        let mut request = self
            .client
            .request(call.method.clone(), call.url.clone())
            .timeout(left)
            .header(ACCEPT, "application/json")
            .header("X-Request-ID", request_id.to_string());
        if let Some(token) = call.token {
            request = request.bearer_auth(token.expose());
        }
        request = match call.body {
            Body::None => request,
            Body::Json(body) => {
                let body = Fenced::new(body.to_string().into_bytes(), call.fence.clone(), left);
                request.header(CONTENT_TYPE, "application/json").body(reqwest::Body::wrap(body))
            }
            Body::Form(fields) => request.form(fields),
        };
        let mut response = request.send().await.map_err(|error| lost(&error, None))?;
        let status = response.status();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_LIMIT => body.extend_from_slice(&chunk),
                Ok(None) => break,
                // The status alone tells what a refusal is.
                Ok(Some(_)) | Err(_) if !status.is_success() => break,
                Ok(Some(_)) => {
                    let why = format!("{status} with more than {} MiB", BODY_LIMIT / 1024 / 1024);
                    return Err(Lost { kind: FaultKind::Malformed, status: Some(status), sent: true, why });
                }
                Err(error) => return Err(lost(&error, Some(status))),
            }
        }
        if let (false, Some(token)) = (status.is_success(), call.token) {
            body = String::from_utf8_lossy(&body).replace(token.expose(), "****").into_bytes();
        }
        Ok(Answer { status, headers, body })
    }
}

/// What a transport error means. Only a connection that was never made is known not to have carried the request.
fn lost(error: &reqwest::Error, status: Option<StatusCode>) -> Lost {
    if is_held(error) {
        return Lost { kind: FaultKind::Fenced, status, sent: false, why: Held.to_string() };
    }
    let sent = !error.is_connect() && !error.is_builder();
    let kind = if error.is_timeout() { FaultKind::TimedOut } else { FaultKind::Unreachable };
    let why = match (kind, sent) {
        (FaultKind::TimedOut, false) => "no connection in time".to_owned(),
        (FaultKind::TimedOut, true) => "no answer in time".to_owned(),
        _ => fault::chain(error),
    };
    Lost { kind, status, sent, why }
}

/// Whether the fence kept the body back, so that nothing that is whole has left.
fn is_held(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if cause.is::<Held>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// The TLS stack of the process, once: reqwest is built without one of its own.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error means that somebody else was faster, which is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
    });
}
