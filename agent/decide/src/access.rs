//! Who may connect: the allowed source ranges of the balancer.
//!
//! The access control is managed while a `providerConfig` is present or the settings name ranges or a file;
//! otherwise it is somebody else's field and goes back as read, so that a `providerConfig` wiped by a whole-spec write
//! does not open the control plane to the world. When any range is set, the shoot's own egress addresses are added: an
//! allow-list never locks out the cluster's own nodes.
//!
//! Deliberately not here: reading the file; the shell does, and keeps the last good ranges.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::exposure::ExposureSpec;
use crate::settings::{self, Settings};

/// The shoot's own egress CIDRs (`Infrastructure.status.egressCIDRs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// They could not be read: whatever the balancer allows stays allowed.
    #[default]
    Unreadable,
    /// As read; empty where the infrastructure has none, as on unmanaged infrastructure.
    Known(BTreeSet<IpNet>),
}

/// What `loadBalancer.accessControl.sourceRangesFile` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FileRanges {
    /// No file is named, or nobody has looked yet.
    #[default]
    NotSet,
    /// It was never readable, and why: whatever the balancer allows stays allowed.
    Unread(String),
    /// As last read; never empty.
    Read(BTreeSet<IpNet>),
}

/// Reads a list of ranges: one canonical CIDR per line, `#` begins a comment. `Err` holds every mistake with its line.
///
/// A list without any range is a mistake: it is what a file looks like that is being written, and it would open the
/// control plane to everybody.
pub fn parse(text: &str) -> Result<BTreeSet<IpNet>, Vec<String>> {
    let mut ranges = BTreeSet::new();
    let mut mistakes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let range = line.split('#').next().unwrap_or_default().trim();
        if range.is_empty() {
            continue;
        }
        match settings::canonical_range(range) {
            Ok(range) => drop(ranges.insert(range)),
            Err(what) => mistakes.push(format!("line {}: {what}", index + 1)),
        }
    }
    match (mistakes.is_empty(), ranges.is_empty()) {
        (true, false) => Ok(ranges),
        (true, true) => Err(vec!["holds no range; remove the setting where everybody may connect".to_owned()]),
        (false, _) => Err(mistakes),
    }
}

/// The ranges to allow: `None` is not managed, an empty set everybody.
pub fn ranges(spec: &ExposureSpec, settings: &Settings) -> Option<BTreeSet<IpNet>> {
    let mut ranges = wanted(spec, settings);
    // Nobody may be let in, and nobody locked out, on account of a file that cannot be read.
    let unknown = ranges.is_empty() && unread(spec, settings).is_some();
    if unknown || (ranges.is_empty() && spec.source_ranges.is_none()) {
        return None;
    }
    let include = settings.load_balancer.access_control.include_egress_cidrs;
    if let (false, true, Egress::Known(egress)) = (ranges.is_empty(), include, &spec.egress) {
        ranges.extend(egress);
    }
    Some(ranges)
}

/// Whether ranges that are on the balancer must stay for now, because the egress CIDRs or the file cannot be read.
pub fn keeps_observed(spec: &ExposureSpec, settings: &Settings) -> bool {
    let include = settings.load_balancer.access_control.include_egress_cidrs;
    (include && spec.egress == Egress::Unreadable) || unread(spec, settings).is_some()
}

/// Why the file that the settings name says nothing yet.
pub fn unread(spec: &ExposureSpec, settings: &Settings) -> Option<String> {
    let file = settings.load_balancer.access_control.source_ranges_file()?;
    let why = match &spec.file_ranges {
        FileRanges::Read(_) => return None,
        FileRanges::Unread(why) => why,
        FileRanges::NotSet => "not read yet",
    };
    Some(format!("loadBalancer.accessControl.sourceRangesFile `{file}`: {why}"))
}

/// What is dangerous about the ranges and allowed all the same.
pub fn warning(spec: &ExposureSpec, settings: &Settings) -> Option<String> {
    let restricted = !wanted(spec, settings).is_empty();
    let include = settings.load_balancer.access_control.include_egress_cidrs;
    let alone = include && matches!(&spec.egress, Egress::Known(egress) if egress.is_empty());
    (restricted && alone).then(|| {
        "source ranges are set, but the shoot has no egress CIDRs (Infrastructure .status.egressCIDRs): its own \
         machines reach the API server through the load balancer only if the ranges hold their addresses"
            .to_owned()
    })
}

/// What settings, file and `providerConfig` name together.
fn wanted(spec: &ExposureSpec, settings: &Settings) -> BTreeSet<IpNet> {
    let access = &settings.load_balancer.access_control;
    let configured = access.allowed_source_ranges.iter().filter_map(|range| range.parse().ok());
    let mut ranges: BTreeSet<IpNet> = configured.collect();
    if let (Some(_), FileRanges::Read(file)) = (access.source_ranges_file(), &spec.file_ranges) {
        ranges.extend(file);
    }
    ranges.extend(spec.source_ranges.iter().flatten());
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Identity;

    fn set(ranges: &[&str]) -> BTreeSet<IpNet> {
        ranges.iter().map(|range| range.parse().unwrap()).collect()
    }

    fn spec(own: Option<&[&str]>, egress: &[&str], file: FileRanges) -> ExposureSpec {
        ExposureSpec {
            name: "root".to_owned(),
            identity: Identity {
                name: "b".to_owned(),
                project_id: "p".to_owned(),
                region: "eu01".to_owned(),
                technical_id: "t".to_owned(),
            },
            port: 443,
            endpoints: Vec::new(),
            plan_id: None,
            source_ranges: own.map(set),
            network_id: "n".to_owned(),
            egress: Egress::Known(set(egress)),
            file_ranges: file,
        }
    }

    fn settings(ranges: &[&str], file: &str) -> Settings {
        let mut settings = Settings::default();
        settings.load_balancer.access_control.allowed_source_ranges = ranges.iter().map(ToString::to_string).collect();
        settings.load_balancer.access_control.source_ranges_file = file.to_owned();
        settings
    }

    #[test]
    fn a_file_is_read_line_by_line() {
        let text = "# offices\n192.0.2.0/24\n\n  2001:db8::/32  # v6\r\n192.0.2.0/24\n";
        assert_eq!(parse(text), Ok(set(&["192.0.2.0/24", "2001:db8::/32"])));
    }

    #[test]
    fn every_mistake_of_a_file_is_named_by_its_line() {
        let mistakes = parse("10.0.0.0/8\n10.0.0.1/8\n\nnonsense\n192.0.2.1\n").unwrap_err();
        assert_eq!(
            mistakes,
            [
                "line 2: \"10.0.0.1/8\" is not a canonical CIDR; write 10.0.0.0/8",
                "line 4: \"nonsense\" is not a CIDR; such as 203.0.113.0/24",
                "line 5: \"192.0.2.1\" is not a CIDR; for a single address write 192.0.2.1/32",
            ]
        );
        for empty in ["", "\n", "# nothing\n"] {
            assert!(parse(empty).unwrap_err()[0].starts_with("holds no range"), "{empty:?}");
        }
    }

    #[test]
    fn exposure_settings_file_and_egress_are_united() {
        let read = FileRanges::Read(set(&["203.0.113.0/24"]));
        let spec = spec(Some(&["192.0.2.0/24"]), &["198.51.100.7/32"], read);
        let settings = settings(&["10.0.0.0/8"], "/ranges");
        let all = ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.7/32", "203.0.113.0/24"];
        assert_eq!(ranges(&spec, &settings), Some(set(&all)));
        assert_eq!(warning(&spec, &settings), None);
        assert!(!keeps_observed(&spec, &settings));
    }

    #[test]
    fn who_manages_it() {
        let egress = &["198.51.100.7/32"];
        let nothing = spec(None, egress, FileRanges::NotSet);
        assert_eq!(ranges(&nothing, &settings(&[], "")), None);
        // A providerConfig without ranges opens it, and egress alone is no allow-list.
        assert_eq!(ranges(&spec(Some(&[]), egress, FileRanges::NotSet), &settings(&[], "")), Some(set(&[])));
        let file = spec(None, egress, FileRanges::Read(set(&["203.0.113.0/24"])));
        assert_eq!(ranges(&file, &settings(&[], "/ranges")), Some(set(&["198.51.100.7/32", "203.0.113.0/24"])));
        // A file that is not named any more counts no longer, whatever was read of it.
        assert_eq!(ranges(&file, &settings(&[], "")), None);
    }

    #[test]
    fn a_file_that_was_never_read_neither_opens_nor_closes() {
        for file in [FileRanges::NotSet, FileRanges::Unread("no such file".to_owned())] {
            let settings = settings(&[], "/ranges");
            assert_eq!(ranges(&spec(None, &[], file.clone()), &settings), None);
            assert_eq!(ranges(&spec(Some(&[]), &[], file.clone()), &settings), None);
            let with_own = spec(Some(&["192.0.2.0/24"]), &[], file);
            assert_eq!(ranges(&with_own, &settings), Some(set(&["192.0.2.0/24"])));
            assert!(keeps_observed(&with_own, &settings));
            assert!(unread(&with_own, &settings).unwrap().contains("`/ranges`"));
        }
    }

    #[test]
    fn ranges_without_egress_are_warned_about() {
        let lonely = spec(Some(&["192.0.2.0/24"]), &[], FileRanges::NotSet);
        assert!(warning(&lonely, &settings(&[], "")).is_some());
        let mut without = settings(&[], "");
        without.load_balancer.access_control.include_egress_cidrs = false;
        assert_eq!(warning(&lonely, &without), None);
        assert_eq!(warning(&spec(Some(&[]), &[], FileRanges::NotSet), &settings(&[], "")), None);
    }
}

#[cfg(test)]
mod tables {
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
        ExposureSpec {
            name,
            identity,
            port: 443,
            endpoints: vec![],
            plan_id: None,
            source_ranges,
            network_id,
            egress,
            file_ranges: FileRanges::NotSet,
        }
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
