//! The server over real sockets.

use std::error::Error;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Instant;

use super::*;
use crate::admin::{Health, Metrics};

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn routes() -> Routes {
    Routes::new(Health::default(), Metrics::new("lease", "1", "x"), Vec::new())
}

fn try_send(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn send(address: SocketAddr, request: &str) -> String {
    try_send(address, request).unwrap()
}

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn get(address: SocketAddr, path: &str) -> String {
    send(address, &LIVEZ.replace("/livez", path))
}

#[tokio::test]
async fn answers_on_both_listeners_while_the_main_runtime_is_busy() {
    let server = AdminServer::start(any(), Some(any()), routes()).unwrap();
    // This blocks the test's own runtime.
    for &address in server.addresses() {
        let answer = get(address, "/readyz?verbose");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("readyz check passed\n"), "{answer}");
        let answer = get(address, "/metrics");
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("\nshoot_exposure_build_info{version=\"1\",revision=\"x\"} 1\n"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn wrong_method_and_head() {
    let server = AdminServer::start(any(), None, routes()).unwrap();
    let address = server.addresses()[0];
    let answer = send(address, "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
    let answer = send(address, "HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = send(address, &format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(2 * BUFFER)));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn stops_at_once_although_a_connection_is_idle() {
    let server = AdminServer::start(any(), None, routes()).unwrap();
    let address = server.addresses()[0];
    let mut idle = std::net::TcpStream::connect(address).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 8];
    idle.read_exact(&mut first).unwrap();
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < DRAIN, "{:?}", began.elapsed());
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_flood_of_connections_is_turned_away_and_leaves_no_trace() {
    let server = AdminServer::start(any(), None, routes()).unwrap();
    let address = server.addresses()[0];
    let flood: Vec<_> = (0..MAX_CONNECTIONS).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let mut one_more = std::net::TcpStream::connect(address).unwrap();
    one_more.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(one_more.read(&mut [0; 1]).unwrap(), 0, "closed without a byte");
    drop(flood);
    // The slots come back as soon as the server has seen the ends.
    while !try_send(address, LIVEZ).is_ok_and(|answer| answer.ends_with("ok")) {}
    server.stop().await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind(any()).unwrap();
    let address = taken.local_addr().unwrap();
    let error = AdminServer::start(any(), Some(address), routes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "listening on {address} (server.metricsBindAddress): something else listens there, perhaps another \
             agent: stop it or set another port"
        )
    );
    assert!(error.source().is_some());
}
