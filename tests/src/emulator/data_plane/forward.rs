//! Moves the bytes of one connection, both ways, until its end.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::disturbance::Disturbance;
use super::pipe::Pipes;
use super::target::Target;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have said so.
    Closed,
    /// One side was reset (E97).
    Reset,
    /// Nothing moved for too long (E95).
    Idle,
}

/// What both directions of a connection need.
pub(super) struct Road<'a> {
    pub(super) client: &'a TcpStream,
    pub(super) server: &'a TcpStream,
    pub(super) target: &'a Target,
    pub(super) pipes: &'a Pipes,
    pub(super) weather: watch::Receiver<Disturbance>,
    pub(super) idle_timeout: Duration,
}

/// The last time a byte moved.
struct Touched {
    start: Instant,
    milliseconds: AtomicU64,
}

impl Touched {
    fn now(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(since, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for so long.
    async fn idle(&self, timeout: Duration) {
        loop {
            let end = self.start + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed)) + timeout;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Road<'_> {
    /// Carries bytes until the end of the connection.
    pub(super) async fn carry(&self) -> End {
        let touched = Touched { start: Instant::now(), milliseconds: AtomicU64::new(0) };
        let up = self.one_way(self.client, self.server, &self.target.bytes_to, &touched);
        let down = self.one_way(self.server, self.client, &self.target.bytes_from, &touched);
        let idle = touched.idle(self.idle_timeout);
        tokio::pin!(up, down, idle);
        let (mut up_ended, mut down_ended) = (false, false);
        while !(up_ended && down_ended) {
            tokio::select! {
                result = &mut up, if !up_ended => match result {
                    Ok(()) => up_ended = true,
                    Err(_) => return End::Reset,
                },
                result = &mut down, if !down_ended => match result {
                    Ok(()) => down_ended = true,
                    Err(_) => return End::Reset,
                },
                // A side that has sent its FIN is not read any more: its RST shows here.
                _ = self.client.ready(Interest::ERROR), if up_ended => return End::Reset,
                _ = self.server.ready(Interest::ERROR), if down_ended => return End::Reset,
                () = &mut idle => return End::Idle,
            }
        }
        End::Closed
    }

    /// One direction, up to and with its FIN (E96). A pipe is held only while there are bytes in it, and nothing more is
    /// read until they are gone: a slow reader slows the writer down (E108).
    async fn one_way(&self, from: &TcpStream, to: &TcpStream, count: &AtomicU64, touched: &Touched) -> io::Result<()> {
        loop {
            from.readable().await?;
            self.hold_up().await;
            let mut pipe = self.pipes.take()?;
            let got = match from.try_io(Interest::READABLE, || pipe.fill(from)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pipes.give_back(pipe);
                    continue;
                }
                other => other?,
            };
            touched.now();
            if got == 0 {
                self.pipes.give_back(pipe);
                shutdown(to.as_raw_fd(), Shutdown::Write)?;
                return Ok(());
            }
            count.fetch_add(got as u64, Ordering::Relaxed);
            self.delay().await;
            while !pipe.is_empty() {
                to.writable().await?;
                match to.try_io(Interest::WRITABLE, || pipe.pour(to)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                    Ok(_) => touched.now(),
                }
            }
            self.pipes.give_back(pipe);
        }
    }

    /// F24: waits for as long as the target swallows everything.
    async fn hold_up(&self) {
        let names = self.target.names();
        let swallowed = |weather: &Disturbance, (ip, local): (IpAddr, Option<IpAddr>)| weather.swallows(ip, local);
        if swallowed(&self.weather.borrow(), names) {
            // An error means that the emulator ends, and this task with it.
            let _ = self.weather.clone().wait_for(|weather| !swallowed(weather, names)).await;
        }
    }

    /// F24: latency and jitter.
    async fn delay(&self) {
        let (latency, jitter) = {
            let weather = self.weather.borrow();
            (weather.latency, weather.jitter)
        };
        if latency + jitter > Duration::ZERO {
            sleep(latency + jitter.mul_f64(rand::random::<f64>())).await;
        }
    }
}
