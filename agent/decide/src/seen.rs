//! How new a set of objects is, by its resource version: what is older than what was seen is not believed.
//!
//! Lists are consistent reads, so an older one means an API server that has lost touch with etcd, or with the right etcd.
//! Only a cluster that was restored from a backup goes back for good, so after a while an older one is believed.

use std::time::Duration;

use crate::Moment;
use crate::leader::older;

/// How long older sets are refused before they are believed.
pub const DISBELIEF: Duration = Duration::from_secs(60);

/// The newest resource version that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    version: String,
    refused_since: Option<Moment>,
}

impl Seen {
    /// Whether a list of this version is to be used; it is then what was seen last.
    pub fn admits(&mut self, version: &str, now: Moment) -> bool {
        if older(version, &self.version) && now.since(*self.refused_since.get_or_insert(now)) < DISBELIEF {
            return false;
        }
        self.refused_since = None;
        version.clone_into(&mut self.version);
        true
    }

    /// Takes in an event or bookmark of the watch that goes on from what was admitted.
    pub fn advance(&mut self, version: &str) {
        if !older(version, &self.version) {
            version.clone_into(&mut self.version);
        }
    }

    /// The newest version that was seen; empty before the first.
    pub fn version(&self) -> &str {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(1_000 + seconds))
    }

    #[test]
    fn an_older_list_is_refused_until_it_must_be_a_restored_backup() {
        let mut seen = Seen::default();
        assert!(seen.admits("90", at(0)));
        seen.advance("100");
        seen.advance("95");
        assert_eq!(seen.version(), "100");
        assert!(!seen.admits("99", at(1)));
        assert!(!seen.admits("50", at(60)));
        assert!(seen.admits("51", at(61)));
        assert!(seen.admits("52", at(62)));
    }

    #[test]
    fn a_new_list_ends_the_disbelief() {
        let mut seen = Seen::default();
        assert!(seen.admits("100", at(0)));
        assert!(!seen.admits("99", at(1)));
        assert!(seen.admits("100", at(2)));
        assert!(!seen.admits("99", at(100)));
    }
}
