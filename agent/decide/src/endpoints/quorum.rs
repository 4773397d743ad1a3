//! Reads and writes with a quorum that have succeeded: etcd served then.
//!
//! One is not enough to remember. Evidence against an API server takes a second or two to be known, and whoever doubts
//! etcd asks it several times a second: the answer that counts is seldom the latest.

use crate::Moment;

/// How many are remembered: at seven a second, the last two seconds, which is longer than any removal has to wait.
const KEPT: usize = 16;

/// A write or read with a quorum of etcd that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// When it was sent.
    pub sent: Moment,
    /// When it was answered.
    pub answered: Moment,
}

/// The latest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quorums {
    /// The newest first.
    kept: [Option<Quorum>; KEPT],
}

impl Quorums {
    /// Takes note of one; the same again is no other.
    pub fn note(&mut self, quorum: Option<Quorum>) {
        if quorum.is_some() && quorum != self.kept[0] {
            self.kept.rotate_right(1);
            self.kept[0] = quorum;
        }
    }

    /// Whether one of them is like this.
    pub fn any(&self, like: impl Fn(Quorum) -> bool) -> bool {
        self.kept.iter().flatten().any(|quorum| like(*quorum))
    }
}

impl FromIterator<Quorum> for Quorums {
    fn from_iter<T: IntoIterator<Item = Quorum>>(quorums: T) -> Self {
        let mut all = Self::default();
        for quorum in quorums {
            all.note(Some(quorum));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_latest_are_kept_and_each_once() {
        let quorum = |second| Quorum { sent: Moment(Duration::from_secs(second)), answered: Moment::default() };
        let all: Quorums = (0..20).flat_map(|second| [quorum(second), quorum(second)]).collect();
        for second in 0..20 {
            assert_eq!(all.any(|it| it == quorum(second)), second >= 4, "{second}");
        }
    }
}
