//! The two token endpoints and the access tokens they hand out.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use ring::hmac;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Answer, Reply};
use super::jwt::{self, Algorithm, Unverified};
use super::state::State;
use super::switches::TokenForm;
use super::wire::{form, rfc3339};

const KEY_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const WORKLOAD_ASSERTION: &str = "urn:schwarz:params:oauth:client-assertion-type:workload-jwt";
const FORM: &str = "application/x-www-form-urlencoded";

/// Tokens that were handed out and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Access tokens and when they end.
    valid: BTreeMap<String, Instant>,
    /// Refresh tokens and whom they stand for.
    refresh: BTreeMap<String, (String, String)>,
    /// `jti` of assertions (E4).
    seen: BTreeSet<String>,
}

impl Tokens {
    pub(crate) fn is_valid(&self, token: &str, now: Instant) -> bool {
        self.valid.get(token).is_some_and(|end| now < *end)
    }

    /// E12: every access token given out so far is worth nothing from now on.
    pub(crate) fn revoke_all(&mut self) {
        self.valid.clear();
    }
}

/// The fields of a request to a token endpoint.
struct Form(Vec<(String, String)>);

impl Form {
    fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }
}

/// `POST /token`: a signed assertion or a refresh token for an access token (E1 to E7).
pub(crate) fn key_flow(state: &mut State, content_type: &str, body: &str) -> Reply {
    let bad = |state: &State, message: &str| Err(bad_request(state, message));
    if !content_type.starts_with(FORM) {
        return bad(state, "a form is expected");
    }
    let form = Form(form(body));
    match (form.field("grant_type"), form.field("assertion"), form.field("refresh_token")) {
        (KEY_GRANT, "", _) => bad(state, "assertion is missing"),
        (KEY_GRANT, assertion, _) => exchange(state, assertion),
        ("refresh_token", _, "") => bad(state, "refresh_token is missing"),
        ("refresh_token", _, token) => refresh(state, token),
        ("", ..) => bad(state, "grant_type is missing"),
        _ => bad(state, "grant_type is not supported"),
    }
}

fn exchange(state: &mut State, assertion: &str) -> Reply {
    let Some(token) = jwt::parse(assertion) else { return Err(denied(state)) };
    let id = token.header["kid"].as_str().unwrap_or_default();
    let Some(key) = state.keys.get(id).cloned() else {
        return Err(bad_request(state, &format!("Key with kid {id} was not found"))); // E3
    };
    let now = state.clock.unix_seconds();
    let claims = &token.claims;
    let genuine = token.is_signed_by(&key.verifier, Algorithm::Rs512)
        && token.is_alive(now)
        && token.is_for(&key.audience)
        && claims["iss"] == key.issuer.as_str()
        && claims["sub"] == key.subject.as_str();
    let usable = key.active && key.valid_until.is_none_or(|end| now < end);
    if !genuine || !usable {
        return Err(denied(state)); // E2, E7
    }
    let fresh = state.tokens.seen.insert(claims["jti"].to_string());
    if state.switches.reject_reused_jti && !fresh {
        return Err(denied(state)); // E4
    }
    Ok(hand_out(state, key.issuer, key.subject))
}

/// E6: the old refresh token is spent.
fn refresh(state: &mut State, token: &str) -> Reply {
    match state.tokens.refresh.remove(token) {
        Some((issuer, subject)) if !state.switches.refresh_fails => Ok(hand_out(state, issuer, subject)),
        _ => Err(denied(state)),
    }
}

/// `POST /oauth/v2/token`: a workload's own token for an access token (E8 to E10).
pub(crate) fn federation_flow(state: &mut State, content_type: &str, body: &str) -> Reply {
    let form = Form(form(body));
    let wrong = |status, error: &str, text: &str| {
        Err(Answer::json(status, &json!({"error": error, "error_description": text})))
    };
    if !content_type.starts_with(FORM) || form.field("grant_type") != "client_credentials" {
        return wrong(400, "unsupported_grant_type", "grant_type must be client_credentials");
    }
    if form.field("client_assertion_type") != WORKLOAD_ASSERTION {
        return wrong(400, "invalid_request", "client_assertion_type is not supported");
    }
    let client = form.field("client_id").to_owned();
    let known: Vec<_> = state.federations.iter().filter(|it| it.client_id == client).cloned().collect();
    let Some(token) = jwt::parse(form.field("client_assertion")) else {
        return wrong(400, "invalid_request", "client_assertion is no token");
    };
    if known.is_empty() {
        return wrong(401, "invalid_client", "client_id is not known");
    }
    let now = state.clock.unix_seconds();
    let trusted = |it: &super::federation::Federation, token: &Unverified| {
        token.claims["iss"] == it.issuer.as_str()
            && token.claims["sub"] == it.subject.as_str()
            && token.is_for(&it.audience)
            && it.key().is_ok_and(|key| token.is_signed_by(&key, Algorithm::Rs256))
    };
    if !token.is_alive(now) || !known.iter().any(|federation| trusted(federation, &token)) {
        return wrong(401, "invalid_client", "client_assertion is not trusted");
    }
    let mut answer = hand_out(state, client.clone(), client);
    answer["refresh_token"] = json!("");
    Ok(answer)
}

/// A fresh access token, in the form the switches want (E1, E11, F18).
pub(crate) fn hand_out(state: &mut State, issuer: String, subject: String) -> Value {
    let switches = &state.switches;
    let lifetime = i64::try_from(switches.token_ttl.as_secs()).unwrap_or(i64::MAX / 2);
    let now = state.clock.unix_seconds();
    let mut claims = json!({"iss": "stackit/serviceaccount", "sub": subject, "email": issuer,
        "aud": ["stackit", "api"], "iat": now, "jti": uuid::Uuid::new_v4().to_string()});
    if switches.token_form != TokenForm::WithoutExp {
        claims["exp"] = json!(now + lifetime + switches.token_exp_shift);
    }
    let access = match switches.token_form {
        TokenForm::Opaque => uuid::Uuid::new_v4().simple().to_string(),
        TokenForm::Jwt | TokenForm::WithoutExp => signed(&claims),
    };
    let expires_in = switches.expires_in.unwrap_or(lifetime);
    let refresh = if switches.issue_refresh_tokens {
        let claims = json!({"sub": subject, "exp": now + 30 * 86_400, "jti": uuid::Uuid::new_v4().to_string()});
        let token = signed(&claims);
        state.tokens.refresh.insert(token.clone(), (issuer, subject));
        token
    } else {
        String::new()
    };
    let now = state.clock.now();
    state.tokens.valid.retain(|_, end| now < *end);
    state.tokens.valid.insert(access.clone(), now + state.switches.token_ttl);
    json!({"access_token": access, "expires_in": expires_in, "refresh_token": refresh,
        "scope": "user.edit user.read", "token_type": "Bearer"})
}

/// Our own tokens are signed for their looks only: the gateway looks them up.
fn signed(claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"stackit-emulator");
    let sign = |message: &[u8]| Ok::<_, Infallible>(hmac::sign(&key, message).as_ref().to_vec());
    match jwt::make(&jwt::header("HS256", None), claims, sign) {
        Ok(token) => token,
        Err(never) => match never {},
    }
}

/// E5: the token service's own shape of an error.
fn bad_request(state: &State, message: &str) -> Answer {
    let time = rfc3339(state.clock.unix_seconds());
    Answer::json(
        400,
        &json!({"timeStamp": time, "path": "/token", "status": 400, "error": "Bad Request", "message": message}),
    )
}

/// E2, E7: refused, in one of the two shapes that are documented.
fn denied(state: &State) -> Answer {
    match state.switches.denied_status {
        400 => bad_request(state, "the assertion is not valid"),
        401 => auth_error(401, "Unauthorized", "The request could not be authorized"),
        status => auth_error(status, "Forbidden", "The request could not be performed"),
    }
}

fn auth_error(code: u16, status: &str, message: &str) -> Answer {
    Answer::json(code, &json!({"error": {"code": code, "status": status, "message": message}}))
}
