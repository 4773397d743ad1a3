//! A client that keeps asking through the balancer: a new connection each time, verified TLS, one consistent read.
//!
//! It reads a Namespace, which takes the API server and its etcd, as most of what clients want does. `/readyz` would not
//! do: an API server that shuts down calls itself not ready while it goes on to serve.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::control_plane::users::{ADMIN, SERVER_NAME};

/// A request begins each time that so long has passed, whatever became of the others.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// When a client has had enough.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it began.
    pub began: Instant,
    /// What became of it; `None` while it is open.
    pub outcome: Option<Result<(), String>>,
}

/// Keeps asking until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Sampler {
    /// Begins to ask what listens at `address`, trusting `authority` (PEM).
    pub fn start(address: SocketAddr, authority: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in pem::parse_many(authority).context("reading the authority")? {
            roots.add(certificate.into_contents().into())?;
        }
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(tls));
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            loop {
                ticks.tick().await;
                let (tls, log) = (tls.clone(), Arc::clone(&log));
                let index = {
                    let mut log = lock(&log);
                    log.push(Request { began: Instant::now(), outcome: None });
                    log.len() - 1
                };
                tokio::spawn(async move {
                    let outcome = match tokio::time::timeout(PATIENCE, ask(address, tls)).await {
                        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
                        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
                    };
                    lock(&log)[index].outcome = Some(outcome);
                });
            }
        });
        Ok(Self { requests, task })
    }

    /// What became of all requests that began within these times, when the last of them has ended.
    pub async fn between(&self, from: Instant, to: Instant) -> Vec<Request> {
        loop {
            let found: Vec<Request> =
                lock(&self.requests).iter().filter(|it| it.began >= from && it.began < to).cloned().collect();
            if found.iter().all(|request| request.outcome.is_some()) {
                return found;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(address: SocketAddr, tls: TlsConnector) -> Result<()> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let stream = tls.connect(ServerName::try_from(SERVER_NAME)?, stream).await.context("the TLS handshake")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let serving = tokio::spawn(connection);
    let request = http::Request::get("/api/v1/namespaces/kube-system")
        .header("Host", SERVER_NAME)
        .header("Authorization", format!("Bearer {}", ADMIN.token()))
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await.context("sending the request")?;
        let status = answer.status();
        answer.into_body().collect().await.context("reading the answer")?;
        ensure!(status.is_success(), "{status}");
        Ok(())
    };
    let answer = answer.await;
    serving.abort();
    answer
}
