#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use decide::desired::{AddressForm, AddressMode};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::key::ServiceAccountKey;
use super::super::testing::{Reply, Server, access_token, grant, key_file};
use super::super::token::Source;
use super::*;
use crate::host::secret::Secret;

const PATH: &str = "/v2/projects/p/regions/eu01/load-balancers";
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

type Requests = Arc<Mutex<Vec<(String, String)>>>;

struct Counted(Requests);

impl Observer for Counted {
    fn request(&self, method: &str, code: &str, _took: Duration) {
        self.0.lock().unwrap().push((method.to_owned(), code.to_owned()));
    }
}

fn place(endpoint: &str) -> Place<'_> {
    Place { endpoint, project_id: "p", region: "eu01" }
}

fn with_token(endpoint: &str, token: &str, timeout: Duration, bundle: Option<&CaBundle>) -> (Rest, Requests) {
    let requests = Requests::default();
    let observer = Arc::new(Counted(Arc::clone(&requests)));
    let source = Source::Static(Secret::new(token.to_owned()));
    let tokens = Tokens::new(source, timeout, bundle, observer.clone()).unwrap();
    (Rest::new(place(endpoint), timeout, bundle, tokens, observer).unwrap(), requests)
}

fn client(server: &Server, timeout: Duration) -> Rest {
    with_token(&server.url, "the-token", timeout, None).0
}

/// A client that fetches its tokens at `/token` of the same server.
fn with_key(server: &Server) -> Rest {
    let key = ServiceAccountKey::parse(key_file().to_string().as_bytes(), std::time::SystemTime::now()).unwrap();
    let source = Source::Key { key: Box::new(key), endpoint: Some(format!("{}/token", server.url)) };
    let tokens = Tokens::new(source, LONG, None, Arc::new(())).unwrap();
    Rest::new(place(&server.url), LONG, None, tokens, Arc::new(())).unwrap()
}

fn wish() -> LoadBalancer {
    LoadBalancer {
        name: "lb".to_owned(),
        plan_id: "p10".to_owned(),
        labels: BTreeMap::new(),
        network_id: String::new(),
        address: AddressMode::Ephemeral,
        listener: None,
        target_pool: None,
        allowed_source_ranges: Some(BTreeSet::new()),
        keep_source_ranges: false,
        address_form: AddressForm::default(),
    }
}

fn lb() -> Value {
    json!({"name": "lb", "version": "lb-1", "status": "STATUS_READY", "options": {"ephemeralAddress": true}})
}

fn base() -> Observed {
    wire::observed(lb()).unwrap()
}

/// All four kinds of a call, failed.
async fn failures(rest: &Rest) -> [(&'static str, Fault); 4] {
    [
        ("GET", rest.get("lb").await.unwrap_err()),
        ("POST", rest.create(&wish()).await.unwrap_err()),
        ("PUT", rest.update(&base(), &wish()).await.unwrap_err()),
        ("DELETE", rest.delete("lb").await.unwrap_err()),
    ]
}

#[tokio::test]
async fn calls_are_what_the_api_documents() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "DELETE" => Reply::json(200, &json!({})),
        _ => Reply::json(200, &lb()),
    })
    .await;
    let (rest, requests) = with_token(&format!("{}/", server.url), "the-token", LONG, None);
    assert_eq!(rest.get("lb").await.unwrap().unwrap().version, "lb-1");
    rest.create(&wish()).await.unwrap();
    rest.update(&base(), &wish()).await.unwrap();
    rest.delete("lb").await.unwrap();

    let seen = server.seen();
    let lines: Vec<String> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    let one = format!("{PATH}/lb");
    assert_eq!(lines, [format!("GET {one}"), format!("POST {PATH}"), format!("PUT {one}"), format!("DELETE {one}")]);
    assert_eq!(seen[1].json().get("version"), None);
    assert_eq!(seen[2].json()["version"], "lb-1");
    let mut ids = BTreeSet::new();
    for seen in &seen {
        let header = |name: &str| seen.headers[name].as_str();
        assert_eq!(header("authorization"), "Bearer the-token");
        assert_eq!(header("accept"), "application/json");
        assert_eq!(header("user-agent"), concat!("shoot-exposure-agent/", env!("CARGO_PKG_VERSION")));
        assert_eq!(uuid::Uuid::parse_str(header("x-request-id")).unwrap().get_version_num(), 4);
        assert!(ids.insert(header("x-request-id").to_owned()));
    }
    let methods = ["GET", "POST", "PUT", "DELETE"].map(|method| (method.to_owned(), "200".to_owned()));
    assert_eq!(*requests.lock().unwrap(), methods);
}

#[tokio::test]
async fn path_segments_cannot_escape() {
    let server = Server::start(|_, _| Reply::json(404, &json!({}))).await;
    let place = Place { endpoint: &server.url, project_id: "../x", region: "a?b" };
    let tokens = Tokens::new(Source::Static(Secret::new("t".to_owned())), LONG, None, Arc::new(())).unwrap();
    let rest = Rest::new(place, LONG, None, tokens, Arc::new(())).unwrap();
    rest.get("a/b#c %").await.unwrap();
    assert_eq!(server.seen()[0].path, "/v2/projects/..%2Fx/regions/a%3Fb/load-balancers/a%2Fb%23c%20%25");
}

#[tokio::test]
async fn what_is_gone_is_no_fault() {
    for status in [404, 410] {
        let server =
            Server::start(move |_, _| Reply::json(status, &json!({"code": 5, "message": "load balancer not found"})))
                .await;
        let rest = client(&server, LONG);
        assert_eq!(rest.get("lb").await.unwrap(), None);
        rest.delete("lb").await.unwrap();
        let fault = rest.update(&base(), &wish()).await.unwrap_err();
        assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::NotFound, false));
    }
    // A page of a gateway says nothing about the balancer: deletion must not believe it.
    let server = Server::start(|_, _| Reply::text(404, "text/html", "<html>no route</html>")).await;
    for (method, fault) in failures(&client(&server, LONG)).await {
        assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Malformed, false), "{method}");
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let server = Server::start(|seen, before| match seen.path.as_str() {
        "/token" => grant(&access_token(before, 3600)),
        _ if before == 1 => Reply::text(401, "text/plain", "Unauthorized"),
        _ => Reply::json(200, &lb()),
    })
    .await;
    let rest = with_key(&server);
    rest.update(&base(), &wish()).await.unwrap();
    let seen = server.seen();
    let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
    let one = format!("{PATH}/lb");
    assert_eq!(paths, ["/token", &one, "/token", &one]);
    assert_ne!(seen[1].headers["authorization"], seen[3].headers["authorization"]);
    assert_eq!(seen[1].body, seen[3].body);
}

#[tokio::test]
async fn a_token_refused_twice_is_a_fault() {
    let server = Server::start(|seen, before| match seen.path.as_str() {
        "/token" => grant(&access_token(before, 3600)),
        _ => Reply::text(401, "text/plain", "Unauthorized"),
    })
    .await;
    let rest = with_key(&server);
    for (method, fault) in failures(&rest).await {
        assert_eq!((fault.kind, fault.http_status), (FaultKind::Unauthorized, Some(401)), "{method}");
        assert!(!fault.outcome_unknown, "{method}: a 401 is known to have done nothing");
    }
    // Each call twice, and a token for each.
    assert_eq!(server.count(), 16 - 3);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_after_a_401_is_its_fault() {
    let server = Server::start(|seen, before| match (seen.path.as_str(), before) {
        ("/token", 0) => grant(&access_token(before, 3600)),
        ("/token", _) => Reply::json(503, &json!({})),
        _ => Reply::text(401, "text/plain", "Unauthorized"),
    })
    .await;
    let fault = with_key(&server).update(&base(), &wish()).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Server, false));
    assert!(fault.message.starts_with("updating load balancer `lb`: fetching an access token from 127.0.0.1: 503"));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::start(|_, _| Reply::json(200, &lb())).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/v2/secret-path?token=x", other.url.replace("127.0.0.1", "localhost"));
        let server = Server::start(move |_, _| Reply::text(status, "text/plain", "").with("location", &location)).await;
        for (method, fault) in failures(&client(&server, LONG)).await {
            assert_eq!((fault.kind, fault.http_status), (FaultKind::Malformed, Some(status)), "{method}");
            assert_eq!(fault.outcome_unknown, method != "GET", "{method}");
            assert!(fault.message.contains("a redirect to localhost, which is not followed"), "{}", fault.message);
            assert!(!fault.message.contains("secret-path"), "{}", fault.message);
        }
    }
    assert_eq!(other.count(), 0, "the token has reached another host");
}

#[tokio::test]
async fn a_server_that_hangs_times_out() {
    let drip = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec();
    let server = Server::start(|_, _| Reply::Hang).await;
    let (rest, requests) = with_token(&server.url, "t", SHORT, None);
    let started = Instant::now();
    for (method, fault) in failures(&rest).await {
        assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::TimedOut, method != "GET"), "{method}");
    }
    assert!(started.elapsed() < SHORT * 8, "{:?}", started.elapsed());
    assert!(requests.lock().unwrap().iter().all(|(_, code)| code == "timeout"));

    // The body counts, too. (What follows the head never comes: the connection stays open.)
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hold = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(&drip).await.unwrap();
            held.push(stream);
        }
    });
    let fault = with_token(&url, "t", SHORT, None).0.get("lb").await.unwrap_err();
    assert_eq!((fault.kind, fault.http_status), (FaultKind::TimedOut, Some(200)));
    hold.abort();
}

#[tokio::test]
async fn an_answer_that_gets_lost_leaves_the_outcome_open() {
    let server = Server::start(|_, _| Reply::Cut).await;
    let (rest, requests) = with_token(&server.url, "t", LONG, None);
    for (method, fault) in failures(&rest).await {
        assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Unreachable, method != "GET"), "{method}");
    }
    assert_eq!(server.seen().iter().filter(|seen| seen.method != "GET").count(), 3, "a write was repeated");
    assert!(requests.lock().unwrap().iter().all(|(_, code)| code == "unreachable"));

    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"name\":".to_vec();
    let server = Server::start(move |_, _| Reply::Raw(half.clone())).await;
    let fault = client(&server, LONG).update(&base(), &wish()).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Unreachable, true));
    // A refusal is one even when its words are lost.
    let half = b"HTTP/1.1 409 Conflict\r\ncontent-length: 100\r\n\r\n{\"message\":".to_vec();
    let server = Server::start(move |_, _| Reply::Raw(half.clone())).await;
    let fault = client(&server, LONG).update(&base(), &wish()).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Conflict, false));
}

#[tokio::test]
async fn a_connection_that_was_never_made_leaves_nothing_open() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (rest, requests) = with_token(&url, "t", LONG, None);
    for (method, fault) in failures(&rest).await {
        assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Unreachable, false), "{method}");
        assert!(fault.message.contains("Connection refused"), "{}", fault.message);
    }
    assert!(requests.lock().unwrap().iter().all(|(_, code)| code == "unreachable"));
}

#[tokio::test]
async fn statuses_become_classes() {
    let json = |status: u16| Reply::json(status, &json!({"code": 3, "message": "Some words", "details": []}));
    let cases: [(u16, [FaultKind; 4], bool); 14] = [
        (400, [FaultKind::Invalid; 4], false),
        (403, [FaultKind::Forbidden; 4], false),
        (405, [FaultKind::Malformed; 4], false),
        (408, [FaultKind::TimedOut; 4], true),
        (409, [FaultKind::Conflict; 4], false),
        (412, [FaultKind::Malformed; 4], false),
        (422, [FaultKind::Invalid; 4], false),
        (429, [FaultKind::RateLimited, FaultKind::Quota, FaultKind::RateLimited, FaultKind::RateLimited], false),
        (500, [FaultKind::Server; 4], true),
        (501, [FaultKind::Server; 4], true),
        (502, [FaultKind::Server; 4], true),
        (503, [FaultKind::Server; 4], true),
        (504, [FaultKind::Server; 4], true),
        (599, [FaultKind::Server; 4], true),
    ];
    for (status, kinds, open) in cases {
        let server = Server::start(move |_, _| json(status)).await;
        for ((method, fault), kind) in failures(&client(&server, LONG)).await.into_iter().zip(kinds) {
            assert_eq!((fault.kind, fault.http_status), (kind, Some(status)), "{method} {status}");
            assert_eq!(fault.outcome_unknown, open && method != "GET", "{method} {status}");
            assert!(fault.message.contains("Some words"), "{}", fault.message);
        }
    }
}

#[tokio::test]
async fn a_service_that_is_not_enabled_is_told_from_a_missing_permission() {
    let cases = [
        (403, r#"{"message":"Service not enabled"}"#, FaultKind::ServiceNotEnabled),
        (401, "Service not enabled", FaultKind::ServiceNotEnabled),
        (403, r#"{"error":{"message":"service NOT enabled in project"}}"#, FaultKind::ServiceNotEnabled),
        (403, r#"{"message":"this project_id is not allowed to try this API"}"#, FaultKind::Forbidden),
        (400, r#"{"message":"Service not enabled"}"#, FaultKind::Invalid),
        (500, "Service not enabled", FaultKind::Server),
    ];
    for (status, body, kind) in cases {
        let server = Server::start(move |_, _| Reply::text(status, "application/json", body)).await;
        let rest = client(&server, LONG);
        assert_eq!(rest.get("lb").await.unwrap_err().kind, kind, "{status} {body}");
        assert_eq!(rest.list().await.unwrap_err().kind, kind, "{status} {body}");
        assert_eq!(server.count(), 2, "no token is renewed for it");
    }
}

#[tokio::test]
async fn retry_after_comes_along() {
    let server = Server::start(|_, _| Reply::json(429, &json!({})).with("retry-after", "7")).await;
    for (method, fault) in failures(&client(&server, LONG)).await {
        let found = (fault.kind, fault.retry_after);
        assert_eq!(found, (FaultKind::RateLimited, Some(Duration::from_secs(7))), "{method}");
    }
    let server = Server::start(|_, _| Reply::text(503, "text/html", "<html>").with("retry-after", "soon")).await;
    assert_eq!(client(&server, LONG).get("lb").await.unwrap_err().retry_after, None);
}

#[tokio::test]
async fn a_page_of_html_is_not_quoted() {
    let server = Server::start(|_, _| Reply::text(502, "text/html; charset=utf-8", "<html><b>Bad</b></html>")).await;
    let fault = client(&server, LONG).update(&base(), &wish()).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Server, true));
    assert!(fault.message.starts_with("updating load balancer `lb`: 502 Bad Gateway: a page of HTML"));
}

#[tokio::test]
async fn answers_that_are_none() {
    let other = || json!({"name": "other", "version": "1"}).to_string();
    let cases = [
        (200, r#"{"name":"lb","vers"#.to_owned(), "the body is no JSON"),
        (200, String::new(), "without a body"),
        (204, String::new(), "without a body"),
        (200, "[]".to_owned(), "the JSON is not an object"),
        (200, "{}".to_owned(), "the JSON has no `name`"),
        (200, other(), "the JSON is load balancer `other`"),
        (201, "<html>".to_owned(), "the body is no JSON"),
    ];
    for (status, body, problem) in cases {
        let server = Server::start(move |_, _| Reply::text(status, "application/json", &body)).await;
        let rest = client(&server, LONG);
        for fault in [
            rest.get("lb").await.unwrap_err(),
            Fault { outcome_unknown: false, ..rest.create(&wish()).await.unwrap_err() },
            Fault { outcome_unknown: false, ..rest.update(&base(), &wish()).await.unwrap_err() },
        ] {
            assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Malformed, false));
            assert!(fault.message.contains(problem), "{}", fault.message);
        }
        assert!(rest.update(&base(), &wish()).await.unwrap_err().outcome_unknown);
        rest.delete("lb").await.unwrap();
    }
    let server = Server::start(|_, _| Reply::json(201, &lb())).await;
    client(&server, LONG).create(&wish()).await.unwrap();
    let server = Server::start(|_, _| Reply::json(200, &json!({"name": "lb"}))).await;
    let fault = client(&server, LONG).update(&base(), &wish()).await.unwrap_err();
    assert!(fault.outcome_unknown && fault.message.contains("no `version`"));
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    let huge = "x".repeat(9 * 1024 * 1024);
    let server = Server::start(move |_, _| Reply::text(200, "application/json", &huge)).await;
    let rest = client(&server, LONG);
    for (method, fault) in [("GET", rest.get("lb").await), ("PUT", rest.update(&base(), &wish()).await.map(Some))] {
        let fault = fault.unwrap_err();
        assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Malformed, method == "PUT"), "{method}");
        assert!(fault.message.contains("more than 8 MiB"), "{}", fault.message);
    }
}

#[tokio::test]
async fn messages_show_no_secret_and_stay_short() {
    let body = format!("line\r\n\x1b[31mtwo sekret-token eyJhbGciOiJSUzUxMiJ9.e30.x {}", "ä".repeat(5000));
    let server = Server::start(move |_, _| Reply::text(400, "text/plain", &body)).await;
    let (rest, _) = with_token(&server.url, "sekret-token", LONG, None);
    for (_, fault) in failures(&rest).await {
        assert!(fault.message.contains("400 Bad Request: line [31mtwo **** **** ä"), "{}", fault.message);
        assert!(fault.message.chars().count() <= 500);
        assert!(!fault.message.chars().any(char::is_control));
    }
    let long = Observed { balancer: LoadBalancer { name: "n".repeat(600), ..wish() }, ..base() };
    let fault = rest.update(&long, &long.balancer).await.unwrap_err();
    assert_eq!(fault.message.chars().count(), 500);
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let server = Server::start(|seen, _| {
        let page = |names: &[&str], next: Value| {
            let entries: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            Reply::json(200, &json!({"loadBalancers": entries, "nextPageId": next}))
        };
        match seen.path.split_once('?').unwrap().1 {
            "pageSize=100" => page(&["a", ""], json!("e+/=")),
            "pageSize=100&pageId=e%2B%2F%3D" => Reply::json(200, &json!({"loadBalancers": null, "nextPageId": "2"})),
            "pageSize=100&pageId=2" => page(&["b"], json!("")),
            other => panic!("{other}"),
        }
    })
    .await;
    let list = client(&server, LONG).list().await.unwrap();
    let names: Vec<&str> = list.iter().map(|balancer| balancer.balancer.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let empty = Server::start(|_, _| Reply::json(200, &json!({}))).await;
    assert_eq!(client(&empty, LONG).list().await.unwrap(), []);
}

#[tokio::test]
async fn a_list_starts_again_when_a_page_has_expired() {
    let first = || Reply::json(200, &json!({"loadBalancers": [{"name": "a"}], "nextPageId": "2"}));
    let server = Server::start(move |_, before| match before {
        0 | 2 => first(),
        1 => Reply::json(410, &json!({"message": "page_id is expired"})),
        _ => Reply::json(200, &json!({"loadBalancers": [{"name": "b"}]})),
    })
    .await;
    assert_eq!(client(&server, LONG).list().await.unwrap().len(), 2);

    let server =
        Server::start(move |_, before| if before % 2 == 0 { first() } else { Reply::json(410, &json!({})) }).await;
    let fault = client(&server, LONG).list().await.unwrap_err();
    assert_eq!((fault.kind, fault.http_status, server.count()), (FaultKind::Malformed, Some(410), 8));
    // A list without an end is not read for ever.
    let server = Server::start(move |_, _| first()).await;
    assert_eq!(client(&server, LONG).list().await.unwrap_err().kind, FaultKind::Malformed);
    assert_eq!(server.count(), 2);
    let server = Server::start(|_, before| Reply::json(200, &json!({"nextPageId": before.to_string()}))).await;
    assert_eq!(client(&server, LONG).list().await.unwrap_err().kind, FaultKind::Malformed);
}

#[tokio::test]
async fn an_unknown_authority_is_named_and_a_bundle_helps() {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key)).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let server = Server::start_tls(TlsAcceptor::from(Arc::new(config)), |_, _| Reply::json(200, &lb())).await;

    let fault = with_token(&server.url, "t", LONG, None).0.update(&base(), &wish()).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::Unreachable, false));
    assert!(fault.message.contains("is its CA missing from stackit.caBundle?"), "{}", fault.message);
    assert_eq!(server.count(), 0, "a token was sent to an unknown server");

    let bundle = CaBundle::parse("test", ca_pem.as_bytes()).unwrap();
    with_token(&server.url, "t", LONG, Some(&bundle)).0.update(&base(), &wish()).await.unwrap();
    let elsewhere = server.url.replace("127.0.0.1", "localhost");
    let fault = with_token(&elsewhere, "t", LONG, Some(&bundle)).0.get("lb").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unreachable);
    assert!(fault.message.contains("not valid for name"), "{}", fault.message);
}

#[test]
fn a_broken_bundle_is_named() {
    let error = |pem: &str| CaBundle::parse("ca.pem", pem.as_bytes()).err().unwrap().to_string();
    assert_eq!(error(""), "CA bundle ca.pem: no PEM certificate in it");
    assert_eq!(error("text"), "CA bundle ca.pem: no PEM certificate in it");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(error(garbage).starts_with("CA bundle ca.pem: certificate 1 cannot be used: "), "{}", error(garbage));
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(error(key).contains("holds a PRIVATE KEY"), "{}", error(key));
    let missing = CaBundle::read(std::path::Path::new("/nonexistent/ca.pem")).err().unwrap().to_string();
    assert!(missing.starts_with("CA bundle /nonexistent/ca.pem: No such file"), "{missing}");
}

#[test]
fn a_broken_endpoint_is_named() {
    let tokens = Tokens::new(Source::Static(Secret::new("t".to_owned())), LONG, None, Arc::new(())).unwrap();
    for (url, problem) in [
        ("", "absolute URL"),
        ("load-balancer.api.stackit.cloud", "absolute URL"),
        ("ftp://x", "has to start with https://"),
        ("https://u:hunter2@x", "user name or password"),
        ("https://x/?a=b", "without `?`"),
    ] {
        let error = Rest::new(place(url), LONG, None, tokens.clone(), Arc::new(())).err().unwrap().to_string();
        assert!(error.contains(problem) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let read = |value: &str| fault::retry_after(value, now).map(|wait| wait.as_secs());
    assert_eq!(read("120"), Some(120));
    assert_eq!(read(" 0 "), Some(0));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
    for none in ["", "-1", "soon", "1.5"] {
        assert_eq!(read(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn a_message_is_one_short_line(doing in "\\PC{0,700}", found in any::<String>()) {
        let message = fault::message(&doing, &found);
        prop_assert!(message.chars().count() <= 500);
        prop_assert!(!message.chars().any(char::is_control));
    }
}
