//! The balancer's inside: it listens on loopback and carries bytes to targets (E90 to E108, F21, F24 to F26).
//!
//! # Map
//! `view` reads what a balancer shall do from what was written; a `front` does it: it owns the `port`s that accept, the
//! `target`s with their `health`, and the `session`s. A session asks `balance` for the order of targets, dials one, sends the
//! `proxy_protocol` header where wanted, and lets `forward` move bytes through the pipes of `pipe`. `network` says which
//! loopback address stands for which of the cloud's; `disturbance` what goes wrong on request; `report` what tests and
//! people see.
//!
//! # What the documents leave open
//! * A write takes effect in the data plane at once, not when the balancer is ready again; F26 delays it.
//! * Round robin over the healthy targets. A refused dial goes on to the next one within the same 5 s; one that hangs uses
//!   the 5 s up, then the client's connection is closed.
//! * The first check of a new target decides alone, as Envoy does it; later ones need their thresholds.
//! * Source addresses stick to targets by rendezvous hashing: no table as in Maglev, the same minimal remap.
//!
//! # What is not here
//! UDP, and choosing by SNI: TLS_PASSTHROUGH is passed on like TCP, the first listener of a port wins. HTTP health checks:
//! all checks connect only. Packets: who is refused by the access control is accepted first, because only the kernel can
//! drop a SYN by its source. Nothing outside loopback is ever dialled, but for a network that was named on purpose.

mod balance;
mod disturbance;
mod forward;
mod front;
mod health;
mod limit;
mod network;
mod pipe;
mod plane;
mod port;
mod proxy_protocol;
mod report;
mod session;
mod target;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::Ipv4Net;

pub use disturbance::{Disturbance, RefusedSources};
pub use limit::raise_file_limit;
pub use report::{BalancerReport, ListenerReport, TargetReport};

pub(crate) use plane::Plane;

/// How the data plane sits on this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct DataPlane {
    /// Where external addresses are taken from, within 127.0.0.0/8. `None`: a /24 of 127.100.0.0/16 that no other emulator
    /// on this machine has.
    pub address_pool: Option<Ipv4Net>,
    /// Added to each listener's port, where ports below 1024 are not allowed.
    pub port_offset: u16,
    /// Addresses of the cloud and the loopback addresses that stand for them: targets, static external addresses, and
    /// sources for the access control. Loopback addresses stand for themselves, 10.x.y.z without an entry for 127.x.y.z; all
    /// others lead nowhere.
    pub address_map: BTreeMap<IpAddr, IpAddr>,
    /// Addresses that stand for themselves besides loopback's: those of network namespaces of this machine's own.
    pub namespaces: Option<Ipv4Net>,
    /// How many times faster than in the cloud the timers run: health checks, idle and connect timeouts.
    pub time_scale: f64,
    /// Connections at once, in place of what the plan allows (E107).
    pub max_connections: Option<usize>,
}

impl Default for DataPlane {
    fn default() -> Self {
        Self {
            address_pool: None,
            port_offset: 0,
            address_map: BTreeMap::new(),
            namespaces: None,
            time_scale: 1.0,
            max_connections: None,
        }
    }
}
