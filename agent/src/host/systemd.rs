//! What systemd is told over its notification socket: ready, reloading, stopping, one line of status, signs of life.
//!
//! The protocol of `sd_notify(3)`, spoken directly: one datagram a message, to a path or to an abstract name. Sending
//! never waits, because a systemd that does not read must not hold up the agent; what has to arrive is said again.
//! Without `NOTIFY_SOCKET` nobody is told anything. Deliberately not here: when to say what.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tracing::debug;

/// systemd drops a datagram of more than 4096 bytes; a person reads less.
const LONGEST_STATUS: usize = 1000;

/// The way to systemd; cheap to clone. Without a socket it swallows everything.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<Socket>>);

#[derive(Debug)]
struct Socket {
    datagrams: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
    /// The agent is ready, or as far as it gets without somebody else.
    ready: AtomicBool,
    /// systemd has been told so.
    told: AtomicBool,
}

impl Notifier {
    /// As the environment says that systemd wants it.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let number = |name: &str| variable(name)?.to_str()?.parse().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        variable("NOTIFY_SOCKET").map(|name| Self::at(&name, watchdog)).unwrap_or_default()
    }

    /// At the socket `name`, a path or `@` and an abstract name; `watchdog` is how long it waits for a sign of life.
    pub(crate) fn at(name: &OsString, watchdog: Option<Duration>) -> Self {
        let opened = address(name).and_then(|address| {
            let datagrams = UnixDatagram::unbound()?;
            datagrams.set_nonblocking(true)?;
            Ok(Socket { datagrams, address, watchdog, ready: AtomicBool::new(false), told: AtomicBool::new(false) })
        });
        // Whoever set the variable waits in vain and says so itself.
        Self(opened.inspect_err(|error| debug!(%error, ?name, "NOTIFY_SOCKET cannot be used")).ok().map(Arc::new))
    }

    /// Whether there is anybody to tell.
    pub fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// How long systemd waits for a sign of life before it kills; `None`: it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref()?.watchdog.filter(|limit| !limit.is_zero())
    }

    /// The agent is ready, or as far as it gets without somebody else: never said twice, but again until it was heard.
    pub fn ready(&self) {
        if let Some(socket) = &self.0 {
            socket.ready.store(true, Ordering::Relaxed);
            self.repeat();
        }
    }

    /// Says again what was not heard.
    pub fn repeat(&self) {
        let Some(socket) = &self.0 else { return };
        if socket.ready.load(Ordering::Relaxed) && !socket.told.load(Ordering::Relaxed) {
            socket.told.store(socket.send("READY=1"), Ordering::Relaxed);
        }
    }

    /// The settings are being read again; [`Notifier::reloaded`] ends it.
    pub fn reloading(&self) {
        let Some(socket) = self.0.as_ref().filter(|socket| socket.ready.load(Ordering::Relaxed)) else { return };
        // The time is for `Type=notify-reload`, which ignores what is older than its signal.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        socket.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
        socket.told.store(false, Ordering::Relaxed);
    }

    /// They have been read. Before the agent is ready at all this says nothing.
    pub fn reloaded(&self) {
        self.repeat();
    }

    /// The agent is on its way down.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// It lives.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// One line for `systemctl status`; lines are joined, and a long one is cut. Whether it was heard.
    pub fn status(&self, text: &str) -> bool {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut line = lines.join("; ");
        if line.len() > LONGEST_STATUS {
            line.truncate(line.floor_char_boundary(LONGEST_STATUS));
            line.push('…');
        }
        self.tell(&format!("STATUS={line}"))
    }

    fn tell(&self, message: &str) -> bool {
        self.0.as_ref().is_some_and(|socket| socket.send(message))
    }
}

impl Socket {
    /// The address is looked up each time: a systemd that executes itself anew makes the socket anew.
    fn send(&self, message: &str) -> bool {
        let sent = self.datagrams.send_to_addr(message.as_bytes(), &self.address);
        sent.inspect_err(|error| debug!(%error, "systemd cannot be told")).is_ok()
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn systemd(name: &str) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(&address(OsStr::new(name)).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn heard(systemd: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 8192];
        std::iter::from_fn(|| {
            systemd.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
        })
        .collect()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_both_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").into_os_string().into_string().unwrap();
        let hidden = format!("@shoot-exposure-agent-test-{}", std::process::id());
        for name in [path, hidden] {
            let systemd = systemd(&name);
            let notifier = Notifier::at(&name.into(), Some(Duration::from_secs(30)));
            assert_eq!((notifier.listens(), notifier.watchdog()), (true, Some(Duration::from_secs(30))));
            notifier.alive();
            notifier.stopping();
            assert_eq!(heard(&systemd), ["WATCHDOG=1", "STOPPING=1"]);
        }
        let nowhere = Notifier::at(&"vsock:2:1234".into(), None);
        assert!(!nowhere.listens() && !nowhere.status("nobody hears it"));
    }

    #[test]
    fn ready_is_said_once_and_again_until_it_was_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notifier = Notifier::at(&path.clone().into_os_string(), None);
        notifier.ready();
        let systemd = systemd(path.to_str().unwrap());
        notifier.repeat();
        notifier.repeat();
        notifier.ready();
        assert_eq!(heard(&systemd), ["READY=1"]);
    }

    #[test]
    fn a_reload_ends_with_ready_and_never_begins_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = systemd(path.to_str().unwrap());
        let notifier = Notifier::at(&path.into_os_string(), None);
        notifier.reloading();
        notifier.reloaded();
        assert_eq!(heard(&systemd), [""; 0]);
        notifier.ready();
        notifier.reloading();
        notifier.reloaded();
        let heard = heard(&systemd);
        assert_eq!((heard.len(), heard[0].as_str(), heard[2].as_str()), (3, "READY=1", "READY=1"));
        assert!(heard[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
    }

    #[test]
    fn a_status_is_one_line_that_fits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = systemd(path.to_str().unwrap());
        let notifier = Notifier::at(&path.into_os_string(), None);
        assert!(notifier.status("two things are wrong:\n  one\n\n  READY=1\n"));
        assert!(notifier.status(&"ü".repeat(3000)));
        let heard = heard(&systemd);
        assert_eq!(heard[0], "STATUS=two things are wrong:; one; READY=1");
        assert!(heard[1].len() < 1020 && heard[1].ends_with("ü…"), "{}", heard[1].len());
    }
}
