//! The emulator's time: the machine's, plus what a test has skipped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Deadlines, lives of tokens and pages are all read from here, so that a test need not wait 45 minutes (F9).
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    skipped: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), skipped: Duration::ZERO }
    }

    /// Monotonic.
    pub(crate) fn now(&self) -> Instant {
        Instant::now() + self.skipped
    }

    /// Since the emulator started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now() - self.start
    }

    /// Seconds since 1970, as in the `exp` of a token.
    pub(crate) fn unix_seconds(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + self.skipped;
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    pub(crate) fn skip(&mut self, time: Duration) {
        self.skipped += time;
    }
}
