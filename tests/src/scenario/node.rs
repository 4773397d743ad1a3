//! Nodes and what happens to them.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use decide::health::{Condition, DRAIN, DRAIN_BOOT, NodeAddress, NodeView};

/// The control-plane nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Whether they have been listed.
    pub(super) listed: bool,
    /// By name.
    pub(super) all: BTreeMap<String, NodeView>,
}

impl Nodes {
    /// A ready node; its address ends in its number and one: `cp-0` is 10.0.0.1.
    pub(super) fn add(&mut self, name: &str, address: Option<&str>) {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let last = digits.parse::<u8>().unwrap_or_default().saturating_add(1);
        let address = address.map_or_else(|| format!("10.0.0.{last}"), str::to_owned);
        let (uid, boot_id) = (format!("uid-of-{name}"), "boot-1".to_owned());
        let mut node = NodeView { name: name.to_owned(), uid, boot_id, ..NodeView::default() };
        set_address(&mut node, Some(&address));
        set_condition(&mut node, "Ready", Some("True"), "KubeletReady");
        self.listed = true;
        self.all.insert(name.to_owned(), node);
    }

    /// Something happens to a node.
    pub(super) fn happens(&mut self, name: &str, words: &[&str]) -> Result<()> {
        match words {
            ["add"] => self.add(name, None),
            ["add", address] => self.add(name, Some(address)),
            ["delete"] => drop(self.all.remove(name)),
            words => match self.all.get_mut(name) {
                Some(node) => change(node, words)?,
                None => bail!("no node `{name}`"),
            },
        }
        Ok(())
    }
}

fn change(node: &mut NodeView, words: &[&str]) -> Result<()> {
    match words {
        ["ready"] => set_condition(node, "Ready", Some("True"), ""),
        ["not-ready"] => set_condition(node, "Ready", Some("False"), ""),
        ["unknown"] => set_condition(node, "Ready", Some("Unknown"), ""),
        ["no-condition", kind] => set_condition(node, kind, None, ""),
        ["condition", kind, status] => set_condition(node, kind, Some(status), ""),
        ["condition", kind, status, reason] => set_condition(node, kind, Some(status), reason),
        ["deleting"] => node.deleting = true,
        ["drain"] => drop(node.annotations.insert(DRAIN.to_owned(), "true".to_owned())),
        ["undrain"] => drop(node.annotations.remove(DRAIN)),
        ["drain-boot"] => drop(node.annotations.insert(DRAIN_BOOT.to_owned(), node.boot_id.clone())),
        ["reboot"] => node.boot_id.push_str("-again"),
        ["taint", key] => node.taints.push((*key).to_owned()),
        ["untaint", key] => node.taints.retain(|taint| taint != key),
        ["label", key] => drop(node.labels.insert((*key).to_owned(), String::new())),
        ["unlabel", key] => drop(node.labels.remove(*key)),
        ["address", "none"] => set_address(node, None),
        ["address", address] => set_address(node, Some(address)),
        ["address", kind, address] => {
            node.addresses.push(NodeAddress { kind: (*kind).to_owned(), address: (*address).to_owned() });
        }
        _ => bail!("nothing of the kind happens to nodes"),
    }
    Ok(())
}

fn set_address(node: &mut NodeView, address: Option<&str>) {
    node.addresses.retain(|address| address.kind != "InternalIP");
    let internal = |address: &str| NodeAddress { kind: "InternalIP".to_owned(), address: address.to_owned() };
    node.addresses.extend(address.map(internal));
}

fn set_condition(node: &mut NodeView, kind: &str, status: Option<&str>, reason: &str) {
    node.conditions.retain(|condition| condition.kind != kind);
    if let Some(status) = status {
        let (kind, status, reason) = (kind.to_owned(), status.to_owned(), reason.to_owned());
        node.conditions.push(Condition { kind, status, reason });
    }
}
