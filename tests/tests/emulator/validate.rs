//! What create refuses, and what it accepts, rule by rule.

use serde_json::{Value, json};

use crate::client::{Cloud, balancer, changed};

/// A change of the balancer: a pointer into it and the new value.
type Change = (&'static str, Value);

async fn table(cases: Vec<(&'static str, Vec<Change>)>) {
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| switches.max_load_balancers = -1);
    for (index, (rule, changes)) in cases.into_iter().enumerate() {
        let mut body = balancer(&format!("lb{index}"));
        for (pointer, value) in &changes {
            set(&mut body, pointer, value.clone());
        }
        let (status, answer) = cloud.create(&body).await;
        match rule {
            "" => assert_eq!(status, 200, "{changes:?}: {answer}"),
            _ => assert_eq!((status, &answer["details"][1]["reason"]), (400, &json!(rule)), "{changes:?}: {answer}"),
        }
    }
}

fn set(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap();
    match name.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[name] = value,
    }
}

fn one(rule: &'static str, pointer: &'static str, value: Value) -> (&'static str, Vec<Change>) {
    (rule, vec![(pointer, value)])
}

fn targets(count: usize) -> Value {
    (0..count).map(|index| json!({"displayName": "n", "ip": format!("10.0.{}.{}", index / 256, index % 256)})).collect()
}

fn labels(count: usize) -> Value {
    Value::Object((0..count).map(|index| (format!("k{index}"), json!("v"))).collect())
}

#[tokio::test]
async fn e24_names() {
    let long = "a".repeat(64);
    table(["Lb", "a.b", "-a", "a-", "", &long].map(|name| one("E24", "/name", json!(name))).to_vec()).await;
    let just = "0".repeat(63);
    table(vec![one("", "/name", json!(just)), one("", "/name", json!("a--b"))]).await;
}

#[tokio::test]
async fn e26_e34_version_and_plan() {
    table(vec![
        one("E26", "/version", json!("lb-1")),
        one("", "/version", json!("")),
        one("E34", "/planId", json!("p25")),
        one("", "/planId", json!("p750")),
    ])
    .await;
}

#[tokio::test]
async fn e29_networks() {
    let network = json!({"networkId": "2028e5d4-af4f-45e2-98df-502be37a4317", "role": "ROLE_LISTENERS_AND_TARGETS"});
    table(vec![
        one("E29", "/networks", json!([])),
        one("E29", "/networks", json!([network, network])),
        one("E29", "/networks/0/networkId", json!("2028E5D4-AF4F-45E2-98DF-502BE37A4317")),
        one("E29", "/networks/0/networkId", json!("2028e5d4-af4f-15e2-98df-502be37a4317")),
        one("E29", "/networks/0/role", Value::Null),
        one("E29", "/networks/0/role", json!("ROLE_LISTENERS")),
    ])
    .await;
}

#[tokio::test]
async fn e30_e31_exactly_one_way_of_addressing() {
    table(vec![
        one("E30", "/options", json!({})),
        one("E30", "/options", json!({"ephemeralAddress": false})),
        one("E31", "/externalAddress", json!("203.0.113.1")),
        one("E31", "/options", json!({"ephemeralAddress": true, "privateNetworkOnly": true})),
        ("E31", vec![("/externalAddress", json!("203.0.113.1")), ("/options", json!({"privateNetworkOnly": true}))]),
        ("E31", vec![("/externalAddress", json!("nowhere")), ("/options", json!({}))]),
    ])
    .await;
}

#[tokio::test]
async fn e35_labels() {
    let long = "a".repeat(64);
    table(vec![
        one("E35", "/labels", labels(65)),
        one("", "/labels", labels(64)),
        one("E35", "/labels", json!({long.clone(): "v"})),
        one("E35", "/labels", json!({"a/b": "v"})),
        one("E35", "/labels", json!({"-a": "v"})),
        one("E35", "/labels", json!({"": "v"})),
        one("E35", "/labels", json!({"stackit-a": "v"})),
        one("E35", "/labels", json!({"a": long})),
        one("", "/labels", json!({"a_b.c-D": "", "b": "V.1_x"})),
        one("E18", "/labels", json!({"a": 1})),
    ])
    .await;
}

#[tokio::test]
async fn e36_how_many() {
    let base = balancer("x");
    let listeners = |count: u64| -> Value {
        (0..count).map(|index| changed(&base["listeners"][0], &json!({"port": 1_000 + index}))).collect()
    };
    let pools = |count: u64| -> Value {
        let more = (1..count).map(|index| changed(&base["targetPools"][0], &json!({"name": format!("p{index}")})));
        std::iter::once(base["targetPools"][0].clone()).chain(more).collect()
    };
    table(vec![
        one("E36", "/listeners", listeners(21)),
        one("", "/listeners", listeners(20)),
        one("E36", "/targetPools", pools(21)),
        one("", "/targetPools", pools(20)),
        one("E36", "/targetPools/0/targets", targets(251)),
        one("", "/targetPools/0/targets", targets(250)),
    ])
    .await;
}

#[tokio::test]
async fn e37_ports() {
    for port in [0, 65_536, -1] {
        table(vec![one("E37", "/listeners/0/port", json!(port)), one("E37", "/targetPools/0/targetPort", json!(port))])
            .await;
    }
    table(vec![one("", "/listeners/0/port", json!(65_535)), one("", "/targetPools/0/targetPort", json!(1))]).await;
}

/// Listeners on one port: protocol and domains of each.
fn sharing(listeners: &[(&str, &[&str])]) -> Value {
    let listener = |(protocol, domains): &(&str, &[&str])| {
        let domains: Vec<Value> = domains.iter().map(|domain| json!({"name": domain})).collect();
        json!({"port": 443, "protocol": protocol, "targetPool": "control-plane", "serverNameIndicators": domains})
    };
    listeners.iter().map(listener).collect()
}

#[tokio::test]
async fn e38_e39_sharing_a_port() {
    let (tcp, udp, proxy) = ("PROTOCOL_TCP", "PROTOCOL_UDP", "PROTOCOL_TCP_PROXY");
    let tls = "PROTOCOL_TLS_PASSTHROUGH";
    let none: &[&str] = &[];
    table(vec![
        one("E38", "/listeners", sharing(&[(tcp, none), (tcp, none)])),
        one("E38", "/listeners", sharing(&[(tcp, none), (proxy, none)])),
        one("E38", "/listeners", sharing(&[(udp, none), (udp, none)])),
        one("E38", "/listeners", sharing(&[(tcp, none), (tls, &["a"])])),
        one("E38", "/listeners/0/protocol", json!("PROTOCOL_UNSPECIFIED")),
        one("", "/listeners", sharing(&[(tcp, none), (udp, none)])),
        one("", "/listeners", sharing(&[(tls, &["a"]), (tls, &["b"]), (tls, none)])),
        one("E39", "/listeners", sharing(&[(tls, &["a", "b"]), (tls, &["b"])])),
        one("E39", "/listeners", sharing(&[(tls, none), (tls, none)])),
        one("E39", "/listeners", sharing(&[(tcp, &["a"])])),
    ])
    .await;
}

#[tokio::test]
async fn e40_pools_have_names_and_listeners_know_them() {
    let pool = balancer("x")["targetPools"][0].clone();
    table(vec![
        one("E40", "/listeners/0/targetPool", json!("nobody")),
        one("E40", "/targetPools", json!([pool, pool])),
        one("E40", "/targetPools/0/name", json!("Control_Plane")),
    ])
    .await;
}

#[tokio::test]
async fn e41_idle_timeouts() {
    let udp = |idle: &str| ("/listeners/0/udp", json!({"idleTimeout": idle}));
    let tcp = |rule, idle: &str| one(rule, "/listeners/0/tcp", json!({"idleTimeout": idle}));
    table(vec![
        tcp("E41", "3601s"),
        tcp("E41", "0s"),
        tcp("E41", "-5s"),
        tcp("E20", "5m"),
        tcp("", "0.5s"),
        ("E41", vec![udp("121s")]),
        ("", vec![udp("120s")]),
    ])
    .await;
}

#[tokio::test]
async fn e42_e43_e44_targets() {
    let long = "a".repeat(64);
    let mut cases: Vec<_> = ["node-1.example.com", &long, "-a", ""]
        .map(|name| one("E42", "/targetPools/0/targets/0/displayName", json!(name)))
        .to_vec();
    let target = |name: &str, ip: &str| json!({"displayName": name, "ip": ip});
    let pool = |name: &str| json!({"name": name, "targetPort": 1, "targets": [target("a", "10.0.0.1")]});
    cases.extend([
        one("", "/targetPools/0/targets/0/displayName", json!("Node-1")),
        one("E43", "/targetPools/0/targets", json!([target("a", "10.0.0.1"), target("b", "10.0.0.1")])),
        one("E43", "/targetPools/0/targets/0/ip", json!("node-1")),
        one("", "/targetPools/0/targets", json!([target("a", "10.0.0.1"), target("a", "10.0.0.2")])),
        one("", "/targetPools", json!([pool("control-plane"), pool("other")])),
        one("E44", "/targetPools/0/targets", json!([])),
    ]);
    table(cases).await;
}

#[tokio::test]
async fn e41_e44_e36_can_be_switched() {
    let cloud = Cloud::start().await;
    let mut zero = balancer("lb1");
    set(&mut zero, "/listeners/0/tcp", json!({"idleTimeout": "0s"}));
    let mut empty = balancer("lb2");
    set(&mut empty, "/targetPools/0/targets", json!([]));
    let mut many = balancer("lb3");
    set(&mut many, "/targetPools/0/targets", targets(1_000));
    cloud.emulator.set_switches(|switches| {
        switches.accept_zero_idle_timeout = true;
        switches.accept_empty_targets = true;
        switches.max_targets = 1_000;
    });
    for body in [zero, empty, many] {
        assert_eq!(cloud.create(&body).await.0, 200);
    }
}

#[tokio::test]
async fn e46_health_checks() {
    let check = |rule, check: Value| one(rule, "/targetPools/0/activeHealthCheck", check);
    table(vec![
        check("E46", json!({"healthyThreshold": 0})),
        check("E46", json!({"unhealthyThreshold": 1_000_001})),
        check("E20", json!({"interval": "3"})),
        check("E46", json!({"timeout": "-1s"})),
        check("E46", json!({"altPort": 0})),
        check("E46", json!({"httpHealthChecks": {"okStatuses": ["300"], "path": "/"}})),
        check(
            "",
            json!({"healthyThreshold": 2, "unhealthyThreshold": 3, "interval": "5s", "intervalJitter": "0s",
            "timeout": "5s", "httpHealthChecks": {"okStatuses": ["200"], "path": "/readyz", "tls": {"enabled": true}}}),
        ),
    ])
    .await;
}

#[tokio::test]
async fn e47_ranges_are_checked_and_kept_as_they_came() {
    let ranges = |rule, ranges: Value| one(rule, "/options/accessControl", json!({"allowedSourceRanges": ranges}));
    table(vec![ranges("E47", json!(["10.0.0.0/33"])), ranges("E47", json!(["10.0.0.1"]))]).await;
    let cloud = Cloud::start().await;
    let mut body = balancer("lb1");
    let kept = json!(["10.0.0.0/8", "2001:db8::/32", "1.2.3.4/32", "10.0.0.0/8"]);
    set(&mut body, "/options/accessControl", json!({"allowedSourceRanges": kept}));
    let shown = cloud.ready(&body).await;
    assert_eq!(shown["options"]["accessControl"]["allowedSourceRanges"], kept);
}

#[tokio::test]
async fn e48_unknown_credentials_now_or_later() {
    let observed = json!({"metrics": {"credentialsRef": "nobody", "pushUrl": "https://metrics.example"}});
    table(vec![one("E48", "/options/observability", observed.clone())]).await;
    let cloud = Cloud::start().await;
    cloud.emulator.set_switches(|switches| switches.accept_unknown_credentials = true);
    cloud.create(&changed(&balancer("lb1"), &json!({"options": {"observability": observed}}))).await;
    let shown = cloud.until("lb1", "STATUS_ERROR").await;
    assert_eq!(shown["errors"][0]["type"], "TYPE_METRICS_MISCONFIGURED");
}
