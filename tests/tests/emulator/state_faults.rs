//! A cloud whose state is wrong, late or strange.

use std::time::Duration;

use serde_json::{Value, json};
use tests::emulator::{Delays, Options, Profile};

use crate::client::{Cloud, balancer, changed, echo};

const PATH: &str = "/load-balancers/lb1";

#[tokio::test]
async fn f9_f12_what_is_stuck_moves_when_it_is_let_go() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| (switches.hold_pending, switches.hold_terminating) = (true, true));
    cloud.create(&balancer("lb1")).await;
    cloud.emulator.advance(Duration::from_mins(46));
    assert_eq!(cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_PENDING");
    cloud.emulator.set_switches(|switches| switches.hold_pending = false);
    cloud.until("lb1", "STATUS_READY").await;
    assert!(cloud.emulator.terminate("lb1"));
    assert!(!cloud.emulator.terminate("lb2"));
    cloud.emulator.advance(Duration::from_hours(1));
    assert_eq!(cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_TERMINATING");
    cloud.emulator.set_switches(|switches| switches.hold_terminating = false);
    cloud.until_gone("lb1").await;
}

#[tokio::test]
async fn f10_f11_f16_a_status_as_strange_as_wanted() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    for (status, errors) in [
        ("STATUS_PENDING", json!([{"type": "TYPE_INTERNAL", "description": "x"}])),
        ("STATUS_READY", json!([])),
        ("STATUS_ERROR", json!([{"description": "no type"}])),
        ("STATUS_ERROR", json!([{"type": "TYPE_QUOTA_SECGROUP_EXCEEDED"}])),
        ("STATUS_FOO", json!([{"type": "TYPE_NEW", "description": "x"}])),
        ("STATUS_READY", Value::Null),
    ] {
        cloud.emulator.set_switches(|switches| {
            switches.status = Some(status.to_owned());
            switches.errors = Some(errors.clone());
        });
        let (_, shown) = cloud.get(PATH).await;
        assert_eq!((&shown["status"], shown.get("errors")), (&json!(status), Some(&errors)));
    }
}

#[tokio::test]
async fn f13_ready_without_an_address() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| switches.withhold_address = true);
    cloud.ready(&balancer("lb1")).await;
    assert!(cloud.get(PATH).await.1.get("externalAddress").is_none());
    cloud.emulator.set_switches(|switches| switches.withhold_address = false);
    assert!(cloud.get(PATH).await.1["externalAddress"].is_string());
    cloud.emulator.set_switches(|switches| switches.overlay = Some(json!({"privateAddress": "10.9.9.9"})));
    assert_eq!(cloud.get(PATH).await.1["privateAddress"], "10.9.9.9");
}

#[tokio::test]
async fn f14_reads_lag_behind_writes() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| switches.stale_reads = Duration::from_mins(1));
    let (_, created) = cloud.create(&balancer("lb1")).await;
    assert_eq!(cloud.get(PATH).await.0, 404);
    assert_eq!(cloud.get("/load-balancers").await.1, json!({}));
    cloud.emulator.advance(Duration::from_secs(61));
    let (_, old) = cloud.get(PATH).await;
    assert_eq!(old["version"], created["version"]);
    let (status, written) = cloud.put(PATH, &echo(&old)).await;
    assert_eq!(status, 200);
    assert_eq!(cloud.get(PATH).await.1["version"], old["version"]);
    assert_eq!(cloud.put(PATH, &echo(&old)).await.0, 409);
    cloud.emulator.advance(Duration::from_secs(61));
    assert_eq!(cloud.get("/load-balancers").await.1["loadBalancers"][0]["version"], written["version"]);
}

#[tokio::test]
async fn f16_unknown_fields_nulls_and_numbers_as_strings() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    cloud.emulator.set_switches(|switches| {
        switches.overlay = Some(json!({"brandNew": {"deep": 1}, "labels": null, "status": null}));
        switches.numbers_as_strings = true;
    });
    let (_, shown) = cloud.get(PATH).await;
    assert_eq!(shown["brandNew"], json!({"deep": 1}));
    assert_eq!((shown.get("labels"), shown.get("status")), (Some(&Value::Null), Some(&Value::Null)));
    assert_eq!(shown["listeners"][0]["port"], "6443");
}

#[tokio::test]
async fn f17_what_is_stored_means_the_same_but_looks_different() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| switches.canonicalise = true);
    let mut body = changed(
        &balancer("lb1"),
        &json!({"options": {"accessControl":
        {"allowedSourceRanges": ["9.0.0.0/8", "10.0.0.0/8", "9.0.0.0/8"]}}}),
    );
    body["listeners"][0].as_object_mut().unwrap().remove("tcp");
    body["targetPools"][0]["targets"] =
        json!([{"displayName": "Node-1", "ip": "10.0.0.1"}, {"displayName": "Node-2", "ip": "10.0.0.2"}]);
    let shown = cloud.ready(&body).await;
    assert_eq!(shown["options"]["accessControl"]["allowedSourceRanges"], json!(["10.0.0.0/8", "9.0.0.0/8"]));
    assert_eq!(shown["listeners"][0]["tcp"], json!({"idleTimeout": "300s"}));
    let pool = &shown["targetPools"][0];
    let targets = json!([{"displayName": "node-2", "ip": "10.0.0.2"}, {"displayName": "node-1", "ip": "10.0.0.1"}]);
    assert_eq!(pool["targets"], targets);
    assert_eq!(pool["activeHealthCheck"]["interval"], "5s");
    let (status, again) = cloud.put(PATH, &echo(&shown)).await;
    assert_eq!((status, &again["targetPools"]), (200, &shown["targetPools"]));
}

#[tokio::test]
async fn f22_somebody_else_writes() {
    let cloud = Cloud::start().await;
    let shown = cloud.ready(&changed(&balancer("lb1"), &json!({"labels": {"owner": "me"}}))).await;
    assert!(cloud.emulator.edit("lb1", |it| {
        it["labels"] = json!({"owner": "you"});
        it["targetPools"][0]["targets"] = json!([{"displayName": "x", "ip": "10.9.9.9"}]);
        it["options"]["accessControl"] = json!({"allowedSourceRanges": ["10.0.0.0/8"]});
    }));
    assert!(!cloud.emulator.edit("lb2", |_| {}));
    let after = cloud.until("lb1", "STATUS_READY").await;
    assert_eq!(after["labels"]["owner"], "you");
    assert_eq!(after["targetPools"][0]["targets"][0]["ip"], "10.9.9.9");
    assert_eq!(after["externalAddress"], shown["externalAddress"]);
    assert_eq!(after["options"]["ephemeralAddress"], json!(true));
    assert_ne!(after["version"], shown["version"]);
    assert_eq!(cloud.put(PATH, &echo(&shown)).await.0, 409);
}

#[tokio::test]
async fn f22_e70_somebody_else_promotes_the_address() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    cloud.emulator.edit("lb1", |it| {
        it["options"].as_object_mut().unwrap().remove("ephemeralAddress");
    });
    let after = cloud.until("lb1", "STATUS_READY").await;
    assert!(after["options"].get("ephemeralAddress").is_none());
    assert!(cloud.emulator.addresses()[0].kept);
}

#[tokio::test]
async fn e22_the_profile_is_the_pace() {
    let cloud = Cloud::with(Options { profile: Profile::Realistic, ..Options::default() }).await;
    cloud.create(&balancer("lb1")).await;
    assert_eq!(cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_PENDING");
    cloud.emulator.advance(Duration::from_secs(90));
    assert_eq!(cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_READY");
    cloud.emulator.set_delays(Delays { delete: Duration::from_millis(1), ..Profile::Realistic.delays() });
    cloud.delete(PATH).await;
    cloud.until_gone("lb1").await;
}
