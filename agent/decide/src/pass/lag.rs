//! Reads that lag behind writes: what they show is over, and nobody's doing.
//!
//! A GET may be answered from a replica that has not heard of the last write yet. Taken at its word it would look as if
//! somebody had undone that write: it would be repeated with a version that is over, and somebody else be blamed.
//! Versions are opaque and never come back, so a version that is known to have been followed by another tells.

use std::time::Duration;

use crate::Moment;

/// Versions that are remembered.
const MOST: usize = 8;
/// How long a read is believed to lag; what shows for longer is the truth.
const LONGEST: Duration = Duration::from_secs(60);
/// How long a balancer that was just made may not be found.
const NEW: Duration = Duration::from_secs(5);

/// What is known to be over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lag {
    /// Versions that others have followed, and since when that is known.
    over: Vec<(String, Moment)>,
    /// When a POST was last answered.
    made: Option<Moment>,
}

impl Lag {
    /// `version` has been followed by another one.
    pub(super) fn followed(&mut self, version: &str, now: Moment) {
        self.over.retain(|(known, at)| known != version && now.since(*at) < LONGEST);
        if self.over.len() >= MOST {
            self.over.remove(0);
        }
        self.over.push((version.to_owned(), now));
    }

    /// A balancer was made.
    pub(super) fn made(&mut self, now: Moment) {
        self.made = Some(now);
    }

    /// The balancer was deleted, so that not finding it is no lag.
    pub(super) fn deleted(&mut self) {
        self.made = None;
    }

    /// Whether a read that shows this version (`None`: no balancer) lags behind what was answered before.
    pub(super) fn shows(&self, version: Option<&str>, now: Moment) -> bool {
        match version {
            Some(version) => self.over.iter().any(|(known, at)| known == version && now.since(*at) < LONGEST),
            None => self.made.is_some_and(|at| now.since(at) < NEW),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn a_version_that_was_followed_is_over_for_a_minute() {
        let mut lag = Lag::default();
        assert!(!lag.shows(Some("v1"), at(0)));
        lag.followed("v1", at(10));
        assert!(lag.shows(Some("v1"), at(69)) && !lag.shows(Some("v2"), at(69)));
        assert!(!lag.shows(Some("v1"), at(70)), "what shows for so long is the truth");
    }

    #[test]
    fn only_the_last_versions_are_remembered() {
        let mut lag = Lag::default();
        for version in 0..=MOST {
            lag.followed(&format!("v{version}"), at(1));
        }
        assert!(!lag.shows(Some("v0"), at(1)) && lag.shows(Some("v1"), at(1)));
        lag.followed("v1", at(2));
        assert_eq!(lag.over.len(), MOST);
    }

    #[test]
    fn a_balancer_that_was_just_made_may_not_be_found_yet() {
        let mut lag = Lag::default();
        assert!(!lag.shows(None, at(0)));
        lag.made(at(1));
        assert!(lag.shows(None, at(5)) && !lag.shows(None, at(6)));
        lag.deleted();
        assert!(!lag.shows(None, at(5)));
    }
}
