//! Who may connect: the allowed source ranges of the balancer.
//!
//! The access control is managed while a `providerConfig` is present or the settings name ranges; otherwise it is
//! somebody else's field and goes back as read, so that a `providerConfig` wiped by a whole-spec write does not
//! open the control plane to the world. When any range is set, the shoot's own egress addresses are added: an
//! allow-list never locks out the cluster's own nodes.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::exposure::ExposureSpec;
use crate::settings::Settings;

/// The shoot's own egress CIDRs (`Infrastructure.status.egressCIDRs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// They could not be read: whatever the balancer allows stays allowed.
    #[default]
    Unreadable,
    /// As read; empty where the infrastructure has none, as on unmanaged infrastructure.
    Known(BTreeSet<IpNet>),
}

/// The ranges to allow: `None` is not managed, an empty set everybody.
pub fn ranges(spec: &ExposureSpec, settings: &Settings) -> Option<BTreeSet<IpNet>> {
    let wish = &settings.load_balancer.access_control;
    let configured = wish.allowed_source_ranges.iter().filter_map(|range| range.parse().ok());
    let mut ranges: BTreeSet<IpNet> = configured.collect();
    match &spec.source_ranges {
        Some(own) => ranges.extend(own),
        None if ranges.is_empty() => return None,
        None => {}
    }
    if let (false, true, Egress::Known(egress)) = (ranges.is_empty(), wish.include_egress_cidrs, &spec.egress) {
        ranges.extend(egress);
    }
    Some(ranges)
}

/// Whether ranges that are on the balancer must stay for now, because the egress CIDRs cannot be read.
pub fn keeps_observed(spec: &ExposureSpec, settings: &Settings) -> bool {
    settings.load_balancer.access_control.include_egress_cidrs && spec.egress == Egress::Unreadable
}
