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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Everything that systemd has heard since the last time.
    fn heard(systemd: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let next = || systemd.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        std::iter::from_fn(next).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_needs_progress_and_a_status_is_said_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let health = Health::with_clock(move || start.elapsed());
        let progress = health.progress("worker", Duration::from_secs(60));
        let notifier = Notifier::at(&path.into_os_string(), Some(Duration::from_secs(20)));
        tokio::spawn(give(notifier, health.clone(), Metrics::new("lease", "1", "x")));

        // At once, and after 10, 20 and 30 s.
        tokio::time::sleep(Duration::from_secs(35)).await;
        let first = heard(&systemd);
        assert_eq!(first.iter().filter(|message| *message == "WATCHDOG=1").count(), 4, "{first:?}");
        assert_eq!(first.iter().filter(|message| message.starts_with("STATUS=")).count(), 1, "{first:?}");
        assert!(first.contains(&"STATUS=follows; ready".to_owned()), "{first:?}");

        // The worker is stuck: after its deadline there is no sign any more, and the status says why.
        tokio::time::sleep(Duration::from_secs(27)).await;
        drop(heard(&systemd));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let stuck = heard(&systemd);
        assert!(!stuck.contains(&"WATCHDOG=1".to_owned()), "{stuck:?}");
        assert!(stuck.iter().any(|message| message.contains("worker stuck: no progress for")), "{stuck:?}");

        progress.beat();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(heard(&systemd).contains(&"WATCHDOG=1".to_owned()));
    }
}
