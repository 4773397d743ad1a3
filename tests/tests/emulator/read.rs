//! Get and list.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Cloud, balancer};

fn names(page: &Value) -> Vec<&str> {
    let page = page["loadBalancers"].as_array().map_or(&[][..], Vec::as_slice);
    page.iter().map(|shown| shown["name"].as_str().unwrap()).collect()
}

async fn with_five() -> Cloud {
    let cloud = Cloud::start().await;
    for name in ["c", "a", "e", "b", "d"] {
        assert_eq!(cloud.create(&balancer(name)).await.0, 200);
    }
    cloud
}

#[tokio::test]
async fn e50_what_is_not_there_is_not_found() {
    let cloud = Cloud::start().await;
    let (status, body) = cloud.get("/load-balancers/lb1").await;
    assert_eq!((status, body), (404, json!({"code": 5, "message": "load balancer not found", "details": []})));
}

#[tokio::test]
async fn e51_what_is_terminating_is_seen_until_it_is_gone() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    cloud.emulator.set_switches(|switches| switches.hold_terminating = true);
    cloud.delete("/load-balancers/lb1").await;
    let (status, shown) = cloud.get("/load-balancers/lb1").await;
    assert_eq!((status, &shown["status"]), (200, &json!("STATUS_TERMINATING")));
    cloud.emulator.set_switches(|switches| switches.hold_terminating = false);
    cloud.until_gone("lb1").await;
    assert_eq!(cloud.get("/load-balancers/lb1").await.0, 404);
}

#[tokio::test]
async fn e52_lists_are_by_name_and_absent_when_empty() {
    let cloud = with_five().await;
    assert_eq!(names(&cloud.get("/load-balancers").await.1), ["a", "b", "c", "d", "e"]);
    let empty = Cloud::start().await;
    assert_eq!(empty.get("/load-balancers").await, (200, json!({})));
    empty.emulator.set_switches(|switches| switches.show_empty_list = true);
    assert_eq!(empty.get("/load-balancers").await, (200, json!({"loadBalancers": []})));
}

#[tokio::test]
async fn e53_e55_pages_follow_each_other_and_expire() {
    let cloud = with_five().await;
    let (mut seen, mut page) = (Vec::new(), String::new());
    for expected in [2, 2, 1] {
        let (status, body) = cloud.get(&format!("/load-balancers?pageSize=2&pageId={page}")).await;
        assert_eq!((status, names(&body).len()), (200, expected));
        seen.extend(names(&body).into_iter().map(str::to_owned));
        page = body["nextPageId"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!((seen.join(""), page.as_str()), ("abcde".to_owned(), ""));
    let (_, body) = cloud.get("/load-balancers?pageSize=2").await;
    let page = body["nextPageId"].as_str().unwrap();
    cloud.emulator.advance(Duration::from_secs(301));
    let (status, body) = cloud.get(&format!("/load-balancers?pageId={page}")).await;
    assert_eq!((status, &body["message"]), (410, &json!("page_id is expired")));
    assert_eq!(cloud.get("/load-balancers?pageId=garbage!").await.0, 400);
}

#[tokio::test]
async fn e54_page_sizes() {
    let cloud = Cloud::start().await;
    for size in ["0", "-1", "1001", "x"] {
        assert_eq!(cloud.get(&format!("/load-balancers?pageSize={size}")).await.0, 400, "{size}");
    }
    assert_eq!(cloud.get("/load-balancers?pageSize=1000").await.0, 200);
}

#[tokio::test]
async fn e57_without_a_write_the_version_stays() {
    let cloud = Cloud::start().await;
    let (_, created) = cloud.create(&balancer("lb1")).await;
    let ready = cloud.until("lb1", "STATUS_READY").await;
    cloud.emulator.advance(Duration::from_secs(30));
    assert_eq!(created["version"], ready["version"]);
    assert_eq!(cloud.get("/load-balancers/lb1").await.1["version"], ready["version"]);
    cloud.emulator.set_switches(|switches| switches.version_on_status = true);
    let (_, created) = cloud.create(&balancer("lb2")).await;
    assert_ne!(created["version"], cloud.until("lb2", "STATUS_READY").await["version"]);
}
