//! kube-apiserver: one or more of them on one etcd, each on an address of its own, as on the nodes of a cluster.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http::Request;

use super::binaries::Binary;
use super::certificates::{Authority, SERVING_NAMES, signing_keys};
use super::link::Link;
use super::users::{ADMIN, Access, User, token_file};
use crate::namespaces::Seat;
use crate::process::Process;
use crate::wait::{hopeless, until};

/// Long against the 3 to 6 s of a start, as the machine may be busy with others.
const DEADLINE: Duration = Duration::from_mins(2);

/// The addresses of Services. Nothing routes them here.
const SERVICES: &str = "10.96.0.0/16";

/// A kube-apiserver.
#[derive(Debug)]
pub struct ApiServer {
    process: Process,
    address: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    trust: String,
}

/// What all API servers of a control plane share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) flags: Vec<String>,
    ca: PathBuf,
    tokens: PathBuf,
    service_accounts: PathBuf,
    service_accounts_public: PathBuf,
    trust: String,
}

impl Shared {
    /// Writes the files that all of them read into `folder`.
    pub(crate) fn write(folder: &Path, authority: &Authority, flags: Vec<String>) -> Result<Self> {
        let file = |name: &str, content: String| {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            anyhow::Ok(path)
        };
        let (private, public) = signing_keys()?;
        Ok(Self {
            flags,
            ca: file("ca.crt", authority.pem())?,
            tokens: file("tokens.csv", token_file())?,
            service_accounts: file("service-accounts.key", private)?,
            service_accounts_public: file("service-accounts.pub", public)?,
            trust: authority.pem(),
        })
    }

    /// The certificate authority's file.
    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// The file with the key that signs the tokens of `ServiceAccount`s.
    pub(crate) fn service_accounts(&self) -> &Path {
        &self.service_accounts
    }
}

impl ApiServer {
    /// Starts one in `seat`, without waiting for it.
    pub(crate) async fn start(
        folder: &Path,
        name: &str,
        seat: &Seat,
        port: u16,
        etcd: &str,
        authority: &Authority,
        shared: &Shared,
    ) -> Result<Self> {
        let binary = Binary::ApiServer.path().await?;
        let address = SocketAddr::from((seat.address, port));
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        authority.serving(&SERVING_NAMES)?.write(&certificate, &key)?;
        let mut command = seat.command(&binary);
        command
            .arg(format!("--bind-address={}", address.ip()))
            .arg(format!("--secure-port={}", address.port()))
            // Not looked up, so that a machine without a network will do.
            .arg(format!("--advertise-address={}", Ipv4Addr::new(10, 96, 0, 1)))
            .arg("--endpoint-reconciler-type=none")
            .arg(format!("--etcd-servers={etcd}"))
            .arg(format!("--tls-cert-file={}", certificate.display()))
            .arg(format!("--tls-private-key-file={}", key.display()))
            .arg(format!("--client-ca-file={}", shared.ca.display()))
            .arg(format!("--token-auth-file={}", shared.tokens.display()))
            .arg("--authorization-mode=RBAC")
            .arg("--anonymous-auth=false")
            // Both rely on controllers that do not run here: one makes the token of each Pod's ServiceAccount, the
            // other takes the taint of a new Node away when it is ready.
            .arg("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
            .arg(format!("--service-cluster-ip-range={SERVICES}"))
            .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
            .arg(format!("--service-account-key-file={}", shared.service_accounts_public.display()))
            .arg(format!("--service-account-signing-key-file={}", shared.service_accounts.display()))
            .args(&shared.flags);
        let process = Process::start(name, command, folder.join(format!("{name}.log")))?;
        Ok(Self { process, address, certificate, key, trust: shared.trust.clone() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A way to it that can be cut, stalled and stranded.
    pub fn link(&self) -> Result<Link> {
        Link::start(Ipv4Addr::LOCALHOST, self.address)
    }

    /// Its process, to pause, resume or watch it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// How `user` reaches it, with the CA that it was started with.
    pub fn access(&self, user: &User) -> Access {
        Access::new(self.address, self.trust.clone(), user)
    }

    /// Waits until `/readyz` says 200, over verified TLS.
    pub async fn ready(&self) -> Result<()> {
        self.ready_to(&self.access(&ADMIN)).await
    }

    /// The same for a caller who trusts something else.
    pub async fn ready_to(&self, access: &Access) -> Result<()> {
        let client = access.client().await?;
        let name = self.process.name();
        let what = format!("{name} to be ready");
        let ready = until(&what, DEADLINE, || async {
            if let Some(status) = self.process.exit()? {
                return Err(hopeless(format!("it has ended: {status}")));
            }
            client.request_text(Request::get("/readyz").body(Vec::new())?).await.context("asking for /readyz")
        });
        ready
            .await
            .map(drop)
            .map_err(|error| anyhow!("{error:#}\nthe log of {name} ends with:\n{}", self.process.tail(30)))
    }

    /// Stops it as a node that shuts down does (SIGTERM), and waits for its end.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.process.terminate()?;
        self.process.exited(DEADLINE).await
    }

    /// Kills it: its connections end, its port is closed.
    pub fn kill(&self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again, on the same port and the same data, and waits until it is ready. Kills it first if it
    /// still runs.
    pub async fn restart(&self) -> Result<()> {
        self.process.restart()?;
        self.ready().await
    }

    /// Gives it a certificate of another authority, as a CA rotation does. It takes it within moments by
    /// itself; a client that trusts the other authority only can tell.
    pub fn serve_with(&self, authority: &Authority) -> Result<()> {
        authority.serving(&SERVING_NAMES)?.write(&self.certificate, &self.key)
    }
}
