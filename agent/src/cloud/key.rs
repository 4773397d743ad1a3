//! The service account key: `serviceaccount.json`, checked as a whole, and the assertion signed with it.
//!
//! Deliberately not here: asking for the token, see `exchange`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA512, RsaKeyPair};
use serde_json::{Value, json};
use uuid::Uuid;

use super::setup::endpoint;
use crate::host::secret::Secret;

/// Where a key is exchanged for a token, unless the settings or the key name another place.
pub const DEFAULT_TOKEN_ENDPOINT: &str = "https://service-account.api.stackit.cloud/token";

/// How long an assertion is valid.
const ASSERTION_LIFE: Duration = Duration::from_hours(1);

/// A service account key that can sign.
pub struct ServiceAccountKey {
    issuer: String,
    subject: String,
    audience: String,
    key_id: String,
    private_key: RsaKeyPair,
    /// `credentials.tokenEndpoint`.
    pub token_endpoint: Option<String>,
    /// `projectId`, which some keys carry.
    pub project_id: Option<String>,
    /// What is odd but does not keep the key from being tried, with JSON paths.
    pub warnings: Vec<String>,
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountKey")
            .field("issuer", &self.issuer)
            .field("key_id", &self.key_id)
            .field("private_key", &"****")
            .finish_non_exhaustive()
    }
}

impl ServiceAccountKey {
    /// Reads a key file; `Err` holds every defect, each with its JSON path, none with key material.
    pub fn parse(file: &[u8], now: SystemTime) -> Result<Self, Vec<String>> {
        let key = document(file).map_err(|defect| vec![defect])?;
        let mut defects = Vec::new();
        let mut text = |path: &str, needed: bool| match key.pointer(&pointer(path)) {
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
            Some(Value::String(_)) if needed => refuse(&mut defects, path, "is empty"),
            None | Some(Value::Null) if needed => refuse(&mut defects, path, "is missing"),
            None | Some(Value::Null | Value::String(_)) => None,
            Some(_) => refuse(&mut defects, path, "is not a string"),
        };
        let issuer = text("credentials.iss", true);
        let subject = text("credentials.sub", true);
        let audience = text("credentials.aud", true);
        let key_id = text("credentials.kid", true);
        let pem = text("credentials.privateKey", true);
        let token_endpoint = text("credentials.tokenEndpoint", false);
        let id = text("id", false);
        let algorithm = text("keyAlgorithm", false);
        let project_id = text("projectId", false);
        let valid_until = text("validUntil", false);

        for (path, uuid) in [("id", &id), ("credentials.sub", &subject)] {
            if uuid.as_ref().is_some_and(|uuid| Uuid::parse_str(uuid).is_err()) {
                defects.push(format!("{path} is not a UUID"));
            }
        }
        if let Some(other) = algorithm.filter(|name| name != "RSA_2048" && name != "RSA_4096") {
            let known = "RSA_2048 and RSA_4096 are known";
            defects.push(format!("keyAlgorithm is `{}`; {known}", other.escape_default()));
        }
        if let Some(Err(error)) = token_endpoint.as_deref().map(endpoint) {
            defects.push(format!("credentials.tokenEndpoint: {error}"));
        }
        let private_key = match pem.as_deref().map(private_key) {
            Some(Ok(key)) => Some(key),
            Some(Err(problem)) => refuse(&mut defects, "credentials.privateKey", &problem),
            None => None,
        };
        match (issuer, subject, audience, key_id, private_key) {
            (Some(issuer), Some(subject), Some(audience), Some(key_id), Some(private_key)) if defects.is_empty() => {
                let warnings = warnings(&key, valid_until.as_deref(), now);
                Ok(Self { issuer, subject, audience, key_id, private_key, token_endpoint, project_id, warnings })
            }
            _ => Err(defects),
        }
    }

    /// A fresh assertion: a JWT signed with RS512. `None` where ring refuses to sign, which it does for lack of
    /// randomness only.
    pub(super) fn assertion(&self, now: SystemTime, id: Uuid) -> Option<Secret> {
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = json!({"alg": "RS512", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.audience,
            "jti": id.to_string(),
            "iat": issued.as_secs(),
            "exp": (issued + ASSERTION_LIFE).as_secs(),
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.private_key.public().modulus_len()];
        self.private_key.sign(&RSA_PKCS1_SHA512, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

fn document(file: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(file).map_err(|_| "is not UTF-8 text".to_owned())?.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.starts_with("-----BEGIN") {
        return Err("is PEM; expected is the service account key in JSON format, as STACKIT issued it".to_owned());
    }
    // serde_json names line and column of a syntax error, never the text there.
    let key: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if key.is_object() { Ok(key) } else { Err("is JSON, but no object".to_owned()) }
}

fn private_key(text: &str) -> Result<RsaKeyPair, String> {
    if !text.contains('\n') && text.contains("\\n") {
        return Err("has `\\n` written out where line breaks belong: it was escaped twice".to_owned());
    }
    let pem = pem::parse(text).map_err(|_| "is not PEM".to_owned())?;
    let key = match pem.tag() {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(pem.contents()),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(pem.contents()),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err("is a public key; the private one is needed".to_owned()),
        "ENCRYPTED PRIVATE KEY" => return Err("is encrypted; a key without a passphrase is needed".to_owned()),
        "EC PRIVATE KEY" => return Err("is an elliptic curve key; an RSA key is needed".to_owned()),
        other => return Err(format!("is PEM of a {}; expected is a PRIVATE KEY", other.escape_default())),
    };
    key.map_err(|refused| format!("is not an RSA key of 2048 or 4096 bits ({refused})"))
}

fn warnings(key: &Value, valid_until: Option<&str>, now: SystemTime) -> Vec<String> {
    let mut warnings = Vec::new();
    if key.get("active") == Some(&Value::Bool(false)) {
        warnings.push("active is false: the key was deactivated when the file was made".to_owned());
    }
    if let Some(until) = valid_until {
        match until.parse::<Timestamp>() {
            Ok(end) if SystemTime::from(end) <= now => warnings.push(format!("validUntil: the key expired at {end}")),
            Ok(_) => {}
            Err(_) => warnings.push("validUntil is not an RFC 3339 time".to_owned()),
        }
    }
    warnings
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn refuse<T>(defects: &mut Vec<String>, path: &str, problem: &str) -> Option<T> {
    defects.push(format!("{path} {problem}"));
    None
}

#[cfg(test)]
mod tests;
