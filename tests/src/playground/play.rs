//! The play: the cluster, its clients, and what has happened so far.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::sync::watch;

use super::act::{Act, NODES, Server};
use super::chronicle::Chronicle;
use super::cluster::{Cluster, Kubernetes, Small};
use super::load::{Figures, Load};
use crate::agent::Agent;
use crate::emulator::{Action, BalancerReport, Fault, KeyOptions};
use crate::world::targets_of;

/// Time for an agent to end when it is told to.
const END: Duration = Duration::from_secs(15);

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the start.
    pub at: Duration,
    /// Who did or said it: `you`, `clients`, or an agent by its node.
    pub who: String,
    /// In one sentence.
    pub what: String,
}

/// Everything on stage.
pub struct Play {
    // In the order in which they go: first who uses, then what is used.
    load: Load,
    cluster: Cluster,
    address: watch::Sender<Option<SocketAddr>>,
    chronicles: Vec<Chronicle>,
    begun: Instant,
    servers: [Server; 3],
    drained: [bool; 3],
    cloud_down: bool,
    keys: u32,
    failed: u64,
    burst: Option<Burst>,
    events: Vec<Event>,
}

/// Requests that have failed one after the other.
struct Burst {
    /// The place of their event.
    event: usize,
    count: u64,
    why: String,
}

/// How things are.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Since the start.
    pub at: Duration,
    /// Of the balancer, as the cloud says; empty before there is one.
    pub status: String,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// The nodes, in order.
    pub nodes: Vec<NodePicture>,
    /// The agent that leads; empty while nobody does.
    pub leader: String,
    /// Without one there is a single agent, which always leads.
    pub election: bool,
    /// Why the targets are frozen.
    pub frozen: Option<String>,
    /// The API of the cloud is down.
    pub cloud_down: bool,
    /// How many keys the service account has had.
    pub keys: u32,
    /// What the clients see.
    pub clients: Figures,
    /// The requests a second that are wanted.
    pub rate: u32,
}

/// How a node is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePicture {
    /// Its name.
    pub name: &'static str,
    /// Its API server, as the player has made it.
    pub server: Server,
    /// It is drained.
    pub drained: bool,
    /// What the agent says of it.
    pub verdict: String,
    /// It is a target of the balancer.
    pub target: bool,
    /// The balancer's own health check says so.
    pub healthy: bool,
    /// Connections so far, and open now.
    pub connections: (u64, u64),
}

impl Play {
    /// Starts everything; `program` plays the API servers, too. Ready when there is an agent; the balancer comes later.
    pub async fn start(program: &Path, kubernetes: bool) -> Result<Self> {
        // The provider is the same, whoever is first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = if kubernetes {
            Cluster::Kubernetes(Box::new(Kubernetes::start().await?))
        } else {
            Cluster::Small(Box::new(Small::start(program).await?))
        };
        let (address, there) = watch::channel(None);
        let load = Load::start(cluster.door(there))?;
        let agents = cluster.agents().iter().map(Agent::process);
        let chronicles = agents
            .map(|process| Chronicle::new(process.name(), process.log().to_owned(), !cluster.has_election()))
            .collect();
        Ok(Self {
            load,
            cluster,
            address,
            chronicles,
            begun: Instant::now(),
            servers: [Server::Serves; 3],
            drained: [false; 3],
            cloud_down: false,
            keys: 1,
            failed: 0,
            burst: None,
            events: Vec::new(),
        })
    }

    /// Since the start.
    pub fn at(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The clients.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Whether several agents elect a leader.
    pub fn has_election(&self) -> bool {
        self.cluster.has_election()
    }

    /// What has happened so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn tell(&mut self, who: &str, what: impl Into<String>) {
        self.events.push(Event { at: self.at(), who: who.to_owned(), what: what.into() });
    }

    /// Does it, at once.
    pub async fn act(&mut self, act: Act) -> Result<()> {
        self.tell("you", act.to_string());
        self.carry_out(act).await.with_context(|| act.to_string())
    }

    async fn carry_out(&mut self, act: Act) -> Result<()> {
        let (cluster, servers) = (&mut self.cluster, self.servers);
        match act {
            Act::Kill(node) => {
                cluster.kill(node)?;
                self.servers[node] = Server::Killed;
            }
            // One thing at a time: it is well first.
            Act::Hang(node) => {
                cluster.restore(node, servers[node])?;
                cluster.hang(node)?;
                self.servers[node] = Server::Hangs;
            }
            Act::NotReady(node) => {
                cluster.restore(node, servers[node])?;
                cluster.not_ready(node)?;
                self.servers[node] = Server::NotReady;
            }
            Act::Restore(node) => {
                cluster.restore(node, servers[node])?;
                self.servers[node] = Server::Serves;
            }
            Act::Drain(node) | Act::Undrain(node) => {
                let drained = act == Act::Drain(node);
                cluster.drain(node, drained, servers).await?;
                self.drained[node] = drained;
            }
            Act::CloudDown => {
                if !self.cloud_down {
                    cluster.emulator().inject(Fault::new(Action::gateway_error(503)));
                }
                self.cloud_down = true;
            }
            Act::CloudUp => {
                cluster.emulator().clear_faults();
                self.cloud_down = false;
            }
            Act::RotateKey => self.rotate()?,
        }
        Ok(())
    }

    /// The hard way: the old key and all its tokens are refused as soon as the new one is in place.
    fn rotate(&mut self) -> Result<()> {
        let emulator = self.cluster.emulator();
        let known = emulator.keys();
        self.cluster.write_key(&emulator.service_account_key(&KeyOptions::default())?)?;
        for old in known {
            emulator.revoke_key(&old);
        }
        emulator.revoke_tokens();
        self.keys += 1;
        Ok(())
    }

    /// Takes note of what has happened since the last look; an error when an agent has ended.
    pub fn look(&mut self) -> Result<()> {
        for agent in self.cluster.agents() {
            if let Some(status) = agent.process().exit()? {
                bail!("the agent {} has ended with {status}:\n{}", agent.process().name(), agent.process().tail(20));
            }
        }
        let traffic = self.traffic();
        let address = traffic.as_ref().and_then(BalancerReport::address);
        self.address.send_if_modified(|before| std::mem::replace(before, address) != address);
        let now = Instant::now();
        let news: Vec<_> = self.chronicles.iter_mut().flat_map(|chronicle| chronicle.news(now)).collect();
        for said in news {
            self.tell(&said.by, said.what);
        }
        let figures = self.load.figures();
        if figures.failed > self.failed {
            self.failures(figures.failed - self.failed, &figures.last_failure.unwrap_or_default());
            self.failed = figures.failed;
        }
        Ok(())
    }

    /// Those that fail one after the other for the same reason are one event.
    fn failures(&mut self, count: u64, why: &str) {
        let burst = self.burst.take_if(|burst| burst.why == why && self.events.len() == burst.event + 1);
        let burst = Burst {
            event: burst.as_ref().map_or(self.events.len(), |burst| burst.event),
            count: count + burst.map_or(0, |burst| burst.count),
            why: why.to_owned(),
        };
        let what = format!("{} failed: {why}", burst.count);
        match self.events.get_mut(burst.event) {
            Some(event) => event.what = what,
            None => self.tell("clients", what),
        }
        self.burst = Some(burst);
    }

    fn traffic(&self) -> Option<BalancerReport> {
        self.cluster.emulator().traffic(self.cluster.balancer())
    }

    /// The names of the balancer's targets, sorted.
    pub fn targets(&self) -> Vec<String> {
        let balancer = self.cluster.emulator().balancer(self.cluster.balancer()).unwrap_or_default();
        targets_of(&balancer).iter().filter_map(|target| target.split(' ').next()).map(str::to_owned).collect()
    }

    /// Whether the balancer listens.
    pub fn listens(&self) -> bool {
        self.address.borrow().is_some()
    }

    fn leading(&self) -> Option<usize> {
        if self.has_election() { self.chronicles.iter().position(Chronicle::leads) } else { Some(0) }
    }

    /// The node of the agent that leads; empty while nobody does.
    pub fn leader(&self) -> String {
        self.leading().map(|index| self.chronicles[index].by().to_owned()).unwrap_or_default()
    }

    /// Why the targets are frozen, as the leader says.
    pub fn frozen(&self) -> Option<&str> {
        self.leading().and_then(|index| self.chronicles[index].frozen())
    }

    /// What the leader says of a node.
    pub async fn verdicts(&self) -> Vec<String> {
        let Some(leader) = self.leading() else { return vec![String::new(); NODES.len()] };
        let answer = self.cluster.agents()[leader].get("/state").await;
        let state: Value = answer.ok().and_then(|(_, text)| serde_json::from_str(&text).ok()).unwrap_or_default();
        let said = |name: &&str| {
            let nodes = state["nodes"].as_array().into_iter().flatten();
            let node = nodes.into_iter().find(|node| node["name"] == **name);
            // Its log says less: not how those are that it has chosen.
            let told = || self.chronicles[leader].said_of(name);
            node.and_then(|node| node["verdict"].as_str()).or_else(told).unwrap_or_default().to_owned()
        };
        NODES.iter().map(said).collect()
    }

    /// How things are.
    pub async fn picture(&self) -> Picture {
        let balancer = self.cluster.emulator().balancer(self.cluster.balancer()).unwrap_or_default();
        let (targets, traffic, verdicts) = (self.targets(), self.traffic(), self.verdicts().await);
        let node = |(index, (name, verdict)): (usize, (&'static str, String))| {
            let reports = traffic.iter().flat_map(|traffic| &traffic.targets);
            let report = reports.into_iter().find(|target| target.name == name);
            NodePicture {
                name,
                server: self.servers[index],
                drained: self.drained[index],
                verdict,
                target: targets.iter().any(|target| target == name),
                healthy: report.is_some_and(|report| report.in_pool && report.healthy),
                connections: report.map_or((0, 0), |report| (report.connections, report.open)),
            }
        };
        Picture {
            at: self.at(),
            status: balancer["status"].as_str().unwrap_or_default().trim_start_matches("STATUS_").to_owned(),
            address: *self.address.borrow(),
            nodes: NODES.into_iter().zip(verdicts).enumerate().map(node).collect(),
            leader: self.leader(),
            election: self.has_election(),
            frozen: self.frozen().map(str::to_owned),
            cloud_down: self.cloud_down,
            keys: self.keys,
            clients: self.load.figures(),
            rate: self.load.rate(),
        }
    }

    /// The process ids of all programs that were started, for whoever wants to see that they are gone.
    pub fn programs(&self) -> Vec<u32> {
        let servers = (0..NODES.len()).map(|node| self.cluster.server(node).id());
        self.cluster.agents().iter().map(|agent| agent.process().id()).chain(servers).collect()
    }

    /// Tells the agents to stop, and waits until they have. All else goes when this is dropped.
    pub async fn end(self) -> Result<()> {
        self.load.set_rate(0);
        for agent in self.cluster.agents() {
            agent.process().terminate()?;
        }
        for agent in self.cluster.agents() {
            let status = agent.process().exited(END).await?;
            anyhow::ensure!(status.success(), "the agent {} ended with {status}", agent.process().name());
        }
        self.cluster.emulator().conforms()
    }
}
