//! etcd: where the API servers keep everything.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::addresses::free_port;
use super::binaries::Binary;
use crate::namespaces::Seat;
use crate::process::Process;
use crate::wait::{hopeless, until};

const DEADLINE: Duration = Duration::from_mins(1);

/// A cluster of etcd members, each a process that can be paused, killed and started again.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
}

/// One member.
#[derive(Debug)]
pub struct Member {
    process: Process,
    address: SocketAddr,
    url: String,
}

impl Etcd {
    /// Starts one member on each address, with their data and logs in `folder`, and waits until they have a leader.
    pub(crate) async fn start(folder: &Path, addresses: &[Ipv4Addr]) -> Result<Self> {
        let (clients, peers) = (free_port(addresses)?, free_port(addresses)?);
        ensure!(clients != peers, "etcd's two ports are both {clients}: address already in use");
        let seats: Vec<Seat> = addresses.iter().copied().map(Seat::here).collect();
        Self::start_at(folder, &seats, clients, peers).await
    }

    /// As [`Etcd::start`], each member in its seat, with these ports for clients and for peers.
    pub(crate) async fn start_at(folder: &Path, seats: &[Seat], clients: u16, peers: u16) -> Result<Self> {
        let binary = Binary::Etcd.path().await?;
        let peer = |seat: &Seat| format!("http://{}:{peers}", seat.address);
        let cluster: Vec<_> =
            seats.iter().enumerate().map(|(index, seat)| format!("etcd-{index}={}", peer(seat))).collect();
        let mut members = Vec::new();
        for (index, seat) in seats.iter().enumerate() {
            let name = format!("etcd-{index}");
            let url = format!("http://{}:{clients}", seat.address);
            let mut command = seat.command(&binary);
            command
                .arg(format!("--name={name}"))
                .arg(format!("--data-dir={}", folder.join(&name).display()))
                .arg(format!("--listen-client-urls={url}"))
                .arg(format!("--advertise-client-urls={url}"))
                .arg(format!("--listen-peer-urls={}", peer(seat)))
                .arg(format!("--initial-advertise-peer-urls={}", peer(seat)))
                .arg(format!("--initial-cluster={}", cluster.join(",")))
                // The data lives as long as the test does; a disk that is slow to sync would slow every test.
                .arg("--unsafe-no-fsync");
            let log = folder.join(format!("{name}.log"));
            members.push(Member {
                process: Process::start(name, command, log)?,
                address: SocketAddr::from((seat.address, clients)),
                url,
            });
        }
        let etcd = Self { members };
        for member in &etcd.members {
            member.healthy(DEADLINE).await?;
        }
        Ok(etcd)
    }

    /// The members, in the order of their addresses.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What `--etcd-servers` of an API server says.
    pub fn urls(&self) -> String {
        self.members.iter().map(Member::url).collect::<Vec<_>>().join(",")
    }

    /// Freezes all members: connections stay, nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| member.process.pause())
    }

    /// Lets all members go on.
    pub fn resume(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| member.process.resume())
    }
}

impl Member {
    /// Its process, to pause, kill or restart it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same without a scheme.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is the leader.
    pub async fn leads(&self) -> Result<bool> {
        super::use_ring();
        let client = reqwest::Client::builder().no_proxy().build().context("making a client for etcd")?;
        let metrics = client.get(format!("{}/metrics", self.url)).send().await?.text().await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("etcd_server_is_leader "));
        Ok(line.context("etcd does not say who leads")? == "1")
    }

    /// Waits until it is up and sees a leader.
    pub async fn healthy(&self, deadline: Duration) -> Result<()> {
        super::use_ring();
        let client = reqwest::Client::builder().no_proxy().build().context("making a client for etcd")?;
        let name = self.process.name();
        let what = format!("{name} to be healthy");
        let health = until(&what, deadline, || async {
            if let Some(status) = self.process.exit()? {
                return Err(hopeless(format!("it has ended: {status}")));
            }
            let answer = client.get(format!("{}/health", self.url)).send().await.context("asking for its health")?;
            if !answer.status().is_success() {
                bail!("{}: {}", answer.status(), answer.text().await.unwrap_or_default());
            }
            Ok(())
        });
        health.await.map_err(|error| anyhow!("{error:#}\nthe log of {name} ends with:\n{}", self.process.tail(20)))
    }
}
