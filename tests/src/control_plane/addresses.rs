//! Loopback addresses that nobody else uses.
//!
//! All of 127.0.0.0/8 is this machine, so every control plane gets a /24 of its own and gives each of its servers
//! an address in it, as the nodes of a cluster have. One port serves for all API servers, as in a cluster. The
//! block is claimed by a listener, which goes with the process that holds it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

/// Where the claim listens: below the ports that the kernel gives out by itself.
const CLAIM: u16 = 28_999;

/// A /24 within 127.0.0.0/8, ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Block {
    second: u8,
    third: u8,
    _claim: TcpListener,
}

impl Block {
    pub(crate) fn claim() -> Result<Self> {
        let mut last = None;
        for _ in 0..64 {
            // Not 127.0.x.x and 127.1.x.x, which people and programs use by hand.
            let (second, third) = (rand::random_range(2..=254), rand::random());
            match TcpListener::bind((Ipv4Addr::new(127, second, third, 254), CLAIM)) {
                Ok(claim) => return Ok(Self { second, third, _claim: claim }),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error).context("claiming a block of loopback addresses"),
            None => bail!("no block of loopback addresses was tried"),
        }
    }

    pub(crate) fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, last)
    }
}

/// A port that is free on all `addresses`.
///
/// It is free now; somebody who listens on all addresses could still take it before its server does. Such a
/// start fails, and the control plane tries again with another.
pub(crate) fn free_port(addresses: &[Ipv4Addr]) -> Result<u16> {
    let mut last = None;
    for _ in 0..64 {
        let mut port = 0;
        let listeners: Result<Vec<_>, _> = addresses
            .iter()
            .map(|address| {
                let listener = TcpListener::bind(SocketAddr::from((*address, port)))?;
                port = listener.local_addr()?.port();
                Ok::<_, std::io::Error>(listener)
            })
            .collect();
        match listeners {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error).with_context(|| format!("finding a port that is free on {addresses:?}")),
        None => bail!("no port was tried"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_differ_and_a_port_serves_all_addresses() -> Result<()> {
        let (one, other) = (Block::claim()?, Block::claim()?);
        assert_ne!(one.address(1), other.address(1));
        let addresses = [one.address(1), one.address(2), one.address(3)];
        let port = free_port(&addresses)?;
        for address in addresses {
            TcpListener::bind((address, port))?;
        }
        Ok(())
    }
}
