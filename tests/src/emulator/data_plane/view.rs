//! What a balancer shall do, read from what was written.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::network::Network;
use crate::emulator::balancer::{Balancer, Mode, Status};
use crate::emulator::shape::seconds;
use crate::emulator::validate::{list, text};

/// Where a balancer is in its life, seen from the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Accepts and carries.
    Serving,
    /// E81: accepts no more, carries what is open.
    Closing,
    /// F21, E103: nothing, not even what was open.
    Dead,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) life: Life,
    /// On this machine; `None` where nothing can listen.
    pub(super) address: Option<IpAddr>,
    pub(super) plan: String,
    /// E98; empty: everybody may connect.
    pub(super) ranges: Vec<IpNet>,
    /// By the port that was written.
    pub(super) listeners: BTreeMap<u16, ListenerView>,
    pub(super) pools: BTreeMap<String, PoolView>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ListenerView {
    pub(super) pool: String,
    /// E102.
    pub(super) proxy_protocol: bool,
    /// E95.
    pub(super) idle_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PoolView {
    pub(super) targets: Vec<TargetView>,
    /// E92.
    pub(super) by_source: bool,
    pub(super) check: Check,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetView {
    pub(super) name: String,
    /// As written.
    pub(super) ip: IpAddr,
    /// Where it is dialled on this machine.
    pub(super) dial: Option<SocketAddr>,
}

/// E93: when a target counts as healthy. Times as in the cloud, not scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) interval: Duration,
    pub(super) jitter: Duration,
    pub(super) timeout: Duration,
    pub(super) healthy_threshold: u64,
    pub(super) unhealthy_threshold: u64,
    /// In place of the target's port.
    pub(super) port: Option<u16>,
}

impl View {
    /// `owned`: whether the external address still exists.
    pub(super) fn of(balancer: &Balancer, owned: bool, network: &Network) -> Self {
        let spec = Value::Object(balancer.spec.clone());
        // The controller gives the private address with the first READY or ERROR.
        let provisioned = balancer.private.is_some();
        let life = match balancer.status {
            _ if !provisioned || !owned => Life::Dead,
            Status::Terminating => Life::Closing,
            Status::Pending | Status::Ready | Status::Error => Life::Serving,
        };
        let address = if balancer.mode == Mode::Private { balancer.private } else { balancer.external };
        let ranges = list(&spec["options"]["accessControl"], "allowedSourceRanges");
        let mut listeners = BTreeMap::new();
        for listener in list(&spec, "listeners").iter().filter(|it| text(it, "protocol") != "PROTOCOL_UDP") {
            if let Some(port) = port(&listener["port"]) {
                listeners.entry(port).or_insert_with(|| listener_view(listener));
            }
        }
        let pools = list(&spec, "targetPools").iter();
        Self {
            life,
            address: address.and_then(|address| network.local(address)),
            plan: text(&spec, "planId").to_owned(),
            ranges: ranges.iter().filter_map(|range| range.as_str()?.parse().ok()).collect(),
            listeners,
            pools: pools.map(|pool| (text(pool, "name").to_owned(), pool_view(pool, network))).collect(),
        }
    }
}

fn listener_view(listener: &Value) -> ListenerView {
    ListenerView {
        pool: text(listener, "targetPool").to_owned(),
        proxy_protocol: text(listener, "protocol") == "PROTOCOL_TCP_PROXY",
        idle_timeout: duration(&listener["tcp"]["idleTimeout"]).unwrap_or(Duration::from_secs(300)),
    }
}

fn pool_view(pool: &Value, network: &Network) -> PoolView {
    let target_port = port(&pool["targetPort"]).unwrap_or_default();
    let target = |target: &Value| {
        let ip = text(target, "ip").parse().ok()?;
        let dial = network.local(ip).map(|local| SocketAddr::new(local, target_port));
        Some(TargetView { name: text(target, "displayName").to_owned(), ip, dial })
    };
    let check = &pool["activeHealthCheck"];
    let threshold = |name: &str, default| check[name].as_u64().unwrap_or(default);
    PoolView {
        targets: list(pool, "targets").iter().filter_map(target).collect(),
        by_source: pool["sessionPersistence"]["useSourceIpAddress"].as_bool().unwrap_or(false),
        check: Check {
            // The defaults of the open predecessor; the API's document names none.
            interval: duration(&check["interval"]).unwrap_or(Duration::from_secs(5)),
            jitter: duration(&check["intervalJitter"]).unwrap_or_default(),
            timeout: duration(&check["timeout"]).unwrap_or(Duration::from_secs(5)),
            healthy_threshold: threshold("healthyThreshold", 2),
            unhealthy_threshold: threshold("unhealthyThreshold", 3),
            port: port(&check["altPort"]),
        },
    }
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

fn duration(value: &Value) -> Option<Duration> {
    value.as_str().and_then(seconds).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}
