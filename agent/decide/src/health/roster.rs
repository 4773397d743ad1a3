//! Nodes that have vanished lately: their API servers are asked on, because a list may be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::NodeView;
use crate::Moment;

/// How long a Node that has vanished is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The Nodes that were listed, and those that are not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    listed: BTreeMap<String, NodeView>,
    departed: BTreeMap<String, (NodeView, Moment)>,
}

impl Roster {
    /// Takes in the list as it is at `now`.
    pub fn update(&mut self, nodes: &BTreeMap<String, NodeView>, now: Moment) {
        for (name, node) in &self.listed {
            if !nodes.contains_key(name) {
                self.departed.insert(name.clone(), (node.clone(), now));
            }
        }
        self.departed.retain(|name, (_, since)| !nodes.contains_key(name) && now.since(*since) < REMEMBERED);
        if self.listed != *nodes {
            self.listed.clone_from(nodes);
        }
    }

    /// The Nodes that are listed.
    pub fn listed(&self) -> impl Iterator<Item = &NodeView> {
        self.listed.values()
    }

    /// The Nodes that have vanished in the last ten minutes.
    pub fn departed(&self) -> impl Iterator<Item = &NodeView> {
        self.departed.values().map(|(node, _)| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> BTreeMap<String, NodeView> {
        let node = |name: &&str| ((*name).to_owned(), NodeView { name: (*name).to_owned(), ..NodeView::default() });
        names.iter().map(node).collect()
    }

    #[test]
    fn who_has_vanished_is_remembered_for_ten_minutes_or_until_it_is_back() {
        let mut roster = Roster::default();
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let departed = |roster: &Roster| roster.departed().map(|node| node.name.clone()).collect::<Vec<_>>();
        roster.update(&nodes(&["a", "b", "c"]), at(0));
        assert!(departed(&roster).is_empty());
        roster.update(&nodes(&["a"]), at(10));
        assert_eq!(departed(&roster), ["b", "c"]);
        roster.update(&nodes(&["a", "b"]), at(20));
        assert_eq!((departed(&roster), roster.listed().count()), (vec!["c".to_owned()], 2));
        roster.update(&nodes(&["a", "b"]), at(609));
        assert_eq!(departed(&roster), ["c"]);
        roster.update(&nodes(&["a", "b"]), at(610));
        assert!(departed(&roster).is_empty());
    }
}
