//! A certificate for the emulator, signed by a CA made for this run.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// How the emulator speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// F20: the certificate ended in 2021.
    pub expired: bool,
}

/// What serves TLS, and the CA's certificate in PEM for those who shall trust it.
pub(crate) fn acceptor(options: Tls, address: IpAddr) -> anyhow::Result<(TlsAcceptor, String)> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "stackit-emulator CA");
    let authority_key = KeyPair::generate().context("making the key of the CA")?;
    let authority_certificate = authority.self_signed(&authority_key).context("signing the CA")?;
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned(), address.to_string()])?;
    server.distinguished_name.push(DnType::CommonName, "stackit-emulator");
    if options.expired {
        server.not_before = date_time_ymd(2_020, 1, 1);
        server.not_after = date_time_ymd(2_021, 1, 1);
    }
    let key = KeyPair::generate().context("making the key of the server")?;
    let certificate = server.signed_by(&key, &issuer).context("signing the certificate of the server")?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .context("building the TLS server")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), authority_certificate.pem()))
}
