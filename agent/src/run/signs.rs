//! The signs that systemd gets while the agent runs: that it lives, and how it is.
//!
//! A sign of life needs the same progress as `/livez`, and this task needs a turn of the runtime that everything else
//! runs on: a server that still answers on its own thread proves nothing.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::admin::{Health, Metrics};
use crate::host::systemd::Notifier;

/// Pause between two looks at how the agent is.
const LOOK: Duration = Duration::from_secs(1);

/// Tells systemd until the process ends. Without a systemd there is nothing to do, without end.
pub async fn give(systemd: Notifier, health: Health, metrics: Metrics) {
    if !systemd.listens() {
        std::future::pending::<()>().await;
    }
    // Half the time systemd waits, as it asks for.
    let every = systemd.watchdog().map(|limit| limit / 2);
    let mut look = interval(every.map_or(LOOK, |every| every.min(LOOK)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut due) = (String::new(), Instant::now());
    loop {
        look.tick().await;
        systemd.repeat();
        let alive = health.livez(&[]).healthy;
        if let Some(every) = every
            && alive
            && due <= Instant::now()
        {
            systemd.alive();
            due = Instant::now() + every.saturating_sub(LOOK / 2);
        }
        let line = format!("{}; {}", metrics.in_short(), health.in_short());
        if line != said && systemd.status(&line) {
            said = line;
        }
    }
}
