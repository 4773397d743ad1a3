//! Update, of a balancer and of one pool.

use serde_json::{Value, json};
use tests::emulator::{Action, Address, EphemeralForm, Fault};

use crate::client::{Answer, Cloud, balancer, changed, echo};

const PATH: &str = "/load-balancers/lb1";

/// A ready balancer, and the PUT that would keep it.
async fn start() -> (Cloud, Value, Value) {
    with(&balancer("lb1")).await
}

async fn with(body: &Value) -> (Cloud, Value, Value) {
    let cloud = Cloud::start().await;
    cloud.emulator.add_address("198.51.100.7".parse().unwrap());
    let shown = cloud.ready(body).await;
    let body = echo(&shown);
    (cloud, shown, body)
}

fn static_balancer() -> Value {
    changed(&balancer("lb1"), &json!({"externalAddress": "198.51.100.7", "options": {"ephemeralAddress": null}}))
}

fn reason(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.1["details"][1]["reason"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn e58_a_put_replaces_everything() {
    let (cloud, shown, body) = start().await;
    cloud.emulator.set_switches(|switches| switches.hold_pending = true);
    let target = json!([{"displayName": "node-2", "ip": "10.250.0.11"}]);
    let mut body = body;
    body["targetPools"][0]["targets"] = target.clone();
    let (status, answer) = cloud.put(PATH, &body).await;
    assert_eq!((status, &answer["status"]), (200, &json!("STATUS_PENDING")));
    assert_ne!(answer["version"], shown["version"]);
    assert_eq!(answer["externalAddress"], shown["externalAddress"]);
    let (_, seen) = cloud.get(PATH).await;
    assert_eq!((&seen["targetPools"][0]["targets"], &seen["version"]), (&target, &answer["version"]));
    cloud.emulator.set_switches(|switches| switches.hold_pending = false);
    let ready = cloud.until("lb1", "STATUS_READY").await;
    assert_eq!(ready["version"], answer["version"]);
}

#[tokio::test]
async fn e59_e79_an_old_version_loses() {
    let (cloud, _, body) = start().await;
    let other = json!({"name": "control-plane", "targetPort": 1, "targets": [{"displayName": "x", "ip": "10.0.0.9"}]});
    assert_eq!(cloud.put(&format!("{PATH}/target-pools/control-plane"), &other).await.0, 200);
    let after = cloud.until("lb1", "STATUS_READY").await;
    let (status, answer) = cloud.put(PATH, &body).await;
    assert_eq!((status, &answer["message"]), (409, &json!("Conflict with current state")));
    assert_eq!(cloud.get(PATH).await.1, after);
}

#[tokio::test]
async fn e60_e62_e63_version_name_and_balancer_are_needed() {
    let (cloud, _, body) = start().await;
    assert_eq!(reason(&cloud.put(PATH, &changed(&body, &json!({"version": null}))).await), (400, "E60"));
    assert_eq!(reason(&cloud.put(PATH, &changed(&body, &json!({"name": "lb2"}))).await), (400, "E62"));
    assert_eq!(cloud.put("/load-balancers/lb2", &changed(&body, &json!({"name": "lb2"}))).await.0, 404);
}

#[tokio::test]
async fn e61_a_put_without_a_change_is_a_write() {
    let (cloud, shown, body) = start().await;
    let (_, answer) = cloud.put(PATH, &body).await;
    assert_ne!(answer["version"], shown["version"]);
    cloud.emulator.set_switches(|switches| switches.keep_version_when_identical = true);
    let (_, again) = cloud.put(PATH, &changed(&body, &json!({"version": answer["version"]}))).await;
    assert_eq!(again["version"], answer["version"]);
}

#[tokio::test]
async fn e64_what_is_terminating_cannot_be_written() {
    let (cloud, _, body) = start().await;
    cloud.emulator.set_switches(|switches| switches.hold_terminating = true);
    cloud.delete(PATH).await;
    let version = cloud.get(PATH).await.1["version"].clone();
    assert_eq!(cloud.put(PATH, &changed(&body, &json!({"version": version}))).await.0, 409);
    assert_eq!(cloud.put(&format!("{PATH}/target-pools/control-plane"), &body["targetPools"][0]).await.0, 409);
}

#[tokio::test]
async fn e65_pending_and_failed_balancers_can_be_written() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| {
        switches.hold_pending = true;
        switches.known_targets = Some(std::collections::BTreeSet::new());
    });
    let (_, pending) = cloud.create(&balancer("lb1")).await;
    let (status, _) = cloud.put(PATH, &echo(&pending)).await;
    assert_eq!(status, 200);
    cloud.emulator.set_switches(|switches| switches.hold_pending = false);
    let failed = cloud.until("lb1", "STATUS_ERROR").await;
    let (status, answer) = cloud.put(PATH, &echo(&failed)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("STATUS_PENDING")));
}

#[tokio::test]
async fn e66_a_listeners_name_must_not_be_sent() {
    let (cloud, shown, body) = start().await;
    let named = changed(&body, &json!({"listeners": shown["listeners"]}));
    assert_eq!(reason(&cloud.put(PATH, &named).await), (400, "E66"));
    cloud.emulator.set_switches(|switches| switches.ignore_listener_name = true);
    assert_eq!(cloud.put(PATH, &named).await.0, 200);
}

#[tokio::test]
async fn e67_some_things_never_change() {
    let (cloud, _, body) = start().await;
    let network = json!([{"networkId": "11111111-1111-4111-8111-111111111111", "role": "ROLE_LISTENERS_AND_TARGETS"}]);
    for change in [
        json!({"networks": network}),
        json!({"networks": null}),
        json!({"disableTargetSecurityGroupAssignment": true}),
        json!({"options": {"ephemeralAddress": null, "privateNetworkOnly": true}}),
    ] {
        assert_eq!(reason(&cloud.put(PATH, &changed(&body, &change)).await), (400, "E67"), "{change}");
    }
    let (cloud, _, body) =
        with(&changed(&balancer("lb1"), &json!({"disableTargetSecurityGroupAssignment": true}))).await;
    let omitted = json!({"disableTargetSecurityGroupAssignment": null});
    assert_eq!(reason(&cloud.put(PATH, &changed(&body, &omitted)).await), (400, "E67"));
    let private = json!({"options": {"ephemeralAddress": null, "privateNetworkOnly": true}});
    let (cloud, _, body) = with(&changed(&balancer("lb1"), &private)).await;
    let public = json!({"options": {"ephemeralAddress": true, "privateNetworkOnly": null}});
    assert_eq!(reason(&cloud.put(PATH, &changed(&body, &public)).await), (400, "E67"));
}

#[tokio::test]
async fn e68_e69_e71_e73_an_ephemeral_address_stays_ephemeral() {
    let (cloud, shown, body) = start().await;
    let both = changed(&body, &json!({"externalAddress": shown["externalAddress"]}));
    let answer = cloud.put(PATH, &both).await;
    assert_eq!(reason(&answer), (400, "E69"));
    let message = answer.1["message"].as_str().unwrap();
    assert!(message.contains("Ephemeral address is not supported for existing floating IPs"), "{message}");
    let other = changed(&body, &json!({"externalAddress": "198.51.100.7", "options": {"ephemeralAddress": null}}));
    assert_eq!(reason(&cloud.put(PATH, &other).await), (400, "E71"));
    assert_eq!(reason(&cloud.put(PATH, &changed(&body, &json!({"options": null}))).await), (400, "E73"));
    assert_eq!(cloud.put(PATH, &body).await.0, 200);
    let after = cloud.until("lb1", "STATUS_READY").await;
    assert_eq!(after["externalAddress"], shown["externalAddress"]);
    assert_eq!(after["options"]["ephemeralAddress"], json!(true));
}

#[tokio::test]
async fn e68_an_api_that_wants_the_address_with_the_flag_promotes_nothing() {
    let (cloud, shown, body) = start().await;
    cloud.emulator.set_switches(|switches| switches.ephemeral_form = EphemeralForm::FlagAndAddress);
    assert_eq!(reason(&cloud.put(PATH, &body).await), (400, "E68"));
    let full = changed(&body, &json!({"externalAddress": shown["externalAddress"]}));
    let (status, answer) = cloud.put(PATH, &full).await;
    assert_eq!((status, &answer["options"]["ephemeralAddress"]), (200, &json!(true)));
    let promoted = |address: &Address| address.kept && json!(address.address) == shown["externalAddress"];
    assert!(!cloud.emulator.addresses().iter().any(promoted));
    cloud.emulator.set_switches(|switches| switches.ephemeral_form = EphemeralForm::Neither);
    for body in [&body, &full] {
        let body = changed(body, &json!({"version": answer["version"]}));
        assert_eq!(reason(&cloud.put(PATH, &body).await), (400, "E68"));
    }
}

#[tokio::test]
async fn e70_the_address_alone_promotes_and_outlives_the_balancer() {
    let (cloud, shown, body) = start().await;
    let address = &shown["externalAddress"];
    let promoting = changed(&body, &json!({"externalAddress": address, "options": {"ephemeralAddress": null}}));
    let (status, answer) = cloud.put(PATH, &promoting).await;
    assert_eq!((status, &answer["externalAddress"]), (200, address));
    assert!(answer["options"].get("ephemeralAddress").is_none());
    cloud.delete(PATH).await;
    cloud.until_gone("lb1").await;
    let left = cloud.emulator.addresses();
    let leak = left.iter().find(|left| json!(left.address) == *address).unwrap();
    assert!(leak.kept && leak.used_by.is_none());
}

#[tokio::test]
async fn e71_e72_a_static_address_stays_static() {
    let (cloud, _, body) = with(&static_balancer()).await;
    let demoting = changed(&body, &json!({"externalAddress": null, "options": {"ephemeralAddress": true}}));
    assert_eq!(reason(&cloud.put(PATH, &demoting).await), (400, "E72"));
    let other = changed(&body, &json!({"externalAddress": "198.51.100.8"}));
    assert_eq!(reason(&cloud.put(PATH, &other).await), (400, "E71"));
    assert_eq!(cloud.put(PATH, &body).await.0, 200);
}

#[tokio::test]
async fn e74_what_is_left_out_is_removed() {
    let mut full = changed(
        &balancer("lb1"),
        &json!({"labels": {"owner": "me"},
        "options": {"accessControl": {"allowedSourceRanges": ["10.0.0.0/8"]}}}),
    );
    full["targetPools"][0]["sessionPersistence"] = json!({"useSourceIpAddress": true});
    let (cloud, shown, mut body) = with(&full).await;
    assert_eq!((&shown["labels"], &shown["targetPools"]), (&full["labels"], &full["targetPools"]));
    body = changed(&body, &json!({"labels": null, "options": {"accessControl": null}}));
    body["targetPools"][0].as_object_mut().unwrap().remove("sessionPersistence");
    let (status, answer) = cloud.put(PATH, &body).await;
    assert_eq!(status, 200);
    assert!(answer.get("labels").is_none() && answer["options"].get("accessControl").is_none());
    assert!(answer["targetPools"][0].get("sessionPersistence").is_none());
    cloud.emulator.set_switches(|switches| switches.show_empty_access_control = true);
    assert_eq!(cloud.get(PATH).await.1["options"]["accessControl"], json!({}));
}

#[tokio::test]
async fn e75_e76_f23_plans_and_pools() {
    let (cloud, _, body) = start().await;
    let (status, answer) = cloud.put(PATH, &changed(&body, &json!({"planId": "p250"}))).await;
    assert_eq!((status, &answer["planId"]), (200, &json!("p250")));
    let body = changed(&body, &json!({"version": answer["version"], "planId": "p250"}));
    assert_eq!(reason(&cloud.put(PATH, &changed(&body, &json!({"targetPools": null}))).await), (400, "E40"));
    cloud.emulator.set_switches(|switches| switches.plans.retain(|plan| plan != "p250"));
    assert_eq!(reason(&cloud.put(PATH, &body).await), (400, "E34"));
}

#[tokio::test]
async fn e77_a_pool_is_replaced_by_itself() {
    let mut two = balancer("lb1");
    two["targetPools"][0]["activeHealthCheck"] = json!({"interval": "5s"});
    let other = changed(&two["targetPools"][0], &json!({"name": "other"}));
    two["targetPools"].as_array_mut().unwrap().push(other.clone());
    let (cloud, shown, _) = with(&two).await;
    cloud.emulator.set_switches(|switches| switches.hold_pending = true);
    let pool = json!({"name": "control-plane", "targetPort": 443, "targets": [{"displayName": "x", "ip": "10.0.0.9"}]});
    let answer = cloud.put(&format!("{PATH}/target-pools/control-plane"), &pool).await;
    assert_eq!(answer, (200, pool.clone()));
    let (_, after) = cloud.get(PATH).await;
    assert_eq!(after["targetPools"], json!([pool, other]));
    assert_eq!(after["status"], "STATUS_PENDING");
    assert_ne!(after["version"], shown["version"]);
}

#[tokio::test]
async fn e78_e80_a_pool_must_exist_and_be_sound() {
    let (cloud, _, body) = start().await;
    let pool = &body["targetPools"][0];
    let path = format!("{PATH}/target-pools/control-plane");
    let unknown = format!("{PATH}/target-pools/nobody");
    assert_eq!(cloud.put(&unknown, &changed(pool, &json!({"name": "nobody"}))).await.0, 404);
    cloud.emulator.set_switches(|switches| switches.unknown_pool_status = 400);
    assert_eq!(cloud.put(&unknown, &changed(pool, &json!({"name": "nobody"}))).await.0, 400);
    assert_eq!(cloud.put("/load-balancers/lb2/target-pools/control-plane", pool).await.0, 404);
    assert_eq!(reason(&cloud.put(&path, &changed(pool, &json!({"name": "other"}))).await), (400, "E78"));
    let target = pool["targets"][0].clone();
    for targets in [json!([]), json!([target, target])] {
        assert_eq!(reason(&cloud.put(&path, &changed(pool, &json!({"targets": targets}))).await), (400, "E80"));
    }
}

#[tokio::test]
async fn f6_a_storm_of_versions() {
    let (cloud, shown, body) = start().await;
    cloud.emulator.inject(Fault::new(Action::version_storm()).method("PUT").path(PATH).times(2));
    let mut body = body;
    for _ in 0..2 {
        assert_eq!(cloud.put(PATH, &body).await.0, 409);
        body["version"] = cloud.get(PATH).await.1["version"].clone();
    }
    let (status, answer) = cloud.put(PATH, &body).await;
    assert_eq!((status, &answer["targetPools"]), (200, &shown["targetPools"]));
}
