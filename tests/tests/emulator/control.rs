//! The interface for other processes.

use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Cloud, SOON, answer, assertion, balancer, key_flow};

async fn control(cloud: &Cloud, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let mut request = cloud.http.request(method, format!("{}/_emulator/{path}", cloud.emulator.url()));
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    answer(request).await
}

#[tokio::test]
async fn keys_can_be_made_and_deleted() {
    let cloud = Cloud::start().await;
    let (_, key) = control(&cloud, Method::POST, "key", None).await;
    assert_eq!(key_flow(&cloud.http, &cloud.emulator, &assertion(&key, &json!({}))).await.0, 200);
    let id = format!("key/{}", key["id"].as_str().unwrap());
    assert_eq!(control(&cloud, Method::DELETE, &id, None).await.0, 200);
    assert_eq!(control(&cloud, Method::DELETE, &id, None).await.0, 404);
    assert_eq!(control(&cloud, Method::POST, "key", Some(&json!({"active": "x"}))).await.0, 400);
    assert_eq!(control(&cloud, Method::DELETE, "tokens", None).await.0, 200);
    assert_eq!(cloud.get("/load-balancers").await.0, 401);
}

#[tokio::test]
async fn workload_identities_can_be_made() {
    let cloud = Cloud::start().await;
    assert_eq!(control(&cloud, Method::POST, "federations", None).await.0, 200);
    let (status, token) = control(&cloud, Method::POST, "assertions", Some(&json!({"valid_for": 60}))).await;
    assert_eq!((status, token.as_str().unwrap().split('.').count()), (200, 3));
}

#[tokio::test]
async fn faults_and_switches_can_be_set() {
    let cloud = Cloud::start().await;
    let fault =
        json!({"method": "GET", "times": 1, "action": {"kind": "answer", "status": 502, "content_type": "text/html"}});
    assert_eq!(control(&cloud, Method::POST, "faults", Some(&fault)).await.0, 200);
    assert_eq!(control(&cloud, Method::POST, "faults", Some(&json!({"action": {"kind": "?"}}))).await.0, 400);
    assert_eq!(control(&cloud, Method::GET, "faults", None).await.1[0]["action"]["status"], 502);
    assert_eq!(cloud.get("/load-balancers").await.0, 502);
    assert_eq!(cloud.get("/load-balancers").await.0, 200);
    control(&cloud, Method::DELETE, "faults", None).await;
    assert!(cloud.emulator.faults().is_empty());
    let patch = json!({"show_empty_list": true, "token_ttl": 1_000, "known_targets": ["10.0.0.1"]});
    let (status, switches) = control(&cloud, Method::PATCH, "switches", Some(&patch)).await;
    assert_eq!((status, &switches["token_ttl"]), (200, &json!(1_000)));
    assert_eq!(cloud.get("/load-balancers").await.1, json!({"loadBalancers": []}));
    control(&cloud, Method::PATCH, "switches", Some(&json!({"known_targets": null}))).await;
    assert_eq!(control(&cloud, Method::GET, "switches", None).await.1["known_targets"], Value::Null);
    assert_eq!(control(&cloud, Method::PATCH, "switches", Some(&json!({"no_such": 1}))).await.0, 400);
}

#[tokio::test]
async fn balancers_addresses_and_time_can_be_changed() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    let patch = json!({"labels": {"owner": "you"}});
    assert_eq!(control(&cloud, Method::PATCH, "balancers/lb1", Some(&patch)).await.0, 200);
    assert_eq!(control(&cloud, Method::PATCH, "balancers/lb2", Some(&patch)).await.0, 404);
    assert_eq!(control(&cloud, Method::GET, "balancers/lb1", None).await.1["labels"]["owner"], "you");
    assert_eq!(control(&cloud, Method::GET, "balancers", None).await.1.as_array().unwrap().len(), 1);
    control(&cloud, Method::POST, "addresses/198.51.100.7", None).await;
    let (_, addresses) = control(&cloud, Method::GET, "addresses", None).await;
    assert_eq!((addresses.as_array().unwrap().len(), &addresses[0]["usedBy"]), (2, &Value::Null));
    assert_eq!(control(&cloud, Method::DELETE, "addresses/198.51.100.7", None).await.0, 200);
    control(&cloud, Method::DELETE, "balancers/lb1", None).await;
    cloud.until_gone("lb1").await;
    control(&cloud, Method::POST, "advance", Some(&json!({"milliseconds": 3_700_000}))).await;
    assert_eq!(cloud.get("/load-balancers").await.0, 401);
    assert_eq!(control(&cloud, Method::GET, "nothing", None).await.0, 404);
}

#[tokio::test]
async fn the_journal_and_the_counters_can_be_read() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    cloud.emulator.wait_for(|it| it.count("POST", "/load-balancers") == 1, SOON).await.unwrap();
    let (_, line) = control(&cloud, Method::GET, "journal", None).await;
    assert_eq!(line["method"], "POST");
    let (_, counters) = control(&cloud, Method::GET, "counters", None).await;
    assert_eq!((&counters["writesPerMinute"], &counters["requests"][0]["count"]), (&json!(1), &json!(1)));
    control(&cloud, Method::DELETE, "journal", None).await;
    assert!(cloud.emulator.journal().is_empty());
}

#[tokio::test]
async fn every_control_in_the_list_is_there() {
    let cloud = Cloud::start().await;
    let (status, list) = control(&cloud, Method::GET, "", None).await;
    assert_eq!(status, 200);
    let mut asked = 0;
    for line in list.as_str().unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('/')).collect();
        let Some(path) = line.split_whitespace().find_map(|word| word.strip_prefix("/_emulator/")) else { continue };
        let path = path.replace("KID", "x").replace("NAME", "lb1").replace("IP", "192.0.2.1");
        for method in words {
            let (_, body) = control(&cloud, method.parse().unwrap(), &path, None).await;
            assert_ne!(body["error"], "the emulator has no such control", "{line}");
            asked += 1;
        }
    }
    assert_eq!(asked, 23);
    assert_eq!(control(&cloud, Method::GET, "nonsense", None).await.0, 404);
}
