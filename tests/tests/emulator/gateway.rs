//! The front door.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tests::emulator::{Options, Switches};

use crate::client::{Cloud, answer, balancer, changed};

#[tokio::test]
async fn e12_without_a_valid_token_401_as_text() {
    let cloud = Cloud::start().await;
    let url = format!("{}{}/load-balancers", cloud.emulator.url(), cloud.prefix());
    let bare = cloud.http.get(&url).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(bare.headers()["content-type"], "text/plain");
    assert_eq!(answer(cloud.http.get(&url).bearer_auth("nonsense")).await.0, 401);
    assert_eq!(cloud.get("/load-balancers").await.0, 200);
    cloud.emulator.revoke_tokens();
    assert_eq!(cloud.get("/load-balancers").await.0, 401);
}

#[tokio::test]
async fn e12_an_expired_token_is_refused() {
    let cloud = Cloud::start().await;
    cloud.emulator.advance(Duration::from_secs(3_601));
    assert_eq!(cloud.get("/load-balancers").await.0, 401);
}

#[tokio::test]
async fn e13_e56_projects_and_regions_are_apart() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    let other = "11111111-1111-4111-8111-111111111111";
    let at = |project: &str, region: &str| {
        let url = format!("{}/v2/projects/{project}/regions/{region}/load-balancers/lb1", cloud.emulator.url());
        answer(cloud.http.get(url).bearer_auth(&cloud.token))
    };
    let (status, body) = at(other, "eu01").await;
    assert_eq!((status, &body["message"]), (403, &json!("this project_id is not allowed to try this API")));
    cloud.emulator.allow_project(other);
    assert_eq!(at(other, "eu01").await.0, 404);
    assert_eq!(at(cloud.emulator.project(), "eu02").await.0, 404);
    assert_eq!(at(cloud.emulator.project(), "eu01").await.0, 200);
    assert_eq!(at("not-a-project", "eu01").await.0, 400);
    assert_eq!(at(other, "Europe").await.0, 400);
}

#[tokio::test]
async fn e14_e15_e86_the_service_enables_and_disables_itself() {
    let switches = Switches { service_enabled: false, disable_when_empty: true, ..Switches::default() };
    let cloud = Cloud::with(Options { switches, ..Options::default() }).await;
    for path in ["/load-balancers", "/load-balancers/lb1"] {
        let (status, body) = cloud.get(path).await;
        assert_eq!(status, 403);
        assert!(body["message"].as_str().unwrap().contains("Service not enabled"));
    }
    cloud.emulator.set_switches(|switches| {
        switches.legacy_enablement = true;
        switches.not_enabled_status = 401;
    });
    assert_eq!(cloud.create(&balancer("lb1")).await.0, 404);
    assert_eq!(cloud.get("/load-balancers").await.0, 401);
    cloud.emulator.set_switches(|switches| switches.legacy_enablement = false);
    cloud.ready(&balancer("lb1")).await;
    assert_eq!(cloud.get("/load-balancers").await.0, 200);
    cloud.delete("/load-balancers/lb1").await;
    cloud.until_gone("lb1").await;
    assert_eq!(cloud.get("/load-balancers").await.0, 401);
}

#[tokio::test]
async fn e16_plans_need_no_token() {
    let cloud = Cloud::start().await;
    let (status, body) = answer(cloud.http.get(format!("{}/v2/regions/eu01/plans", cloud.emulator.url()))).await;
    let ids: Vec<_> = body["validPlans"].as_array().unwrap().iter().map(|plan| plan["planId"].clone()).collect();
    assert_eq!((status, ids), (200, vec![json!("p10"), json!("p50"), json!("p250"), json!("p750")]));
}

#[tokio::test]
async fn e17_unknown_paths_and_methods() {
    let cloud = Cloud::start().await;
    let (status, body) = cloud.get("/nothing").await;
    assert_eq!((status, &body["code"]), (404, &json!(5)));
    assert_eq!(answer(cloud.request(Method::PATCH, "/load-balancers/lb1")).await.0, 405);
    assert_eq!(answer(cloud.http.get(cloud.emulator.token_url())).await.0, 405);
    let put = cloud.request(Method::PUT, "/load-balancers").body("no JSON").send().await.unwrap();
    assert_eq!((put.status().as_u16(), put.headers()["allow"].to_str().unwrap()), (405, "GET, POST"));
    cloud.emulator.set_switches(|switches| switches.html_not_found = true);
    let html = cloud.request(Method::GET, "/nothing").send().await.unwrap();
    assert_eq!(html.headers()["content-type"], "text/html");
}

#[tokio::test]
async fn e18_e19_e20_bodies_are_read_as_protobuf_json() {
    let cloud = Cloud::start().await;
    let malformed = cloud.request(Method::POST, "/load-balancers").body("{");
    let (status, body) = answer(malformed).await;
    assert_eq!((status, &body["code"]), (400, &json!(3)));
    let listener = |name: &str, value: serde_json::Value| {
        let mut body = balancer("lb1");
        body["listeners"][0][name] = value;
        body
    };
    for (bad, rule) in [
        (listener("port", json!("x")), "E18"),
        (listener("protocol", json!("PROTOCOL_SCTP")), "E18"),
        (listener("tcp", json!({"idleTimeout": "5m"})), "E20"),
    ] {
        let (status, body) = cloud.create(&bad).await;
        assert_eq!((status, &body["code"]), (400, &json!(3)));
        assert_eq!(body["details"][1]["reason"], rule);
    }
    let (status, body) = cloud.create(&listener("port", json!("443"))).await;
    assert_eq!((status, &body["listeners"][0]["port"]), (200, &json!(443)));
    let mut null = balancer("lb1-null");
    null["options"]["accessControl"] = json!(null);
    let (status, body) = cloud.create(&null).await;
    assert_eq!((status, body["options"].get("accessControl")), (200, None));
    let unknown = changed(&balancer("lb2"), &json!({"colour": "blue"}));
    assert_eq!(cloud.create(&unknown).await.0, 200);
    cloud.emulator.set_switches(|switches| switches.reject_unknown_fields = true);
    assert_eq!(cloud.create(&changed(&unknown, &json!({"name": "lb3"}))).await.0, 400);
}

#[tokio::test]
async fn a_request_id_is_echoed_if_it_is_one() {
    let cloud = Cloud::start().await;
    let ask = |id: &str| cloud.request(Method::GET, "/load-balancers").header("X-Request-ID", id).send();
    let id = "8f0be08c-3a5c-4a30-a2a5-6f8c2b7a1f10";
    let echoed = ask(id).await.unwrap();
    assert_eq!(echoed.headers()["x-request-id"], id);
    assert!(!echoed.headers()["x-trace-id"].is_empty());
    assert_ne!(ask("x").await.unwrap().headers()["x-request-id"], "x");
    let create = cloud.request(Method::POST, "/load-balancers").header("X-Request-ID", "x").json(&balancer("lb1"));
    let created = create.send().await.unwrap();
    assert_eq!(created.status(), 200);
    assert_ne!(created.headers()["x-request-id"], "x");
}
