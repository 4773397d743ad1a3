//! A mistake in the settings, and the place where they are gathered.

use std::fmt;

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Dotted key path, such as `leaderElection.renewDeadline`.
    pub path: String,
    /// What was found there and why it is wrong; reads well behind the path and a colon.
    pub found: String,
    /// What to do about it.
    pub hint: String,
    /// Other keys the finding depends on. Where one of them could not be read, the finding is void.
    pub related: Vec<&'static str>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.found)
    }
}

/// Gathers mistakes, so that none hides another.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Mistake>);

impl Findings {
    /// Notes a mistake that one key makes alone.
    pub(super) fn add(&mut self, path: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) {
        self.add_with(path, &[], found, hint);
    }

    /// Notes a mistake that takes several keys.
    pub(super) fn add_with(
        &mut self,
        path: impl Into<String>,
        related: &[&'static str],
        found: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (path, found, hint) = (path.into(), found.into(), hint.into());
        self.0.push(Mistake { path, found, hint, related: related.to_vec() });
    }

    /// Notes the complaint of a check of one value, if it has one.
    pub(super) fn check(&mut self, path: impl Into<String>, result: Result<(), Complaint>) {
        if let Err(Complaint { found, hint }) = result {
            self.add(path, found, hint);
        }
    }
}

/// What a check of one value has to say.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) found: String,
    pub(super) hint: String,
}

/// An `Err` with a [`Complaint`].
pub(super) fn complain(found: impl Into<String>, hint: impl Into<String>) -> Result<(), Complaint> {
    Err(Complaint { found: found.into(), hint: hint.into() })
}
