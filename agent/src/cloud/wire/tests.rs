#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use decide::desired::{HealthCheck, Listener, Target, TargetPool};
use proptest::prelude::*;

use super::*;

fn wish() -> LoadBalancer {
    LoadBalancer {
        name: "shoot--p--s-exp-e".to_owned(),
        plan_id: "p10".to_owned(),
        labels: BTreeMap::from([("cluster.stackit.cloud".to_owned(), "shoot--p--s".to_owned())]),
        network_id: "2028e5d4-af4f-45e2-98df-502be37a4317".to_owned(),
        address: AddressMode::Ephemeral,
        listener: Some(Listener {
            display_name: "control-plane".to_owned(),
            port: 6443,
            protocol: "PROTOCOL_TCP".to_owned(),
            target_pool: "control-plane".to_owned(),
            tcp_idle_timeout: Some(Duration::from_hours(1)),
        }),
        target_pool: Some(TargetPool {
            target_port: 6443,
            targets: targets(&[("node-1", "10.250.0.10")]),
            active_health_check: None,
        }),
        allowed_source_ranges: None,
        keep_source_ranges: false,
        address_form: AddressForm::default(),
    }
}

fn targets(of: &[(&str, &str)]) -> BTreeSet<Target> {
    of.iter().map(|(name, ip)| Target { name: (*name).to_owned(), ip: ip.parse().unwrap() }).collect()
}

/// As the API answers a while after the creation, with foreign company.
fn answer() -> Value {
    json!({
        "name": "shoot--p--s-exp-e", "version": "lb-1", "planId": "p10", "region": "eu01",
        "status": "STATUS_READY", "errors": [], "externalAddress": "45.135.247.139", "privateAddress": "10.250.0.3",
        "labels": {"foreign": "kept", "cluster.stackit.cloud": "other"},
        "networks": [{"networkId": "2028e5d4-af4f-45e2-98df-502be37a4317", "role": "ROLE_LISTENERS_AND_TARGETS"}],
        "listeners": [
            {"displayName": "web", "name": "web", "port": 80, "protocol": "PROTOCOL_TCP", "targetPool": "web"},
            {"displayName": "control-plane", "name": "control-plane", "port": 443, "protocol": "PROTOCOL_TCP",
             "targetPool": "control-plane", "tcp": {"idleTimeout": "300s", "new": 1},
             "serverNameIndicators": [{"name": "x"}]}
        ],
        "targetPools": [
            {"name": "web", "targetPort": 8080, "targets": [{"displayName": "w", "ip": "10.250.0.99"}]},
            {"name": "control-plane", "targetPort": "443", "sessionPersistence": {"useSourceIpAddress": true},
             "activeHealthCheck": {"interval": "5s", "intervalJitter": "1s", "altPort": 1},
             "targets": [{"displayName": "b", "ip": "10.250.0.11", "zone": 1}, {"displayName": "a", "ip": "10.250.0.10"}]}
        ],
        "options": {"ephemeralAddress": true, "privateNetworkOnly": false,
            "accessControl": {"allowedSourceRanges": ["10.2.0.0/16", "10.1.0.0/16"], "new": true},
            "observability": {"logs": {"credentialsRef": "c", "pushUrl": "https://l"}}},
        "loadBalancerSecurityGroup": {"id": "1"}, "targetSecurityGroup": {"id": "2"},
        "disableTargetSecurityGroupAssignment": false, "new": {"deep": [1, 2]}
    })
}

#[test]
fn a_new_balancer_is_sent_as_the_api_documents_it() {
    let body = create_body(&wish());
    let expected = json!({
        "name": "shoot--p--s-exp-e", "planId": "p10", "labels": {"cluster.stackit.cloud": "shoot--p--s"},
        "networks": [{"networkId": "2028e5d4-af4f-45e2-98df-502be37a4317", "role": "ROLE_LISTENERS_AND_TARGETS"}],
        "listeners": [{"displayName": "control-plane", "port": 6443, "protocol": "PROTOCOL_TCP",
            "targetPool": "control-plane", "tcp": {"idleTimeout": "3600s"}}],
        "targetPools": [{"name": "control-plane", "targetPort": 6443,
            "targets": [{"displayName": "node-1", "ip": "10.250.0.10"}]}],
        "options": {"ephemeralAddress": true}
    });
    assert_eq!(body.to_string(), expected.to_string());
}

#[test]
fn the_other_modes_of_a_new_balancer() {
    let private = create_body(&LoadBalancer { address: AddressMode::Private, ..wish() });
    assert_eq!(private["options"], json!({"privateNetworkOnly": true}));
    assert_eq!(private.get("externalAddress"), None);
    let address = AddressMode::Static("45.135.247.1".parse().unwrap());
    let reserved = create_body(&LoadBalancer { address, ..wish() });
    assert_eq!(reserved["externalAddress"], "45.135.247.1");
    assert_eq!(reserved.get("options"), None);
}

#[test]
fn an_answer_is_read() {
    let read = observed(answer()).unwrap();
    assert_eq!((read.version.as_str(), read.status.clone(), read.errors.len()), ("lb-1", BalancerStatus::Ready, 0));
    assert_eq!(read.external_address, Some("45.135.247.139".parse().unwrap()));
    assert_eq!(read.private_address, Some("10.250.0.3".parse().unwrap()));
    let balancer = read.balancer;
    assert_eq!(balancer.address, AddressMode::Ephemeral);
    assert_eq!(balancer.listener.unwrap().tcp_idle_timeout, Some(Duration::from_mins(5)));
    let pool = balancer.target_pool.unwrap();
    assert_eq!((pool.target_port, pool.targets.len()), (443, 2));
    let check = pool.active_health_check.unwrap();
    assert_eq!((check.interval, check.timeout), (Some(Duration::from_secs(5)), None));
    assert_eq!(balancer.allowed_source_ranges.unwrap().len(), 2);
    assert_eq!(balancer.labels["foreign"], "kept");
}

#[test]
fn an_update_changes_what_is_managed_and_nothing_else() {
    let base = observed(answer()).unwrap();
    let mut wish = wish();
    wish.target_pool.as_mut().unwrap().targets =
        targets(&[("b", "10.250.0.11"), ("c", "10.250.0.12"), ("d", "10.250.0.9")]);
    wish.target_pool.as_mut().unwrap().active_health_check = Some(HealthCheck {
        interval: Some(Duration::from_millis(1500)),
        timeout: Some(Duration::from_secs(3)),
        healthy_threshold: Some(2),
        unhealthy_threshold: Some(3),
    });
    wish.allowed_source_ranges = Some(["10.1.0.0/16", "192.0.2.0/24"].iter().map(|r| r.parse().unwrap()).collect());
    let expected = json!({
        "name": "shoot--p--s-exp-e", "version": "lb-1", "planId": "p10",
        "labels": {"foreign": "kept", "cluster.stackit.cloud": "shoot--p--s"},
        "networks": [{"networkId": "2028e5d4-af4f-45e2-98df-502be37a4317", "role": "ROLE_LISTENERS_AND_TARGETS"}],
        "listeners": [
            {"displayName": "web", "port": 80, "protocol": "PROTOCOL_TCP", "targetPool": "web"},
            {"displayName": "control-plane", "port": 6443, "protocol": "PROTOCOL_TCP",
             "targetPool": "control-plane", "tcp": {"idleTimeout": "3600s", "new": 1},
             "serverNameIndicators": [{"name": "x"}]}
        ],
        "targetPools": [
            {"name": "web", "targetPort": 8080, "targets": [{"displayName": "w", "ip": "10.250.0.99"}]},
            {"name": "control-plane", "targetPort": 6443, "sessionPersistence": {"useSourceIpAddress": true},
             "activeHealthCheck": {"interval": "1.5s", "intervalJitter": "1s", "altPort": 1, "timeout": "3s",
                "healthyThreshold": 2, "unhealthyThreshold": 3},
             "targets": [{"displayName": "b", "ip": "10.250.0.11", "zone": 1},
                {"displayName": "c", "ip": "10.250.0.12"}, {"displayName": "d", "ip": "10.250.0.9"}]}
        ],
        "options": {"ephemeralAddress": true, "privateNetworkOnly": false,
            "accessControl": {"allowedSourceRanges": ["10.1.0.0/16", "192.0.2.0/24"], "new": true},
            "observability": {"logs": {"credentialsRef": "c", "pushUrl": "https://l"}}},
        "disableTargetSecurityGroupAssignment": false, "new": {"deep": [1, 2]}
    });
    assert_eq!(update_body(&base, &wish).to_string(), expected.to_string());
}

#[test]
fn the_observed_mode_goes_back_whatever_is_wished() {
    let with = |external: Value, options: Value| {
        let mut raw = answer();
        raw["externalAddress"] = external;
        raw["options"] = options;
        observed(raw).unwrap()
    };
    let modes = [AddressMode::Ephemeral, AddressMode::Private, AddressMode::Static("192.0.2.1".parse().unwrap())];
    for address in modes {
        let wanted = LoadBalancer { address, ..wish() };
        let reserved = update_body(&with(json!("192.0.2.7"), json!({"ephemeralAddress": false})), &wanted);
        assert_eq!((&reserved["externalAddress"], &reserved["options"]), (&json!("192.0.2.7"), &json!({})));
        let private = update_body(&with(Value::Null, json!({"privateNetworkOnly": true})), &wanted);
        assert_eq!(private.get("externalAddress"), None);
        assert_eq!(private["options"], json!({"privateNetworkOnly": true}));
        let ephemeral = update_body(&with(json!("192.0.2.7"), json!({"ephemeralAddress": true})), &wanted);
        assert_eq!(ephemeral.get("externalAddress"), None);
        assert_eq!(ephemeral["options"], json!({"ephemeralAddress": true}));
    }
    // Nothing says the mode: the wish does.
    let unsaid = update_body(&with(Value::Null, Value::Null), &wish());
    assert_eq!(unsaid["options"], json!({"ephemeralAddress": true}));
}

#[test]
fn the_full_form_says_more_of_the_same_mode_and_never_promotes() {
    let full = LoadBalancer { address_form: AddressForm::Full, ..wish() };
    let body = |external: Value, options: Value| {
        let mut raw = answer();
        raw["externalAddress"] = external;
        raw["options"] = options;
        let body = update_body(&observed(raw).unwrap(), &full);
        (body.get("externalAddress").cloned(), body["options"].clone())
    };
    let address = json!("192.0.2.7");
    let ephemeral = json!({"ephemeralAddress": true});
    assert_eq!(body(address.clone(), ephemeral.clone()), (Some(address.clone()), ephemeral.clone()));
    assert_eq!(body(Value::Null, ephemeral.clone()).1, ephemeral);
    assert_eq!(body(address.clone(), Value::Null), (Some(address), json!({"ephemeralAddress": false})));
    let private = json!({"privateNetworkOnly": true, "ephemeralAddress": false});
    assert_eq!(body(Value::Null, json!({"privateNetworkOnly": true})), (None, private));
}

#[test]
fn our_listener_is_known_by_name_else_by_pool() {
    let at = |listeners: Value| fields::our_listener(listeners.as_array().unwrap());
    let other = json!({"displayName": "x", "name": "control-plane", "targetPool": "control-plane"});
    assert_eq!(at(json!([other, {"displayName": "control-plane"}])), Some(1));
    assert_eq!(at(json!([other, {"name": "control-plane"}])), Some(1));
    assert_eq!(at(json!([{"displayName": "", "name": "control-plane"}])), Some(0));
    assert_eq!(at(json!([{"displayName": "y"}, other])), Some(1));
    assert_eq!(at(json!([null, 3, {"displayName": "y"}])), None);
}

#[test]
fn a_listener_known_by_its_server_name_alone_stays_one() {
    let mut raw = answer();
    raw["listeners"] = json!([{"name": "control-plane", "port": 443}]);
    let body = update_body(&observed(raw).unwrap(), &wish());
    assert_eq!(body["listeners"].as_array().unwrap().len(), 1);
    assert_eq!(body["listeners"][0]["displayName"], "control-plane");
    assert_eq!(body["listeners"][0].get("name"), None);
}

#[test]
fn missing_lists_are_filled() {
    let mut raw = answer();
    for member in ["listeners", "targetPools", "networks"] {
        raw[member] = Value::Null;
    }
    let base = observed(raw).unwrap();
    assert_eq!((&base.balancer.listener, &base.balancer.target_pool), (&None, &None));
    let body = update_body(&base, &wish());
    for member in ["listeners", "targetPools", "networks"] {
        assert_eq!(body[member].as_array().unwrap().len(), 1, "{member}");
    }
}

#[test]
fn opening_the_access_control() {
    let open = LoadBalancer { allowed_source_ranges: Some(BTreeSet::new()), ..wish() };
    let body = update_body(&observed(answer()).unwrap(), &open);
    assert_eq!(body["options"]["accessControl"], json!({"new": true}));
    assert_eq!(create_body(&open)["options"], json!({"ephemeralAddress": true}));
}

#[test]
fn odd_answers_are_read_all_the_same() {
    let read = observed(json!({
        "name": "x", "version": 7, "status": "STATUS_FOO", "planId": null, "labels": {"a": 1, "b": null},
        "errors": [{}, null, {"type": "TYPE_NEW"}, "text", {"type": null, "description": "d"}],
        "listeners": null, "targetPools": {}, "networks": [null], "options": [], "externalAddress": ""
    }))
    .unwrap();
    assert_eq!(read.version, "7");
    assert_eq!(read.status, BalancerStatus::Unknown("STATUS_FOO".to_owned()));
    let errors: Vec<_> = read.errors.iter().map(|e| (e.kind.as_str(), e.description.as_str())).collect();
    assert_eq!(errors, [("", ""), ("TYPE_NEW", ""), ("", "text"), ("", "d")]);
    assert_eq!(read.balancer.labels["a"], "1");
    for none in [json!(null), json!([]), json!({}), json!({"name": ""}), json!("x")] {
        assert!(observed(none).is_err());
    }
}

#[test]
fn durations() {
    let read = |text: &str| json::duration(json!({"d": text}).as_object().unwrap(), "d");
    assert_eq!(read("300s"), Some(Duration::from_mins(5)));
    assert_eq!(read("1.5s"), Some(Duration::from_millis(1500)));
    assert_eq!(read("0.000000001s"), Some(Duration::from_nanos(1)));
    for none in ["", "s", "5", "5m", "-5s", "1.s", ".5s", "1.0000000001s", "+1s", "99999999999999999999s", "1e3s"] {
        assert_eq!(read(none), None, "{none}");
    }
}

/// Any JSON, some of it with the members of a balancer.
fn anything() -> impl Strategy<Value = Value> {
    const MEMBERS: &str = "name|displayName|version|planId|labels|networks|listeners|targetPools|options|targets|ip|\
        externalAddress|tcp|idleTimeout|errors|type|status|accessControl|allowedSourceRanges|activeHealthCheck|port|\
        control-plane|ephemeralAddress|privateNetworkOnly|targetPool|[a-z]{1,4}";
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "control-plane|10\\.0\\.0\\.[1-9]|10\\.0\\.0\\.0/8|[0-9]{1,12}(\\.[0-9]{1,9})?s|true|\\PC{0,6}"
            .prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((MEMBERS, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A balancer as it may be read: mostly well formed, any mode, unknown members everywhere.
fn balancers() -> impl Strategy<Value = Value> {
    let mode = prop_oneof![
        Just((json!("192.0.2.7"), json!({"ephemeralAddress": true}))),
        Just((json!("192.0.2.7"), json!({"ephemeralAddress": false, "observability": {}}))),
        Just((json!("192.0.2.7"), json!(null))),
        Just((json!(null), json!({"privateNetworkOnly": true, "ephemeralAddress": false}))),
        Just((
            json!(null),
            json!({"ephemeralAddress": true, "accessControl": {"allowedSourceRanges": ["10.0.0.0/8"]}})
        )),
    ];
    (mode, prop::option::of(anything()), prop::option::of(anything())).prop_map(
        |((address, options), listener, pool)| {
            let mut raw = answer();
            raw["externalAddress"] = address;
            raw["options"] = options;
            if let Some(listener) = listener {
                raw["listeners"].as_array_mut().unwrap().insert(0, listener);
            }
            if let Some(pool) = pool {
                raw["targetPools"].as_array_mut().unwrap().insert(0, pool);
            }
            raw
        },
    )
}

fn wishes() -> impl Strategy<Value = LoadBalancer> {
    let range = (any::<[u8; 4]>(), 0..=32u8)
        .prop_map(|(address, prefix)| ipnet::IpNet::new(address.into(), prefix).unwrap().trunc());
    let check =
        (1..100_000u64, 1..60u64, 1..9u32, 1..9u32).prop_map(|(interval, timeout, healthy, unhealthy)| HealthCheck {
            interval: Some(Duration::from_millis(interval)),
            timeout: Some(Duration::from_secs(timeout)),
            healthy_threshold: Some(healthy),
            unhealthy_threshold: Some(unhealthy),
        });
    (
        1..u16::MAX,
        1..3600u64,
        prop::collection::btree_map(0..20u8, "[a-c]{1,3}", 1..6),
        prop::option::of(check),
        prop::option::of(prop::collection::btree_set(range, 0..4)),
        prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3),
    )
        .prop_map(|(port, idle, nodes, check, ranges, labels)| {
            let mut wish = wish();
            wish.labels = labels;
            wish.allowed_source_ranges = ranges;
            let listener = wish.listener.as_mut().unwrap();
            (listener.port, listener.tcp_idle_timeout) = (port, Some(Duration::from_secs(idle)));
            let pool = wish.target_pool.as_mut().unwrap();
            pool.target_port = port;
            pool.active_health_check = check;
            pool.targets =
                nodes.into_iter().map(|(host, name)| Target { name, ip: [10, 250, 0, host].into() }).collect();
            wish
        })
}

/// Puts a marker into every object.
fn mark(value: &mut Value, marked: &mut usize) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(|value| mark(value, marked));
            object.insert("unknownToUs".to_owned(), json!({"at": *marked}));
            *marked += 1;
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mark(value, marked)),
        _ => {}
    }
}

fn marks(value: &Value, found: &mut BTreeSet<u64>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("unknownToUs").and_then(|mark| mark["at"].as_u64()));
            object.values().for_each(|value| marks(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| marks(value, found)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn reading_never_panics(value in anything(), wish in wishes()) {
        if let Ok(read) = observed(value.clone()) {
            update_body(&read, &wish);
        }
        let mut named = json!({"name": "x"});
        if let (Value::Object(members), Some(all)) = (value, named.as_object_mut()) {
            all.extend(members.into_iter().filter(|(member, _)| member != "name"));
        }
        update_body(&observed(named).unwrap(), &wish);
    }

    #[test]
    fn what_was_sent_reads_as_the_wish(raw in balancers(), wish in wishes()) {
        let base = observed(raw).unwrap();
        for (body, base) in [(update_body(&base, &wish), Some(&base.balancer)), (create_body(&wish), None)] {
            let sent = observed(body).unwrap().balancer;
            prop_assert_eq!(&sent.listener, &wish.listener);
            prop_assert_eq!(&sent.target_pool, &wish.target_pool);
            prop_assert_eq!((&sent.name, &sent.plan_id, &sent.network_id), (&wish.name, &wish.plan_id, &wish.network_id));
            prop_assert!(wish.labels.iter().all(|(key, value)| sent.labels.get(key) == Some(value)));
            let unmanaged = base.map_or_else(|| Some(BTreeSet::new()), |base| base.allowed_source_ranges.clone());
            prop_assert_eq!(&sent.allowed_source_ranges, &wish.allowed_source_ranges.clone().or(unmanaged));
            prop_assert_eq!(sent.address, base.map_or(wish.address, |base| base.address));
        }
    }

    #[test]
    fn an_update_of_an_update_is_the_same(raw in balancers(), wish in wishes()) {
        let first = update_body(&observed(raw).unwrap(), &wish);
        let second = update_body(&observed(first.clone()).unwrap(), &wish);
        prop_assert_eq!(first.to_string(), second.to_string());
    }

    #[test]
    fn forbidden_members_are_never_sent(raw in balancers(), wish in wishes()) {
        let body = update_body(&observed(raw).unwrap(), &wish);
        for member in READ_ONLY {
            prop_assert!(body.get(member).is_none(), "{}", member);
        }
        prop_assert!(body["listeners"].as_array().unwrap().iter().all(|listener| listener.get("name").is_none()));
        let on = |option: &str| body["options"][option] == true;
        let modes = [body.get("externalAddress").is_some_and(Value::is_string), on("ephemeralAddress"), on("privateNetworkOnly")];
        prop_assert_eq!(modes.iter().filter(|mode| **mode).count(), 1, "{}", body);
        prop_assert_eq!(&body["version"], "lb-1");
    }

    #[test]
    fn foreign_members_survive_anywhere(wish in wishes()) {
        let mut raw = answer();
        let mut marked = 0;
        mark(&mut raw, &mut marked);
        let mut before = BTreeSet::new();
        // What goes with the server's own, with targets that leave and with a check that is switched off.
        let mut kept = raw.clone();
        for member in READ_ONLY {
            kept.as_object_mut().unwrap().remove(member);
        }
        let pool = kept["targetPools"][1].as_object_mut().unwrap();
        let stays = |target: &Value| {
            let ip: IpAddr = target["ip"].as_str().unwrap().parse().unwrap();
            wish.targets().iter().any(|target| target.ip == ip)
        };
        pool["targets"].as_array_mut().unwrap().retain(stays);
        if wish.target_pool.as_ref().unwrap().active_health_check.is_none() {
            pool.remove("activeHealthCheck");
        }
        marks(&kept, &mut before);
        let mut after = BTreeSet::new();
        let body = update_body(&observed(raw.clone()).unwrap(), &wish);
        marks(&body, &mut after);
        prop_assert_eq!(before, after);
        for same in ["/networks", "/targetPools/0", "/options/observability", "/unknownToUs", "/disableTargetSecurityGroupAssignment"] {
            prop_assert_eq!(body.pointer(same), raw.pointer(same));
        }
    }
}
