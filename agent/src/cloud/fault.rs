//! What an answer means when it is not the one hoped for.
//!
//! The class comes from the HTTP status alone, with the one exception that the API forces, see
//! [`service_not_enabled`]. What the API says in words is for people: cut, on one line, without secrets.

use std::error::Error;
use std::time::{Duration, SystemTime};

use decide::retry::{Fault, FaultKind};
use http::{Method, StatusCode};
use k8s_openapi::jiff::fmt::rfc2822::DateTimeParser;
use serde_json::Value;

use super::http::Answer;

/// Longest message, in characters.
const MESSAGE_LIMIT: usize = 500;
/// Longest part of it that is the API's.
const DETAIL_LIMIT: usize = 300;

/// The fault that an answer is. `asked` is the host that was asked.
pub(super) fn of_answer(doing: &str, method: &Method, asked: &str, answer: &Answer) -> Fault {
    let status = answer.status;
    let retry_after = answer.retry_after();
    let kind = match status.as_u16() {
        400 | 422 => FaultKind::Invalid,
        _ if service_not_enabled(answer) => FaultKind::ServiceNotEnabled,
        401 => FaultKind::Unauthorized,
        403 => FaultKind::Forbidden,
        404 | 410 if !answer.is_html() => FaultKind::NotFound,
        408 => FaultKind::TimedOut,
        409 => FaultKind::Conflict,
        // The API's own 429 is the quota and names no time; a rate limiter in front of it may.
        429 if *method == Method::POST && retry_after.is_none() => FaultKind::Quota,
        429 => FaultKind::RateLimited,
        500..=599 => FaultKind::Server,
        _ => FaultKind::Malformed,
    };
    let found = if status.is_redirection() {
        let host = answer.location_host(asked).unwrap_or_else(|| "nowhere".to_owned());
        format!("{status}, a redirect to {host}, which is not followed")
    } else {
        match detail(answer) {
            Some(detail) => format!("{status}: {detail}"),
            None => status.to_string(),
        }
    };
    Fault {
        kind,
        http_status: Some(status.as_u16()),
        message: message(doing, &found),
        retry_after,
        // Every other 4xx is the API's word that it did nothing.
        outcome_unknown: is_write(method) && (!status.is_client_error() || status == StatusCode::REQUEST_TIMEOUT),
    }
}

/// A 2xx that cannot be read.
pub(super) fn malformed(doing: &str, method: &Method, answer: &Answer, problem: &str) -> Fault {
    let found = format!("{}, but {problem}", answer.status);
    Fault {
        kind: FaultKind::Malformed,
        http_status: Some(answer.status.as_u16()),
        message: message(doing, &found),
        retry_after: None,
        outcome_unknown: is_write(method),
    }
}

/// Whether the project has never used load balancers, or no longer: STACKIT enables the service with the first
/// balancer, and until then refuses every read.
///
/// The one place where words decide. A missing permission has the same status (403, seen as 401 too) and no type or
/// code tells the two apart; taking one for the other would either stop the first creation for good or report a
/// missing permission as "no balancer yet". It is enough that the documented words occur, in any case.
pub(super) fn service_not_enabled(answer: &Answer) -> bool {
    matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
        && String::from_utf8_lossy(&answer.body).to_ascii_lowercase().contains("service not enabled")
}

/// Whether a request of this method changes something.
pub(super) fn is_write(method: &Method) -> bool {
    !method.is_safe()
}

/// One line for people: what was being done and what was found. The request's id is in the log alone: a message that
/// is another at each try would have the same fault reported again and again.
pub(super) fn message(doing: &str, found: &str) -> String {
    cut(&format!("{doing}: {}", cut(found, DETAIL_LIMIT + 60)), MESSAGE_LIMIT)
}

/// The same fault, seen from a step further out.
pub(super) fn while_doing(doing: &str, mut fault: Fault) -> Fault {
    fault.message = cut(&format!("{doing}: {}", fault.message), MESSAGE_LIMIT);
    fault
}

/// What the API says about it, if it is fit to be shown.
fn detail(answer: &Answer) -> Option<String> {
    if answer.is_html() {
        return Some("a page of HTML".to_owned());
    }
    let text = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(body) => ["/message", "/error/message", "/error_description", "/error"]
            .iter()
            .find_map(|at| body.pointer(at)?.as_str().map(str::to_owned))
            .or_else(|| body.as_str().map(str::to_owned))?,
        Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let shown = cut(&text, DETAIL_LIMIT);
    (!shown.is_empty()).then_some(shown)
}

/// On one line, without control characters and tokens, at most `limit` characters.
fn cut(text: &str, limit: usize) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = spaced
        .split_whitespace()
        // What starts like a JWT is one: an echoed assertion or token.
        .map(|word| if word.contains("eyJ") { "****" } else { word })
        .collect();
    let line = words.join(" ");
    if line.chars().count() <= limit {
        return line;
    }
    line.chars().take(limit - 1).chain(['…']).collect()
}

/// An error with its causes, innermost last, without URLs, and with a hint where one helps.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // What reqwest prints of itself is the URL.
        if !error.is::<reqwest::Error>() {
            let text = error.to_string();
            if !parts.last().is_some_and(|last| last.contains(&text)) {
                parts.push(text);
            }
        }
        next = error.source();
    }
    if parts.is_empty() {
        parts.push(error.to_string());
    }
    let mut text = parts.join(": ");
    if unknown_issuer(error) {
        text.push_str("; is its CA missing from stackit.caBundle?");
    }
    text
}

/// Whether a certificate was refused for its authority. An `io::Error` leaves what it wraps out of its `source`.
fn unknown_issuer(error: &(dyn Error + 'static)) -> bool {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature));
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    wrapped.is_some_and(|wrapped| unknown_issuer(wrapped)) || error.source().is_some_and(unknown_issuer)
}

/// `Retry-After`: seconds, or the date of the end of the wait.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until: SystemTime = PARSER.parse_timestamp(value).ok()?.into();
    Some(until.duration_since(now).unwrap_or_default())
}
