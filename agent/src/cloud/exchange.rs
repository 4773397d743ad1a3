//! A credential for a token: the one request to a token endpoint.
//!
//! Refresh tokens are never used: a refused one could not be replaced until it expires.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use decide::retry::{Fault, FaultKind};
use http::{Method, StatusCode};
use reqwest::Url;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::fault;
use super::fence::Fence;
use super::http::{Answer, Body, Call, Http};
use super::token::Source;
use crate::host::secret::Secret;

/// How long a token is taken to live that says nothing about it, or that was stale when it came.
const LIFE_UNKNOWN: Duration = Duration::from_mins(1);

/// An access token, as granted.
pub(super) struct Granted {
    pub(super) token: Secret,
    /// How long it lives from now on.
    pub(super) life: Duration,
}

/// Asks for a token. The outcome is always known: a token that got lost does no harm.
pub(super) async fn exchange(
    http: &Http,
    source: &Source,
    endpoint: &Url,
    now: SystemTime,
    deadline: Instant,
) -> Result<Granted, Fault> {
    let host = endpoint.host_str().unwrap_or_default();
    let doing = format!("fetching an access token from {host}");
    let broken = |kind: FaultKind, problem: String| Fault {
        kind,
        http_status: None,
        message: format!("{doing}: {problem}"),
        retry_after: None,
        outcome_unknown: false,
    };
    let answer = match source {
        Source::Static(token) => return Ok(Granted { token: token.clone(), life: life(token.expose(), None, now) }),
        Source::Key { key, .. } => {
            let assertion = key.assertion(now, Uuid::new_v4());
            let assertion = assertion
                .ok_or_else(|| broken(FaultKind::Credentials, "the assertion could not be signed".to_owned()))?;
            let form =
                [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.expose())];
            post(http, &doing, endpoint, &form, deadline).await?
        }
        Source::Federation { federation, .. } => {
            let token = federation.token.read().map_err(|problem| broken(FaultKind::Credentials, problem))?;
            let form = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", "urn:schwarz:params:oauth:client-assertion-type:workload-jwt"),
                ("client_assertion", token.expose()),
                ("client_id", &federation.service_account_email),
            ];
            post(http, &doing, endpoint, &form, deadline).await?
        }
    };
    granted(&answer, now).map_err(|problem| Fault {
        outcome_unknown: false,
        ..fault::malformed(&doing, &Method::POST, &answer, problem)
    })
}

async fn post(http: &Http, doing: &str, url: &Url, form: &[(&str, &str)], deadline: Instant) -> Result<Answer, Fault> {
    let (method, body, fence) = (Method::POST, Body::Form(form), Fence::default());
    let call = Call { doing, method, url: url.clone(), token: None, body, deadline, fence };
    let answer = http.send(call).await.map_err(|fault| Fault { outcome_unknown: false, ..fault })?;
    if answer.status == StatusCode::OK {
        return Ok(answer);
    }
    let mut fault = fault::of_answer(doing, &Method::POST, url.host_str().unwrap_or_default(), &answer);
    fault.outcome_unknown = false;
    fault.kind = match fault.kind {
        FaultKind::Quota => FaultKind::RateLimited,
        kind @ (FaultKind::RateLimited | FaultKind::TimedOut | FaultKind::Server) => kind,
        _ if answer.status.is_client_error() => FaultKind::Credentials,
        _ => FaultKind::Malformed,
    };
    Err(fault)
}

fn granted(answer: &Answer, now: SystemTime) -> Result<Granted, &'static str> {
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| "the body is no JSON")?;
    let token = body.get("access_token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err("the JSON has no `access_token`");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the `access_token` cannot be sent in a header");
    }
    let expires_in = body.get("expires_in").and_then(|seconds| match seconds {
        Value::String(seconds) => seconds.parse().ok(),
        seconds => seconds.as_u64(),
    });
    Ok(Granted { token: Secret::new(token.to_owned()), life: life(token, expires_in, now) })
}

/// How long a token lives: by its own `exp`, else by what came with it.
///
/// One that is over when it comes tells of a clock that is wrong, ours or theirs; then `expires_in` holds, and the
/// API has the last word.
fn life(token: &str, expires_in: Option<u64>, now: SystemTime) -> Duration {
    let left = expiry(token).and_then(|end| end.duration_since(now).ok()).filter(|left| !left.is_zero());
    let told = expires_in.map(Duration::from_secs).filter(|left| !left.is_zero());
    // Bounded, so that adding it to a clock never overflows.
    left.or(told).unwrap_or(LIFE_UNKNOWN).min(Duration::from_hours(24 * 365))
}

/// The `exp` of a JWT, whose signature is not ours to check; `None` for an opaque token.
fn expiry(token: &str) -> Option<SystemTime> {
    let claims = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()?;
    let exp = claims.get("exp")?;
    let seconds = exp.as_f64().or_else(|| exp.as_str()?.parse().ok())?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
mod tests;
