//! A small API server that falls ill on request, and a proxy that stops forwarding.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// What a server of this name shows, over one of these protocols.
    pub(super) fn acceptor(&self, name: &str, protocol: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// How it speaks.
#[derive(Clone)]
pub(super) enum Accept {
    Plain,
    Tls(TlsAcceptor),
    /// Takes connections and says nothing.
    Hang,
    /// Ends connections at once.
    Reset,
}

/// What it says to a request.
#[derive(Clone)]
pub(super) enum Say {
    Now(u16, String),
    After(Duration),
    Nothing,
    /// Nothing to `path`, 200 to `alivePath`.
    NothingButAlive,
}

/// How its connections end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    Fin,
    Rst,
    GoAway,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) connection: usize,
    pub(super) path: String,
    pub(super) authorization: String,
    pub(super) host: String,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

/// Ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) accept: watch::Sender<Accept>,
    pub(super) say: watch::Sender<Say>,
    cut: watch::Sender<(usize, Cut)>,
    counts: Arc<Counts>,
    listener: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut(Cut::Fin);
    }
}

impl Server {
    pub(super) async fn start(accept: Accept) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), accept).await
    }

    pub(super) async fn start_at(address: SocketAddr, accept: Accept) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accept, say) = (watch::Sender::new(accept), watch::Sender::new(Say::Now(200, "ok".to_owned())));
        let (cut, counts) = (watch::Sender::new((0, Cut::Fin)), Arc::new(Counts::default()));
        let (accepts, says, cuts, all) = (accept.subscribe(), say.subscribe(), cut.clone(), Arc::clone(&counts));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = all.connections.fetch_add(1, Ordering::SeqCst);
                let accept = accepts.borrow().clone();
                tokio::spawn(connection(stream, accept, says.clone(), cuts.subscribe(), Arc::clone(&all), number));
            }
        });
        Self { address, accept, say, cut, counts, listener: task }
    }

    /// Ends all connections.
    pub(super) fn cut(&self, how: Cut) {
        self.cut.send_modify(|cut| *cut = (cut.0 + 1, how));
    }

    /// Closes the port and ends all connections, as a crash does.
    pub(super) async fn die(&mut self) {
        self.listener.abort();
        let _ = (&mut self.listener).await;
        self.cut(Cut::Fin);
    }

    pub(super) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// The most connections, taken and not ended, at a time.
    pub(super) fn most_open(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.counts.seen.lock().unwrap().clone()
    }
}

struct Open(Arc<Counts>);

impl Open {
    fn new(counts: Arc<Counts>) -> Self {
        let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(open, Ordering::SeqCst);
        Self(counts)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(
    stream: TcpStream,
    accept: Accept,
    say: watch::Receiver<Say>,
    cut: watch::Receiver<(usize, Cut)>,
    counts: Arc<Counts>,
    number: usize,
) {
    let _open = Open::new(Arc::clone(&counts));
    let reset = |stream: &TcpStream| stream.set_zero_linger().unwrap();
    match accept {
        Accept::Plain => {
            serve(stream, false, |stream| reset(stream), say, cut, counts, number).await;
        }
        Accept::Tls(acceptor) => {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let many = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve(stream, many, |stream| reset(stream.get_ref().0), say, cut, counts, number).await;
        }
        Accept::Hang => {
            // Reads, so that the end of the other side is seen.
            let mut stream = stream;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
        Accept::Reset => reset(&stream),
    }
}

/// Serves until it is cut. `reset` makes the close to come a reset.
async fn serve<S>(
    stream: S,
    many: bool,
    reset: impl Fn(&S),
    say: watch::Receiver<Say>,
    mut cut: watch::Receiver<(usize, Cut)>,
    counts: Arc<Counts>,
    number: usize,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let host = request.uri().authority().map_or_else(|| header("host").to_owned(), ToString::to_string);
        let path = request.uri().path_and_query().unwrap().to_string();
        let authorization = header("authorization").to_owned();
        let alive = path.contains("exclude");
        counts.seen.lock().unwrap().push(Seen { connection: number, path, authorization, host });
        let say = say.borrow().clone();
        async move {
            let (status, body) = match say {
                Say::Now(status, body) => (status, body),
                Say::After(duration) => {
                    tokio::time::sleep(duration).await;
                    (200, "ok".to_owned())
                }
                Say::NothingButAlive if alive => (200, "ok".to_owned()),
                Say::Nothing | Say::NothingButAlive => std::future::pending().await,
            };
            Response::builder().status(status).body(Full::new(Bytes::from(body)))
        }
    });
    // A stream that is lent can be reset afterwards.
    let mut stream = Box::new(stream);
    let how = {
        let io = TokioIo::new(&mut *stream);
        cut.mark_unchanged();
        let ended = async { if cut.changed().await.is_ok() { cut.borrow().1 } else { Cut::Fin } };
        if many {
            let served = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
            let mut served = std::pin::pin!(served);
            let how = tokio::select! { _ = &mut served => return, how = ended => how };
            if how == Cut::GoAway {
                served.as_mut().graceful_shutdown();
                let _ = served.await;
                return;
            }
            how
        } else {
            let served = http1::Builder::new().serve_connection(io, service);
            tokio::select! { _ = served => return, how = ended => how }
        }
    };
    if how == Cut::Rst {
        reset(&stream);
    }
}

/// Forwards, until it forgets the connections there are: they stay open, and nothing gets through.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    forget: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forget = watch::Sender::new(0);
        let forgotten = forget.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut forgotten = forgotten.subscribe();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = forgotten.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, forget, task }
    }

    pub(super) fn forget(&self) {
        self.forget.send_modify(|forget| *forget += 1);
    }
}
