//! Pipes between two sockets: bytes move inside the kernel, and only connections with bytes on the way hold one.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use tokio::net::TcpStream;

/// What one pipe holds at most, in bytes. Larger ones are no faster and soon exceed what a user may have.
pub(super) const CAPACITY: usize = 256 * 1_024;
/// Idle pipes that are kept.
const KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct Pipe {
    into: OwnedFd,
    out_of: OwnedFd,
    held: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (out_of, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Refused where the user has too many pages in pipes: then it is smaller, and works the same.
        let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(i32::try_from(CAPACITY).unwrap_or(i32::MAX)));
        Ok(Self { into, out_of, held: 0 })
    }

    /// Takes what the socket has, into an empty pipe; 0 at its end.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let count = splice(from, None, &self.into, None, CAPACITY, flags)?;
        self.held += count;
        Ok(count)
    }

    /// Gives the socket what it takes.
    pub(super) fn pour(&mut self, to: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let count = splice(&self.out_of, None, to, None, self.held, flags)?;
        self.held -= count.min(self.held);
        Ok(count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }
}

/// Empty pipes for whoever needs one next.
#[derive(Debug, Default)]
pub(super) struct Pipes(Mutex<Vec<Pipe>>);

impl Pipes {
    pub(super) fn take(&self) -> io::Result<Pipe> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(Pipe::new, Ok)
    }

    /// Gives a pipe back. One with bytes in it is closed instead: they belong to a connection that has ended.
    pub(super) fn give_back(&self, pipe: Pipe) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pipe.is_empty() && kept.len() < KEPT {
            kept.push(pipe);
        }
    }
}
