//! What stands behind the balancer: three small API servers and a Node list in a file, or three real kube-apiservers.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::act::{NODES, Server};
use super::load::Door;
use crate::agent::Agent;
use crate::control_plane::certificates::{Authority, SERVING_NAMES, replace};
use crate::control_plane::users::ADMIN;
use crate::emulator::{DataPlane, Emulator, KeyOptions, Options};
use crate::process::{Folder, Process};
use crate::wait::until;
use crate::world::{BALANCER, NETWORK, World};

/// The annotation of a drain by hand.
const DRAIN: &str = "exposure.gardener.cloud/drain";
/// Long against a start, as the machine may be busy.
const START: Duration = Duration::from_secs(30);

/// The cluster.
pub(super) enum Cluster {
    Small(Box<Small>),
    Kubernetes(Box<Kubernetes>),
}

/// One agent, which reads Nodes from a file.
pub(super) struct Small {
    // In the order in which they go: first who uses, then what is used.
    agents: Vec<Agent>,
    servers: Vec<Process>,
    emulator: Emulator,
    authority: Authority,
    addresses: [Ipv4Addr; 3],
    drained: [bool; 3],
    folder: Folder,
}

/// Three agents and a Lease.
pub(super) struct Kubernetes {
    agents: Vec<Agent>,
    world: World,
}

/// What every agent here is told, beside what its cluster needs.
fn settings() -> Value {
    json!({
        "log": {"level": "info", "format": "json"},
        // A player is faster than anything that happens to a cluster.
        "loadBalancer": {"writesPerMinute": 120, "resync": "5s"},
    })
}

fn emulator() -> Options {
    Options { data_plane: Some(DataPlane::default()), ..Options::default() }
}

impl Small {
    pub(super) async fn start(program: &Path) -> Result<Self> {
        let folder = Folder::new("playground")?;
        let emulator = Emulator::start(emulator()).await.context("starting the emulated cloud")?;
        let [first, second, third, _] = emulator.address_pool().addr().octets();
        // In the emulator's own block of loopback addresses, so that nobody else has them.
        let address = |last| Ipv4Addr::new(first, second, third, last);
        let addresses = [address(101), address(102), address(103)];
        let port = free_port(&[addresses[0], addresses[1], addresses[2], address(1)]).await?;
        let authority = Authority::new("playground CA")?;
        std::fs::write(folder.join("ca.pem"), authority.pem()).context("writing the CA")?;
        let mut servers = Vec::new();
        for (name, address) in NODES.iter().zip(addresses) {
            servers.push(server(program, &folder, name, SocketAddr::from((address, port)), &authority)?);
        }
        let (agents, drained) = (Vec::new(), [false; 3]);
        let mut small = Self { agents, servers, emulator, authority, addresses, drained, folder };
        for address in addresses {
            let listens = || async { Ok(tokio::net::TcpStream::connect((address, port)).await.map(drop)?) };
            until(&format!("the API server at {address}"), START, listens).await?;
        }
        small.write_nodes()?;
        let credentials = small.folder.join("credentials");
        std::fs::create_dir(&credentials).context("making the folder of the credentials")?;
        small.write_key(&small.emulator.service_account_key(&KeyOptions::default())?)?;
        let mut settings = settings();
        let own = json!({
            "nodes": {"source": "File", "file": small.nodes()},
            "exposure": {"name": "playground", "port": port},
            "health": {"probe": {"caFile": small.folder.join("ca.pem")}},
            "stackit": {
                "credentialsDirectory": credentials, "loadBalancerEndpoint": small.emulator.url(),
                "projectID": small.emulator.project(), "region": small.emulator.region(),
                "networkID": NETWORK, "technicalID": "shoot--garden--playground",
            },
        });
        crate::agent::merge(&mut settings, own);
        // It runs beside the nodes, on none of them.
        small.agents.push(Agent::start("agent", settings, &small.folder).await?);
        Ok(small)
    }

    fn nodes(&self) -> PathBuf {
        self.folder.join("nodes.yaml")
    }

    /// Replaces the Node list, as an editor would: at once.
    fn write_nodes(&self) -> Result<()> {
        let node = |index: usize| {
            let annotations: BTreeMap<_, _> = self.drained[index].then_some((DRAIN, "true")).into_iter().collect();
            let labels = json!({"node-role.kubernetes.io/control-plane": ""});
            json!({
                "metadata": {"name": NODES[index], "uid": NODES[index], "labels": labels, "annotations": annotations},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": self.addresses[index]}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            })
        };
        let list = json!({"apiVersion": "v1", "kind": "List", "items": (0..NODES.len()).map(node).collect::<Vec<_>>()});
        replace(&self.nodes(), &list.to_string())
    }

    fn write_key(&self, key: &Value) -> Result<()> {
        write_secret(&self.folder.join("credentials/serviceaccount.json"), &key.to_string())
    }

    fn not_ready(&self, node: usize) -> PathBuf {
        not_ready_file(&self.folder, NODES[node])
    }
}

/// Replaces a file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let new = path.with_file_name(".new");
    let written = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("writing {}", path.display()))
}

fn not_ready_file(folder: &Folder, name: &str) -> PathBuf {
    folder.join(format!("{name}.not-ready"))
}

fn server(program: &Path, folder: &Folder, name: &str, address: SocketAddr, authority: &Authority) -> Result<Process> {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    authority.serving(&SERVING_NAMES)?.write(&certificate, &key)?;
    let mut command = Command::new(program);
    command.arg("api-server").args(["--name", name, "--listen", &address.to_string()]);
    command.arg("--certificate").arg(certificate).arg("--key").arg(key);
    command.arg("--not-ready").arg(not_ready_file(folder, name));
    Process::start(name, command, folder.join(format!("api-server-{name}.log")))
}

/// A port that is free on all addresses now.
async fn free_port(addresses: &[Ipv4Addr]) -> Result<u16> {
    let first = TcpListener::bind((addresses[0], 0)).await.context("looking for a free port")?;
    let port = first.local_addr()?.port();
    for address in &addresses[1..] {
        TcpListener::bind((*address, port)).await.with_context(|| format!("looking at port {port} of {address}"))?;
    }
    Ok(port)
}

impl Kubernetes {
    pub(super) async fn start() -> Result<Self> {
        let world = World::three_with(emulator()).await?;
        let key = world.emulator.service_account_key(&KeyOptions::default())?;
        write_secret(&world.credentials().join("serviceaccount.json"), &key.to_string())?;
        let mut agents = Vec::new();
        for node in NODES {
            agents.push(world.agent(node, settings()).await?);
            if node == NODES[0] {
                // Then everybody knows who leads at first.
                world.awaits_holder(node, START).await?;
            }
        }
        Ok(Self { agents, world })
    }

    /// A client of an API server that serves.
    async fn nodes(&self, servers: [Server; 3]) -> Result<Api<Node>> {
        let well = servers.iter().position(|server| *server == Server::Serves).context("no API server serves")?;
        Ok(Api::all(self.world.api_server(NODES[well]).access(&ADMIN).client().await?))
    }
}

impl Cluster {
    pub(super) fn emulator(&self) -> &Emulator {
        match self {
            Self::Small(small) => &small.emulator,
            Self::Kubernetes(kubernetes) => &kubernetes.world.emulator,
        }
    }

    pub(super) fn agents(&self) -> &[Agent] {
        match self {
            Self::Small(small) => &small.agents,
            Self::Kubernetes(kubernetes) => &kubernetes.agents,
        }
    }

    /// The balancer's name.
    pub(super) fn balancer(&self) -> &'static str {
        match self {
            Self::Small(_) => "shoot--garden--playground-exp-playground",
            Self::Kubernetes(_) => BALANCER,
        }
    }

    pub(super) fn has_election(&self) -> bool {
        matches!(self, Self::Kubernetes(_))
    }

    pub(super) fn door(&self, address: watch::Receiver<Option<SocketAddr>>) -> Door {
        let server_name = "kubernetes";
        match self {
            Self::Small(small) => {
                Door { address, authority: small.authority.pem(), server_name, path: "/version", token: None }
            }
            Self::Kubernetes(kubernetes) => {
                let authority = kubernetes.world.control_plane.authority().pem();
                Door { address, authority, server_name, path: "/version", token: Some(ADMIN.token()) }
            }
        }
    }

    pub(super) fn server(&self, node: usize) -> &Process {
        match self {
            Self::Small(small) => &small.servers[node],
            Self::Kubernetes(kubernetes) => kubernetes.world.api_server(NODES[node]).process(),
        }
    }

    pub(super) fn kill(&self, node: usize) -> Result<()> {
        self.server(node).kill().map(drop)
    }

    pub(super) fn hang(&self, node: usize) -> Result<()> {
        self.server(node).pause()
    }

    pub(super) fn not_ready(&self, node: usize) -> Result<()> {
        match self {
            Self::Small(small) => std::fs::write(small.not_ready(node), "").context("writing a file"),
            Self::Kubernetes(kubernetes) => {
                kubernetes.world.link(NODES[node]).cut();
                Ok(())
            }
        }
    }

    pub(super) fn restore(&self, node: usize, from: Server) -> Result<()> {
        match (from, self) {
            (Server::Serves, _) => Ok(()),
            (Server::Killed, _) => self.server(node).restart(),
            (Server::Hangs, _) => self.server(node).resume(),
            (Server::NotReady, Self::Small(small)) => {
                std::fs::remove_file(small.not_ready(node)).context("removing a file")
            }
            (Server::NotReady, Self::Kubernetes(kubernetes)) => {
                kubernetes.world.link(NODES[node]).heal();
                Ok(())
            }
        }
    }

    pub(super) async fn drain(&mut self, node: usize, drained: bool, servers: [Server; 3]) -> Result<()> {
        match self {
            Self::Small(small) => {
                small.drained[node] = drained;
                small.write_nodes()
            }
            Self::Kubernetes(kubernetes) => {
                let value = if drained { json!("true") } else { Value::Null };
                let patch = Patch::Merge(json!({"metadata": {"annotations": {DRAIN: value}}}));
                let nodes = kubernetes.nodes(servers).await?;
                nodes.patch(NODES[node], &PatchParams::default(), &patch).await.context("annotating the Node")?;
                Ok(())
            }
        }
    }

    pub(super) fn write_key(&self, key: &Value) -> Result<()> {
        match self {
            Self::Small(small) => small.write_key(key),
            Self::Kubernetes(kubernetes) => {
                write_secret(&kubernetes.world.credentials().join("serviceaccount.json"), &key.to_string())
            }
        }
    }
}
