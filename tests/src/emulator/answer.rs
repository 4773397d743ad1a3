//! An answer before it goes on the wire, and the shapes of errors.

use serde_json::{Value, json};

/// What a handler gives back: a body for 200, or any other answer.
pub(crate) type Reply = Result<Value, Answer>;

/// Status, content type, further headers and body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// One broken rule of the API, with the place where it was broken.
#[derive(Debug)]
pub(crate) struct Violation {
    /// The rule's number in the list of behaviours, e.g. `E37`.
    pub(crate) rule: &'static str,
    /// Where, e.g. `listeners[0].port`.
    pub(crate) field: String,
    /// What is wrong, in words.
    pub(crate) message: String,
}

/// The result of a rule.
pub(crate) type Check = Result<(), Violation>;

/// Breaks `rule` at `field` unless `holds`.
pub(crate) fn require(holds: bool, rule: &'static str, field: impl Into<String>, message: impl Into<String>) -> Check {
    if holds { Ok(()) } else { Err(Violation { rule, field: field.into(), message: message.into() }) }
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    pub(crate) fn text(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self { status, content_type: content_type.to_owned(), headers: Vec::new(), body: body.into() }
    }

    /// The default error body, a `google.rpc.Status`.
    pub(crate) fn problem(status: u16, message: &str) -> Self {
        Self::json(status, &json!({"code": rpc_code(status), "message": message, "details": []}))
    }

    /// E25: the one 409 whose code says "already exists" rather than "aborted".
    pub(crate) fn already_exists() -> Self {
        Self::json(409, &json!({"code": 6, "message": "load balancer already exists", "details": []}))
    }

    /// E12: not JSON.
    pub(crate) fn unauthorized() -> Self {
        Self::text(401, "text/plain", "Unauthorized")
    }

    /// E59, E64.
    pub(crate) fn conflict() -> Self {
        Self::problem(409, "Conflict with current state")
    }

    /// E50.
    pub(crate) fn not_found() -> Self {
        Self::problem(404, "load balancer not found")
    }
}

impl From<Violation> for Answer {
    fn from(violation: Violation) -> Self {
        let Violation { rule, field, message } = violation;
        let whole = format!("One or more fields are invalid. {field}: {message}");
        let fields = json!({"@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": message}]});
        // The number of the rule is for whoever reads the log of a failed test; clients ignore details.
        let info =
            json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": rule, "domain": "stackit-emulator"});
        Self::json(400, &json!({"code": 3, "message": whole, "details": [fields, info]}))
    }
}

/// The gateway's usual mapping, read backwards.
fn rpc_code(status: u16) -> i32 {
    match status {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        405 | 501 => 12,
        409 => 10,
        410 => 9,
        429 => 8,
        500 => 13,
        503 => 14,
        504 => 4,
        _ => 2,
    }
}
