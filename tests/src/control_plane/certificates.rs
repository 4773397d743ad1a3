//! Certificates of a test control plane.
//!
//! An API server's certificate carries the names that Gardener puts there, and like Gardener's no address of
//! any node: who talks to a node's address has to know the name to expect.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The names in the certificate of an API server; the last one is the load balancer's.
pub const SERVING_NAMES: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "api.shoot.example.com",
];

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl Authority {
    /// A fresh one. The names of two that take turns (a CA rotation) should differ, as Gardener's do.
    pub fn new(name: &str) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("making the key of a certificate authority")?;
        let issuer = CertifiedIssuer::self_signed(parameters, key)
            .with_context(|| format!("making the certificate authority {name}"))?;
        Ok(Self(issuer))
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server that is reached under `names` (DNS names or addresses).
    pub fn serving(&self, names: &[&str]) -> Result<Pair> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(names).context("reading the names of a serving certificate")?;
        parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("making the key of a serving certificate")?;
        let certificate = parameters.signed_by(&key, &self.0).context("signing a serving certificate")?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Pair {
    /// Writes both files, each by a rename, as a reader may look at any time. The key first: an API server
    /// takes a new pair only when the two fit.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<()> {
        replace(key, &self.key)?;
        replace(certificate, &self.certificate)
    }
}

/// The certificates of several authorities in one file: what to trust while a CA rotation goes on.
pub fn bundle(authorities: &[&Authority]) -> String {
    authorities.iter().map(|authority| authority.pem()).collect()
}

/// The key that signs the tokens of `ServiceAccount`s, and the public one that verifies them, both PEM.
pub fn signing_keys() -> Result<(String, String)> {
    let key = KeyPair::generate().context("making the key for the tokens of ServiceAccounts")?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// Writes a file that is read while the test runs: there is the old content or the new, never half of it.
pub fn replace(path: &Path, content: &str) -> Result<()> {
    // Two at once do not take each other's away.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let new = path.with_added_extension(format!("new-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::write(&new, content)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("writing {}", path.display()))
}
