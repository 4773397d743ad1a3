//! Requests through servers that do what the test wants.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use http_body_util::BodyExt;
use tokio::net::TcpListener;

use super::*;

const OTHER: Server = Server::Other(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

/// Takes connections and says nothing.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    address
}

/// Nobody listens there.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// An own server, and another one.
fn reach(own: SocketAddr, other: Option<SocketAddr>) -> (Reach, Router, watch::Sender<Config>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::new(format!("http://{own}").parse().unwrap());
    config.root_cert = Some(Vec::new());
    let (out, configs) = watch::channel(config);
    let router = Router::default();
    if let Some(other) = other {
        router.open(true, Door { port: other.port(), name: "kubernetes".to_owned() });
        router.others(&BTreeSet::from([other.ip()]), &BTreeSet::new());
    }
    (Reach::new(router.clone(), configs).unwrap(), router, out)
}

fn get() -> Request<Vec<u8>> {
    Request::get("/api").body(Vec::new()).unwrap()
}

#[tokio::test]
async fn a_refused_request_is_sent_to_the_next_server_and_both_are_known() {
    let (reach, router, _config) = reach(nobody().await, Some(nobody().await));
    let error = reach.client().request_text(get()).await.unwrap_err();
    assert!(crate::cluster::explain(&error).contains("refused"), "{error}");
    let directions = router.directions().borrow().clone();
    assert!(directions.way.ill && directions.trouble.is_some(), "{directions:?}");
}

#[tokio::test]
async fn what_is_under_way_ends_when_its_server_is_left() {
    let (reach, router, _config) = reach(silent().await, Some(silent().await));
    let client = reach.through(Server::Own);
    let waiting = tokio::spawn(async move { client.request_text(get()).await.map_err(|error| error.to_string()) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    router.outcome(Server::Own, Outcome::Refused, "it is gone");
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.contains("given up"), "{error}");
}

#[tokio::test]
async fn senders_that_lose_patience_twice_turn_away_from_a_server() {
    let (reach, router, _config) = reach(silent().await, Some(silent().await));
    assert_eq!(router.order()[0], Server::Own);
    for _ in 0..2 {
        let client = reach.through(Server::Own);
        assert!(tokio::time::timeout(PATIENCE + Duration::from_millis(50), client.request_text(get())).await.is_err());
    }
    assert_eq!(router.order(), [OTHER]);
}

/// The answer to a watch, which never says anything.
async fn silence(router: &Router) -> Tethered {
    let never = http_body_util::StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, BoxError>>());
    let service = tower::service_fn(move |_: Request<Body>| {
        let never = never.clone();
        async move { Ok::<_, BoxError>(Response::new(never)) }
    });
    let body = Client::new(service, "n").send(Request::new(Body::empty())).await.unwrap().into_body();
    let router = router.clone();
    let left = {
        let router = router.clone();
        async move { router.leaves(OTHER).await }.boxed()
    };
    Tethered { body, router, server: OTHER, left, quiet: Some(Box::pin(tokio::time::sleep(QUIET))) }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_for_too_long_ends_and_its_server_is_left() {
    let router = Router::default();
    router.open(true, Door::default());
    router.others(&BTreeSet::from([IpAddr::from([127, 0, 0, 1])]), &BTreeSet::new());
    let began = Instant::now();
    let error = silence(&router).await.frame().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("neither event nor bookmark"), "{error}");
    assert_eq!(began.elapsed(), QUIET);
    assert!(!router.order().contains(&OTHER));
}
