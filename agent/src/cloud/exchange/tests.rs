#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use serde_json::json;

use super::super::federation::{FederatedToken, Federation};
use super::super::http::Purpose;
use super::super::key::ServiceAccountKey;
use super::super::testing::{Reply, Server, access_token, grant, jwt, key_file, seconds};
use super::*;

const LIMIT: Duration = Duration::from_millis(300);

fn key() -> Source {
    let key = ServiceAccountKey::parse(key_file().to_string().as_bytes(), SystemTime::now()).unwrap();
    Source::Key { key: Box::new(key), endpoint: None }
}

async fn ask(server: &Server, source: &Source) -> Result<Granted, Fault> {
    let http = Http::new(Purpose::Tokens, LIMIT, None, Arc::new(())).unwrap();
    let endpoint = Url::parse(&format!("{}/token", server.url)).unwrap();
    exchange(&http, source, &endpoint, SystemTime::now(), Instant::now() + LIMIT).await
}

fn form(body: &str) -> Vec<(String, String)> {
    Url::parse(&format!("http://x/?{body}")).unwrap().query_pairs().into_owned().collect()
}

#[tokio::test]
async fn a_key_is_exchanged_by_a_form() {
    let server = Server::start(|_, _| grant(&access_token(0, 3600))).await;
    let source = key();
    let granted = ask(&server, &source).await.unwrap();
    ask(&server, &source).await.unwrap();
    assert!((3598..=3600).contains(&granted.life.as_secs()), "{:?}", granted.life);
    let seen = server.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/token"));
    assert_eq!(seen[0].headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(seen[0].headers.get("authorization"), None);
    let fields = form(&seen[0].body);
    assert_eq!(fields.len(), 2);
    assert_eq!(fields[0], ("grant_type".to_owned(), "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()));
    assert_eq!((fields[1].0.as_str(), fields[1].1.split('.').count()), ("assertion", 3));
    assert_ne!(seen[0].body, seen[1].body, "an assertion was used twice");
}

#[tokio::test]
async fn a_federated_token_is_exchanged_as_it_is_now_and_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let config = b"apiVersion: stackit.provider.extensions.gardener.cloud/v1alpha1\nkind: WorkloadIdentityConfig\n\
        serviceAccountEmail: agent@sa.stackit.cloud\n";
    let federation = Federation::parse(config, FederatedToken::File(path.clone())).unwrap();
    let source = Source::Federation { federation, endpoint: None };
    let server = Server::start(|_, _| grant("opaque")).await;
    let fault = ask(&server, &source).await.err().unwrap();
    assert_eq!((fault.kind, server.count()), (FaultKind::Credentials, 0));
    assert!(fault.message.contains("No such file"), "{}", fault.message);

    for token in ["first\n", " second \r\n"] {
        std::fs::write(&path, token).unwrap();
        ask(&server, &source).await.unwrap();
        let expected = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:schwarz:params:oauth:client-assertion-type:workload-jwt"),
            ("client_assertion", token.trim()),
            ("client_id", "agent@sa.stackit.cloud"),
        ];
        assert_eq!(form(&server.seen().last().unwrap().body), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}

#[tokio::test]
async fn refusals_of_the_token_endpoint() {
    let auth = json!({"error": {"code": 403, "status": "Forbidden", "message": "could not be performed"}});
    let spring = json!({"timeStamp": "t", "path": "/token", "status": 400, "error": "Bad Request", "message": "kid"});
    let oauth = json!({"error": "invalid_client", "error_description": "no such client"});
    let cases = [
        (400, spring, FaultKind::Credentials, "400 Bad Request: kid"),
        (403, auth, FaultKind::Credentials, "403 Forbidden: could not be performed"),
        (401, oauth, FaultKind::Credentials, "401 Unauthorized: no such client"),
        (404, json!({"error": "Not Found"}), FaultKind::Credentials, "404 Not Found: Not Found"),
        (409, json!({}), FaultKind::Credentials, "409 Conflict"),
        (429, json!({}), FaultKind::RateLimited, "429 Too Many Requests"),
        (500, json!({}), FaultKind::Server, "500 Internal Server Error"),
        (201, json!({"access_token": "x"}), FaultKind::Malformed, "201 Created"),
        (204, json!({}), FaultKind::Malformed, "204 No Content"),
        (302, json!({}), FaultKind::Malformed, "which is not followed"),
        (200, json!({}), FaultKind::Malformed, "no `access_token`"),
        (200, json!({"access_token": ""}), FaultKind::Malformed, "no `access_token`"),
        (200, json!({"access_token": "a\nb"}), FaultKind::Malformed, "cannot be sent"),
        (200, json!([]), FaultKind::Malformed, "no `access_token`"),
    ];
    for (status, body, kind, words) in cases {
        let server = Server::start(move |_, _| match status {
            204 => Reply::Raw(b"HTTP/1.1 204 X\r\n\r\n".to_vec()),
            _ => Reply::json(status, &body),
        })
        .await;
        let fault = ask(&server, &key()).await.err().unwrap();
        assert_eq!((fault.kind, fault.outcome_unknown), (kind, false), "{}", fault.message);
        assert!(fault.message.contains(words), "{}", fault.message);
        assert!(fault.message.starts_with("fetching an access token from 127.0.0.1: "), "{}", fault.message);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_does_not_answer() {
    let cases: [(fn() -> Reply, FaultKind); 3] = [
        (|| Reply::Hang, FaultKind::TimedOut),
        (|| Reply::Cut, FaultKind::Unreachable),
        (|| Reply::text(200, "text/html", "<html>"), FaultKind::Malformed),
    ];
    for (reply, kind) in cases {
        let server = Server::start(move |_, _| reply()).await;
        let fault = ask(&server, &key()).await.err().unwrap();
        assert_eq!((fault.kind, fault.outcome_unknown), (kind, false), "{}", fault.message);
    }
}

#[tokio::test]
async fn an_echoed_assertion_is_not_shown() {
    let server = Server::start(|seen, _| Reply::text(400, "text/plain", &seen.body)).await;
    let fault = ask(&server, &key()).await.err().unwrap();
    assert!(!fault.message.contains("eyJ"), "{}", fault.message);
}

#[test]
fn a_token_lives_as_long_as_it_says() {
    let now = SystemTime::now();
    let at = seconds(now);
    let by = |claims: Value, told: Option<u64>| life(&jwt(&claims), told, now).as_secs();
    assert!((599..=600).contains(&by(json!({"exp": at + 600}), Some(3600))));
    assert!((599..=600).contains(&by(json!({"exp": (at + 600).to_string()}), None)));
    // Stale when it comes: somebody's clock is wrong.
    assert_eq!(by(json!({"exp": at - 600}), Some(3600)), 3600);
    assert_eq!(by(json!({"exp": at - 600}), None), 60);
    // Without an end of its own, or opaque.
    assert_eq!(by(json!({}), Some(3600)), 3600);
    assert_eq!(by(json!({"exp": null}), Some(0)), 60);
    for opaque in ["opaque", "a.b.c", "..", "a.!.c"] {
        assert_eq!(life(opaque, Some(120), now), Duration::from_mins(2));
        assert_eq!(life(opaque, None, now), LIFE_UNKNOWN);
    }
    // Never so long that a clock overflows.
    for exp in [json!(u64::MAX), json!(1e300), json!("1e300"), json!(-1), json!("NaN")] {
        let life = life(&jwt(&json!({"exp": exp})), Some(u64::MAX), now);
        assert!(life <= Duration::from_hours(24 * 365));
    }
}
