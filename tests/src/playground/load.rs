//! Clients of the balancer: so many requests a second, each on a TCP and TLS connection of its own, as `kubectl` makes them.
//!
//! A request has failed when it got no answer within [`PATIENCE`], or one that says the server cannot (5xx). Nothing is tried
//! again: what a client sees is counted.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// How long a client waits for its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Figures of the last moments are over so long.
const LATELY: Duration = Duration::from_secs(2);

/// What has become of the requests.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Answered.
    pub answered: u64,
    /// Failed.
    pub failed: u64,
    /// Answered a second, lately.
    pub rate: f64,
    /// The slowest answer, lately.
    pub slowest: Duration,
    /// Why the last one failed.
    pub last_failure: Option<String>,
}

/// Requests that began between two ends of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// Begun.
    pub begun: u64,
    /// Answered.
    pub answered: u64,
    /// Failed.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    /// Those that are over.
    before: Phase,
    phases: BTreeMap<u64, Phase>,
    phase: u64,
    lately: VecDeque<(Instant, Duration)>,
    last_failure: Option<String>,
}

/// The clients. They end when this is dropped.
#[derive(Debug)]
pub struct Load {
    counts: Arc<Mutex<Counts>>,
    rate: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

/// How the API servers are reached and verified.
#[derive(Clone)]
pub struct Door {
    /// Where the balancer listens; `None` while it does not.
    pub address: watch::Receiver<Option<SocketAddr>>,
    /// Whom to trust, PEM.
    pub authority: String,
    /// The name in the certificate.
    pub server_name: &'static str,
    /// What to ask for.
    pub path: &'static str,
    /// The token to show, if any.
    pub token: Option<String>,
}

impl Load {
    /// Starts the clients; none until there is a rate.
    pub fn start(door: Door) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(door.authority.as_bytes()) {
            roots.add(certificate.context("reading the CA")?).context("trusting the CA")?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (counts, rate) = (Arc::<Mutex<Counts>>::default(), Arc::<AtomicU32>::default());
        let mut task = JoinSet::new();
        task.spawn(drive(door, TlsConnector::from(Arc::new(tls)), counts.clone(), rate.clone()));
        Ok(Self { counts, rate, _task: task })
    }

    /// So many requests a second from now on.
    pub fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// The requests a second that are wanted.
    pub fn rate(&self) -> u32 {
        self.rate.load(Ordering::Relaxed)
    }

    /// What has become of them.
    pub fn figures(&self) -> Figures {
        let mut counts = lock(&self.counts);
        counts.forget();
        let slowest = counts.lately.iter().map(|(_, took)| *took).max().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = counts.lately.len() as f64 / LATELY.as_secs_f64();
        let phases = || counts.phases.values().chain([&counts.before]);
        Figures {
            answered: phases().map(|phase| phase.answered).sum(),
            failed: phases().map(|phase| phase.failed).sum(),
            rate,
            slowest,
            last_failure: counts.last_failure.clone(),
        }
    }

    /// Ends a phase: what begins from now on is of the next. Gives back its number.
    pub fn end_phase(&self) -> u64 {
        let mut counts = lock(&self.counts);
        counts.phase += 1;
        counts.phase - 1
    }

    /// What has become of a phase that has ended; `None` while some of its requests wait for their answer.
    pub fn take_phase(&self, number: u64) -> Option<Phase> {
        let mut counts = lock(&self.counts);
        let phase = counts.phases.get(&number).copied().unwrap_or_default();
        if phase.begun > phase.answered + phase.failed {
            return None;
        }
        counts.phases.remove(&number);
        counts.before.answered += phase.answered;
        counts.before.failed += phase.failed;
        Some(phase)
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counts {
    fn forget(&mut self) {
        let now = Instant::now();
        while self.lately.front().is_some_and(|(at, _)| now.duration_since(*at) > LATELY) {
            self.lately.pop_front();
        }
    }

    fn begin(&mut self) -> u64 {
        self.phases.entry(self.phase).or_default().begun += 1;
        self.phase
    }

    fn end(&mut self, phase: u64, begun: Instant, result: Result<()>) {
        let counted = self.phases.entry(phase).or_default();
        match result {
            Ok(()) => {
                counted.answered += 1;
                self.lately.push_back((Instant::now(), begun.elapsed()));
                self.forget();
            }
            Err(error) => {
                counted.failed += 1;
                self.last_failure = Some(format!("{error:#}"));
            }
        }
    }
}

async fn drive(door: Door, tls: TlsConnector, counts: Arc<Mutex<Counts>>, rate: Arc<AtomicU32>) {
    let mut requests = JoinSet::new();
    let door = Arc::new(door);
    let mut next = tokio::time::Instant::now();
    loop {
        let wanted = rate.load(Ordering::Relaxed);
        // Without a rate somebody looks now and then whether there is one.
        next += Duration::from_secs(1).checked_div(wanted).unwrap_or(Duration::from_millis(50));
        tokio::time::sleep_until(next).await;
        // Whoever was stopped for a while does not make up for it.
        next = next.max(tokio::time::Instant::now() - Duration::from_millis(100));
        while requests.try_join_next().is_some() {}
        let Some(address) = Some(()).filter(|()| wanted > 0).and_then(|()| *door.address.borrow()) else { continue };
        let (door, tls, counts) = (door.clone(), tls.clone(), counts.clone());
        let phase = lock(&counts).begin();
        requests.spawn(async move {
            let begun = Instant::now();
            let asked = tokio::time::timeout(PATIENCE, ask(&door, tls, address)).await;
            let result = asked.unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}"));
            lock(&counts).end(phase, begun, result);
        });
    }
}

async fn ask(door: &Door, tls: TlsConnector, address: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let stream = tls.connect(ServerName::try_from(door.server_name)?, stream).await.context("TLS")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("HTTP")?;
    let mut request = Request::get(door.path).header("host", door.server_name).header("connection", "close");
    if let Some(token) = &door.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await.context("waiting for the answer")?;
        let status = response.status();
        response.into_body().collect().await.context("reading the answer")?;
        anyhow::Ok(status)
    };
    let connection = async {
        // Its error is that of the answer.
        let _ = connection.await;
        std::future::pending().await
    };
    let status = tokio::select! {
        answer = answer => answer?,
        never = connection => never,
    };
    if status.is_server_error() {
        bail!("answered {status}");
    }
    Ok(())
}
