//! The TCP side: connections, requests in, answers out, and faults in between.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::action::{Action, words};
use super::answer::Answer;
use super::data_plane::Plane;
use super::gateway::{self, Arrival};
use super::handle::Handle;
use super::line::Line;
use super::state::{PlaceKey, State};
use super::switches::Connections;
use super::wire::{Null, merge};
use super::{control, controller, page, write};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What the tasks of one emulator share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Counts changes; whoever waits for a level looks again after each.
    changed: watch::Sender<u64>,
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// The project and region that methods without these mean.
    pub(crate) home: PlaceKey,
    /// The CA's certificate in PEM.
    pub(crate) authority: Option<String>,
    /// What carries bytes, if anything does.
    pub(crate) plane: Option<Plane>,
}

impl Shared {
    /// `changed` is the count that `plane`, too, moves on.
    pub(crate) fn new(
        state: State,
        changed: watch::Sender<u64>,
        url: String,
        home: PlaceKey,
        authority: Option<String>,
        plane: Option<Plane>,
    ) -> Self {
        let shared = Self { state: Mutex::new(state), changed, url, home, authority, plane };
        shared.observe(&shared.lock());
        shared
    }

    /// The data plane follows while the lock is held, so that nobody sees one without the other.
    fn observe(&self, state: &State) {
        if let Some(plane) = &self.plane {
            plane.observe(state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it looked has its own failure; the others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.lock();
            let result = change(&mut state);
            self.observe(&state);
            result
        };
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Takes connections until it is dropped, and all connections with it.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, shared.clone(), tls.clone()));
                }
                // Out of file descriptors, most likely: those who hold them need their turn first.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Moves balancers on whenever something is due or has changed.
pub(crate) async fn control_loop(shared: Arc<Shared>) {
    let mut changed = shared.subscribe();
    loop {
        changed.mark_unchanged();
        let (moved, wait) = {
            let mut state = shared.lock();
            let before = state.revision();
            let next = controller::step(&mut state);
            shared.observe(&state);
            (state.revision() != before, next.map(|due| due.saturating_duration_since(state.clock.now())))
        };
        if moved {
            shared.changed.send_modify(|count| *count = count.wrapping_add(1));
            continue;
        }
        let due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            result = changed.changed() => if result.is_err() { return },
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    // Small answers shall not wait for each other; without it the emulator is only slower.
    let _ = stream.set_nodelay(true);
    let cut = Arc::new(AtomicBool::new(false));
    let line = Line::new(stream, cut.clone());
    match shared.look(|state| state.switches.connections) {
        Connections::Serve => {}
        Connections::Stall => std::future::pending().await,
        Connections::Reset => {
            cut.store(true, Ordering::Release);
            return;
        }
    }
    match tls {
        None => http(line, shared, cut).await,
        // A client that does not trust us ends the handshake: its own affair.
        Some(tls) => {
            if let Ok(line) = tls.accept(line).await {
                http(line, shared, cut).await;
            }
        }
    }
}

async fn http(line: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>, cut: Arc<AtomicBool>) {
    let handle = Handle::new(shared);
    let service = service_fn(|request| serve(handle.clone(), request, cut.clone()));
    // An error here is a connection that ended early, by us or by the client: the journal knows.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(line), service).await;
}

/// One request. An error ends the connection without an answer.
async fn serve(handle: Handle, request: Request<Incoming>, cut: Arc<AtomicBool>) -> io::Result<Response<Body>> {
    let arrival = arrival(request).await?;
    if arrival.path.starts_with(control::PREFIX) {
        return respond(&arrival, control::handle(&handle, &arrival), Pace::Whole);
    }
    if arrival.path == "/" && arrival.method == "GET" {
        return respond(&arrival, page::page(&handle), Pace::Whole);
    }
    let shared = handle.shared();
    let (sequence, actions) = shared.change(|state| {
        let actions = state.faults.draw(&arrival, state.clock.now());
        let at = u64::try_from(state.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        (state.journal.begin(at, &arrival, words(&actions)), actions)
    });
    let carry_out = || shared.change(|state| gateway::handle(state, &arrival));
    let mut pace = Pace::Whole;
    let mut answer = None;
    for action in actions {
        match action {
            Action::Delay { milliseconds } => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
            Action::ForeignEdit { patch } => foreign_edit(shared, &arrival, &patch),
            Action::Answer { status, content_type, headers, body, committed } => {
                if committed {
                    carry_out();
                }
                answer = Some(Answer { status, content_type, headers, body });
            }
            Action::Reset { committed } | Action::Hang { committed } if !committed => {
                return no_answer(shared, sequence, &action, &cut).await;
            }
            Action::Reset { .. } | Action::Hang { .. } => {
                carry_out();
                return no_answer(shared, sequence, &action, &cut).await;
            }
            Action::LateAnswer { milliseconds } => {
                answer = Some(carry_out());
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            }
            Action::Drip { milliseconds } => pace = Pace::Drip(Duration::from_millis(milliseconds)),
            Action::Truncate { bytes } => pace = Pace::Truncate(bytes, cut.clone()),
            Action::Status { status } => {
                let real = carry_out();
                let body = if status == 204 { String::new() } else { real.body };
                answer = Some(Answer { status, body, ..real });
            }
            Action::EmptyBody => answer = Some(Answer { body: String::new(), ..carry_out() }),
            Action::MalformedJson => {
                let mut real = carry_out();
                real.body.truncate(real.body.len() / 2);
                answer = Some(real);
            }
        }
    }
    let answer = answer.unwrap_or_else(carry_out);
    shared.change(|state| state.finish(sequence, Some(&answer)));
    respond(&arrival, answer, pace)
}

async fn arrival(request: Request<Incoming>) -> io::Result<Arrival> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(Arrival {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Ends a request without an answer: by a reset, or never.
async fn no_answer(shared: &Shared, sequence: u64, how: &Action, cut: &AtomicBool) -> io::Result<Response<Body>> {
    shared.change(|state| state.finish(sequence, None));
    if matches!(how, Action::Hang { .. }) {
        std::future::pending::<Infallible>().await;
    }
    cut.store(true, Ordering::Release);
    Err(io::ErrorKind::ConnectionReset.into())
}

/// Another client writes the balancer in the path of the request.
fn foreign_edit(shared: &Shared, arrival: &Arrival, patch: &serde_json::Value) {
    let segments = arrival.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let ["v2", "projects", project, "regions", region, "load-balancers", name, ..] = segments.as_slice() {
        let key = PlaceKey { project: (*project).to_owned(), region: (*region).to_owned() };
        shared.change(|state| write::edit(state, &key, name, |shown| merge(shown, patch, Null::Removes)));
    }
}

/// How the body goes out.
enum Pace {
    Whole,
    Drip(Duration),
    Truncate(usize, Arc<AtomicBool>),
}

fn respond(arrival: &Arrival, answer: Answer, pace: Pace) -> io::Result<Response<Body>> {
    let id = arrival.header("x-request-id").filter(|id| uuid::Uuid::try_parse(id).is_ok());
    let id = id.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let mut response = Response::builder()
        .status(answer.status)
        .header("X-Request-Id", id)
        .header("x-trace-id", uuid::Uuid::new_v4().simple().to_string());
    if !answer.content_type.is_empty() && answer.status != 204 {
        response = response.header("Content-Type", &answer.content_type);
    }
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let bytes = Bytes::from(answer.body);
    let body = match pace {
        Pace::Whole => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
        Pace::Drip(pause) => {
            response = response.header("Content-Length", bytes.len());
            drip(bytes, pause)
        }
        Pace::Truncate(most, cut) => {
            response = response.header("Content-Length", bytes.len());
            truncated(&bytes, most, cut)
        }
    };
    response.body(body).map_err(io::Error::other)
}

fn drip(bytes: Bytes, pause: Duration) -> Body {
    let one_by_one = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let first = rest.split_to(1);
        Some((Ok(Frame::data(first)), rest))
    });
    StreamBody::new(one_by_one).boxed_unsync()
}

/// The beginning of the body, then the reset.
fn truncated(bytes: &Bytes, most: usize, cut: Arc<AtomicBool>) -> Body {
    let beginning = bytes.slice(..most.min(bytes.len()));
    let then_cut = stream::unfold((Some(beginning), cut), |(beginning, cut)| async move {
        if let Some(beginning) = beginning {
            return Some((Ok(Frame::data(beginning)), (None, cut)));
        }
        // hyper flushes what it has when a body makes it wait.
        tokio::task::yield_now().await;
        cut.store(true, Ordering::Release);
        Some((Err(io::ErrorKind::ConnectionReset.into()), (None, cut)))
    });
    StreamBody::new(then_cut).boxed_unsync()
}
