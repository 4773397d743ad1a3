//! The external DNS record: what it should hold, from the exposure's ingress.
//!
//! Source: Gardener contract section 3, the rules of gardenlet's own controller: one address family, the shoot's
//! preferred one; addresses win over host names; of host names only the first. Deliberately not here: making or
//! deleting the record, which stay Gardener's.

use std::net::IpAddr;

/// An entry of the exposure's `status.ingress`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingress {
    /// `ip`.
    pub ip: Option<String>,
    /// `hostname`.
    pub hostname: Option<String>,
}

/// What the record says: `spec.recordType` and `spec.values`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `A`, `AAAA` or `CNAME`.
    pub kind: String,
    /// Sorted.
    pub values: Vec<String>,
}

/// What is to be done about the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be.
    Nothing,
    /// Something is not there yet: what.
    Waiting(String),
    /// The ingress does not fit the shoot: why.
    Unfit(String),
    /// It would have to change its type, which it never can.
    Immutable {
        /// The type that the record has.
        found: String,
        /// What it should hold.
        wanted: Record,
    },
    /// It is to hold this.
    Write(Record),
}

/// The name of a shoot's external record.
pub fn name(shoot: &str) -> String {
    format!("{shoot}-external")
}

/// What is to be done. `families` are the shoot's `ipFamilies`, the preferred one first; empty means `IPv4`.
pub fn step(name: &str, ingress: &[Ingress], families: &[String], found: Option<&Record>) -> Step {
    let wanted = match wanted(ingress, families) {
        Ok(wanted) => wanted,
        Err(step) => return step,
    };
    let Some(found) = found else {
        return Step::Waiting(format!("DNSRecord `{name}`, which Gardener makes, is not there"));
    };
    let mut values = found.values.clone();
    values.sort();
    if found.kind != wanted.kind {
        return Step::Immutable { found: found.kind.clone(), wanted };
    }
    if values == wanted.values { Step::Nothing } else { Step::Write(wanted) }
}

fn wanted(ingress: &[Ingress], families: &[String]) -> Result<Record, Step> {
    if ingress.is_empty() {
        return Err(Step::Waiting("the exposure has no ingress yet".to_owned()));
    }
    let ips: Vec<IpAddr> = ingress.iter().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect();
    if ips.is_empty() {
        let hostname = ingress.iter().find_map(|entry| entry.hostname.clone().filter(|name| !name.is_empty()));
        return match hostname {
            Some(hostname) => Ok(Record { kind: "CNAME".to_owned(), values: vec![hostname] }),
            None => Err(Step::Waiting("the ingress has neither addresses nor host names".to_owned())),
        };
    }
    let default = ["IPv4".to_owned()];
    let families = if families.is_empty() { &default } else { families };
    for family in families {
        let (kind, fits): (_, fn(&IpAddr) -> bool) = match family.as_str() {
            "IPv6" => ("AAAA", IpAddr::is_ipv6),
            _ => ("A", IpAddr::is_ipv4),
        };
        let mut values: Vec<String> = ips.iter().filter(|ip| fits(ip)).map(ToString::to_string).collect();
        if !values.is_empty() {
            values.sort();
            values.dedup();
            return Ok(Record { kind: kind.to_owned(), values });
        }
    }
    Err(Step::Unfit(format!(
        "no address of the ingress is of the shoot's families ({}): {}",
        families.join(", "),
        ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ingress {
        Ingress { ip: Some(text.to_owned()), hostname: None }
    }

    fn host(text: &str) -> Ingress {
        Ingress { ip: None, hostname: Some(text.to_owned()) }
    }

    fn record(kind: &str, values: &[&str]) -> Record {
        Record { kind: kind.to_owned(), values: values.iter().map(|&value| value.to_owned()).collect() }
    }

    fn decided(ingress: &[Ingress], families: &[&str], found: Option<&Record>) -> Step {
        let families: Vec<String> = families.iter().map(|&family| family.to_owned()).collect();
        step("x-external", ingress, &families, found)
    }

    #[test]
    fn what_is_equal_needs_nothing_whatever_its_order() {
        let found = record("A", &["10.0.0.2", "10.0.0.1"]);
        assert_eq!(decided(&[ip("10.0.0.1"), ip("10.0.0.2")], &["IPv4"], Some(&found)), Step::Nothing);
    }

    #[test]
    fn values_are_sorted_as_text() {
        let found = record("A", &[]);
        let wanted = record("A", &["10.0.0.10", "10.0.0.9"]);
        assert_eq!(decided(&[ip("10.0.0.9"), ip("10.0.0.10")], &[], Some(&found)), Step::Write(wanted));
    }

    #[test]
    fn the_preferred_family_that_is_there_wins_alone() {
        let both = [ip("10.0.0.1"), ip("2001:db8::1")];
        let aaaa = record("AAAA", &[]);
        let wanted = record("AAAA", &["2001:db8::1"]);
        assert_eq!(decided(&both, &["IPv6", "IPv4"], Some(&aaaa)), Step::Write(wanted));
        let wanted = record("A", &["10.0.0.1"]);
        assert_eq!(decided(&both[..1], &["IPv6", "IPv4"], Some(&record("A", &[]))), Step::Write(wanted));
    }

    #[test]
    fn addresses_of_no_family_of_the_shoot_are_said_even_beside_a_host_name() {
        let step = decided(&[ip("2001:db8::1"), host("h")], &["IPv4"], Some(&record("A", &[])));
        assert!(matches!(step, Step::Unfit(_)), "{step:?}");
    }

    #[test]
    fn without_addresses_the_first_host_name_is_the_one() {
        let found = record("CNAME", &["c"]);
        assert_eq!(decided(&[host("b"), host("a")], &[], Some(&found)), Step::Write(record("CNAME", &["b"])));
    }

    #[test]
    fn another_type_is_said_and_not_tried() {
        let step = decided(&[host("b")], &[], Some(&record("A", &["10.0.0.1"])));
        assert_eq!(step, Step::Immutable { found: "A".to_owned(), wanted: record("CNAME", &["b"]) });
    }

    #[test]
    fn what_is_not_there_is_waited_for() {
        assert!(matches!(decided(&[], &[], None), Step::Waiting(_)));
        assert!(matches!(decided(&[Ingress::default()], &[], None), Step::Waiting(_)));
        assert!(matches!(decided(&[ip("10.0.0.1")], &[], None), Step::Waiting(_)));
    }

    #[test]
    fn the_external_record_has_the_shoots_name() {
        assert_eq!(name("root"), "root-external");
    }
}
