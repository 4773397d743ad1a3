use super::*;
use crate::endpoints::Endpoint;

fn spec() -> ExposureSpec {
    let text = |text: &str| text.to_owned();
    let identity =
        Identity { name: text("lb"), project_id: text("p"), region: text("eu01"), technical_id: text("tid") };
    let endpoint = Endpoint { node_name: text("n.1"), ip: [10, 0, 0, 1].into(), addresses: Vec::new() };
    ExposureSpec {
        name: text("s"),
        identity,
        port: 6443,
        endpoints: vec![endpoint],
        plan_id: None,
        source_ranges: None,
        network_id: text("net"),
        egress: access::Egress::Unreadable,
        file_ranges: crate::access::FileRanges::NotSet,
    }
}

#[test]
fn a_balancer_is_made_of_the_exposure_and_the_settings() {
    let mut settings = Settings::default();
    let wish = load_balancer(&spec(), &settings);
    let value = serde_json::to_value(&wish).unwrap();
    let expected = serde_json::json!({
        "name": "lb", "planId": "p10",
        "labels": {"cluster.stackit.cloud": "tid", "exposure.stackit.cloud": "s"},
        "networkId": "net", "address": "ephemeral",
        "listener": {
            "displayName": "control-plane", "port": 6443, "protocol": "PROTOCOL_TCP",
            "targetPool": "control-plane", "tcpIdleTimeout": "3600s",
        },
        "targetPool": {
            "targetPort": 6443,
            "targets": [{"displayName": names::target("n.1"), "ip": "10.0.0.1"}],
            "activeHealthCheck": {
                "interval": "5s", "timeout": "3s", "healthyThreshold": 2, "unhealthyThreshold": 3,
            },
        },
        "allowedSourceRanges": null,
    });
    assert_eq!(value, expected);
    assert!(wish.keep_source_ranges);
    settings.load_balancer.active_health_check.enabled = false;
    settings.load_balancer.external_address = "45.0.0.1".to_owned();
    let wish = load_balancer(&ExposureSpec { plan_id: Some("p50".to_owned()), ..spec() }, &settings);
    assert_eq!((wish.plan_id.as_str(), wish.address), ("p50", AddressMode::Static([45, 0, 0, 1].into())));
    assert_eq!(wish.target_pool.unwrap().active_health_check, None);
    settings.load_balancer.private_network_only = true;
    assert_eq!(load_balancer(&spec(), &settings).address, AddressMode::Private);
}

#[test]
fn clients_use_the_private_address_of_a_private_balancer_alone() {
    let of = |address| {
        Observed {
            balancer: LoadBalancer { address, ..load_balancer(&spec(), &Settings::default()) },
            version: String::new(),
            status: BalancerStatus::Ready,
            errors: Vec::new(),
            external_address: Some([45, 0, 0, 1].into()),
            private_address: Some([10, 0, 0, 9].into()),
            raw: Map::new(),
        }
        .ingress()
        .unwrap()
        .to_string()
    };
    assert_eq!(of(AddressMode::Private), "10.0.0.9");
    assert_eq!(of(AddressMode::Ephemeral), "45.0.0.1");
    assert_eq!(of(AddressMode::Static([45, 0, 0, 1].into())), "45.0.0.1");
}

#[test]
fn durations_are_written_as_the_api_writes_them() {
    for (duration, text) in [
        (Duration::from_secs(300), "300s"),
        (Duration::from_millis(1_500), "1.5s"),
        (Duration::from_nanos(1), "0.000000001s"),
        (Duration::ZERO, "0s"),
    ] {
        assert_eq!(protobuf_duration(duration), text);
    }
}

#[test]
fn a_status_has_the_word_of_the_api() {
    for (status, word) in [
        (BalancerStatus::Pending, "STATUS_PENDING"),
        (BalancerStatus::Ready, "STATUS_READY"),
        (BalancerStatus::Error, "STATUS_ERROR"),
        (BalancerStatus::Terminating, "STATUS_TERMINATING"),
        (BalancerStatus::Unknown("STATUS_NEW".to_owned()), "STATUS_NEW"),
    ] {
        assert_eq!(status.word(), word);
    }
    assert_eq!(BalancerStatus::Unknown(String::new()).word(), "STATUS_UNSPECIFIED");
}

#[test]
fn a_balancer_is_settled_when_it_is_ready_or_all_that_it_reports_is_silent_targets() {
    let settled = |status, kinds: &[&str]| {
        let error = |kind: &&str| BalancerError { kind: (*kind).to_owned(), description: String::new() };
        let observed = Observed {
            balancer: load_balancer(&spec(), &Settings::default()),
            version: String::new(),
            status,
            errors: kinds.iter().map(error).collect(),
            external_address: None,
            private_address: None,
            raw: serde_json::Map::new(),
        };
        observed.is_settled()
    };
    assert!(settled(BalancerStatus::Ready, &[]));
    assert!(settled(BalancerStatus::Error, &["TYPE_TARGET_NOT_ACTIVE"]));
    assert!(!settled(BalancerStatus::Error, &[]), "it does not say why");
    assert!(!settled(BalancerStatus::Error, &["TYPE_TARGET_NOT_ACTIVE", "TYPE_INTERNAL"]));
    for status in [BalancerStatus::Pending, BalancerStatus::Terminating, BalancerStatus::Unknown(String::new())] {
        assert!(!settled(status, &["TYPE_TARGET_NOT_ACTIVE"]));
    }
}
