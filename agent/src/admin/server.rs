//! The admin server: one thread with its own runtime, up to two listeners, HTTP/1.1.
//!
//! It is for a kubelet, a Prometheus and a person with curl, not for the world: few connections, small buffers, short
//! deadlines, and every connection ends after a minute.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::routes::{Ask, Audience, METHODS, Routes};

/// More than a kubelet, two Prometheus and a few people need.
const MAX_CONNECTIONS: usize = 64;
/// A client that has not sent its header by then is not serious.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// No connection outlives this, however busy or idle.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(1);
/// What is being answered when the server stops gets this long.
const DRAIN: Duration = Duration::from_secs(2);
/// The least that hyper takes; a request here is one line and a few headers.
const BUFFER: usize = 8 * 1024;

/// A running admin server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct AdminServer {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// A server that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, not ours, or not allowed.
    #[error("listening on {address} ({setting}): {hint}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting it comes from.
        setting: &'static str,
        /// What to do about it.
        hint: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The machine gives no thread or no runtime.
    #[error("starting the admin server's thread")]
    Thread(#[source] io::Error),
}

impl AdminServer {
    /// Listens and answers from now on. The addresses are `server.bindAddress` and `server.metricsBindAddress`.
    pub fn start(admin: SocketAddr, metrics: Option<SocketAddr>, routes: Routes) -> Result<Self, BindError> {
        let mut listeners = vec![(Audience::Admin, listen(admin, "server.bindAddress")?)];
        if let Some(metrics) = metrics {
            listeners.push((Audience::Metrics, listen(metrics, "server.metricsBindAddress")?));
        }
        let addresses = listeners.iter().map(|(_, l)| l.local_addr()).collect::<Result<_, _>>();
        let addresses = addresses.map_err(BindError::Thread)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BindError::Thread)?;
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(serve(listeners, &routes, stopped));
            drop(end);
        });
        Ok(Self { addresses, stop, ended, thread: Some(thread.map_err(BindError::Thread)?) })
    }

    /// Where it listens: the admin address, then the metrics address if there is one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns when the server has ended, which it does only after [`AdminServer::stop`] or a panic.
    pub async fn ended(&mut self) {
        // The other half is dropped with the thread, whatever ends it.
        let _ = (&mut self.ended).await;
    }

    /// Stops listening, finishes what is being answered (at most 2 s) and ends the thread.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.ended().await;
        if let Some(thread) = self.thread.take() {
            // Over, or nearly: it has let go of its sender.
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddr, setting: &'static str) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "something else listens there, perhaps another agent: stop it or set another port"
            }
            io::ErrorKind::AddrNotAvailable => "no address of this machine: set one of its own, or 127.0.0.1",
            io::ErrorKind::PermissionDenied => "not allowed: set a port above 1023",
            _ => "set another address",
        };
        BindError::Listen { address, setting, hint, source }
    })
}

async fn serve(listeners: Vec<(Audience, TcpListener)>, routes: &Routes, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for (audience, listener) in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let (routes, slots, stopped) = (routes.clone(), Arc::clone(&slots), stopped.clone());
                tokio::spawn(accept(listener, audience, routes, slots, stopped));
            }
            // Ends the thread; whoever waits for the end hears of it.
            Err(error) => return tracing::error!(%error, "the admin server cannot use its listener"),
        }
    }
    told(&mut stopped).await;
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(DRAIN, slots.acquire_many(all)).await;
}

async fn accept(
    listener: tokio::net::TcpListener,
    audience: Audience,
    routes: Routes,
    slots: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stopped) => return,
        };
        match accepted {
            // Too many: closed at once, which tells a client more than silence does.
            Ok((stream, _)) => {
                if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                    tokio::spawn(connection(stream, audience, routes.clone(), stopped.clone(), slot));
                }
            }
            // Out of file descriptors, as a rule; the connection waits in the kernel.
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    audience: Audience,
    routes: Routes,
    mut stopped: watch::Receiver<bool>,
    slot: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let response = respond(&routes, audience, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // Clients that go away in the middle are their own business: errors are not looked at.
    tokio::select! {
        _ = connection.as_mut() => return drop(slot),
        () = tokio::time::sleep(CONNECTION_LIFETIME) => {}
        () = told(&mut stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(DRAIN, connection).await;
    drop(slot);
}

/// Returns when the server is to stop, or its handle is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn respond(routes: &Routes, audience: Audience, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let accept = request.headers().get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let uri = request.uri();
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let reply = routes.answer(&Ask { audience, method: request.method(), path, query, accept });
    // hyper keeps the body of an answer to HEAD to itself.
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(reply.policy));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if reply.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    response
}

#[cfg(test)]
mod tests;
