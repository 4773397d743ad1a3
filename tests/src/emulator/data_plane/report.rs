//! What tests and people see of a data plane.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::port::Port;
use super::target::Target;

/// How one balancer's data plane is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BalancerReport {
    /// The project it belongs to.
    pub project: String,
    /// Its region.
    pub region: String,
    /// Its name.
    pub name: String,
    /// Connections that bytes are carried for.
    pub open: usize,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Of these, refused by the access control (E98).
    pub refused: u64,
    /// Of these, more than the plan allows (E107).
    pub excess: u64,
    /// Of these, closed because no target took them (E94).
    pub unserved: u64,
    /// Its listeners by port.
    pub listeners: Vec<ListenerReport>,
    /// Its targets by pool and address; one that was removed stays while connections to it are open.
    pub targets: Vec<TargetReport>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerReport {
    /// As written.
    pub port: u16,
    /// Where it listens on this machine.
    pub address: SocketAddr,
    /// Why it does not listen.
    pub error: Option<String>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReport {
    /// The name of its pool.
    pub pool: String,
    /// Its display name.
    pub name: String,
    /// Its address as written.
    pub ip: IpAddr,
    /// Where it is dialled on this machine; `None`: its address leads nowhere.
    pub dial: Option<SocketAddr>,
    /// False for one that was removed and still has connections.
    pub in_pool: bool,
    /// Whether it gets new connections.
    pub healthy: bool,
    /// Connections so far.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Bytes carried to it.
    pub bytes_to: u64,
    /// Bytes carried from it.
    pub bytes_from: u64,
}

impl BalancerReport {
    /// Where the first of its listeners that listens can be connected to.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listeners.iter().find(|it| it.error.is_none()).map(|it| it.address)
    }

    /// The target with that address as written.
    pub fn target(&self, ip: IpAddr) -> Option<&TargetReport> {
        self.targets.iter().find(|target| target.ip == ip)
    }
}

impl ListenerReport {
    pub(super) fn new(port: u16, state: &Port) -> Self {
        Self { port, address: state.address, error: state.error.clone() }
    }
}

impl TargetReport {
    pub(super) fn new(pool: &str, target: &Target, in_pool: bool) -> Self {
        let view = target.settings.borrow().view.clone();
        Self {
            pool: pool.to_owned(),
            name: view.name,
            ip: view.ip,
            dial: view.dial,
            in_pool,
            healthy: target.is_healthy(),
            connections: target.connections.load(Ordering::Relaxed),
            open: target.open.load(Ordering::Relaxed),
            bytes_to: target.bytes_to.load(Ordering::Relaxed),
            bytes_from: target.bytes_from.load(Ordering::Relaxed),
        }
    }
}
