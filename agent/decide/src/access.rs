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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Identity;

    fn set(ranges: &[&str]) -> BTreeSet<IpNet> {
        ranges.iter().map(|range| range.parse().unwrap()).collect()
    }

    fn spec(own: Option<&[&str]>, egress: Egress) -> ExposureSpec {
        let text = || "x".to_owned();
        let identity = Identity { name: text(), project_id: text(), region: text(), technical_id: text() };
        let source_ranges = own.map(set);
        let (name, network_id) = (text(), text());
        ExposureSpec { name, identity, port: 443, endpoints: vec![], plan_id: None, source_ranges, network_id, egress }
    }

    fn settings(ranges: &[&str], include: bool) -> Settings {
        let mut settings = Settings::default();
        settings.load_balancer.access_control.allowed_source_ranges = ranges.iter().map(ToString::to_string).collect();
        settings.load_balancer.access_control.include_egress_cidrs = include;
        settings
    }

    #[test]
    fn nobodys_wish_is_not_managed_and_an_empty_one_is_everybody() {
        assert_eq!(ranges(&spec(None, Egress::Known(set(&["10.0.0.0/8"]))), &settings(&[], true)), None);
        let open = spec(Some(&[]), Egress::Known(set(&["10.0.0.0/8"])));
        assert_eq!(ranges(&open, &settings(&[], true)), Some(BTreeSet::new()));
    }

    #[test]
    fn ranges_are_united_and_the_egress_is_added_where_it_is_wished() {
        let own = spec(Some(&["192.0.2.0/24"]), Egress::Known(set(&["10.0.0.0/8"])));
        let with = ranges(&own, &settings(&["198.51.100.0/24"], true));
        assert_eq!(with, Some(set(&["192.0.2.0/24", "198.51.100.0/24", "10.0.0.0/8"])));
        let without = ranges(&own, &settings(&["198.51.100.0/24"], false));
        assert_eq!(without, Some(set(&["192.0.2.0/24", "198.51.100.0/24"])));
        let configured = spec(None, Egress::Known(BTreeSet::new()));
        assert_eq!(ranges(&configured, &settings(&["198.51.100.0/24"], true)), Some(set(&["198.51.100.0/24"])));
    }

    #[test]
    fn what_is_there_stays_only_while_wished_egress_cannot_be_read() {
        let unreadable = spec(None, Egress::Unreadable);
        let known = spec(None, Egress::Known(BTreeSet::new()));
        assert!(keeps_observed(&unreadable, &settings(&[], true)));
        assert!(!keeps_observed(&unreadable, &settings(&[], false)));
        assert!(!keeps_observed(&known, &settings(&[], true)));
    }
}
