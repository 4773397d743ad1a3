//! Connections to one API server: verified, direct, and noticed when they are dead.
//!
//! | what dies | who notices | after |
//! |---|---|---|
//! | the process | the kernel: FIN or RST | at once |
//! | the dial, or the handshake | [`DIAL`] | 2 s |
//! | the way, or whoever should answer on it | HTTP/2 pings, answered by the server itself | 3 to 7 s |
//! | the same, where a server speaks HTTP/1.1 only | TCP keepalive, TCP_USER_TIMEOUT | 8 to 15 s |
//!
//! Every dial shows the certificate: sessions are not resumed. Deliberately not here: proxies, redirects, retries; and
//! kube's own stack, which speaks HTTP/1.1 only and so cannot ask whether a connection that says nothing is alive.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use decide::route::{Outcome, Server};
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceBuilder};

use super::router::Door;

/// Time for TCP and TLS together.
const DIAL: Duration = Duration::from_secs(2);
/// With nothing read for so long a ping is sent …
const PING: Duration = Duration::from_secs(3);
/// … and without an answer to it for so long the connection is given up.
const PONG: Duration = Duration::from_secs(4);
/// The same for the kernel, where no pings are spoken.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(3), 3);
/// What the kernel has sent and nobody has acknowledged for so long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);

/// A dial that has taken too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {DIAL:?}")]
struct Late;

/// A client with connections of its own to one API server. Nothing is sent before the first request.
pub(super) fn client(config: &Config, server: Server, door: &Door) -> Result<Client, kube::Error> {
    let config = toward(config, server, door)?;
    let namespace = config.default_namespace.clone();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE.0));
    tcp.set_keepalive_interval(Some(KEEPALIVE.1));
    tcp.set_keepalive_retries(Some(KEEPALIVE.2));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let mut tls = config.rustls_client_config()?;
    tls.resumption = Resumption::disabled();
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls);
    // Only the kubeconfig itself may ask for plain text.
    let mut tls = if server == Server::Own { tls.https_or_http() } else { tls.https_only() };
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone()).map_err(|error| kube::Error::Service(error.into()))?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = tls.enable_all_versions().wrap_connector(tcp);
    let dial = tower::service_fn(move |uri: Uri| {
        let dialled = tokio::time::timeout(DIAL, connector.clone().call(uri));
        let dialled = async move { dialled.await.unwrap_or_else(|_| Err(Box::new(Late))) };
        Box::pin(dialled)
            as Pin<Box<dyn Future<Output = Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>> + Send>>
    });
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_keep_alive_while_idle(true)
        .build(dial);
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(stack, namespace))
}

/// The configuration for a server: the kubeconfig's for the own one; for another one its address, and whatever the
/// kubeconfig says of verifying, the certificate is verified.
fn toward(config: &Config, server: Server, door: &Door) -> Result<Config, kube::Error> {
    let mut config = config.clone();
    if let Server::Other(address) = server {
        let url = format!("https://{}", SocketAddr::new(address, door.port));
        config.cluster_url =
            url.parse().map_err(|error: http::uri::InvalidUri| kube::Error::HttpError(error.into()))?;
        config.tls_server_name = Some(door.name.clone());
        config.accept_invalid_certs = false;
    }
    Ok(config)
}

/// A request that a server has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// What that says about the server.
    pub(super) outcome: Outcome,
    /// Nothing of the request has reached it.
    pub(super) unsent: bool,
}

/// What a failure says about the server; `None`: nothing, as it is about this agent (a credential that cannot be read).
pub(super) fn unanswered(error: &kube::Error) -> Option<Unanswered> {
    let kube::Error::Service(error) = error else {
        return matches!(error, kube::Error::HyperError(_))
            .then_some(Unanswered { outcome: Outcome::Reset, unsent: false });
    };
    let error = error.downcast_ref::<legacy::Error>()?;
    if !error.is_connect() {
        return Some(Unanswered { outcome: Outcome::Reset, unsent: false });
    }
    let late = error.source().is_some_and(<dyn Error>::is::<Late>);
    Some(Unanswered { outcome: if late { Outcome::Hanging } else { Outcome::Refused }, unsent: true })
}
