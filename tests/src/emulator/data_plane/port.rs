//! One port on which a balancer listens.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::front::Front;
use super::session;

/// Connections that may wait to be accepted; the kernel has its own limit beside it.
const BACKLOG: u32 = 4_096;

#[derive(Debug)]
pub(super) struct Port {
    pub(super) address: SocketAddr,
    /// Why it does not listen.
    pub(super) error: Option<String>,
    open: Option<(Arc<TcpListener>, Option<AbortHandle>)>,
}

impl Port {
    /// Listens for the listener on `number`.
    pub(super) fn open(front: &Arc<Front>, number: u16, ip: IpAddr) -> Self {
        let Some(shifted) = number.checked_add(front.kit.options.port_offset) else {
            let error = Some(format!("port {number} and the offset are more than 65535"));
            return Self { address: SocketAddr::new(ip, number), error, open: None };
        };
        let address = SocketAddr::new(ip, shifted);
        let _runtime = front.kit.enter();
        match bind(address) {
            Ok(listener) => {
                let listener = Arc::new(listener);
                let task = front.kit.spawn(accept(front.clone(), number, listener.clone()));
                Self { address, error: None, open: Some((listener, task)) }
            }
            Err(error) => Self { address, error: Some(error.to_string()), open: None },
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Listens no more from when this returns.
    pub(super) fn close(self) {
        if let Some((listener, task)) = self.open {
            // The task drops its share only when it is next polled; this ends the listening at once.
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
            if let Some(task) = task {
                task.abort();
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the task is aborted.
async fn accept(front: Arc<Front>, number: u16, listener: Arc<TcpListener>) {
    let mut weather = front.kit.weather.subscribe();
    let mut dark = front.dark.subscribe();
    let mut own: Option<SocketAddr> = None;
    loop {
        let until = dark.borrow_and_update().filter(|until| *until > Instant::now());
        let drops = weather.borrow_and_update().drop_connects;
        if drops || until.is_some() {
            own = stay_dark(&listener, &mut weather, &mut dark).await;
            continue;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if Some(peer) == own => {}
                Ok((client, peer)) => {
                    front.kit.spawn(session::serve(front.clone(), number, client, peer));
                }
                // Out of file descriptors, most likely: those who hold them need their turn first.
                Err(_) => tokio::task::yield_now().await,
            },
            _ = weather.changed() => {}
            _ = dark.changed() => {}
        }
    }
}

/// F24: lets the kernel drop SYNs by keeping the queue of the listener full. One connection fills a queue of length zero;
/// it is our own, and its address is given back, because it will be accepted one day.
async fn stay_dark(
    listener: &TcpListener,
    weather: &mut watch::Receiver<super::Disturbance>,
    dark: &mut watch::Receiver<Option<Instant>>,
) -> Option<SocketAddr> {
    let shorten = Backlog::new(0).and_then(|none| listen(listener, none));
    let address = listener.local_addr().ok()?;
    // Not connected within that time: somebody else has filled the queue.
    let filler = timeout(Duration::from_millis(200), TcpStream::connect(address)).await.ok().and_then(Result::ok);
    loop {
        let until = dark.borrow_and_update().filter(|until| *until > Instant::now());
        if shorten.is_err() || !(weather.borrow_and_update().drop_connects || until.is_some()) {
            break;
        }
        let over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = weather.changed() => {}
            _ = dark.changed() => {}
            () = over => {}
        }
    }
    // If it fails the queue stays short: the next connection still gets through.
    let _ = Backlog::new(i32::try_from(BACKLOG).unwrap_or(i32::MAX)).and_then(|long| listen(listener, long));
    filler.and_then(|filler| filler.local_addr().ok())
}
