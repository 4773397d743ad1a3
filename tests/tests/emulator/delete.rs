//! Delete, credentials, quota.

use serde_json::json;

use crate::client::{Cloud, balancer, changed, echo};

#[tokio::test]
async fn e81_delete_takes_the_ephemeral_address_along() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    assert_eq!(cloud.emulator.addresses().len(), 1);
    assert_eq!(cloud.delete("/load-balancers/lb1").await, (200, json!({})));
    cloud.until_gone("lb1").await;
    assert_eq!(cloud.get("/load-balancers/lb1").await.0, 404);
    assert!(cloud.emulator.addresses().is_empty());
}

#[tokio::test]
async fn e81_a_static_address_stays() {
    let cloud = Cloud::start().await;
    cloud.emulator.add_address("198.51.100.7".parse().unwrap());
    let fixed = json!({"externalAddress": "198.51.100.7", "options": {"ephemeralAddress": null}});
    cloud.ready(&changed(&balancer("lb1"), &fixed)).await;
    assert_eq!(cloud.emulator.addresses()[0].used_by.as_deref(), Some("lb1"));
    cloud.delete("/load-balancers/lb1").await;
    cloud.until_gone("lb1").await;
    assert_eq!(cloud.emulator.addresses()[0].used_by, None);
}

#[tokio::test]
async fn e82_e83_f15_delete_of_what_is_missing_or_going() {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| switches.hold_terminating = true);
    cloud.ready(&balancer("lb1")).await;
    cloud.delete("/load-balancers/lb1").await;
    assert_eq!(cloud.delete("/load-balancers/lb1").await, (200, json!({})));
    assert_eq!(cloud.delete("/load-balancers/lb2").await, (200, json!({})));
    for status in [404, 400, 409] {
        cloud.emulator.set_switches(|switches| {
            switches.delete_missing_status = status;
            switches.delete_terminating_status = status;
        });
        assert_eq!(cloud.delete("/load-balancers/lb1").await.0, status);
        assert_eq!(cloud.delete("/load-balancers/lb2").await.0, status);
    }
}

#[tokio::test]
async fn e85_a_network_in_use_stays() {
    let cloud = Cloud::start().await;
    let body = balancer("lb1");
    let network = format!("/networks/{}", body["networks"][0]["networkId"].as_str().unwrap());
    cloud.ready(&body).await;
    assert_eq!(cloud.delete(&network).await.0, 409);
    cloud.delete("/load-balancers/lb1").await;
    cloud.until_gone("lb1").await;
    assert_eq!(cloud.delete(&network).await.0, 200);
}

#[tokio::test]
async fn e87_credentials_come_and_go_without_their_password() {
    let cloud = Cloud::start().await;
    let body = json!({"displayName": "metrics", "username": "me", "password": "hush"});
    let (status, made) = cloud.post("/credentials", &body).await;
    assert_eq!(status, 200);
    let made = &made["credential"];
    let path = format!("/credentials/{}", made["credentialsRef"].as_str().unwrap());
    assert_eq!(
        (&made["displayName"], &made["username"], &made["region"]),
        (&json!("metrics"), &json!("me"), &json!("eu01"))
    );
    let (status, updated) = cloud.put(&path, &changed(&body, &json!({"username": "you"}))).await;
    assert_eq!((status, &updated["credential"]["username"]), (200, &json!("you")));
    assert_eq!(cloud.get(&path).await, (200, updated.clone()));
    assert_eq!(cloud.get("/credentials").await, (200, json!({"credentials": [updated["credential"]]})));
    assert!(!cloud.emulator.journal_lines().contains("hush"));
    assert_eq!(cloud.get("/credentials/nobody").await.0, 404);
    assert_eq!(cloud.put("/credentials/nobody", &body).await.0, 404);
    assert_eq!(cloud.post("/credentials", &changed(&body, &json!({"displayName": "Not.fine"}))).await.0, 400);
    cloud.emulator.set_switches(|switches| switches.max_credentials = 1);
    let (status, refused) = cloud.post("/credentials", &body).await;
    assert_eq!(status, 429);
    assert!(refused["message"].as_str().unwrap().starts_with("maximum number of credentials reached"));
    assert_eq!(cloud.delete(&path).await, (200, json!({})));
    assert_eq!(cloud.get(&path).await.0, 404);
}

#[tokio::test]
async fn e88_a_credential_in_use_stays() {
    let cloud = Cloud::start().await;
    let body = json!({"displayName": "metrics", "username": "me", "password": "hush"});
    let (_, made) = cloud.post("/credentials", &body).await;
    let reference = &made["credential"]["credentialsRef"];
    let path = format!("/credentials/{}", reference.as_str().unwrap());
    let observed =
        json!({"options": {"observability": {"metrics": {"credentialsRef": reference, "pushUrl": "https://m"}}}});
    let shown = cloud.ready(&changed(&balancer("lb1"), &observed)).await;
    assert_eq!(cloud.delete(&path).await.0, 400);
    cloud.emulator.set_switches(|switches| switches.credential_in_use_status = 409);
    assert_eq!(cloud.delete(&path).await.0, 409);
    let without = changed(&echo(&shown), &json!({"options": {"observability": null}}));
    assert_eq!(cloud.put("/load-balancers/lb1", &without).await.0, 200);
    assert_eq!(cloud.delete(&path).await.0, 200);
}

#[tokio::test]
async fn e89_the_quota_follows() {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    cloud.post("/credentials", &json!({"displayName": "m", "username": "me", "password": "hush"})).await;
    let (status, quota) = cloud.get("/quota").await;
    let expected = json!({"projectId": cloud.emulator.project(), "region": "eu01", "maxLoadBalancers": 10,
        "usedLoadBalancers": 1, "maxCredentials": 30, "usedCredentials": 1});
    assert_eq!((status, quota), (200, expected));
    cloud.delete("/load-balancers/lb1").await;
    cloud.until_gone("lb1").await;
    assert_eq!(cloud.get("/quota").await.1["usedLoadBalancers"], 0);
}
