//! What the emulator can prove afterwards.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tests::emulator::Options;

use crate::client::{Cloud, SOON, balancer, changed, echo};

#[tokio::test]
async fn the_journal_tells_everything_but_secrets() {
    let cloud = Cloud::start().await;
    let id = "8f0be08c-3a5c-4a30-a2a5-6f8c2b7a1f10";
    let request =
        cloud.request(Method::POST, "/load-balancers").header("User-Agent", "agent/1").header("X-Request-ID", id);
    request.json(&balancer("lb1")).send().await.unwrap();
    let journal = cloud.emulator.journal();
    let [entry] = journal.as_slice() else { panic!("{journal:?}") };
    assert_eq!((entry.method.as_str(), entry.status, entry.authorization), ("POST", Some(200), true));
    assert_eq!((entry.user_agent.as_deref(), entry.request_id.as_deref()), (Some("agent/1"), Some(id)));
    assert_eq!(entry.request, Some(balancer("lb1")));
    assert_eq!(entry.response.as_ref().unwrap()["status"], "STATUS_PENDING");
    assert_eq!(cloud.emulator.last_user_agent().as_deref(), Some("agent/1"));
    assert_eq!(cloud.emulator.bodies("POST", "/load-balancers"), [balancer("lb1")]);
    let lines = cloud.emulator.journal_lines();
    assert!(lines.ends_with('\n') && !lines.contains(&cloud.token), "{lines}");
}

#[tokio::test]
async fn the_journal_is_a_file_too_and_leaves_tokens_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let cloud = Cloud::with(Options { journal: Some(path.clone()), ..Options::default() }).await;
    cloud.get("/load-balancers").await;
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["path"].clone(), lines[1]["status"].clone()), (json!("/token"), json!(200)));
    assert_eq!(lines[0]["request"]["assertion"], "****");
    assert_eq!(lines[0]["response"]["access_token"], "****");
    assert!(!text.contains(&cloud.token));
}

#[tokio::test]
async fn counters_and_writes_per_minute() {
    let cloud = Cloud::start().await;
    let shown = cloud.ready(&balancer("lb1")).await;
    cloud.get("/load-balancers/lb2").await;
    cloud.get("/load-balancers/lb2").await;
    cloud.put("/load-balancers/lb1", &echo(&shown)).await;
    let path = format!("{}/load-balancers/lb2", cloud.prefix());
    let counters = cloud.emulator.counters();
    let missed = counters.iter().find(|counter| counter.path == path).unwrap();
    assert_eq!((missed.method.as_str(), missed.status, missed.count), ("GET", 404, 2));
    assert_eq!(cloud.emulator.writes_per_minute(), 2);
    cloud.emulator.advance(Duration::from_secs(61));
    assert_eq!(cloud.emulator.writes_per_minute(), 0);
    assert_eq!(cloud.emulator.count("GET", "/load-balancers"), 2);
    cloud.emulator.clear_journal();
    assert!(cloud.emulator.counters().is_empty());
}

#[tokio::test]
async fn forbidden_fields_do_not_go_unseen() {
    let cloud = Cloud::start().await;
    let shown = cloud.ready(&balancer("lb1")).await;
    cloud.put("/load-balancers/lb1", &echo(&shown)).await;
    assert!(cloud.emulator.forbidden_fields().is_empty());
    cloud.put("/load-balancers/lb1", &changed(&shown, &json!({"status": ""}))).await;
    let path = format!("PUT {}/load-balancers/lb1", cloud.prefix());
    let expected = ["listeners[].name", "status", "privateAddress", "externalAddress with options.ephemeralAddress"];
    assert_eq!(cloud.emulator.forbidden_fields(), expected.map(|field| format!("{path}: {field}")));
}

#[tokio::test]
async fn waiting_ends_with_the_level_or_the_deadline() {
    let cloud = Cloud::start().await;
    let handle = cloud.emulator.handle();
    let waiting = tokio::spawn(async move { handle.wait_for(|it| it.balancer("lb1").is_some(), SOON).await });
    cloud.create(&balancer("lb1")).await;
    waiting.await.unwrap().unwrap();
    let error = cloud.emulator.wait_for(|_| false, Duration::from_millis(1)).await.unwrap_err();
    assert!(error.to_string().contains("POST"), "{error}");
}
