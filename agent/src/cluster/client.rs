//! How the API server is reached: which kubeconfig, with which limits.
//!
//! Kubernetes never goes through a proxy. Trying again is the callers' business: kube's own retries would hide what is
//! wrong. Kubeconfig, CA and token are followed. A watch that is open goes on over its old connection until the API
//! server ends it, within a minute.
//!
//! Deliberately not here: which of several API servers is asked ([`super::router`]), and connections
//! ([`super::reach`]).

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use decide::route::Server;
use decide::settings::Settings;
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::watch;
use tracing::{info, warn};

use super::reach::Reach;
use super::router::{Door, Router};
use super::transport;
use crate::host::reload::Changes;

/// Where gardenadm's unit has its kubeconfig, when nothing else is named.
const DEFAULT_KUBECONFIG: &str = "/etc/shoot-exposure-agent/kubeconfig";
/// Where a pod finds its account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Who we are.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("shoot-exposure-agent/", env!("CARGO_PKG_VERSION")));

/// The way to the API server, with where it was read.
#[derive(Clone, Debug)]
pub struct Access {
    /// What kube needs to build a client, as first read.
    pub config: Config,
    /// Where it comes from, for people.
    pub origin: String,
    /// The files it consists of.
    files: BTreeSet<PathBuf>,
    /// What they held before they were read.
    fingerprint: u64,
    /// As it is now.
    current: Arc<watch::Sender<Config>>,
    /// Which API server is asked.
    router: Router,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A kubeconfig that is named cannot be used.
    #[error("cannot use the kubeconfig `{path}` ({named_by})")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Who named it.
        named_by: &'static str,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// No client can be made of it.
    #[error("cannot make a Kubernetes client of {origin}")]
    Client {
        /// Where the configuration comes from.
        origin: String,
        /// What is wrong.
        source: kube::Error,
    },
}

/// Finds the way to the API server: the setting, `$KUBECONFIG`, the pod's service account, the default file. `None`
/// where there is none of them.
pub async fn find(settings: &Settings) -> Result<Option<Access>, AccessError> {
    let configured = Some(settings.kubeconfig.clone()).filter(|path| !path.is_empty());
    let from_environment = std::env::var("KUBECONFIG").ok().filter(|path| !path.is_empty());
    if let Some(path) = configured {
        return read(Path::new(&path), "setting kubeconfig").await.map(Some);
    }
    if let Some(path) = from_environment {
        return read(Path::new(&path), "$KUBECONFIG").await.map(Some);
    }
    let account = BTreeSet::from(["token", "ca.crt"].map(|name| Path::new(SERVICE_ACCOUNT).join(name)));
    let before = fingerprint(&account);
    if let Ok(config) = Config::incluster() {
        return Ok(Some(Access::new(config, "the pod's service account".to_owned(), account, before)));
    }
    let default = Path::new(DEFAULT_KUBECONFIG);
    if default.exists() { read(default, "the default").await.map(Some) } else { Ok(None) }
}

async fn read(path: &Path, named_by: &'static str) -> Result<Access, AccessError> {
    let failed = |source| AccessError::Kubeconfig { path: path.to_owned(), named_by, source };
    let files = files(path, &Kubeconfig::read_from(path).map_err(failed)?);
    // Taken before the files are read: what changes meanwhile is seen as a change.
    let before = fingerprint(&files);
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?;
    Ok(Access::new(config, format!("`{}`", path.display()), files, before))
}

/// A kubeconfig and every file it names.
fn files(path: &Path, kubeconfig: &Kubeconfig) -> BTreeSet<PathBuf> {
    let authorities =
        kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref()?.certificate_authority.clone());
    let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let users =
        users.flat_map(|user| [&user.token_file, &user.client_certificate, &user.client_key]).flatten().cloned();
    std::iter::once(path.to_owned()).chain(authorities.chain(users).map(PathBuf::from)).collect()
}

/// What the files hold, as a number.
fn fingerprint(files: &BTreeSet<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        match std::fs::read(file) {
            Ok(content) => content.hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn limited(mut config: Config) -> Config {
    config.proxy_url = None;
    config.headers.push((USER_AGENT, AGENT));
    config
}

impl Access {
    fn new(config: Config, origin: String, files: BTreeSet<PathBuf>, fingerprint: u64) -> Self {
        let config = limited(config);
        let current = Arc::new(watch::Sender::new(config.clone()));
        Self { config, origin, files, fingerprint, current, router: Router::default() }
    }

    /// What kube needs to build a client, as it changes.
    pub fn configs(&self) -> watch::Receiver<Config> {
        self.current.subscribe()
    }

    /// Which API server is asked.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// A client with connections of its own, which follows what changes.
    pub fn client(&self) -> Result<Client, AccessError> {
        self.reach().map(|reach| reach.client())
    }

    /// Connections of their own, which follow what changes.
    pub fn reach(&self) -> Result<Reach, AccessError> {
        Reach::new(self.router.clone(), self.configs()).map_err(|source| self.unusable(source))
    }

    /// A client for the own API server as the kubeconfig is now, on connections of its own, of which nobody is told what
    /// becomes.
    pub fn plain_client(&self) -> Result<Client, AccessError> {
        let config = self.current.borrow().clone();
        transport::client(&config, Server::Own, &Door::default()).map_err(|source| self.unusable(source))
    }

    fn unusable(&self, source: kube::Error) -> AccessError {
        AccessError::Client { origin: self.origin.clone(), source }
    }

    /// Follows the files, and the setting that names them, without end. What cannot be used changes nothing.
    pub async fn follow(mut self, mut live: watch::Receiver<Arc<Settings>>) {
        let mut said = None;
        loop {
            let folders: BTreeSet<&Path> = self.files.iter().filter_map(|file| file.parent()).collect();
            let changes = Changes::of_all(folders);
            loop {
                tokio::select! {
                    () = changes.next() => {}
                    Ok(()) = live.changed() => {}
                }
                let settings = live.borrow_and_update().clone();
                let found = find(&settings).await;
                let problem = match found {
                    Ok(Some(found)) if found.fingerprint == self.fingerprint => None,
                    Ok(Some(found)) => match found.plain_client() {
                        Ok(_) => {
                            info!(origin = found.origin, server = %found.config.cluster_url, "using Kubernetes as it is told now");
                            self.current.send_replace(found.config.clone());
                            let (current, router) = (Arc::clone(&self.current), self.router.clone());
                            let files = self.files.clone();
                            self = Self { current, router, ..found };
                            said = None;
                            if self.files == files { None } else { break }
                        }
                        Err(error) => Some(format!("{:#}", anyhow!(error))),
                    },
                    Ok(None) => Some("there is no kubeconfig any more".to_owned()),
                    Err(error) => Some(format!("{:#}", anyhow!(error))),
                };
                if let Some(problem) = &problem
                    && said.as_ref() != Some(problem)
                {
                    warn!(problem, "cannot read the way to Kubernetes again; the last good one stays");
                }
                said = problem;
            }
        }
    }
}
