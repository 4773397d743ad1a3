//! The clocks of this machine, read here and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use decide::Moment;
use nix::time::{ClockId, clock_gettime};

/// Now on a clock that goes on while the machine is suspended: a leader that sleeps must not wake up and believe
/// that its Lease is fresh.
pub fn now() -> Moment {
    // The clock exists on every Linux that systemd or Kubernetes runs on; without it time stands still, which lets
    // no write through rather than one too many.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).map(Moment).unwrap_or_default()
}

/// Seconds since 1970, for what is written into objects.
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Waits until `moment`. Timers of the runtime stand still during a suspend, so long waits look at the clock again.
pub async fn sleep_until(moment: Moment) {
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    loop {
        let left = moment.since(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK_AGAIN)).await;
    }
}
