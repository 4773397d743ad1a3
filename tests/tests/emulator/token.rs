//! The token endpoints.

use std::time::Duration;

use serde_json::{Value, json};
use tests::emulator::{Assertion, Emulator, Federation, KeyOptions, Options};

use crate::client::{Answer, answer, assertion, client, key_flow};

const WORKLOAD: &str = "urn:schwarz:params:oauth:client-assertion-type:workload-jwt";

async fn start() -> (Emulator, reqwest::Client, Value) {
    let emulator = Emulator::start(Options::default()).await.unwrap();
    let key = emulator.service_account_key(&KeyOptions::default()).unwrap();
    (emulator, client(), key)
}

fn claims(token: &Value) -> Value {
    use base64::Engine as _;
    let part = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn form(emulator: &Emulator, fields: &[(&str, &str)]) -> Answer {
    answer(client().post(emulator.token_url()).form(fields)).await
}

#[tokio::test]
async fn e1_a_valid_assertion_gets_a_token() {
    let (emulator, http, key) = start().await;
    let (status, answer) = key_flow(&http, &emulator, &assertion(&key, &json!({}))).await;
    assert_eq!(status, 200);
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3_600)));
    assert!(answer["scope"].is_string() && answer["refresh_token"].is_string());
    let claims = claims(&answer["access_token"]);
    assert_eq!(claims["sub"], key["credentials"]["sub"]);
    assert!(claims["exp"].is_i64() && claims["iss"].is_string());
}

#[tokio::test]
async fn e1_the_key_file_is_complete() {
    let (emulator, _, key) = start().await;
    let credentials = &key["credentials"];
    assert_eq!(credentials["tokenEndpoint"], emulator.token_url());
    assert!(uuid::Uuid::try_parse(key["id"].as_str().unwrap()).is_ok());
    assert!(uuid::Uuid::try_parse(credentials["sub"].as_str().unwrap()).is_ok());
    for (field, value) in [("keyAlgorithm", "RSA_2048"), ("keyOrigin", "GENERATED"), ("keyType", "USER_MANAGED")] {
        assert_eq!(key[field], value);
    }
    assert!(key["publicKey"].as_str().unwrap().contains("BEGIN PUBLIC KEY"));
    let bare = KeyOptions { private_key: false, token_endpoint: false, ..KeyOptions::default() };
    let bare = emulator.service_account_key(&bare).unwrap();
    assert!(bare["credentials"]["privateKey"].is_null() && bare["credentials"]["tokenEndpoint"].is_null());
    assert_ne!(bare["id"], key["id"]);
}

#[tokio::test]
async fn e2_assertions_with_a_flaw_are_refused() {
    let (emulator, http, key) = start().await;
    for flaw in
        [json!({"alg": "RS256"}), json!({"iss": "x"}), json!({"sub": "x"}), json!({"aud": "x"}), json!({"exp": 1})]
    {
        let (status, body) = key_flow(&http, &emulator, &assertion(&key, &flaw)).await;
        assert_eq!((status, &body["error"]["code"]), (403, &json!(403)), "{flaw}");
    }
    let mut tampered = assertion(&key, &json!({}));
    tampered.replace_range(tampered.len() - 8..tampered.len() - 4, "AAAA");
    for (switch, expected) in [(400, 400), (401, 401), (403, 403)] {
        emulator.set_switches(|switches| switches.denied_status = switch);
        let (status, body) = key_flow(&http, &emulator, &tampered).await;
        assert_eq!(status, expected);
        assert!(body["access_token"].is_null());
    }
}

#[tokio::test]
async fn e3_an_unknown_or_deleted_key_is_named() {
    let (emulator, http, key) = start().await;
    let id = key["credentials"]["kid"].as_str().unwrap();
    let (status, body) = key_flow(&http, &emulator, &assertion(&key, &json!({"kid": "nobody"}))).await;
    assert_eq!((status, &body["message"]), (400, &json!("Key with kid nobody was not found")));
    assert!(emulator.revoke_key(id));
    let (status, body) = key_flow(&http, &emulator, &assertion(&key, &json!({}))).await;
    assert_eq!((status, &body["message"]), (400, &json!(format!("Key with kid {id} was not found"))));
}

#[tokio::test]
async fn e4_a_reused_assertion_is_accepted_unless_switched() {
    let (emulator, http, key) = start().await;
    let assertion = assertion(&key, &json!({}));
    assert_eq!(key_flow(&http, &emulator, &assertion).await.0, 200);
    assert_eq!(key_flow(&http, &emulator, &assertion).await.0, 200);
    emulator.set_switches(|switches| switches.reject_reused_jti = true);
    assert_eq!(key_flow(&http, &emulator, &assertion).await.0, 403);
}

#[tokio::test]
async fn e5_what_is_no_form_is_a_bad_request() {
    let (emulator, http, _) = start().await;
    let (status, body) = answer(http.post(emulator.token_url()).json(&json!({"grant_type": "x"}))).await;
    assert_eq!(status, 400);
    for field in ["timeStamp", "path", "status", "error", "message"] {
        assert!(!body[field].is_null(), "{field}");
    }
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(form(&emulator, &[("assertion", "x")]).await.0, 400);
    assert_eq!(form(&emulator, &[grant]).await.0, 400);
    assert_eq!(form(&emulator, &[("grant_type", "password")]).await.0, 400);
}

#[tokio::test]
async fn e6_a_refresh_token_works_once() {
    let (emulator, http, key) = start().await;
    let (_, first) = key_flow(&http, &emulator, &assertion(&key, &json!({}))).await;
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", first["refresh_token"].as_str().unwrap())];
    let (status, second) = form(&emulator, &refresh).await;
    assert_eq!(status, 200);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(form(&emulator, &refresh).await.0, 403);
    emulator.set_switches(|switches| switches.issue_refresh_tokens = false);
    let (_, third) = key_flow(&http, &emulator, &assertion(&key, &json!({}))).await;
    assert_eq!(third["refresh_token"], "");
}

#[tokio::test]
async fn e7_an_inactive_or_ended_key_is_refused() {
    let (emulator, http, _) = start().await;
    let inactive = KeyOptions { active: false, ..KeyOptions::default() };
    let ended = KeyOptions { valid_for: Some(-1), ..KeyOptions::default() };
    let lasting = KeyOptions { valid_for: Some(60), ..KeyOptions::default() };
    for (options, expected) in [(inactive, 403), (ended, 403), (lasting, 200)] {
        let key = emulator.service_account_key(&options).unwrap();
        assert_eq!(key["active"], options.active);
        assert_eq!(key_flow(&http, &emulator, &assertion(&key, &json!({}))).await.0, expected, "{options:?}");
    }
}

async fn federate(emulator: &Emulator, changes: &[(&str, &str)]) -> Answer {
    let assertion = emulator.assertion(&Assertion::default()).unwrap();
    let client_id = Federation::default().client_id;
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", WORKLOAD),
        ("client_assertion", &assertion),
        ("client_id", &client_id),
    ];
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    answer(client().post(emulator.federation_token_url()).form(&fields)).await
}

#[tokio::test]
async fn e8_a_workload_identity_gets_a_token() {
    let (emulator, _, _) = start().await;
    emulator.federation(Federation::default()).unwrap();
    let (status, body) = federate(&emulator, &[]).await;
    assert_eq!(status, 200, "{body}");
    assert!(claims(&body["access_token"])["exp"].is_i64());
}

#[tokio::test]
async fn e8_the_issuer_may_bring_its_own_key() {
    let (emulator, _, key) = start().await;
    let public_key = key["publicKey"].as_str().map(str::to_owned);
    emulator.federation(Federation { public_key, ..Federation::default() }).unwrap();
    assert_eq!(federate(&emulator, &[]).await.0, 200);
    let broken = Federation { public_key: Some("no key".to_owned()), ..Federation::default() };
    assert!(emulator.federation(broken).is_err());
}

#[tokio::test]
async fn e9_workload_identities_with_a_flaw_are_refused() {
    let (emulator, _, _) = start().await;
    emulator.federation(Federation::default()).unwrap();
    let flawed = |change: fn(&mut Assertion)| {
        let mut assertion = Assertion::default();
        change(&mut assertion);
        emulator.assertion(&assertion).unwrap()
    };
    let newline = flawed(|_| {}) + "\n";
    let cases = [
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(), 400),
        ("client_assertion", newline, 400),
        ("client_id", "nobody@sa.stackit.cloud".to_owned(), 401),
        ("client_assertion", flawed(|it| it.subject = "somebody".to_owned()), 401),
        ("client_assertion", flawed(|it| it.audience = "elsewhere".to_owned()), 401),
        ("client_assertion", flawed(|it| it.issuer = "https://other".to_owned()), 401),
        ("client_assertion", flawed(|it| it.valid_for = -1), 401),
    ];
    for (field, value, expected) in cases {
        let (status, body) = federate(&emulator, &[(field, &value)]).await;
        assert_eq!(status, expected, "{field}={value}: {body}");
        assert!(body["error_description"].is_string());
    }
}

#[tokio::test]
async fn e10_each_flow_has_its_endpoint() {
    let (emulator, http, key) = start().await;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let signed = assertion(&key, &json!({}));
    let fields = [("grant_type", grant), ("assertion", &signed)];
    assert_eq!(answer(http.post(emulator.federation_token_url()).form(&fields)).await.0, 400);
    assert_eq!(form(&emulator, &[("grant_type", "client_credentials"), ("client_id", "x")]).await.0, 400);
}

#[tokio::test]
async fn e11_tokens_live_as_long_as_they_shall_and_are_counted() {
    let (emulator, http, key) = start().await;
    emulator.set_switches(|switches| switches.token_ttl = Duration::from_secs(1));
    let (_, body) = key_flow(&http, &emulator, &assertion(&key, &json!({}))).await;
    assert_eq!(body["expires_in"], 1);
    let claims = claims(&body["access_token"]);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1);
    let url = format!("{}/v2/projects/{}/regions/eu01/load-balancers", emulator.url(), emulator.project());
    let list = || answer(http.get(&url).bearer_auth(body["access_token"].as_str().unwrap()));
    assert_eq!(list().await.0, 200);
    emulator.advance(Duration::from_secs(1));
    assert_eq!(list().await.0, 401);
    federate(&emulator, &[]).await;
    let counts = emulator.token_requests();
    assert_eq!(counts["urn:ietf:params:oauth:grant-type:jwt-bearer"], 1);
    assert_eq!(counts["client_credentials"], 1);
}
