//! The inventory of public addresses (floating IPs) of all projects.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use ipnet::Ipv4Net;
use serde::Serialize;

/// A public address that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The address itself.
    pub address: IpAddr,
    /// The project it belongs to.
    pub project: String,
    /// The balancer that uses it.
    pub used_by: Option<String>,
    /// Whether it outlives its balancer: static from the start, or promoted (E70).
    pub kept: bool,
}

#[derive(Debug)]
pub(crate) struct Addresses {
    pool: Ipv4Net,
    next: usize,
    known: BTreeMap<IpAddr, Address>,
}

impl Addresses {
    pub(crate) fn new(pool: Ipv4Net) -> Self {
        Self { pool, next: 0, known: BTreeMap::new() }
    }

    pub(crate) fn pool(&self) -> Ipv4Net {
        self.pool
    }

    /// The next free address of the pool, never the one just released (E84); `None` when there is none (F11).
    pub(crate) fn take(&mut self, project: &str, balancer: &str) -> Option<IpAddr> {
        let hosts = self.pool.hosts().count();
        for _ in 0..hosts {
            let candidate = self.pool.hosts().nth(self.next % hosts).map(IpAddr::V4)?;
            self.next += 1;
            if let Entry::Vacant(free) = self.known.entry(candidate) {
                let used_by = Some(balancer.to_owned());
                free.insert(Address { address: candidate, project: project.to_owned(), used_by, kept: false });
                return Some(candidate);
            }
        }
        None
    }

    /// Adds a static address to a project.
    pub(crate) fn add(&mut self, address: IpAddr, project: &str) {
        self.known.insert(address, Address { address, project: project.to_owned(), used_by: None, kept: true });
    }

    /// Removes an address whoever uses it (F21).
    pub(crate) fn remove(&mut self, address: IpAddr) -> bool {
        self.known.remove(&address).is_some()
    }

    pub(crate) fn owns(&self, project: &str, address: IpAddr) -> bool {
        self.known.get(&address).is_some_and(|entry| entry.project == project)
    }

    /// Notes which balancer uses a static address.
    pub(crate) fn attach(&mut self, address: IpAddr, project: &str, balancer: &str) {
        if let Some(entry) = self.known.get_mut(&address).filter(|entry| entry.project == project) {
            entry.used_by = Some(balancer.to_owned());
        }
    }

    /// E70: the address now outlives its balancer.
    pub(crate) fn promote(&mut self, address: IpAddr) {
        if let Some(entry) = self.known.get_mut(&address) {
            entry.kept = true;
        }
    }

    /// E81: the balancer is gone; an ephemeral address goes with it, a kept one is free again.
    pub(crate) fn release(&mut self, address: IpAddr, project: &str, balancer: &str) {
        let Some(entry) = self.known.get_mut(&address).filter(|entry| entry.project == project) else { return };
        if entry.used_by.as_deref() != Some(balancer) {
            return;
        }
        if entry.kept {
            entry.used_by = None;
        } else {
            self.known.remove(&address);
        }
    }

    pub(crate) fn list(&self) -> Vec<Address> {
        self.known.values().cloned().collect()
    }
}
