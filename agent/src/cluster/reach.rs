//! Requests to Kubernetes, on connections of their own, through whichever API server the [`Router`] says.
//!
//! | what happens | what becomes of the request |
//! |---|---|
//! | it never left: refused, no handshake, no connection in time | goes to the next server |
//! | it is a read, and its connection or its server is lost | goes to the next server |
//! | it is a write, and its connection or its server is lost | fails: it may have been stored |
//! | its server is left while the answer, or a watch, still comes | the answer ends with an error |
//! | a watch says nothing for [`QUIET`] | ends with an error, and its server is left |
//! | its sender gives up | fails; the next one to that server dials anew, as the connection may be dead |
//!
//! What comes of each is handed to the router. Kubeconfig, CA and token are used as they are now: whoever holds a
//! client never learns that its connections were swapped underneath.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use decide::route::{Outcome, Server};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use kube::client::Body;
use kube::{Client, Config};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tower::BoxError;
use tracing::{debug, warn};

use super::router::{Directions, Door, Router};
use super::{root, transport};

/// A watch shows an event or a bookmark more often than this: bookmarks come each minute.
pub const QUIET: Duration = Duration::from_secs(75);
/// A request that its sender gives up after less says nothing about the server.
const PATIENCE: Duration = Duration::from_millis(400);

/// Why an answer does not come, or ends.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("given up: its API server ({0}) is not ready")]
    Left(Server),
    #[error("the connection to the API server ({0}) has ended: {1}")]
    Ended(Server, String),
    #[error("neither event nor bookmark from the API server ({0}) within {QUIET:?}")]
    Quiet(Server),
    #[error("there is no API server to ask")]
    Nobody,
}

/// Connections of their own to all API servers; cheap to clone.
#[derive(Clone)]
pub struct Reach(Arc<Inner>);

struct Inner {
    router: Router,
    namespace: String,
    open: Mutex<Open>,
}

/// The clients that there are.
struct Open {
    configs: watch::Receiver<Config>,
    directions: watch::Receiver<Directions>,
    config: Config,
    door: Door,
    clients: BTreeMap<Server, Client>,
}

impl Reach {
    pub(super) fn new(router: Router, mut configs: watch::Receiver<Config>) -> Result<Self, kube::Error> {
        let config = configs.borrow_and_update().clone();
        let directions = router.directions();
        let door = directions.borrow().door.clone();
        let clients = BTreeMap::from([(Server::Own, transport::client(&config, Server::Own, &door)?)]);
        let namespace = config.default_namespace.clone();
        let open = Mutex::new(Open { configs, directions, config, door, clients });
        Ok(Self(Arc::new(Inner { router, namespace, open })))
    }

    /// A client whose requests take the way that is chosen.
    pub fn client(&self) -> Client {
        let reach = self.clone();
        let service = tower::service_fn(move |request| {
            let reach = reach.clone();
            async move { reach.send(request).await }
        });
        Client::new(service, self.0.namespace.clone())
    }

    /// A client whose requests go to this server and nowhere else.
    pub fn through(&self, server: Server) -> Client {
        let reach = self.clone();
        let service = tower::service_fn(move |request| {
            let reach = reach.clone();
            async move { reach.ask(server, request).await.map_err(|failed| failed.error) }
        });
        Client::new(service, self.0.namespace.clone())
    }

    /// The servers to try, best first; there is always one.
    pub fn order(&self) -> Vec<Server> {
        self.0.router.order()
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Tethered>, BoxError> {
        let (head, body) = request.into_parts();
        let mut body = Some(body);
        let mut tried = Vec::new();
        let mut last: BoxError = Box::new(Lost::Nobody);
        while let Some(server) = self.order().into_iter().find(|server| !tried.contains(server)) {
            tried.push(server);
            let Some(now) = body.take() else { break };
            body = now.try_clone();
            let read = head.method == Method::GET;
            match self.ask(server, Request::from_parts(head.clone(), now)).await {
                Err(failed) if failed.again(read) => last = failed.error,
                answer => return answer.map_err(|failed| failed.error),
            }
        }
        Err(last)
    }

    async fn ask(&self, server: Server, request: Request<Body>) -> Result<Response<Tethered>, Failed> {
        let router = &self.0.router;
        let client = self.client_of(server).map_err(|error| Failed { error: error.into(), sent: true, lost: false })?;
        let watches = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let mut waiting = Waiting { reach: self, server, since: Instant::now(), over: false };
        let answer = tokio::select! {
            answer = client.send(request) => answer,
            () = router.leaves(server) => {
                waiting.over = true;
                return Err(Failed { error: Lost::Left(server).into(), sent: true, lost: true });
            }
        };
        waiting.over = true;
        match answer {
            Ok(answer) => {
                let status = answer.status();
                let outcome = if serves(status) { Outcome::Answered } else { Outcome::NotReady };
                router.outcome(server, outcome, &format!("it answers {status}"));
                Ok(answer.map(|body| Tethered {
                    body,
                    router: router.clone(),
                    server,
                    left: {
                        let router = router.clone();
                        async move { router.leaves(server).await }.boxed()
                    },
                    quiet: watches.then(|| Box::pin(tokio::time::sleep(QUIET))),
                }))
            }
            Err(error) => {
                let said = transport::unanswered(&error);
                if let Some(said) = said {
                    router.outcome(server, said.outcome, &root(&error));
                }
                let sent = said.is_none_or(|said| !said.unsent);
                Err(Failed { error: error.into(), sent, lost: said.is_some() })
            }
        }
    }

    /// The next request to this server dials anew. What is under way on its connections may end there.
    fn forget(&self, server: Server) {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).clients.remove(&server);
    }

    /// The client for a server: the one in use, or a new one where kubeconfig or door have changed since.
    fn client_of(&self, server: Server) -> Result<Client, kube::Error> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut *open;
        if open.configs.has_changed().unwrap_or(false) {
            open.config = open.configs.borrow_and_update().clone();
            match transport::client(&open.config, Server::Own, &open.door) {
                Ok(client) => open.clients = BTreeMap::from([(Server::Own, client)]),
                // It was tried before it was told, so this is about this machine; the old one may still do.
                Err(error) => warn!(%error, "cannot make a new Kubernetes client; the old one stays"),
            }
        }
        if open.directions.has_changed().unwrap_or(false) {
            let Directions { way, door, .. } = &*open.directions.borrow_and_update();
            let same = *door == open.door;
            open.clients.retain(|server, _| *server == Server::Own || (same && way.order.contains(server)));
            open.door.clone_from(door);
        }
        if let Some(client) = open.clients.get(&server) {
            return Ok(client.clone());
        }
        let client = transport::client(&open.config, server, &open.door)?;
        open.clients.insert(server, client.clone());
        Ok(client)
    }
}

/// Whether a server that answers so serves us; without its etcd it may say 503 and 504.
fn serves(status: StatusCode) -> bool {
    !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// A request without an answer.
struct Failed {
    error: BoxError,
    /// It may have reached the server.
    sent: bool,
    /// It is the server, or the way to it.
    lost: bool,
}

impl Failed {
    /// Whether it may go to another server.
    fn again(&self, read: bool) -> bool {
        self.lost && (read || !self.sent)
    }
}

/// A request that waits; one whose sender loses patience says something about the server.
struct Waiting<'a> {
    reach: &'a Reach,
    server: Server,
    since: Instant,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if !self.over && waited >= PATIENCE {
            self.reach.forget(self.server);
            self.reach.0.router.outcome(self.server, Outcome::Hanging, &format!("no answer within {waited:.1?}"));
        }
    }
}

/// An answer that ends when its server is left.
struct Tethered {
    body: Body,
    router: Router,
    server: Server,
    left: BoxFuture<'static, ()>,
    /// For a watch: until when it must have said something.
    quiet: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Tethered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let server = self.server;
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(quiet) = &mut self.quiet {
                    quiet.as_mut().reset(Instant::now() + QUIET);
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            // In words, as kube takes some errors for the end of a watch in good order.
            Poll::Ready(Some(Err(error))) => {
                debug!(%server, %error, "an answer was cut off");
                return Poll::Ready(Some(Err(Lost::Ended(server, root(&error)).into())));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.left.poll_unpin(context).is_ready() {
            return Poll::Ready(Some(Err(Lost::Left(server).into())));
        }
        if self.quiet.as_mut().is_some_and(|quiet| quiet.poll_unpin(context).is_ready()) {
            let lost = Lost::Quiet(server);
            self.router.outcome(server, Outcome::Quiet, &lost.to_string());
            return Poll::Ready(Some(Err(lost.into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests;
