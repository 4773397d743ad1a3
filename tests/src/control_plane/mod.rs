//! A real control plane for a test: etcd and one or more kube-apiservers, on loopback addresses of their own.
//!
//! ```text
//! binaries      where the programs come from: KUBEBUILDER_ASSETS, or built once from pinned Go modules
//! addresses     a /24 of loopback addresses for each control plane
//! certificates  the authority, what the servers show, what changes in a CA rotation
//! users         one per role, with a token, a kubeconfig and a client
//! etcd          the members
//! link          the way from one API server to etcd, which can be cut
//! apiserver     the servers: ready, stopped, killed, started again
//! objects       whatever is written in YAML, applied
//! ```
//!
//! Not here: kubelets, a scheduler, anything that runs a Pod. Controllers run only where a test starts
//! kube-controller-manager.

mod addresses;
pub mod apiserver;
pub mod binaries;
pub mod certificates;
pub mod etcd;
pub mod link;
pub mod objects;
pub mod users;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DynamicObject};
use tokio::sync::OnceCell;

use self::addresses::{Block, free_port};
use self::apiserver::{ApiServer, Shared};
use self::binaries::Binary;
use self::certificates::{Authority, replace};
use self::etcd::Etcd;
use self::link::Link;
use self::users::{ADMIN, Access, CONTROLLER_MANAGER, User};
use crate::namespaces::{Network, Seat};
use crate::process::{Folder, Process};
use crate::wait::until;

/// The last byte of the first API server's address, and of the first etcd member's.
const API_SERVERS: u8 = 1;
const ETCD_MEMBERS: u8 = 101;

/// The ports in a namespace, where nobody else is.
const ETCD_CLIENTS: u16 = 2379;
const ETCD_PEERS: u16 = 2380;
const HTTPS: u16 = 443;

/// A port that was free can be taken before its server starts; then another one is tried.
const ATTEMPTS: u32 = 3;

/// etcd and kube-apiservers, ready for use. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order in which they go: first who uses, then what is used.
    api_servers: Vec<ApiServer>,
    links: Vec<Link>,
    etcd: Etcd,
    authority: Authority,
    shared: Shared,
    folder: Folder,
    _block: Block,
}

/// What a control plane should be like; see [`ControlPlane::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    api_servers: u8,
    etcd_members: u8,
    links: bool,
    flags: Vec<String>,
    seats: Vec<(Seat, Seat)>,
}

impl Builder {
    /// How many API servers; one if not told. All listen on the same port, each on its own address.
    #[must_use]
    pub fn api_servers(mut self, count: u8) -> Self {
        self.api_servers = count;
        self
    }

    /// How many etcd members; one if not told.
    #[must_use]
    pub fn etcd_members(mut self, count: u8) -> Self {
        self.etcd_members = count;
        self
    }

    /// Each API server reaches etcd over a [`Link`] of its own, which can be cut, and knows one member only: the first
    /// API server the first, and so on, beginning again when there are fewer members.
    #[must_use]
    pub fn links(mut self) -> Self {
        self.links = true;
        self
    }

    /// One more flag of all API servers, like `--shutdown-delay-duration=5s`. It comes after the harness's own, so a
    /// single value replaces theirs and a list adds to it.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// One API server and one etcd member for each node of a network of namespaces, at the ports that they have in a
    /// cluster. Each API server knows its node's member alone. The caller is in the hub.
    #[must_use]
    pub fn on(mut self, network: &Network, nodes: u8) -> Self {
        let seats = (0..usize::from(nodes)).map(|node| (network.seat(node).clone(), network.etcd_seat(node).clone()));
        self.seats = seats.collect();
        (self.api_servers, self.etcd_members) = (nodes, nodes);
        self
    }

    /// Starts it and waits until every API server is ready.
    pub async fn start(self) -> Result<ControlPlane> {
        let mut attempt = 1;
        loop {
            match ControlPlane::try_start(&self).await {
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("address already in use") => {
                    attempt += 1;
                }
                other => return other.context("starting a control plane"),
            }
        }
    }
}

impl ControlPlane {
    /// One etcd member, one API server.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// One to say more about.
    pub fn builder() -> Builder {
        Builder { api_servers: 1, etcd_members: 1, links: false, flags: Vec::new(), seats: Vec::new() }
    }

    /// One for all tests of this process that ask for it, started by the first.
    ///
    /// They share what it holds: a test that uses it works in a namespace of its own and keeps to objects with
    /// names of its own. Who works with Nodes, or kills something, starts a control plane for itself.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn try_start(wanted: &Builder) -> Result<Self> {
        ensure!(wanted.api_servers > 0 && wanted.etcd_members > 0, "a control plane without API server or etcd");
        use_ring();
        // Both before anything starts: a build takes minutes.
        Binary::Etcd.path().await?;
        Binary::ApiServer.path().await?;

        let folder = Folder::new("control-plane")?;
        let block = Block::claim()?;
        let addresses =
            |first: u8, count: u8| (first..first + count).map(|last| block.address(last)).collect::<Vec<_>>();
        let (seats, members): (Vec<Seat>, Vec<Seat>) = wanted.seats.iter().cloned().unzip();
        let etcd = if members.is_empty() {
            Etcd::start(folder.path(), &addresses(ETCD_MEMBERS, wanted.etcd_members)).await?
        } else {
            Etcd::start_at(folder.path(), &members, ETCD_CLIENTS, ETCD_PEERS).await?
        };
        let authority = Authority::new("kubernetes")?;
        let shared = Shared::write(folder.path(), &authority, wanted.flags.clone())?;

        let addresses = addresses(API_SERVERS, wanted.api_servers);
        let links = if wanted.links { links(&addresses, &etcd)? } else { Vec::new() };
        let (seats, port) = if seats.is_empty() {
            (addresses.iter().copied().map(Seat::here).collect(), free_port(&addresses)?)
        } else {
            (seats, HTTPS)
        };
        let starts = seats.iter().enumerate().map(async |(index, seat)| {
            let name = format!("kube-apiserver-{index}");
            let etcd = match (links.get(index), seat.namespace.is_some()) {
                (Some(link), _) => link.url(),
                (None, true) => etcd.members()[index].url().to_owned(),
                (None, false) => etcd.urls(),
            };
            ApiServer::start(folder.path(), &name, seat, port, &etcd, &authority, &shared).await
        });
        let api_servers = try_join_all(starts).await?;
        try_join_all(api_servers.iter().map(ApiServer::ready)).await?;

        let control_plane = Self { api_servers, links, etcd, authority, shared, folder, _block: block };
        control_plane.namespaces().await?;
        Ok(control_plane)
    }

    /// The API server makes the first namespaces by itself, but is ready before it has.
    async fn namespaces(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client(&ADMIN).await?);
        until("the first namespaces", Duration::from_secs(30), || async {
            for name in ["default", "kube-system", "kube-node-lease"] {
                namespaces.get(name).await?;
            }
            Ok(())
        })
        .await
    }

    /// Where its logs, data and certificates are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its etcd.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// Its API servers, the first on the first address.
    pub fn api_servers(&self) -> &[ApiServer] {
        &self.api_servers
    }

    /// The first API server.
    pub fn api_server(&self) -> &ApiServer {
        &self.api_servers[0]
    }

    /// The ways from the API servers to etcd, in their order; none unless asked for with [`Builder::links`].
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Who signed the certificates of the API servers.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// How `user` reaches the first API server; change what a test wants otherwise.
    pub fn access(&self, user: &User) -> Access {
        self.api_server().access(user)
    }

    /// A client of the first API server, for the runtime of the caller.
    pub async fn client(&self, user: &User) -> Result<Client> {
        self.access(user).client().await
    }

    /// A file with a kubeconfig for the first API server.
    pub fn kubeconfig(&self, user: &User) -> Result<PathBuf> {
        self.write_kubeconfig(user.role, &self.access(user))
    }

    /// A file with a kubeconfig for whatever `access` says; `name` becomes part of the file's.
    pub fn write_kubeconfig(&self, name: &str, access: &Access) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        replace(&path, &access.kubeconfig()?)?;
        Ok(path)
    }

    /// Runs kubectl, and returns what it said whether it succeeded or not.
    pub async fn kubectl(&self, user: &User, arguments: &[&str]) -> Result<Output> {
        tokio::process::Command::new(Binary::Kubectl.path().await?)
            .arg("--kubeconfig")
            .arg(self.kubeconfig(user)?)
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", self.folder())
            .kill_on_drop(true)
            .output()
            .await
            .context("running kubectl")
    }

    /// Applies manifests as the administrator; see [`objects::apply`].
    pub async fn apply<T: AsRef<str>>(&self, manifests: &[T]) -> Result<Vec<DynamicObject>> {
        objects::apply(&self.client(&ADMIN).await?, manifests).await
    }

    /// Starts kube-controller-manager with these controllers only, like `node-lifecycle-controller`. What they do
    /// is the test's to await.
    pub async fn controller_manager(&self, controllers: &[&str]) -> Result<Process> {
        let mut command = Command::new(Binary::ControllerManager.path().await?);
        command
            .arg(format!("--kubeconfig={}", self.kubeconfig(&CONTROLLER_MANAGER)?.display()))
            .arg(format!("--controllers={}", controllers.join(",")))
            .arg("--leader-elect=false")
            .arg("--secure-port=0")
            .arg("--use-service-account-credentials=true")
            .arg(format!("--root-ca-file={}", self.shared.ca().display()))
            .arg(format!("--service-account-private-key-file={}", self.shared.service_accounts().display()));
        Process::start("kube-controller-manager", command, self.folder.join("kube-controller-manager.log"))
    }
}

/// A link for the API server at each address.
fn links(addresses: &[Ipv4Addr], etcd: &Etcd) -> Result<Vec<Link>> {
    let members = etcd.members().iter().cycle();
    addresses.iter().zip(members).map(|(address, member)| Link::start(*address, member.address())).collect()
}

/// The tests use ring wherever they speak TLS, as the agent does.
pub fn use_ring() {
    // An error says that somebody else has chosen already, and nobody chooses anything else here.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
