//! Mistakes with the place they were made in, and how all of them are printed.

use std::fmt;

/// Where a value comes from. Ordered as the layers are: later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// The file, with the line where it is known.
    File {
        /// As it was given.
        path: String,
        /// From 1.
        line: Option<u64>,
    },
    /// An environment variable.
    Variable(String),
    /// A flag on the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("defaults"),
            Self::File { path, line: Some(line) } => write!(f, "{path}:{line}"),
            Self::File { path, line: None } => f.write_str(path),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One mistake and where it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The place.
    pub origin: Origin,
    /// Dotted key path; empty where the file as a whole is meant.
    pub path: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}\n  hint: {}", self.found, self.hint)
    }
}

/// Everything that is wrong with the configuration; never empty. Prints two lines for each mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationErrors {
    /// In the order of the layers, in each by line.
    pub mistakes: Vec<Located>,
}

impl ConfigurationErrors {
    /// Puts the mistakes in order.
    pub(super) fn new(mut mistakes: Vec<Located>) -> Self {
        mistakes.sort_by(|a, b| a.origin.cmp(&b.origin));
        mistakes.dedup();
        Self { mistakes }
    }
}

impl fmt::Display for ConfigurationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigurationErrors {}
