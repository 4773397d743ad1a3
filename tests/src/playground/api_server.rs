//! The smallest thing that a balancer and a probe can take for a kube-apiserver: TLS, health endpoints, and 200 for the rest.
//!
//! A process of its own, so that killing and stopping it is the real thing. It is not ready while a file exists.
//!
//! Not here: Kubernetes. `playground --kubernetes` has real ones.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A small API server of the playground.
#[derive(Clone, Debug, Parser)]
#[command(name = "api-server")]
pub struct Arguments {
    /// The node's name, which every answer tells
    #[arg(long)]
    pub name: String,
    /// Where to listen
    #[arg(long)]
    pub listen: SocketAddr,
    /// Certificate, PEM
    #[arg(long)]
    pub certificate: PathBuf,
    /// Its key, PEM
    #[arg(long)]
    pub key: PathBuf,
    /// Not ready while this file exists
    #[arg(long)]
    pub not_ready: PathBuf,
}

/// Serves until it is killed; tells why it cannot.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(serve(arguments)));
    if let Err(error) = served {
        crate::process::say(&format!("api-server: {error:#}"));
    }
    ExitCode::FAILURE
}

async fn serve(arguments: Arguments) -> Result<()> {
    let tls = acceptor(&arguments)?;
    let listener =
        TcpListener::bind(arguments.listen).await.with_context(|| format!("listening on {}", arguments.listen))?;
    let arguments = Arc::new(arguments);
    loop {
        let (stream, _) = listener.accept().await.context("accepting")?;
        tokio::spawn(connection(stream, tls.clone(), arguments.clone()));
    }
}

fn acceptor(arguments: &Arguments) -> Result<TlsAcceptor> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&arguments.certificate)?.collect();
    let key = PrivateKeyDer::from_pem_file(&arguments.key)?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates?, key)
        .context("using the certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Errors are those of clients that end early: theirs.
async fn connection(stream: TcpStream, tls: TlsAcceptor, arguments: Arc<Arguments>) {
    let _ = stream.set_nodelay(true);
    // A balancer's health check connects and says nothing.
    let Ok(stream) = tls.accept(stream).await else { return };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.uri().path(), &arguments);
        async move { response }
    });
    let stream = TokioIo::new(stream);
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(stream, service).await;
    }
}

fn respond(path: &str, arguments: &Arguments) -> Result<Response<Full<Bytes>>, http::Error> {
    let ready = !arguments.not_ready.exists();
    let (status, body) = match path {
        // In the words of a kube-apiserver that has been told to stop: it still serves, and wants no new clients.
        "/readyz" if !ready => {
            (500, "[+]ping ok\n[+]etcd ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n".to_owned())
        }
        "/readyz" | "/livez" => (200, "ok".to_owned()),
        _ => (200, format!("{{\"node\": \"{}\"}}\n", arguments.name)),
    };
    Response::builder().status(status).header("x-node", &arguments.name).body(Full::new(Bytes::from(body)))
}
