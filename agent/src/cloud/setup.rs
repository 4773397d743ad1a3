//! What a client is made of, checked before the first request: endpoints and certificate authorities.

use std::path::Path;

use reqwest::{Certificate, Url};

use super::fault;
use crate::host::secret::redact_url;

/// What keeps a client from being made: settings, not the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A CA bundle that is missing, unreadable or holds no usable certificate.
    #[error("CA bundle {origin}: {problem}")]
    Bundle {
        /// The file, or where else it came from.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A base URL or token endpoint that is none.
    #[error("endpoint `{url}`: {problem}")]
    Endpoint {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The TLS stack refuses, for example because this machine has no root certificates.
    #[error("preparing TLS: {0}")]
    Tls(String),
}

/// Certificate authorities beside the public ones.
#[derive(Clone)]
pub struct CaBundle {
    pub(super) certificates: Vec<Certificate>,
}

impl CaBundle {
    /// Reads a PEM file.
    pub fn read(path: &Path) -> Result<Self, SetupError> {
        let origin = path.display().to_string();
        match std::fs::read(path) {
            Ok(pem) => Self::parse(&origin, &pem),
            Err(error) => Err(SetupError::Bundle { origin, problem: error.to_string() }),
        }
    }

    /// Takes PEM text; `origin` says in errors where it came from.
    pub fn parse(origin: &str, pem: &[u8]) -> Result<Self, SetupError> {
        let broken = |problem: String| SetupError::Bundle { origin: origin.to_owned(), problem };
        let parts = pem::parse_many(pem).map_err(|error| broken(format!("broken PEM: {error}")))?;
        if let Some(other) = parts.iter().find(|part| part.tag() != "CERTIFICATE") {
            return Err(broken(format!("holds a {}; only CERTIFICATE belongs there", other.tag())));
        }
        if parts.is_empty() {
            return Err(broken("no PEM certificate in it".to_owned()));
        }
        // The verifier takes or refuses the whole bundle; here the broken one can be named.
        let mut roots = rustls::RootCertStore::empty();
        let mut certificates = Vec::with_capacity(parts.len());
        for (at, part) in parts.into_iter().enumerate() {
            let der = part.into_contents();
            roots
                .add(der.clone().into())
                .map_err(|error| broken(format!("certificate {} cannot be used: {error}", at + 1)))?;
            certificates.push(Certificate::from_der(&der).map_err(|error| broken(fault::chain(&error)))?);
        }
        Ok(Self { certificates })
    }
}

/// Whether requests can go to this URL.
pub fn check_endpoint(url: &str) -> Result<(), SetupError> {
    endpoint(url).map(drop)
}

/// A URL that requests can go to.
pub(super) fn endpoint(url: &str) -> Result<Url, SetupError> {
    let broken = |problem| SetupError::Endpoint { url: redact_url(url), problem };
    let parsed = Url::parse(url).map_err(|_| broken("is not an absolute URL such as https://example.org"))?;
    if !matches!(parsed.scheme(), "https" | "http") {
        Err(broken("has to start with https:// (http:// is for tests)"))
    } else if !parsed.username().is_empty() || parsed.password().is_some() {
        Err(broken("must not hold a user name or password"))
    } else if parsed.query().is_some() || parsed.fragment().is_some() {
        Err(broken("must end with the path, without `?` or `#`"))
    } else {
        Ok(parsed)
    }
}
