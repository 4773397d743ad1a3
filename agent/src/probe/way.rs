//! How API servers are verified and with which credential they are asked.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::HeaderValue;
use kube::Config;
use kube::client::ConfigExt;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use tracing::warn;

/// CA, client certificate and token. Cheap to clone; made anew when any of them changes.
#[derive(Clone)]
pub struct Way {
    pub(super) tls: Arc<ClientConfig>,
    credential: Credential,
}

#[derive(Clone)]
enum Credential {
    /// None, or a client certificate.
    None,
    Token(HeaderValue),
    File(Arc<TokenFile>),
}

/// Why API servers cannot be asked this way.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The CA or the client certificate.
    #[error("cannot make a TLS configuration of the kubeconfig")]
    Kubeconfig(#[source] Box<kube::Error>),
    /// The CA.
    #[error("cannot use the CA")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A token that does not fit into a header.
    #[error("the token is not text for a header")]
    Token,
    /// A program or plugin would have to be run.
    #[error("probes take a token, a token file or a client certificate; the kubeconfig names {0}")]
    Unsupported(&'static str),
}

impl Way {
    /// As the agent's own client does it: CA, client certificate, token or token file.
    pub fn from_config(config: &Config) -> Result<Self, WayError> {
        let user = &config.auth_info;
        let credential = if user.exec.is_some() {
            return Err(WayError::Unsupported("an exec plugin"));
        } else if user.auth_provider.is_some() {
            return Err(WayError::Unsupported("an auth provider"));
        } else if let Some(token) = &user.token {
            Credential::Token(bearer(token.expose_secret()).ok_or(WayError::Token)?)
        } else if let Some(file) = &user.token_file {
            Credential::File(Arc::new(TokenFile::new(PathBuf::from(file))))
        } else if user.username.is_some() {
            return Err(WayError::Unsupported("a user with a password"));
        } else {
            Credential::None
        };
        let tls = config.rustls_client_config().map_err(|error| WayError::Kubeconfig(Box::new(error)))?;
        Ok(Self { tls: Arc::new(offering(tls)), credential })
    }

    /// Without credential. `authority`: certificates, PEM; without any, no certificate is good.
    pub fn without_kubernetes(authority: &[u8]) -> Result<Self, WayError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| WayError::Authority(error);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            let certificate = certificate.map_err(|error| failed(Box::new(error)))?;
            roots.add(certificate).map_err(|error| failed(Box::new(error)))?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(Box::new(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(offering(tls)), credential: Credential::None })
    }

    /// The `Authorization` header as it is now; marked sensitive, so that nothing prints it.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        match &self.credential {
            Credential::None => None,
            Credential::Token(token) => Some(token.clone()),
            Credential::File(file) => file.read(),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way(****)")
    }
}

fn offering(mut tls: ClientConfig) -> ClientConfig {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session does not show the certificate, and clients of the balancer do not resume theirs either.
    tls.resumption = Resumption::disabled();
    tls
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A token in a file, read again when the file is another one than before. While it cannot be read the last token stays.
struct TokenFile {
    path: PathBuf,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    stamp: Option<Stamp>,
    token: Option<HeaderValue>,
    warned: bool,
}

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, Option<SystemTime>);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self(file.ino(), file.len(), file.modified().ok()))
    }
}

impl TokenFile {
    fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::default() }
    }

    fn read(&self) -> Option<HeaderValue> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&self.path);
        if stamp.is_none() || stamp != last.stamp {
            let token = fs::read_to_string(&self.path).ok().filter(|text| !text.trim().is_empty());
            match token.and_then(|text| bearer(&text)) {
                Some(token) => *last = Last { stamp, token: Some(token), warned: false },
                None if !last.warned => {
                    warn!(path = %self.path.display(), "cannot read the token for probes; the last one stays");
                    last.warned = true;
                }
                None => {}
            }
        }
        last.token.clone()
    }
}
