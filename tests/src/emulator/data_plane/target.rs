//! One target of a pool: how it is reached, how it is doing, what it has got.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::disturbance::Disturbance;
use super::plane::Kit;
use super::view::{Check, TargetView};

/// What may change while a target stays.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) view: TargetView,
    pub(super) check: Check,
    /// Where the balancer dials from.
    pub(super) from: Option<IpAddr>,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) settings: watch::Sender<Settings>,
    pub(super) healthy: AtomicBool,
    pub(super) connections: AtomicU64,
    pub(super) open: AtomicU64,
    /// Bytes.
    pub(super) bytes_to: AtomicU64,
    /// Bytes.
    pub(super) bytes_from: AtomicU64,
    /// The task that checks it, while it is in a pool.
    pub(super) check: Mutex<Option<AbortHandle>>,
}

impl Target {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings: watch::Sender::new(settings),
            healthy: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            bytes_to: AtomicU64::new(0),
            bytes_from: AtomicU64::new(0),
            check: Mutex::new(None),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.settings.borrow().view.ip
    }

    /// Its address in the cloud, and the one on this machine.
    pub(super) fn names(&self) -> (IpAddr, Option<IpAddr>) {
        let settings = self.settings.borrow();
        (settings.view.ip, settings.view.dial.map(|dial| dial.ip()))
    }

    /// It is in no pool any more. Its open connections go on.
    pub(super) fn retire(&self) {
        if let Some(task) = self.check.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        self.healthy.store(false, Ordering::Relaxed);
    }

    /// Connects to it, at another port where one is given. Where packets are lost this takes as long as that lasts: the
    /// deadline is the caller's.
    pub(super) async fn dial(&self, kit: &Kit, port: Option<u16>) -> io::Result<TcpStream> {
        let Settings { view, from, .. } = self.settings.borrow().clone();
        let Some(mut address) = view.dial else { return std::future::pending().await };
        let lost =
            |weather: &Disturbance| weather.security_groups_block || weather.swallows(view.ip, Some(address.ip()));
        // An error means that the emulator ends, and this task with it.
        let _ = kit.weather.subscribe().wait_for(|weather| !lost(weather)).await;
        address.set_port(port.unwrap_or(address.port()));
        connect(from, address).await
    }
}

/// E90: targets see the balancer's address.
async fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A loopback address leads nowhere but to others.
    let fits = |from: &IpAddr| from.is_ipv4() == to.is_ipv4() && from.is_loopback() == to.ip().is_loopback();
    if let Some(from) = from.filter(fits) {
        // The port is chosen when the other end is known: there are enough of them for each target.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
