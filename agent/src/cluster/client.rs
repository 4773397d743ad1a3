//! How the API server is reached: which kubeconfig, with which limits.
//!
//! Kubernetes never goes through a proxy, and nothing waits for a connection longer than a few seconds. Retrying is
//! the callers' business: kube's own retries would hide what is wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use decide::settings::Settings;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Where gardenadm's unit has its kubeconfig, when nothing else is named.
const DEFAULT_KUBECONFIG: &str = "/etc/shoot-exposure-agent/kubeconfig";
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// The way to the API server, with where it was read.
#[derive(Clone, Debug)]
pub struct Access {
    /// What kube needs to build a client.
    pub config: Config,
    /// Where it comes from, for people.
    pub origin: String,
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
    if let Ok(config) = Config::incluster() {
        return Ok(Some(Access { config: limited(config), origin: "the pod's service account".to_owned() }));
    }
    let default = Path::new(DEFAULT_KUBECONFIG);
    if default.exists() { read(default, "the default").await.map(Some) } else { Ok(None) }
}

async fn read(path: &Path, named_by: &'static str) -> Result<Access, AccessError> {
    let failed = |source| AccessError::Kubeconfig { path: path.to_owned(), named_by, source };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?;
    Ok(Access { config: limited(config), origin: format!("`{}`", path.display()) })
}

fn limited(mut config: Config) -> Config {
    config.proxy_url = None;
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    config
}

impl Access {
    /// A client with connections of its own.
    pub fn client(&self) -> Result<Client, AccessError> {
        Client::try_from(self.config.clone())
            .map_err(|source| AccessError::Client { origin: self.origin.clone(), source })
    }
}
