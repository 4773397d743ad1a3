//! The settings as a whole: documented defaults, and each rule with a value that breaks it.

use serde_json::{Value, json};

use super::Settings;

/// The defaults with one key replaced.
fn with(changes: &[(&str, Value)]) -> Settings {
    let mut tree = serde_json::to_value(Settings::default()).unwrap();
    for (path, value) in changes {
        *tree.pointer_mut(&format!("/{}", path.replace('.', "/"))).unwrap_or_else(|| panic!("{path} is no key")) =
            value.clone();
    }
    serde_json::from_value(tree).unwrap()
}

#[test]
fn the_defaults_are_free_of_mistakes_and_read_back() {
    let defaults = Settings::default();
    assert_eq!(defaults.mistakes(), []);
    let tree = serde_json::to_value(&defaults).unwrap();
    assert_eq!(serde_json::from_value::<Settings>(tree).unwrap(), defaults);
    assert_eq!(serde_json::from_value::<Settings>(json!({})).unwrap(), defaults);
}

#[test]
fn keys_and_durations_are_spelled_as_documented() {
    let tree = serde_json::to_value(Settings::default()).unwrap();
    for (path, value) in [
        ("/loadBalancer/tcpIdleTimeout", "60m"),
        ("/loadBalancer/resync", "60s"),
        ("/loadBalancer/planID", "p10"),
        ("/health/probe/interval", "500ms"),
        ("/health/probe/alivePath", "/readyz?exclude=etcd&exclude=etcd-readiness"),
        ("/health/reAddDelay/max", "60s"),
        ("/exposure/type", "stackit"),
        ("/nodes/source", "Kubernetes"),
        ("/stackit/credentials", "Mounted"),
        ("/stackit/caBundle", ""),
        ("/log/format", "text"),
    ] {
        assert_eq!(tree.pointer(path).and_then(Value::as_str), Some(value), "{path}");
    }
    assert_eq!(tree.pointer("/loadBalancer/accessControl/includeEgressCIDRs"), Some(&json!(true)));
}

#[test]
fn unknown_keys_are_refused() {
    for tree in [json!({"stackit": {"regoin": "eu01"}}), json!({"health": {"probe": {"x": 1}}}), json!({"x": 1})] {
        assert!(serde_json::from_value::<Settings>(tree).is_err());
    }
}

#[test]
fn each_rule_has_a_value_that_breaks_it() {
    for (path, value) in [
        ("apiVersion", json!("v1")),
        ("kind", json!("Config")),
        ("nodeName", json!("Node_1")),
        ("exposure.namespace", json!("kube.system")),
        ("exposure.name", json!("-x")),
        ("exposure.type", json!(" ")),
        ("exposure.class", json!("Shoot")),
        ("exposure.port", json!(0)),
        ("nodes.selector", json!("")),
        ("nodes.selector", json!("a b")),
        ("nodes.selector", json!("a=b c")),
        ("nodes.selector", json!("a b/c")),
        ("nodes.selector", json!("example.org/-c")),
        ("health.probe.path", json!("readyz")),
        ("health.probe.path", json!("/ready z")),
        ("health.probe.path", json!("/readyz#x")),
        ("health.probe.scheme", json!("tcp")),
        ("health.probe.slow", json!("6s")),
        ("health.probe.interval", json!("0s")),
        ("health.probe.successThreshold", json!(0)),
        ("health.reAddDelay.initial", json!("61s")),
        ("leaderElection.leaseName", json!("Lease")),
        ("leaderElection.leaseNamespace", json!("")),
        ("leaderElection.leaseDuration", json!("15500ms")),
        ("leaderElection.renewDeadline", json!("15s")),
        ("leaderElection.retryPeriod", json!("0s")),
        ("leaderElection.retryPeriod", json!("9s")),
        ("stackit.credentialsDirectory", json!("")),
        ("stackit.region", json!("eu1")),
        ("stackit.region", json!("europe01")),
        ("stackit.region", json!("eu-01")),
        ("stackit.region", json!("eu01x")),
        ("stackit.projectID", json!("2028E5D4-af4f-45e2-98df-502be37a4317")),
        ("stackit.networkID", json!("2028e5d4-af4f-15e2-98df-502be37a4317")),
        ("stackit.technicalID", json!("shoot/x")),
        ("stackit.loadBalancerEndpoint", json!("load-balancer.api.stackit.cloud")),
        ("stackit.loadBalancerEndpoint", json!("https://")),
        ("stackit.loadBalancerEndpoint", json!("https://host:0")),
        ("stackit.loadBalancerEndpoint", json!("https://host/?a=b")),
        ("stackit.loadBalancerEndpoint", json!("https://host/#a")),
        ("stackit.loadBalancerEndpoint", json!("https://host/a b")),
        ("stackit.loadBalancerEndpoint", json!("https://host/\u{1}")),
        ("stackit.loadBalancerEndpoint", json!("https://host/<a")),
        ("stackit.tokenEndpoint", json!("ftp://x")),
        ("stackit.requestTimeout", json!("0s")),
        ("loadBalancer.planID", json!("")),
        ("loadBalancer.tcpIdleTimeout", json!("61m")),
        ("loadBalancer.tcpIdleTimeout", json!("999ms")),
        ("loadBalancer.externalAddress", json!("example.org")),
        ("loadBalancer.activeHealthCheck.interval", json!("0s")),
        ("loadBalancer.activeHealthCheck.timeout", json!("0s")),
        ("loadBalancer.activeHealthCheck.healthyThreshold", json!(0)),
        ("loadBalancer.activeHealthCheck.unhealthyThreshold", json!(1_000_001)),
        ("loadBalancer.resync", json!("500ms")),
        ("loadBalancer.writesPerMinute", json!(0)),
        ("server.bindAddress", json!("localhost:9440")),
        ("server.metricsBindAddress", json!("127.0.0.1:9440")),
    ] {
        let mistakes = with(&[(path, value.clone())]).mistakes();
        let paths: Vec<_> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(paths, [path], "{path} = {value}");
    }
}

#[test]
fn what_users_write_passes() {
    for (path, value) in [
        ("nodeName", json!("cp-0.example.org")),
        ("nodes.selector", json!("node-role.kubernetes.io/control-plane=,worker.gardener.cloud/pool==cp , x")),
        ("stackit.region", json!("RegionOne")),
        ("stackit.region", json!("eu01")),
        ("stackit.region", json!("eur01")),
        ("loadBalancer.resync", json!("1s")),
        ("leaderElection.leaseDuration", json!("11s")),
        ("health.reAddDelay.initial", json!("60s")),
        ("health.reAddDelay.max", json!("8760h")),
        ("stackit.projectID", json!("2028e5d4-af4f-15e2-98df-502be37a4317")),
        ("stackit.networkID", json!("2028e5d4-af4f-45e2-98df-502be37a4317")),
        ("stackit.technicalID", json!("shoot--garden--my-shoot")),
        ("stackit.tokenEndpoint", json!("https://user:password@host.example:8443/token")),
        ("stackit.loadBalancerEndpoint", json!("http://[::1]:8080")),
        ("loadBalancer.externalAddress", json!("203.0.113.7")),
        ("loadBalancer.accessControl.allowedSourceRanges", json!(["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"])),
        ("server.metricsBindAddress", json!("[::]:9441")),
        ("server.bindAddress", json!("127.0.0.1:0")),
    ] {
        assert_eq!(with(&[(path, value)]).mistakes(), [], "{path}");
    }
    assert_eq!(with(&[("stackit.region", json!("RegionOne"))]).stackit.region(), Some("eu01"));
}

#[test]
fn mistakes_that_take_several_keys() {
    let paths = |changes: &[(&str, Value)]| with(changes).mistakes().into_iter().map(|m| m.path).collect::<Vec<_>>();
    assert_eq!(paths(&[("nodes.source", json!("File"))]), ["nodes.file"]);
    let private =
        [("loadBalancer.privateNetworkOnly", json!(true)), ("loadBalancer.externalAddress", json!("203.0.113.7"))];
    assert_eq!(paths(&private), ["loadBalancer.externalAddress"]);
    // Without an election nothing has to end before a deadline.
}

#[test]
fn a_range_that_is_not_canonical_is_corrected_in_the_hint() {
    let ranges = json!(["10.1.2.3/8", "2001:DB8::/32", "10.0.0.1", "x", "10.0.0.0/8", "10.0.0.0/8"]);
    let mistakes = with(&[("loadBalancer.accessControl.allowedSourceRanges", ranges)]).mistakes();
    let hints: Vec<_> = mistakes.iter().map(|mistake| mistake.hint.as_str()).collect();
    let expected = [
        "write 10.0.0.0/8",
        "write 2001:db8::/32",
        "for a single address write 10.0.0.1/32",
        "such as 203.0.113.0/24",
        "remove one",
    ];
    assert_eq!(hints, expected);
    assert_eq!(mistakes[0].path, "loadBalancer.accessControl.allowedSourceRanges[0]");
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let mistakes = with(&[("stackit.tokenEndpoint", json!("ftp://user:hunter2@x y"))]).mistakes();
    assert!(!mistakes.is_empty() && mistakes.iter().all(|m| !format!("{m:?}").contains("hunter2")));
}

#[test]
fn what_is_set_is_told_and_an_empty_text_is_nothing() {
    let keys = [
        "nodeName",
        "kubeconfig",
        "exposure.name",
        "nodes.file",
        "stackit.projectID",
        "stackit.networkID",
        "stackit.technicalID",
        "stackit.region",
        "stackit.loadBalancerEndpoint",
        "stackit.tokenEndpoint",
        "stackit.caBundle",
        "loadBalancer.accessControl.sourceRangesFile",
    ];
    let told = |settings: &Settings| {
        let (stackit, access) = (&settings.stackit, &settings.load_balancer.access_control);
        [
            settings.node_name(),
            settings.kubeconfig(),
            settings.exposure.name(),
            settings.nodes.file(),
            stackit.project_id(),
            stackit.network_id(),
            stackit.technical_id(),
            stackit.region(),
            stackit.load_balancer_endpoint(),
            stackit.token_endpoint(),
            stackit.ca_bundle(),
            access.source_ranges_file(),
        ]
        .map(|text| text.map(str::to_owned))
    };
    for (key, position) in keys.iter().zip(0..) {
        let only = told(&with(&keys.map(|other| (other, json!(if other == *key { "x" } else { "" })))));
        for (told, other) in only.iter().zip(0..) {
            assert_eq!(told.as_deref(), (other == position).then_some("x"), "{key} {other}");
        }
    }
}

#[test]
fn a_log_level_has_the_word_that_it_is_written_with() {
    for word in ["error", "warn", "info", "debug", "trace"] {
        assert_eq!(with(&[("log.level", json!(word))]).log.level.as_str(), word);
    }
}

#[test]
fn a_mistake_says_where_and_what() {
    let mistake = with(&[("health.probe.path", json!("readyz"))]).mistakes().remove(0);
    assert_eq!(mistake.to_string(), "health.probe.path: \"readyz\" does not begin with /");
}
