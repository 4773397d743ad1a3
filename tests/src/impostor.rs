//! A server in the place of an API server, with a certificate that nobody should trust. It tells who came, and what of
//! their requests it got to read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::control_plane::certificates::{Authority, SERVING_NAMES};

/// The server; gone when dropped.
#[derive(Debug)]
pub struct Impostor {
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    visits: AtomicUsize,
    read: Mutex<Vec<u8>>,
}

impl Impostor {
    /// Listens at `address`, with all the right names in a certificate of an authority of its own.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        let pair = Authority::new("kubernetes")?.serving(&SERVING_NAMES)?;
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(address).await.context("listening as an impostor")?;
        let seen = Arc::new(Seen::default());
        let witness = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                witness.visits.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(meet(connection, acceptor.clone(), Arc::clone(&witness)));
            }
        });
        Ok(Self { seen, task })
    }

    /// How many have come.
    pub fn visits(&self) -> usize {
        self.seen.visits.load(Ordering::Relaxed)
    }

    /// Everything that it could decipher.
    pub fn read(&self) -> Vec<u8> {
        self.seen.read.lock().map(|read| read.clone()).unwrap_or_default()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn meet(connection: TcpStream, acceptor: TlsAcceptor, seen: Arc<Seen>) {
    let Ok(mut connection) = acceptor.accept(connection).await else { return };
    let mut bytes = [0; 4096];
    while let Ok(read) = connection.read(&mut bytes).await {
        if read == 0 {
            return;
        }
        if let Ok(mut all) = seen.read.lock() {
            all.extend_from_slice(&bytes[..read]);
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Client;

    use super::*;
    use crate::control_plane::use_ring;

    #[tokio::test]
    async fn who_does_not_verify_is_read_and_who_does_is_not() -> Result<()> {
        use_ring();
        let address = "127.0.0.1:28431".parse()?;
        let impostor = Impostor::start(address).await?;
        let url = format!("https://{address}/secret");
        let careful = Client::builder().no_proxy().build()?.get(&url).send().await;
        assert!(careful.is_err() && impostor.visits() == 1 && impostor.read().is_empty());
        let careless = Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build()?;
        let sent = tokio::spawn(careless.get(&url).bearer_auth("token").send());
        crate::wait::until("the request", std::time::Duration::from_secs(10), || async {
            anyhow::ensure!(!impostor.read().is_empty(), "nothing yet");
            Ok(())
        })
        .await?;
        sent.abort();
        Ok(())
    }
}
