//! Three nodes, their agents, and the ways to look at them while one is broken.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::sampler::Sampler;
use crate::agent::{Agent, merge};
use crate::control_plane::ControlPlane;
use crate::control_plane::apiserver::ApiServer;
use crate::control_plane::users::ADMIN;
use crate::emulator::{Entry, Handle};
use crate::namespaces::Network;
use crate::wait::until;
use crate::world::{BALANCER, NODES, World, targets_of};

/// Longer than anything takes that is still of interest.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How long an API server goes on to serve after SIGTERM.
const SHUTDOWN_DELAY: &str = "5s";

/// The rig. Everything in it runs, or is talked to, in the hub of the network.
pub struct Rig<'a> {
    /// Cables and namespaces.
    pub network: &'a Network,
    /// API servers, etcd, STACKIT.
    pub world: World,
    /// One for each node; `None` while it is killed.
    pub agents: Vec<Agent>,
    /// Clients of the API servers of each node.
    pub admins: Vec<Client>,
    /// Who keeps asking.
    pub sampler: Sampler,
    short_lease: bool,
}

impl<'a> Rig<'a> {
    /// Everything running, and all three nodes targets.
    pub async fn start(network: &'a Network) -> Result<Self> {
        let flags = ControlPlane::builder().flag(format!("--shutdown-delay-duration={SHUTDOWN_DELAY}"));
        let world = World::across(network, flags).await?;
        let agents = start_agents(&world, false).await?;
        world.awaits_targets(&NODES, PATIENCE).await?;
        let mut admins = Vec::new();
        for server in world.control_plane.api_servers() {
            admins.push(server.access(&ADMIN).client().await?);
        }
        let address = until("the balancer to listen", PATIENCE, || async {
            world.emulator.traffic(BALANCER).and_then(|traffic| traffic.address()).context("it does not")
        })
        .await?;
        let sampler = Sampler::start(address, &world.control_plane.authority().pem())?;
        Ok(Self { network, world, agents, admins, sampler, short_lease: false })
    }

    /// Starts all agents again where the length of their lease has to be another.
    pub async fn lease(&mut self, short: bool) -> Result<()> {
        if self.short_lease != short {
            self.agents.clear();
            self.agents = start_agents(&self.world, short).await?;
            self.short_lease = short;
        }
        Ok(())
    }

    /// STACKIT.
    pub fn emulator(&self) -> &Handle {
        &self.world.emulator
    }

    /// The node whose agent leads, asked at a node that is well.
    pub async fn leader(&self, at: usize) -> Result<usize> {
        let leases: Api<Lease> = Api::namespaced(self.admins[at].clone(), "kube-system");
        let lease = tokio::time::timeout(Duration::from_secs(2), leases.get_opt("shoot-exposure-agent")).await??;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        let node = NODES.iter().position(|node| holder.starts_with(&format!("{node}_")));
        node.with_context(|| format!("the Lease is held by `{holder}`"))
    }

    /// Waits until a fault may begin: all nodes are targets and green to every agent, one of which leads.
    pub async fn settled(&self) -> Result<usize> {
        self.world.awaits_targets(&NODES, PATIENCE).await?;
        join_all(self.world.control_plane.api_servers().iter().map(ApiServer::ready))
            .await
            .into_iter()
            .collect::<Result<()>>()?;
        until("all agents to see three healthy nodes, and one of them to lead", PATIENCE, || async {
            let mut leading = Vec::new();
            for (index, agent) in self.agents.iter().enumerate() {
                let healthy = agent.metric("shoot_exposure_nodes{verdict=\"healthy\"}").await?;
                ensure!((healthy - 3.0).abs() < f64::EPSILON, "{}: {healthy} healthy nodes", NODES[index]);
                let leads = agent.metric("leader_election_master_status{name=\"shoot-exposure-agent\"}").await?;
                leading.extend((leads > 0.5).then_some(index));
            }
            match leading.as_slice() {
                [leader] if self.leader(*leader).await? == *leader => Ok(*leader),
                leading => bail!("leading: {leading:?}"),
            }
        })
        .await
    }

    /// The first PUT since `from` whose targets are as wished, once it has been answered.
    pub async fn put(&self, from: Instant, wish: impl Fn(&[usize]) -> bool) -> Result<Entry> {
        let found = |emulator: &Handle| {
            emulator.with_journal(|entries| {
                let answered = |entry: &&Entry| entry.arrived >= from && entry.answered.is_some();
                let puts = entries.iter().filter(|entry| entry.method == "PUT" && is_balancers(entry));
                puts.filter(answered).find(|entry| wish(&targets(entry))).cloned()
            })
        };
        self.emulator().wait_for(|emulator| found(emulator).is_some(), PATIENCE).await?;
        found(self.emulator()).context("the journal has lost a request")
    }

    /// The first request about the balancer since `from`.
    pub async fn request(&self, from: Instant) -> Result<Entry> {
        let found = |emulator: &Handle| {
            emulator.with_journal(|entries| entries.iter().find(|it| it.arrived >= from && is_balancers(it)).cloned())
        };
        self.emulator().wait_for(|emulator| found(emulator).is_some(), PATIENCE).await?;
        found(self.emulator()).context("the journal has lost a request")
    }

    /// PUTs without a target that nothing speaks against, as far as the rig knows: all but `excused`.
    pub fn wrong(&self, excused: &[usize]) -> Vec<String> {
        let lacks = |entry: &&Entry| {
            let targets = targets(entry);
            (0..NODES.len()).any(|node| !excused.contains(&node) && !targets.contains(&node))
        };
        self.emulator().with_journal(|entries| {
            let puts = entries.iter().filter(|entry| entry.method == "PUT" && is_balancers(entry));
            puts.filter(lacks)
                .map(|entry| format!("{:?}", targets_of(entry.request.as_ref().unwrap_or(&Value::Null))))
                .collect()
        })
    }
}

fn is_balancers(entry: &Entry) -> bool {
    entry.path.ends_with(&format!("/load-balancers/{BALANCER}"))
}

/// The nodes among the targets of a PUT.
pub fn targets(entry: &Entry) -> Vec<usize> {
    let targets = targets_of(entry.request.as_ref().unwrap_or(&Value::Null));
    let node = |target: &String| NODES.iter().position(|node| target.starts_with(&format!("{node} ")));
    targets.iter().filter_map(node).collect()
}

async fn start_agents(world: &World, short_lease: bool) -> Result<Vec<Agent>> {
    let mut over = json!({
        "log": {"level": "info"},
        // What a node has done before, and how often there was a write, is none of the next run's business.
        "health": {"reAddDelay": {"initial": "2s", "max": "2s"}},
        "loadBalancer": {"writesPerMinute": 6000},
    });
    if short_lease {
        merge(&mut over, World::quick_election());
    }
    let mut agents = Vec::new();
    for node in NODES {
        agents.push(world.agent(node, over.clone()).await?);
    }
    Ok(agents)
}
