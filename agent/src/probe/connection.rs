//! One dial, one request, and how they end.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use decide::probe::{Answer, End};
use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// How much of an answer is read. The list of checks is a few KiB long.
const LARGEST: usize = 64 << 10;
/// What one connection may hold for us.
const CONNECTION_WINDOW: u32 = 256 << 10;
const STREAM_WINDOW: u32 = 64 << 10;

/// Where a connection goes, and how.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// TLS; else plain.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// With open requests and nothing read for the first time a PING is sent; without an answer to it for the second
    /// the connection is given up.
    pub(super) ping: Option<(Duration, Duration)>,
}

/// A connection that is ready for requests.
#[derive(Debug)]
pub(super) enum Connection {
    /// For any number at a time; the task ends with the connection.
    Many(Many, JoinHandle<()>),
    /// For one.
    One(http1::SendRequest<Empty<Bytes>>),
}

/// A handle of a connection for many requests: the connection ends when the last one is dropped.
pub(super) type Many = http2::SendRequest<Empty<Bytes>>;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Path and query.
    pub(super) path: String,
    /// The server's name.
    pub(super) authority: String,
    pub(super) authorization: Option<HeaderValue>,
}

/// What has come of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(Answer),
    Ended(End),
    /// The connection has swallowed it, or never took it: it waits for another one.
    Again,
}

impl Door {
    /// Opens a connection. Waits as long as the kernel does: who calls has a deadline.
    pub(super) async fn dial(self) -> Result<Connection, End> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| not_connected(&error))?;
        stream.set_nodelay(true).map_err(|error| not_connected(&error))?;
        let Some((config, name)) = self.tls else { return one(TokioIo::new(stream)).await };
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| no_handshake(&error))?;
        let many = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if many { self::many(TokioIo::new(stream), self.ping).await } else { one(TokioIo::new(stream)).await }
    }
}

async fn one<T: Read + Write + Unpin + Send + 'static>(io: T) -> Result<Connection, End> {
    let (sender, connection) = http1::handshake(io).await.map_err(|_| End::Lost)?;
    tokio::spawn(async move {
        // How it ends is told to the request.
        let _ = connection.await;
    });
    Ok(Connection::One(sender))
}

async fn many<T>(io: T, ping: Option<(Duration, Duration)>) -> Result<Connection, End>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if let Some((after, timeout)) = ping {
        builder.keep_alive_interval(after).keep_alive_timeout(timeout);
    }
    let (sender, connection) = builder.handshake(io).await.map_err(|_| End::Lost)?;
    let task = tokio::spawn(async move {
        // How it ends is told to the requests.
        let _ = connection.await;
    });
    Ok(Connection::Many(sender, task))
}

/// Asks on a connection for many.
pub(super) async fn ask_many(mut sender: Many, question: Question) -> Outcome {
    let uri = format!("https://{}{}", question.authority, question.path);
    let request = match request(&uri, question.authorization) {
        Ok(request) => request,
        Err(end) => return Outcome::Ended(end),
    };
    match sender.send_request(request).await {
        Ok(response) => read(response).await,
        Err(error) => failed(&error),
    }
}

/// Asks on a connection for one.
pub(super) async fn ask_one(mut sender: http1::SendRequest<Empty<Bytes>>, question: Question) -> Outcome {
    let host = HeaderValue::try_from(question.authority);
    let (mut request, host) = match (request(&question.path, question.authorization), host) {
        (Ok(request), Ok(host)) => (request, host),
        (Err(end), _) => return Outcome::Ended(end),
        (_, Err(error)) => return Outcome::Ended(End::Local(error.to_string())),
    };
    request.headers_mut().insert(HOST, host);
    match sender.send_request(request).await {
        Ok(response) => match read(response).await {
            Outcome::Again => Outcome::Ended(End::Lost),
            outcome => outcome,
        },
        Err(_) => Outcome::Ended(End::Lost),
    }
}

fn request(uri: &str, authorization: Option<HeaderValue>) -> Result<Request<Empty<Bytes>>, End> {
    let mut request = Request::get(uri)
        .header(ACCEPT, "text/plain, */*")
        .header(USER_AGENT, concat!("shoot-exposure-agent/", env!("CARGO_PKG_VERSION"), " probe"))
        .body(Empty::new())
        .map_err(|error| End::Local(error.to_string()))?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    Ok(request)
}

/// Reads status and, as far as it matters, the body. The rest of a long one is refused by dropping it.
async fn read(response: Response<Incoming>) -> Outcome {
    let (head, mut body) = response.into_parts();
    let mut text = Vec::new();
    while text.len() < LARGEST {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    text.extend_from_slice(&data[..data.len().min(LARGEST - text.len())]);
                }
            }
            Some(Err(error)) => return failed(&error),
        }
    }
    Outcome::Answered(Answer::read(head.status.as_u16(), &String::from_utf8_lossy(&text)))
}

/// Without an answer to a PING the way is dead, which says nothing about the server; and a request that has never gone
/// out is still due.
fn failed(error: &hyper::Error) -> Outcome {
    if error.is_timeout() || error.is_canceled() || error.is_closed() {
        Outcome::Again
    } else {
        Outcome::Ended(End::Lost)
    }
}

fn not_connected(error: &Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionRefused => End::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => End::Unreachable,
        kind if is_end(kind) => End::Lost,
        // No descriptor, no port, not allowed: this machine's own trouble.
        _ => End::Local(error.to_string()),
    }
}

fn no_handshake(error: &Error) -> End {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return End::Tls(error.to_string());
    }
    match error.kind() {
        kind if is_end(kind) => End::Lost,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => End::Unreachable,
        _ => End::Local(error.to_string()),
    }
}

/// The other side, or something between, has ended it.
fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
            | ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_kernel_says_whose_trouble_it_is() {
        for (number, end) in
            [(111, End::Refused), (113, End::Unreachable), (101, End::Unreachable), (104, End::Lost), (110, End::Lost)]
        {
            assert_eq!(not_connected(&Error::from_raw_os_error(number)), end);
        }
        // EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, EPERM, EACCES, ENETDOWN
        for number in [24, 23, 99, 105, 1, 13, 100] {
            let end = not_connected(&Error::from_raw_os_error(number));
            assert!(matches!(end, End::Local(_)), "{number}: {end:?}");
        }
    }
}
