//! Which loopback address stands for which address of the cloud.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, ensure};
use ipnet::{IpNet, Ipv4Net};

use super::DataPlane;

#[derive(Debug)]
pub(crate) struct Network {
    map: BTreeMap<IpAddr, IpAddr>,
    pool: Ipv4Net,
    namespaces: Option<Ipv4Net>,
    /// Keeps other emulators off the pool.
    _claim: Option<TcpListener>,
}

/// The blocks that are handed out, and the port on a block's last address whose listener is the claim to it.
const BLOCKS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 100, 0, 0), 16);
const CLAIM_PORT: u16 = 1_984;

impl Network {
    pub(crate) fn new(options: &DataPlane) -> anyhow::Result<Self> {
        let (pool, claim) = match options.address_pool {
            Some(pool) => (pool, None),
            None => claim()?,
        };
        ensure!(pool.addr().is_loopback() && pool.prefix_len() >= 8, "the address pool {pool} is not in 127.0.0.0/8");
        for local in options.address_map.values() {
            ensure!(local.is_loopback(), "{local} in the address map is not a loopback address");
        }
        Ok(Self { map: options.address_map.clone(), pool, namespaces: options.namespaces, _claim: claim })
    }

    pub(crate) fn pool(&self) -> Ipv4Net {
        self.pool
    }

    /// The address on this machine, if there is one.
    pub(crate) fn local(&self, address: IpAddr) -> Option<IpAddr> {
        if let Some(local) = self.map.get(&address) {
            return Some(*local);
        }
        match address {
            address if address.is_loopback() => Some(address),
            IpAddr::V4(own) if self.namespaces.is_some_and(|namespaces| namespaces.contains(&own)) => Some(address),
            IpAddr::V4(address) if address.octets()[0] == 10 => {
                let [_, second, third, fourth] = address.octets();
                Some(Ipv4Addr::new(127, second, third, fourth).into())
            }
            _ => None,
        }
    }

    /// E98: whether a source on this machine is in the ranges, by its own address or as one of the map.
    pub(crate) fn admits(&self, ranges: &[IpNet], source: IpAddr) -> bool {
        let inside = |address: &IpAddr| ranges.iter().any(|range| range.contains(address));
        let mut names = self.map.iter().filter(|(_, local)| **local == source).map(|(address, _)| address);
        ranges.is_empty() || inside(&source) || names.any(inside)
    }
}

fn claim() -> anyhow::Result<(Ipv4Net, Option<TcpListener>)> {
    let blocks = BLOCKS.subnets(24).context("dividing the loopback addresses")?;
    for block in blocks {
        if let Ok(claim) = TcpListener::bind(SocketAddr::from((block.broadcast(), CLAIM_PORT))) {
            return Ok((block, Some(claim)));
        }
    }
    anyhow::bail!("all of {BLOCKS} is taken by other emulators")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_mapped_by_the_table_then_by_the_rule_and_never_out_of_loopback() {
        let address_map = BTreeMap::from([(ip("192.168.0.7"), ip("127.0.0.7")), (ip("10.0.1.10"), ip("127.9.9.9"))]);
        let network = Network::new(&DataPlane { address_map, ..DataPlane::default() }).unwrap();
        let local = |text| network.local(ip(text));
        assert_eq!(local("192.168.0.7"), Some(ip("127.0.0.7")));
        assert_eq!(local("10.0.1.10"), Some(ip("127.9.9.9")));
        assert_eq!(local("10.0.1.11"), Some(ip("127.0.1.11")));
        assert_eq!(local("127.3.0.1"), Some(ip("127.3.0.1")));
        assert_eq!(local("192.168.0.8"), None);
        assert_eq!(local("2001:db8::1"), None);
        assert_eq!(local("198.18.0.10"), None);
        let namespaces = Some("198.18.0.0/15".parse().unwrap());
        let beside = Network::new(&DataPlane { namespaces, ..DataPlane::default() }).unwrap();
        assert_eq!(beside.local(ip("198.18.0.10")), Some(ip("198.18.0.10")));
        assert_eq!(beside.local(ip("198.20.0.1")), None);
        let outside = BTreeMap::from([(ip("10.0.1.10"), ip("192.168.0.1"))]);
        assert!(Network::new(&DataPlane { address_map: outside, ..DataPlane::default() }).is_err());
        let public = Some("203.0.113.0/24".parse().unwrap());
        assert!(Network::new(&DataPlane { address_pool: public, ..DataPlane::default() }).is_err());
    }

    #[test]
    fn two_networks_have_two_pools() {
        let (one, other) = (Network::new(&DataPlane::default()).unwrap(), Network::new(&DataPlane::default()).unwrap());
        assert_ne!(one.pool(), other.pool());
    }

    #[test]
    fn e98_a_source_is_known_by_both_its_addresses() {
        let address_map = BTreeMap::from([(ip("192.0.2.7"), ip("127.0.0.7"))]);
        let network = Network::new(&DataPlane { address_map, ..DataPlane::default() }).unwrap();
        let admits = |range: &str, source| network.admits(&[range.parse().unwrap()], ip(source));
        assert!(admits("192.0.2.0/24", "127.0.0.7") && admits("127.0.0.7/32", "127.0.0.7"));
        assert!(!admits("192.0.2.0/24", "127.0.0.8"));
        assert!(network.admits(&[], ip("127.0.0.8")));
    }
}
