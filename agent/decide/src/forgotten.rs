//! Drains and pauses that have lasted for longer than anybody means them to.
//!
//! Since when one lasts is in an annotation where our verb has set it; else it counts from when this agent first saw
//! it. Deliberately not here: ending them, which is up to whoever began them.

use std::collections::BTreeMap;

/// Seconds after which one counts as forgotten, and is said again.
pub const LONG: i64 = 3600;

/// What may be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The drain of this node by an operator.
    Drain(String),
    /// The pause of this exposure.
    Pause(String),
}

/// One that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What.
    pub subject: Subject,
    /// Since when, in seconds since 1970, where that is written down.
    pub since: Option<i64>,
}

/// One that is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// What.
    pub subject: Subject,
    /// For how many seconds.
    pub lasts: i64,
    /// It has not been said for an hour.
    pub is_due: bool,
}

/// What this agent has seen and said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    first_seen: BTreeMap<Subject, i64>,
    said: BTreeMap<Subject, i64>,
}

impl Memory {
    /// Takes in all that hold at `wall`, in seconds since 1970, and names those that are forgotten.
    pub fn look(&mut self, standing: Vec<Standing>, wall: i64) -> Vec<Forgotten> {
        let holds = |subject: &Subject| standing.iter().any(|one| one.subject == *subject);
        self.first_seen.retain(|subject, _| holds(subject));
        self.said.retain(|subject, _| holds(subject));
        let mut forgotten = Vec::new();
        for Standing { subject, since } in standing {
            let first_seen = *self.first_seen.entry(subject.clone()).or_insert(wall);
            // Another machine's clock that is ahead must not hide it for longer.
            let lasts = wall - since.map_or(first_seen, |since| since.min(first_seen));
            if lasts >= LONG {
                let is_due = self.said.get(&subject).is_none_or(|said| wall - said >= LONG);
                forgotten.push(Forgotten { subject, lasts, is_due });
            }
        }
        forgotten
    }

    /// It was said at `wall`.
    pub fn said(&mut self, subject: &Subject, wall: i64) {
        self.said.insert(subject.clone(), wall);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(since: Option<i64>) -> Vec<Standing> {
        vec![Standing { subject: Subject::Drain("a".to_owned()), since }]
    }

    #[test]
    fn one_without_a_date_counts_from_when_it_was_first_seen() {
        let mut memory = Memory::default();
        assert!(memory.look(drain(None), 100).is_empty());
        assert!(memory.look(drain(None), 100 + LONG - 1).is_empty());
        assert_eq!(memory.look(drain(None), 100 + LONG)[0].lasts, LONG);
        assert!(memory.look(Vec::new(), 100 + LONG + 1).is_empty());
        assert!(memory.look(drain(None), 100 + LONG + 2).is_empty(), "another one");
    }

    #[test]
    fn a_date_counts_at_once_unless_it_lies_ahead() {
        assert_eq!(Memory::default().look(drain(Some(0)), LONG + 5)[0].lasts, LONG + 5);
        let mut memory = Memory::default();
        assert!(memory.look(drain(Some(9_000)), 100).is_empty());
        assert_eq!(memory.look(drain(Some(9_000)), 100 + LONG).len(), 1);
    }

    #[test]
    fn it_is_said_once_an_hour() {
        let mut memory = Memory::default();
        let forgotten = memory.look(drain(Some(0)), LONG).remove(0);
        assert!(forgotten.is_due);
        memory.said(&forgotten.subject, LONG);
        assert!(!memory.look(drain(Some(0)), LONG + 60)[0].is_due);
        assert!(memory.look(drain(Some(0)), 2 * LONG)[0].is_due);
    }
}
