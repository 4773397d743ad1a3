//! Nodes that an operator has named on the command line, among those that are listed.
//!
//! Before there is a control plane nobody lists a node, and no probe is answered: the operator's word stands for all
//! evidence. Where a Node of that name exists, it says the rest: its addresses, its UID, its marks.

use std::collections::BTreeMap;
use std::sync::Arc;

use decide::health::NodeView;
use tokio::sync::watch;
use tracing::warn;

use crate::cluster::watch::Watched;

/// Keeps `out` at the listed nodes together with the named ones, until nobody looks any more.
pub(super) async fn join(
    mut listed: watch::Receiver<Watched<NodeView>>,
    named: Vec<NodeView>,
    out: watch::Sender<Watched<NodeView>>,
) {
    let mut said = false;
    loop {
        let seen = listed.borrow_and_update().clone();
        let (items, odd) = joined(&seen.items, &named);
        if !odd.is_empty() && !said {
            said = true;
            warn!("the Nodes know better than the command line: {}", odd.join("; "));
        }
        out.send_replace(Watched { items: Arc::new(items), ..seen });
        tokio::select! {
            Ok(()) = listed.changed() => {}
            // Also where nobody lists any: the end of that task is noticed elsewhere.
            () = out.closed() => return,
        }
    }
}

/// All of them by name, and where a Node has another address than it was given.
fn joined(listed: &BTreeMap<String, NodeView>, named: &[NodeView]) -> (BTreeMap<String, NodeView>, Vec<String>) {
    let mut items = listed.clone();
    let mut odd = Vec::new();
    for named in named {
        let node = items.entry(named.name.clone()).or_insert_with(|| named.clone());
        node.vouched_for = true;
        match (node.internal_ip(), named.internal_ip()) {
            (None, Some(_)) => node.addresses.extend(named.addresses.iter().cloned()),
            (Some(theirs), Some(ours)) if theirs != ours => {
                odd.push(format!("{} has {theirs}, and not {ours}", named.name));
            }
            _ => {}
        }
    }
    (items, odd)
}

#[cfg(test)]
mod tests {
    use decide::health::NodeAddress;

    use super::*;

    fn node(name: &str, ip: &str, uid: &str) -> NodeView {
        let address = NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_owned() };
        let addresses = Some(address).filter(|address| !address.address.is_empty()).into_iter().collect();
        NodeView { name: name.to_owned(), uid: uid.to_owned(), addresses, ..NodeView::default() }
    }

    #[test]
    fn a_node_says_more_than_its_name_on_the_command_line() {
        let listed = [node("a", "10.0.0.1", "1"), node("b", "", "2"), node("d", "10.0.0.4", "4")];
        let listed = listed.into_iter().map(|node| (node.name.clone(), node)).collect();
        let named = [node("a", "10.0.0.9", ""), node("b", "10.0.0.2", ""), node("c", "10.0.0.3", "")];
        let (items, odd) = joined(&listed, &named);
        let shown: Vec<String> = items
            .values()
            .map(|n| format!("{} {} `{}` {}", n.name, n.internal_ip().unwrap(), n.uid, n.vouched_for))
            .collect();
        assert_eq!(shown, ["a 10.0.0.1 `1` true", "b 10.0.0.2 `2` true", "c 10.0.0.3 `` true", "d 10.0.0.4 `4` false"]);
        assert_eq!(odd, ["a has 10.0.0.1, and not 10.0.0.9"]);
    }
}
