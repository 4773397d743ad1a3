//! What the data plane does on a bad day, or where the documents leave it open.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Levels, not events: each holds from when it is set until it is taken back. Durations are milliseconds on the wire and
/// are not scaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent switches is what this is")]
pub struct Disturbance {
    /// E75: another plan cuts all connections once.
    pub cut_on_plan_change: bool,
    /// E98: what becomes of sources outside the allowed ranges.
    pub refused_sources: RefusedSources,
    /// E99: a target that is removed loses its connections at once.
    pub cut_removed: bool,
    /// E106: a connection from a target that is balanced to itself gets nowhere.
    pub drop_hairpin: bool,
    /// F24: targets, as the cloud or this machine calls them, that swallow everything: dials, checks, and the bytes of open
    /// connections.
    pub black_holes: BTreeSet<IpAddr>,
    /// F24: SYNs are dropped: the kernel's queue is kept full, so a connection waits and retries like in the field.
    pub drop_connects: bool,
    /// F24: connections are reset as soon as they are accepted.
    pub reset_connects: bool,
    /// F24: each piece of up to 256 KiB waits so long in each direction, and the next one behind it.
    #[serde(with = "crate::emulator::wire::milliseconds")]
    pub latency: Duration,
    /// F24: up to so much more, by the dice.
    #[serde(with = "crate::emulator::wire::milliseconds")]
    pub jitter: Duration,
    /// F24: every other connection is served as things were when this was switched on.
    pub stale_half: bool,
    /// F25: the targets' security groups let nothing new in: dials and checks hang. Open connections go on.
    pub security_groups_block: bool,
    /// F26: how far the data plane is behind what GET shows; a new balancer and the end of one are not delayed.
    #[serde(with = "crate::emulator::wire::milliseconds")]
    pub lag: Duration,
}

/// E98: what becomes of sources outside the allowed ranges. A SYN cannot be dropped by its source from user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedSources {
    /// Accepted, then closed.
    #[default]
    Close,
    /// Accepted, then nothing.
    Ignore,
}

impl Disturbance {
    /// Whether a target, known by its address in the cloud and the one on this machine, swallows everything.
    pub(super) fn swallows(&self, ip: IpAddr, local: Option<IpAddr>) -> bool {
        self.black_holes.contains(&ip) || local.is_some_and(|local| self.black_holes.contains(&local))
    }
}
