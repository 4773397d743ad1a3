//! What a fault does to a request.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What happens to a request that meets a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Action {
    /// This answer (F1 to F5, F19). If `committed`, the request was carried out before.
    Answer {
        /// HTTP status.
        status: u16,
        /// Content type; empty for none.
        content_type: String,
        /// Further headers, e.g. `Retry-After`.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body as it is.
        #[serde(default)]
        body: String,
        /// Whether the request is carried out.
        #[serde(default)]
        committed: bool,
    },
    /// The connection is reset instead of an answer (F7, F20).
    Reset {
        /// Whether the request is carried out.
        #[serde(default)]
        committed: bool,
    },
    /// There is never an answer (F7, F8).
    Hang {
        /// Whether the request is carried out.
        #[serde(default)]
        committed: bool,
    },
    /// Carried out and answered, but late (F8).
    Delay {
        /// How late.
        milliseconds: u64,
    },
    /// Carried out at once, and answered late (F7, F8).
    LateAnswer {
        /// How late.
        milliseconds: u64,
    },
    /// The body comes byte by byte (F8).
    Drip {
        /// The pause after each byte.
        milliseconds: u64,
    },
    /// The connection is reset after so many bytes of the body (F19, F20).
    Truncate {
        /// How many bytes get through.
        bytes: usize,
    },
    /// Carried out, but with another status, and no body for 204 (F19).
    Status {
        /// HTTP status.
        status: u16,
    },
    /// Carried out, 200, and no body (F19).
    EmptyBody,
    /// Carried out, 200, and JSON that ends in the middle (F19).
    MalformedJson,
    /// Before the request is looked at, another client writes the balancer in its path (F6, F22): the patch is merged into
    /// it, its version changes.
    ForeignEdit {
        /// A merge patch (RFC 7396); `{}` only changes the version.
        patch: Value,
    },
}

impl Action {
    /// F1: the documented 500.
    pub fn internal_error() -> Self {
        let text = "internal error - please retry again later or contact support if the issue persists";
        let body = json!({"code": 13, "message": text, "details": []}).to_string();
        Self::answer(500, "application/json", &body)
    }

    /// F1: a 500 that says nothing.
    pub fn empty_error() -> Self {
        Self::answer(500, "", "")
    }

    /// F2: 502, 503 or 504 with the HTML of a proxy.
    pub fn gateway_error(status: u16) -> Self {
        let body = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>");
        Self::answer(status, "text/html", &body)
    }

    /// F3: a token that was fine is fine no more.
    pub fn unauthorized() -> Self {
        Self::answer(401, "text/plain", "Unauthorized")
    }

    /// F4: the permission is missing.
    pub fn forbidden() -> Self {
        let body = json!({"code": 7, "message": "this project_id is not allowed to try this API", "details": []});
        Self::answer(403, "application/json", &body.to_string())
    }

    /// F4: the service is not enabled.
    pub fn service_not_enabled() -> Self {
        let body = json!({"code": 7, "message": "Service not enabled: cloud.stackit.loadbalancer", "details": []});
        Self::answer(403, "application/json", &body.to_string())
    }

    /// F5: too many requests, with `Retry-After` in seconds or without.
    pub fn too_many_requests(retry_after: Option<u64>) -> Self {
        let body = json!({"code": 8, "message": "Too many requests", "details": []}).to_string();
        let headers = retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())).into_iter().collect();
        let content_type = "application/json".to_owned();
        Self::Answer { status: 429, content_type, headers, body, committed: false }
    }

    /// F6: with a rule for PUT, every one finds its version outdated.
    pub fn version_storm() -> Self {
        Self::ForeignEdit { patch: json!({}) }
    }

    /// F19: a redirect, e.g. to a host that must not get the token.
    pub fn redirect(location: &str) -> Self {
        let headers = vec![("Location".to_owned(), location.to_owned())];
        Self::Answer { status: 307, content_type: String::new(), headers, body: String::new(), committed: false }
    }

    /// Any answer in place of the real one.
    pub fn answer(status: u16, content_type: &str, body: &str) -> Self {
        let (content_type, body) = (content_type.to_owned(), body.to_owned());
        Self::Answer { status, content_type, headers: Vec::new(), body, committed: false }
    }

    /// The word for the journal.
    fn word(&self) -> String {
        let kind = serde_json::to_value(self).ok().and_then(|value| value["kind"].as_str().map(str::to_owned));
        kind.unwrap_or_default()
    }

    /// Whether further rules may act on the same request.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Self::Delay { .. } | Self::ForeignEdit { .. })
    }
}

/// The words for the journal.
pub(crate) fn words(actions: &[Action]) -> Vec<String> {
    actions.iter().map(Action::word).collect()
}
