//! Create.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::client::{Cloud, SOON, balancer, changed};

#[tokio::test]
async fn e21_a_new_balancer_is_pending_and_has_no_address() {
    let cloud = Cloud::start().await;
    let (status, body) = cloud.create(&changed(&balancer("lb1"), &json!({"planId": null}))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["status"], "STATUS_PENDING");
    assert_eq!((&body["region"], &body["planId"]), (&json!("eu01"), &json!("p10")));
    assert_eq!(body["listeners"][0]["name"], "control-plane");
    assert!(!body["version"].as_str().unwrap().is_empty());
    for absent in ["externalAddress", "errors", "privateAddress"] {
        assert!(body.get(absent).is_none(), "{absent}");
    }
    cloud.emulator.set_switches(|switches| switches.address_at_once = true);
    let (_, body) = cloud.create(&balancer("lb2")).await;
    assert!(body["externalAddress"].is_string());
}

#[tokio::test]
async fn e22_later_it_is_ready() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    let (_, shown) = cloud.get("/load-balancers/lb1").await;
    assert_eq!(shown["status"], "STATUS_READY");
    assert!(shown["externalAddress"].is_string() && shown["privateAddress"].is_string());
    assert_eq!(shown["options"], json!({"ephemeralAddress": true}));
    assert_eq!(shown["disableTargetSecurityGroupAssignment"], json!(false));
    for group in ["loadBalancerSecurityGroup", "targetSecurityGroup"] {
        assert!(shown[group]["id"].is_string() && shown[group]["name"].is_string());
    }
    assert_eq!(shown["listeners"][0]["tcp"], json!({"idleTimeout": "3600s"}));
    assert!(shown["targetPools"][0].get("activeHealthCheck").is_none());
}

#[tokio::test]
async fn e23_a_listener_without_a_name_gets_one() {
    let cloud = Cloud::start().await;
    let mut body = balancer("lb1");
    body["listeners"][0].as_object_mut().unwrap().remove("displayName");
    let (_, shown) = cloud.create(&body).await;
    assert_eq!(shown["listeners"][0]["displayName"], "tcp-6443");
    assert_eq!(shown["listeners"][0]["name"], "tcp-6443");
}

#[tokio::test]
async fn e25_e84_a_name_is_taken_until_it_is_gone() {
    let cloud = Cloud::start().await;
    let first = cloud.ready(&balancer("lb1")).await;
    let (status, body) = cloud.create(&balancer("lb1")).await;
    assert_eq!((status, &body["message"]), (409, &json!("load balancer already exists")));
    cloud.emulator.set_switches(|switches| switches.hold_terminating = true);
    assert_eq!(cloud.delete("/load-balancers/lb1").await, (200, json!({})));
    assert_eq!(cloud.create(&balancer("lb1")).await.0, 409);
    cloud.emulator.set_switches(|switches| switches.hold_terminating = false);
    cloud.until_gone("lb1").await;
    let second = cloud.ready(&balancer("lb1")).await;
    assert_ne!(first["externalAddress"], second["externalAddress"]);
}

#[tokio::test]
async fn e27_f27_the_quota_stops_only_what_is_new() {
    let cloud = Cloud::start().await;
    let shown = cloud.ready(&balancer("lb1")).await;
    cloud.emulator.set_switches(|switches| switches.max_load_balancers = 0);
    let (status, body) = cloud.create(&balancer("lb2")).await;
    assert_eq!(status, 429);
    assert!(body["message"].as_str().unwrap().starts_with("maximum number of load balancing servers reached"));
    assert_eq!(cloud.put("/load-balancers/lb1", &crate::client::echo(&shown)).await.0, 200);
}

#[tokio::test]
async fn e28_read_only_fields_are_ignored_but_an_empty_status_is_not() {
    let cloud = Cloud::start().await;
    let read_only = json!({"region": "mars", "errors": [], "privateAddress": "1.2.3.4", "status": "STATUS_READY",
        "loadBalancerSecurityGroup": {"id": "x"}, "targetSecurityGroup": {"id": "x"}});
    let (status, shown) = cloud.create(&changed(&balancer("lb1"), &read_only)).await;
    assert_eq!((status, &shown["region"], &shown["status"]), (200, &json!("eu01"), &json!("STATUS_PENDING")));
    assert!(shown.get("privateAddress").is_none() && shown.get("targetSecurityGroup").is_none());
    assert_eq!(cloud.create(&changed(&balancer("lb2"), &json!({"status": ""}))).await.0, 400);
}

#[tokio::test]
async fn e32_f21_a_static_address_must_exist() {
    let cloud = Cloud::start().await;
    let address = "198.51.100.7";
    let body = changed(&balancer("lb1"), &json!({"externalAddress": address, "options": {"ephemeralAddress": null}}));
    assert_eq!(cloud.create(&body).await.0, 200);
    let shown = cloud.until("lb1", "STATUS_ERROR").await;
    let text = format!("Floating IP \"{address}\" could not be found");
    assert_eq!(shown["errors"], json!([{"type": "TYPE_FIP_NOT_CONFIGURED", "description": text}]));
    cloud.emulator.add_address(address.parse().unwrap());
    let shown = cloud.until("lb1", "STATUS_READY").await;
    assert!(shown.get("errors").is_none());
    assert_eq!(shown["externalAddress"], address);
    assert!(cloud.emulator.remove_address(address.parse().unwrap()));
    let shown = cloud.until("lb1", "STATUS_ERROR").await;
    assert_eq!(shown["errors"][0]["type"], "TYPE_FIP_NOT_FOUND");
}

#[tokio::test]
async fn e33_a_private_balancer_has_no_public_address() {
    let cloud = Cloud::start().await;
    let options = json!({"options": {"ephemeralAddress": null, "privateNetworkOnly": true}});
    let shown = cloud.ready(&changed(&balancer("lb1"), &options)).await;
    assert!(shown.get("externalAddress").is_none() && shown["privateAddress"].is_string());
    assert_eq!(shown["options"], json!({"privateNetworkOnly": true}));
    assert!(cloud.emulator.addresses().is_empty());
}

#[tokio::test]
async fn e45_f11_a_target_without_a_port_is_an_error_that_heals() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| switches.known_targets = Some(BTreeSet::new()));
    cloud.create(&balancer("lb1")).await;
    let shown = cloud.until("lb1", "STATUS_ERROR").await;
    assert_eq!(shown["errors"].as_array().unwrap().len(), 1);
    assert_eq!(shown["errors"][0]["type"], "TYPE_TARGET_NOT_ACTIVE");
    assert!(shown["errors"][0]["description"].is_string() && shown["externalAddress"].is_string());
    let port = "10.250.0.10".parse().unwrap();
    cloud.emulator.set_switches(|switches| switches.known_targets = Some(BTreeSet::from([port])));
    cloud.until("lb1", "STATUS_READY").await;
    cloud.emulator.set_switches(|switches| switches.known_targets = Some(BTreeSet::new()));
    cloud.until("lb1", "STATUS_ERROR").await;
}

#[tokio::test]
async fn e49_of_two_at_once_one_wins() {
    let cloud = Cloud::start().await;
    let body = balancer("lb1");
    let (one, two) = tokio::join!(cloud.create(&body), cloud.create(&body));
    let mut statuses = [one.0, two.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test]
async fn f9_f11_time_can_be_skipped_and_addresses_can_run_out() {
    let options = tests::emulator::Options {
        profile: tests::emulator::Profile::Realistic,
        address_pool: "203.0.113.0/32".parse().unwrap(),
        ..tests::emulator::Options::default()
    };
    let cloud = Cloud::with(options).await;
    cloud.create(&balancer("lb1")).await;
    cloud.emulator.advance(Duration::from_mins(1));
    assert_eq!(cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_PENDING");
    cloud.emulator.advance(Duration::from_mins(1));
    assert_eq!(cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_READY");
    cloud.create(&balancer("lb2")).await;
    cloud.emulator.advance(Duration::from_mins(2));
    let shown = cloud.emulator.balancer("lb2").unwrap();
    assert_eq!(shown["errors"][0]["type"], "TYPE_IP_EXHAUSTED");
    cloud.emulator.wait_for(|it| it.count("POST", "/load-balancers") == 2, SOON).await.unwrap();
}
