//! Network namespaces: machines with links that can be pulled, on one machine.
//!
//! ```text
//!                 hub 198.18.0.1      emulator, its data plane, whoever asks
//!        ┌─────────────┼─────────────┐          one bridge; a port is the plug of a node's cable
//!   198.18.0.10   198.18.0.11   198.18.0.12     nodes: kube-apiserver, agent
//!        │             │             │          a cable inside each node; packets on it can be lost
//!   198.18.10.2   198.18.11.2   198.18.12.2     their etcd members, which reach each other over their nodes
//! ```
//!
//! 198.18.0.0/15 is set aside for benchmarks (RFC 2544), and nothing here has a way out: no namespace is connected to
//! any other interface of this machine. All of it goes away with the [`Network`], and with the process however it ends.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Uid;

use crate::process::{forget_namespace, janitor_namespace, say};

/// All addresses.
pub const NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
/// The hub's address.
pub const HUB: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:01";

/// Where a server runs: in a namespace, or in the caller's own.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its address.
    pub address: Ipv4Addr,
    /// The name of its namespace.
    pub namespace: Option<String>,
}

impl Seat {
    /// At this address of the caller's own namespace.
    pub fn here(address: Ipv4Addr) -> Self {
        Self { address, namespace: None }
    }

    /// A command that runs `program` there.
    pub fn command(&self, program: &Path) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        // It becomes the program, so that signals reach the right one.
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

/// What is missing on this machine; `None`: nothing.
pub fn missing() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    match Command::new("ip").args(["netns", "list"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("`ip netns list` says: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(_) => Some("there is no `ip`: install iproute2".to_owned()),
    }
}

/// A network for a test; `None`, and loudly so, where there can be none. As root that is an error: then it is to run.
pub fn for_test(what: &str, nodes: u8) -> Result<Option<Network>> {
    let Some(missing) = missing() else { return Network::new(nodes).map(Some) };
    ensure!(!Uid::effective().is_root(), "as root {what} is to be tested: {missing}");
    say(&format!("SKIPPED: {what} is not tested, {missing}"));
    Ok(None)
}

/// A hub, nodes, and a namespace for the etcd member of each.
#[derive(Debug)]
pub struct Network {
    hub: String,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    seat: Seat,
    etcd: Seat,
    namespace: String,
    etcd_namespace: String,
}

impl Network {
    /// Makes it, with so many nodes.
    pub fn new(nodes: u8) -> Result<Self> {
        if let Some(missing) = missing() {
            bail!("{missing}");
        }
        let prefix = format!("sea-{}-{:04x}", std::process::id(), rand::random::<u16>());
        let mut network = Self { hub: format!("{prefix}-hub"), nodes: Vec::new() };
        make(&network.hub)?;
        let hub = network.hub.clone();
        on(&hub, "link add br0 type bridge")?;
        on(&hub, &format!("addr add {HUB}/24 dev br0"))?;
        on(&hub, "link set br0 up")?;
        for index in 0..nodes {
            network.add(&prefix, index)?;
        }
        // Members of etcd find each other over their nodes.
        for here in 0..nodes {
            for there in (0..nodes).filter(|there| *there != here) {
                let name = &network.nodes[usize::from(here)].namespace;
                on(name, &format!("route add {}/24 via {}", inside(there, 0), address(there)))?;
            }
        }
        Ok(network)
    }

    fn add(&mut self, prefix: &str, index: u8) -> Result<()> {
        let (hub, node, etcd) = (&self.hub, format!("{prefix}-node-{index}"), format!("{prefix}-etcd-{index}"));
        let seats = Node {
            seat: Seat { address: address(index), namespace: Some(node.clone()) },
            etcd: Seat { address: inside(index, 2), namespace: Some(etcd.clone()) },
            namespace: node.clone(),
            etcd_namespace: etcd.clone(),
        };
        make(&node)?;
        self.nodes.push(seats);
        make(&etcd)?;
        on(hub, &format!("link add node-{index} type veth peer name eth0 netns {node}"))?;
        on(hub, &format!("link set node-{index} master br0"))?;
        on(hub, &format!("link set node-{index} up"))?;
        on(&node, &format!("addr add {}/24 dev eth0", address(index)))?;
        on(&node, "link set eth0 up")?;
        on(&node, &format!("link add etcd type veth peer name eth0 netns {etcd}"))?;
        on(&node, &format!("addr add {}/24 dev etcd", inside(index, 1)))?;
        on(&node, "link set etcd up")?;
        on(&etcd, &format!("addr add {}/24 dev eth0", inside(index, 2)))?;
        on(&etcd, "link set eth0 up")?;
        on(&etcd, &format!("route add default via {}", inside(index, 1)))?;
        on(hub, &format!("route add {}/24 via {}", inside(index, 0), address(index)))?;
        run("ip", &["netns", "exec", &node, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    }

    /// Where the node's API server and agent are.
    pub fn seat(&self, node: usize) -> &Seat {
        &self.nodes[node].seat
    }

    /// Where the node's etcd member is.
    pub fn etcd_seat(&self, node: usize) -> &Seat {
        &self.nodes[node].etcd
    }

    /// Makes the calling thread, and all that it starts from now on, part of the hub.
    pub fn enter_hub(&self) -> Result<()> {
        let path = format!("/run/netns/{}", self.hub);
        let file = std::fs::File::open(&path).with_context(|| format!("opening {path}"))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {path}"))
    }

    /// Pulls the node's cable: nothing in, nothing out; inside it all goes on.
    pub fn unplug(&self, node: usize) -> Result<()> {
        on(&self.hub, &format!("link set node-{node} down"))
    }

    /// Plugs it in again.
    pub fn plug(&self, node: usize) -> Result<()> {
        on(&self.hub, &format!("link set node-{node} up"))
    }

    /// Loses all packets to the node's etcd member, on the way from its API server and from the other members. Nobody
    /// is told, as when a firewall drops them.
    pub fn lose_etcd(&self, node: usize) -> Result<()> {
        let member = self.nodes[node].etcd.address;
        on(&self.nodes[node].namespace, &format!("neigh replace {member} dev etcd lladdr {NOBODY} nud permanent"))
    }

    /// Lets them pass again.
    pub fn find_etcd(&self, node: usize) -> Result<()> {
        let Node { namespace, etcd, .. } = &self.nodes[node];
        on(namespace, &format!("neigh del {} dev etcd", etcd.address))
    }

    /// Drops whatever would open a connection to this port of the node; open ones go on. Needs nftables.
    pub fn drop_new_connections(&self, node: usize, port: u16) -> Result<()> {
        let rules = format!(
            "add table ip rig; add chain ip rig input {{ type filter hook input priority 0; }}; \
             add rule ip rig input tcp dport {port} tcp flags & (syn | ack) == syn drop"
        );
        run("ip", &["netns", "exec", &self.nodes[node].namespace, "nft", &rules])
            .context("this needs `nft`: install nftables")
    }

    /// Lets them in again.
    pub fn admit_new_connections(&self, node: usize) -> Result<()> {
        run("ip", &["netns", "exec", &self.nodes[node].namespace, "nft", "delete table ip rig"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let inner = self.nodes.iter().flat_map(|node| [&node.etcd_namespace, &node.namespace]);
        for name in inner.chain([&self.hub]) {
            // What cannot be removed now, the janitor tries again.
            if run("ip", &["netns", "delete", name]).is_ok() {
                forget_namespace(name);
            }
        }
    }
}

/// Runs something in the hub, on a thread and a runtime of its own, so that the caller stays where it is.
pub fn in_hub<T, F, Fut>(network: &Network, what: F) -> Result<T>
where
    T: Send,
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = Result<T>>,
{
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            network.enter_hub()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(what())
        });
        inside.join().map_err(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            anyhow!("panicked: {}", said.unwrap_or("with nothing to say"))
        })?
    })
}

fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 10 + node)
}

fn inside(node: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 10 + node, last)
}

fn make(name: &str) -> Result<()> {
    janitor_namespace(name);
    run("ip", &["netns", "add", name])?;
    on(name, "link set lo up")
}

/// `ip` in a namespace.
fn on(namespace: &str, words: &str) -> Result<()> {
    let arguments: Vec<&str> = ["-n", namespace].into_iter().chain(words.split(' ')).collect();
    run("ip", &arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}`: {}", arguments.join(" "), said.trim());
    Ok(())
}
