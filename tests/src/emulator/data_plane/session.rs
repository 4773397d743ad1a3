//! One client's connection, from accept to its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::disturbance::RefusedSources;
use super::forward::{End, Road};
use super::front::{Config, Front};
use super::target::Target;
use super::view::ListenerView;
use super::{balance, proxy_protocol};

/// E93: how long a client waits at most for a target that answers, not scaled yet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that bytes are carried for.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) target: Arc<Target>,
    /// When both sides are reset; nothing moves from when this is set.
    pub(super) cut: watch::Sender<Option<Instant>>,
}

/// Serves one accepted connection.
pub(super) async fn serve(front: Arc<Front>, number: u16, client: TcpStream, peer: SocketAddr) {
    let counts = &front.counts;
    counts.accepted.fetch_add(1, Ordering::Relaxed);
    let (resets, refused_sources) = {
        let weather = front.kit.weather.borrow();
        (weather.reset_connects, weather.refused_sources)
    };
    if resets {
        reset(&client);
        return;
    }
    let config = front.config_for_next();
    if !front.kit.network.admits(&config.view.ranges, peer.ip()) {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        if refused_sources == RefusedSources::Ignore {
            // Until the client gives up.
            let _ = client.ready(tokio::io::Interest::ERROR).await;
        }
        return;
    }
    let Some(_place) = front.take_place(&config.view.plan) else {
        counts.excess.fetch_add(1, Ordering::Relaxed);
        reset(&client);
        return;
    };
    let Some(listener) = config.view.listeners.get(&number) else { return };
    let deadline = front.kit.scaled(CONNECT_TIMEOUT);
    let Ok(Some((target, server))) = timeout(deadline, find(&front, &config, listener, peer)).await else {
        // E94: accepted, and closed.
        counts.unserved.fetch_add(1, Ordering::Relaxed);
        return;
    };
    // Without it bytes only come later.
    let _ = client.set_nodelay(true);
    if carry(&front, listener, target, &client, server, peer).await.is_err() {
        reset(&client);
    }
}

/// The first target, in the order of the pool's balancing, that takes a connection.
async fn find(
    front: &Front,
    config: &Config,
    listener: &ListenerView,
    peer: SocketAddr,
) -> Option<(Arc<Target>, TcpStream)> {
    let pool = config.pools.get(&listener.pool)?;
    let healthy: Vec<&Arc<Target>> = pool.iter().filter(|target| target.is_healthy()).collect();
    let by_source = config.view.pools.get(&listener.pool).is_some_and(|pool| pool.by_source);
    let addresses: Vec<IpAddr> = healthy.iter().map(|target| target.ip()).collect();
    let turn = front.next_turn(&listener.pool, config);
    for index in balance::order(&addresses, by_source.then(|| peer.ip()), turn) {
        let target = healthy.get(index)?;
        let hairpin = target.names().1 == Some(peer.ip());
        if hairpin && front.kit.weather.borrow().drop_hairpin {
            return std::future::pending().await; // E106
        }
        // Refused: the next one. Lost packets hang until the deadline of the caller.
        if let Ok(server) = target.dial(&front.kit, None).await {
            return Some(((*target).clone(), server));
        }
    }
    None
}

/// Carries the bytes of a connection that has its target.
async fn carry(
    front: &Front,
    listener: &ListenerView,
    target: Arc<Target>,
    client: &TcpStream,
    mut server: TcpStream,
    peer: SocketAddr,
) -> io::Result<()> {
    if listener.proxy_protocol {
        server.write_all(&proxy_protocol::header(peer, client.local_addr()?)).await?;
    }
    let session = front.begin(&target);
    let road = Road {
        client,
        server: &server,
        target: &target,
        pipes: &front.kit.pipes,
        weather: front.kit.weather.subscribe(),
        idle_timeout: front.kit.scaled(listener.idle_timeout),
    };
    let mut cut = session.cut.subscribe();
    let cut = async { cut.wait_for(Option::is_some).await.ok().and_then(|at| *at) };
    let end = tokio::select! {
        end = road.carry() => end,
        at = cut => {
            if let Some(at) = at {
                sleep_until(at).await;
            }
            End::Reset
        }
    };
    if end == End::Reset {
        reset(client);
        reset(&server);
    }
    Ok(())
}

/// A linger time of zero makes the close that follows send a RST. If it fails the peer sees a FIN: also an end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
